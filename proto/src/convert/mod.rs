//! Conversions between messages and domain types, with one file per group of related messages.

mod document;
mod latents;
mod list;
mod maintenance;
mod node;
mod options;
mod search;

use bytes::Bytes;
use c3_types::{DocumentId, Fingerprint, Invalid, ShardHash, WindowHash};

/// Conversion to a domain type. `W` is the type of a message or of field values.
pub trait FromWire<W>: Sized {
    /// Checks and converts the message. The error names the first field that is missing or invalid.
    fn from_wire(wire: W) -> Result<Self, Invalid>;
}

/// Conversion of a domain type to a message, or to the value of a field.
pub trait ToWire {
    /// Type of the message, or of the field.
    type Wire;

    /// Returns the message, or the value of the field.
    fn to_wire(&self) -> Self::Wire;
}

macro_rules! hashes {
    ($($name:ty),+) => {$(
        impl ToWire for $name {
            type Wire = Bytes;

            fn to_wire(&self) -> Bytes {
                self.to_bytes()
            }
        }
    )+};
}

hashes!(DocumentId, ShardHash, WindowHash, Fingerprint);

/// Returns the value of a required field. Fails if the message lacks it.
fn required<T>(field: &'static str, value: Option<T>) -> Result<T, Invalid> {
    value.ok_or_else(|| Invalid::new(field, "must be given"))
}
