//! Security suite: identity, tenants, quotas, encryption and hostile input.

pub mod access;
pub mod encryption;
pub mod hostile;
pub mod table;
pub mod tls;
