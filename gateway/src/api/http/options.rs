//! Options of writes: query parameters, or members of a JSON body.

use std::collections::BTreeMap;
use std::fmt;

use c3_types::{AutoRatio, Base, DocumentName, Expected, Invalid, Label, Labels, LatentCodec, PutName, WriteOptions};
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type};
use utoipa::{IntoParams, PartialSchema, ToSchema};

/// Value of `name_token` for a name that must not exist.
const NO_TOKEN: &str = "none";

/// Defines the two forms of the options. Their fields differ only in `labels`, which a query string has as repeated
/// `label=KEY=VALUE`. Neither form can contain the other, because serde then accepts unknown fields.
macro_rules! put_options {
    ($(#[$doc:meta])* $name:ident, $derive:ident, $attribute:ident, $nullable:tt, {
        $($(#[$field_doc:meta])* $field:ident: $type:ty,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Deserialize, $derive)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $name {
            $($(#[$field_doc])* pub(super) $field: $type,)*
            /// Name of the model; default: the only one that is served.
            #[$attribute(nullable = $nullable, min_length = 1)]
            cascade: Option<String>,
            /// Text tokens per latent, or `auto`, which chooses a ratio for each part; default: the model's.
            #[$attribute(nullable = $nullable, inline)]
            ratio: Option<Ratio>,
            /// With ratio `auto`: minimum fidelity. Exactly one of the two bounds must be set.
            #[$attribute(nullable = $nullable, exclusive_minimum = 0.0, maximum = 1.0)]
            fidelity_min: Option<f64>,
            /// With ratio `auto`: maximum stored bytes. Needs the size of the text.
            #[$attribute(nullable = $nullable)]
            stored_bytes_max: Option<u64>,
            /// Encoding of the latents; default: the gateway's setting.
            #[$attribute(nullable = $nullable, inline)]
            codec: Option<Codec>,
            /// Verify every token, so that reads are exact; default: true.
            #[$attribute(nullable = $nullable)]
            verify: Option<bool>,
            /// Let search find the document; default: true.
            #[$attribute(nullable = $nullable)]
            search: Option<bool>,
            /// Minimum lead, in logits, of a right prediction that needs no correction.
            #[$attribute(nullable = $nullable, minimum = 0.0)]
            margin: Option<f32>,
            /// Size of the text in bytes. Another size is refused. Default: that of Content-Length.
            #[$attribute(nullable = $nullable)]
            bytes: Option<u64>,
            /// Name to set once the document is stored: NAME or NAMESPACE/NAME.
            #[$attribute(nullable = $nullable, min_length = 1, max_length = 145)]
            name: Option<String>,
            /// Version token that the name must have; `none`: the name must not exist; default: no precondition.
            #[$attribute(nullable = $nullable, min_length = 1)]
            name_token: Option<String>,
            /// Seconds after which the document expires; default: never.
            #[$attribute(nullable = $nullable, minimum = 1)]
            ttl_seconds: Option<u64>,
            /// Name under which an interrupted upload is resumed by sending the same text again.
            #[$attribute(nullable = $nullable, pattern = "^[a-z0-9_-]{4,64}$")]
            upload: Option<String>,
            /// Id, or unique prefix of the id, of a document of which the text is an edited version.
            #[$attribute(nullable = $nullable, pattern = "^[0-9a-f]{4,64}$")]
            base: Option<String>,
            /// Id, or unique prefix of the id, of a document whose text precedes this one in the new document.
            #[$attribute(nullable = $nullable, pattern = "^[0-9a-f]{4,64}$")]
            append_to: Option<String>,
        }

        impl $name {
            /// Converts the options. `bytes` is the size of the text, if the request declares it. `labels` are the
            /// labels of this form.
            fn write_options(self, bytes: Option<u64>, labels: Labels) -> Result<WriteOptions, Invalid> {
                let nonzero = |field, value: Option<u64>| match value {
                    Some(0) => Err(Invalid::new(field, "must be at least 1")),
                    value => Ok(value),
                };
                let (ratio, auto_ratio) = match (self.ratio, self.fidelity_min, self.stored_bytes_max) {
                    (Some(Ratio::Auto), fidelity, stored) => {
                        (None, Some(AutoRatio::new(Vec::new(), fidelity, stored)?))
                    }
                    (Some(Ratio::Fixed(0)), ..) => return Err(Invalid::new("ratio", "must be at least 1, or auto")),
                    (Some(Ratio::Fixed(ratio)), None, None) => (Some(ratio), None),
                    (None, None, None) => (None, None),
                    _ => return Err(Invalid::new("ratio", "must be auto if fidelity_min or stored_bytes_max is set")),
                };
                if let (Some(given), Some(declared)) = (self.bytes, bytes)
                    && given != declared
                {
                    let problem = format!("{given} given, but the body has {declared}: omit bytes");
                    return Err(Invalid::new("bytes", problem));
                }
                let name = self.name.map(|name| name.parse::<DocumentName>()?.checked_as_new()).transpose()?;
                let expected = match self.name_token.as_deref() {
                    None => Expected::Any,
                    Some(NO_TOKEN) => Expected::Absent,
                    Some(token) => Expected::Token(token.to_owned()),
                };
                if name.is_none() && expected != Expected::Any {
                    return Err(Invalid::new("name_token", "needs a name"));
                }
                let given = |text: &Option<String>| match text.as_deref() {
                    Some("") => Err(Invalid::new("base", "base and append_to must not be empty: omit them")),
                    text => Ok(text.unwrap_or_default().to_owned()),
                };
                let options = WriteOptions {
                    cascade: self.cascade.filter(|name| !name.is_empty()),
                    ratio,
                    codec: self.codec.map(|Codec(codec)| codec),
                    skip_verification: self.verify == Some(false),
                    margin: self.margin,
                    bytes: bytes.or(self.bytes),
                    auto_ratio,
                    ttl_seconds: nonzero("ttl_seconds", self.ttl_seconds)?,
                    upload: self.upload.map(|name| name.parse()).transpose()?,
                    base: Base::from_ids(&given(&self.base)?, &given(&self.append_to)?)?,
                    name: name.map(|name| PutName { name, expected }),
                    labels,
                    skip_search: self.search == Some(false),
                };
                Ok(options)
            }
        }
    };
}

put_options! {
    /// Options of a write as query parameters.
    PutQuery, IntoParams, param, false, {
        /// Label to set, as KEY=VALUE; repeatable.
        #[param(schema_with = label_parameter)]
        #[serde(default)]
        label: Vec<String>,
    }
}

put_options! {
    /// A text with the options of the write.
    PutBody, ToSchema, schema, true, {
        /// The text.
        #[schema(nullable = false, required, example = "Nothing in the world is as soft as water.")]
        text: Option<String>,
        /// Labels to set.
        #[serde(default)]
        labels: BTreeMap<String, String>,
    }
}

impl PutQuery {
    /// Converts the options. `bytes` is the size of the text, if the request declares it.
    pub(super) fn into_options(mut self, bytes: Option<u64>) -> Result<WriteOptions, Invalid> {
        let labels = std::mem::take(&mut self.label);
        let labels = labels.iter().map(|label| Ok(label.parse::<Label>()?.into()));
        let labels = Labels::new(labels.collect::<Result<Vec<_>, Invalid>>()?)?;
        self.write_options(bytes, labels)
    }

    /// Returns whether no option is set. The options of a JSON body are in the body, not in the query string.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl PutBody {
    /// Converts the options. `bytes` is the size of the text, if it is known.
    pub(super) fn into_options(mut self, bytes: Option<u64>) -> Result<WriteOptions, Invalid> {
        let labels = Labels::new(std::mem::take(&mut self.labels))?;
        self.write_options(bytes, labels)
    }
}

pub(super) fn label_parameter() -> RefOr<Schema> {
    let label = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
    ArrayBuilder::new().items(label).into()
}

/// A fixed ratio, or automatic ratios.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Ratio {
    Fixed(u32),
    Auto,
}

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RatioVisitor;

        impl Visitor<'_> for RatioVisitor {
            type Value = Ratio;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number or \"auto\"")
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Ratio, E> {
                u32::try_from(number).map(Ratio::Fixed).map_err(|_| E::custom("the ratio is too large"))
            }

            fn visit_str<E: serde::de::Error>(self, typed: &str) -> Result<Ratio, E> {
                match typed {
                    "auto" => Ok(Ratio::Auto),
                    // A query string has only strings.
                    digits => digits
                        .parse()
                        .map(Ratio::Fixed)
                        .map_err(|_| E::custom(format!("ratio: must be a whole number or `auto`, is `{digits:.20}`"))),
                }
            }
        }

        deserializer.deserialize_any(RatioVisitor)
    }
}

impl PartialSchema for Ratio {
    fn schema() -> RefOr<Schema> {
        let number =
            ObjectBuilder::new().schema_type(SchemaType::Type(Type::Integer)).minimum(Some(8)).maximum(Some(80));
        let auto = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).enum_values(Some(["auto"]));
        OneOfBuilder::new().item(number).item(auto).examples([20]).into()
    }
}

impl ToSchema for Ratio {}

/// Encoding of latents, by name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Codec(pub(super) LatentCodec);

impl<'de> Deserialize<'de> for Codec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        LatentCodec::deserialize(deserializer).map(Self)
    }
}

impl PartialSchema for Codec {
    fn schema() -> RefOr<Schema> {
        let names = LatentCodec::ALL.map(LatentCodec::name);
        ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).enum_values(Some(names)).into()
    }
}

impl ToSchema for Codec {}

/// New options of a stored document. Those that are unset keep their values.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RecodeBody {
    /// Name of the model.
    cascade: Option<String>,
    /// Text tokens per latent, or `auto`, which chooses a ratio for each part.
    #[schema(inline)]
    ratio: Option<Ratio>,
    /// With ratio `auto`: minimum fidelity. Exactly one of the two bounds must be set.
    #[schema(exclusive_minimum = 0.0, maximum = 1.0)]
    fidelity_min: Option<f64>,
    /// With ratio `auto`: maximum stored bytes.
    stored_bytes_max: Option<u64>,
    /// Encoding of the latents.
    #[schema(inline)]
    codec: Option<Codec>,
    /// Verify every token; default: true.
    verify: Option<bool>,
    /// Minimum lead, in logits, of a right prediction that needs no correction.
    #[schema(minimum = 0.0)]
    margin: Option<f32>,
    /// Seconds from now after which the document expires.
    #[schema(minimum = 1)]
    ttl_seconds: Option<u64>,
}

impl RecodeBody {
    pub(super) fn into_options(self) -> Result<WriteOptions, Invalid> {
        let Self { cascade, ratio, fidelity_min, stored_bytes_max, codec, verify, margin, ttl_seconds } = self;
        let body = PutBody {
            cascade,
            ratio,
            fidelity_min,
            stored_bytes_max,
            codec,
            verify,
            margin,
            ttl_seconds,
            ..PutBody::default()
        };
        body.into_options(None)
    }
}

/// Body of a call that sets a name.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetNameBody {
    /// The document: its id, a unique prefix of the id, or @NAME.
    #[schema(example = "@draft")]
    pub(super) id: String,
}

/// Body of a call that changes labels: a JSON merge patch (RFC 7396). A null removes a label.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(transparent)]
pub(super) struct PatchLabelsBody(pub(super) BTreeMap<String, Option<String>>);

/// Body of a call that replaces all labels.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(transparent)]
pub(super) struct ReplaceLabelsBody(pub(super) BTreeMap<String, String>);

#[cfg(test)]
mod tests {
    use c3_types::AutoBound;

    use super::*;

    fn json(body: &str) -> Result<WriteOptions, String> {
        let body: PutBody = serde_json::from_str(body).map_err(|error| error.to_string())?;
        body.into_options(None).map_err(|invalid| invalid.field.to_owned())
    }

    #[test]
    fn options_of_a_body_become_those_of_a_write() {
        let options = json(
            r#"{"ratio": 20, "codec": "q8_0", "name": "team/book", "labels": {"a": "b"}, "ttl_seconds": 9,
                "verify": false, "base": "ABCD"}"#,
        );
        let options = options.unwrap();
        assert_eq!((options.ratio, options.codec, options.ttl_seconds), (Some(20), Some(LatentCodec::Q8_0), Some(9)));
        assert_eq!(options.name.unwrap().name.to_string(), "@team/book");
        assert!(options.skip_verification && options.labels.iter().eq([("a", "b")]));
        assert_eq!(options.base.unwrap().id().as_str(), "abcd");
        for (token, expected) in [("none", Expected::Absent), ("ab", Expected::Token("ab".to_owned()))] {
            let options = json(&format!(r#"{{"name": "x", "name_token": "{token}"}}"#)).unwrap();
            assert_eq!(options.name.unwrap().expected, expected);
        }
        let auto = json(r#"{"ratio": "auto", "fidelity_min": 0.99}"#).unwrap().auto_ratio.unwrap();
        assert_eq!(auto.bound, AutoBound::FidelityMin(0.99));
    }

    #[test]
    fn wrong_options_are_refused_by_field() {
        for (body, says) in [
            (r#"{"ratios": 20}"#, "unknown field `ratios`"),
            (r#"{"ratio": "much"}"#, "ratio"),
            (r#"{"ratio": 0}"#, "ratio"),
            (r#"{"ratio": 20, "fidelity_min": 0.9}"#, "ratio"),
            (r#"{"ratio": "auto"}"#, "auto_ratio"),
            (r#"{"codec": "mp3"}"#, "mp3"),
            (r#"{"ttl_seconds": 0}"#, "ttl_seconds"),
            (r#"{"name": "a b"}"#, "name"),
            (r#"{"name_token": "x"}"#, "name_token"),
            (r#"{"base": "abcd", "append_to": "abcd"}"#, "append_to"),
            (r#"{"labels": {"": "x"}}"#, "labels"),
        ] {
            let error = json(body).unwrap_err();
            assert!(error.contains(says), "{body}: {error}");
        }
    }
}
