//! What the tests over processes and guests share: a cell of their own, the Docker client, and
//! waiting for conditions.
