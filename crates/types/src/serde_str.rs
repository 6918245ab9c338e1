//! Serde implementations for types that are serialized as strings.

/// Implements `Serialize` through `Display`, and `Deserialize` through `FromStr`.
macro_rules! serde_str {
    ($($name:ty),+) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let spelled = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                spelled.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
