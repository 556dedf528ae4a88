//! Messages between a node and the agent in a container VM.
