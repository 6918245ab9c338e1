//! Conversions between messages and domain types, a file for each concern.

mod document;
mod latents;
mod list;
mod maintenance;
mod node;
mod options;

use bytes::Bytes;
use c3_types::{DocumentId, Fingerprint, Invalid, ShardHash, WindowHash};

/// Conversion of a message of type `W` to a domain type.
pub trait FromWire<W>: Sized {
    /// Checks and converts the message. Errors: the first field that is missing or out of its bounds.
    fn from_wire(wire: W) -> Result<Self, Invalid>;
}

/// Conversion of a domain type to a message, or to the value of a field.
pub trait ToWire {
    /// Type of the message, or of the field.
    type Wire;

    /// Returns the message.
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

/// Returns the value of a field that the protocol requires.
fn required<T>(field: &'static str, value: Option<T>) -> Result<T, Invalid> {
    value.ok_or_else(|| Invalid::new(field, "must be given"))
}
