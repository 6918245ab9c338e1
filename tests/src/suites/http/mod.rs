//! HTTP suite: the gateway's HTTP API and the Python client.

pub mod bad_input;
pub mod conformance;
pub mod examples;
pub mod load;
pub mod python;
pub mod table;
pub mod web;
