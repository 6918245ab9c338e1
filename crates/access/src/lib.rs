//! Access control of a gateway: API keys, JSON web tokens, tenants and their quotas.
//!
//! - [`file`](mod@file): the access file, which has the keys and the tenants. `c3 key` and `c3 tenant` edit it.
//! - [`key`]: API keys. The file has only hashes of them.
//! - [`jwt`]: tokens of an identity provider, checked with its published keys.
//! - [`quota`]: requests and tokens per minute, concurrent calls and stored bytes of a tenant.
//! - [`control`]: checks credentials, reloads the file when it changes, and applies the quotas.
//!
//! The crate does not decide which scope a method needs: that is the gateway's table.

mod bucket;
pub mod control;
pub mod file;
pub mod jwt;
pub mod key;
pub mod quota;
pub mod session;

pub use control::{Control, Settings, StartError};
pub use file::{AccessFile, FileError, KeyRecord, TenantRecord};
pub use jwt::JwtSettings;
pub use key::ApiKey;
pub use quota::TenantQuotas;
