//! JSON resources of `/v1`, as the API gives them and the client reads them.
