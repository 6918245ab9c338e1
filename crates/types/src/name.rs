//! Names of documents, and what a change of a name or of labels expects to find.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{IdPrefix, Invalid};

/// What a name begins with where an id could stand.
const SIGN: char = '@';
/// What parts a namespace from a name.
const SEPARATOR: char = '/';
/// Namespace of names that tell none.
const DEFAULT_NAMESPACE: &str = "default";
/// Most bytes of a part: escaped, threefold, it is still a file's name.
const PART_BYTES_MAX: usize = 72;

/// A name of a document: `@namespace/name`, or `@name` in the namespace `default`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DocumentName {
    namespace: Namespace,
    name: String,
}

/// A room for names: 1 to 72 bytes without control characters and `/`, and no white space at the ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(String);

/// What stands for a document in a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocumentRef {
    /// Its id, or the beginning of it.
    Id(IdPrefix),
    /// A name of it.
    Name(DocumentName),
}

/// What a change expects to find.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Option<String>", into = "Option<String>")]
pub enum Expected {
    /// Anything or nothing.
    #[default]
    Whatever,
    /// Nothing.
    Absent,
    /// What has this token.
    Token(String),
}

/// A name for a document that is about to be stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutName {
    /// The name.
    pub name: DocumentName,
    /// What it must be until then.
    pub expected: Expected,
}

impl Namespace {
    /// Returns the namespace of that name, `default` where the name is empty.
    pub fn or_default(namespace: String) -> Result<Self, Invalid> {
        match namespace.is_empty() {
            true => Ok(Self::default()),
            false => part("namespace", namespace).map(Self),
        }
    }

    /// The namespace itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self(DEFAULT_NAMESPACE.to_owned())
    }
}

impl FromStr for Namespace {
    type Err = Invalid;

    fn from_str(typed: &str) -> Result<Self, Invalid> {
        part("namespace", typed.to_owned()).map(Self)
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl DocumentName {
    /// A name in a namespace: 1 to 72 bytes without control characters and `/`, and no white space at the ends.
    pub fn new(namespace: Namespace, name: String) -> Result<Self, Invalid> {
        Ok(Self { namespace, name: part("name", name)? })
    }

    /// Returns the name of that namespace (`default` where empty) and name.
    pub fn from_parts(namespace: String, name: String) -> Result<Self, Invalid> {
        Self::new(Namespace::or_default(namespace)?, name)
    }

    /// The room that it is in.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The name in its namespace.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for DocumentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.0 == DEFAULT_NAMESPACE {
            true => write!(f, "{SIGN}{}", self.name),
            false => write!(f, "{SIGN}{}{SEPARATOR}{}", self.namespace, self.name),
        }
    }
}

impl FromStr for DocumentName {
    type Err = Invalid;

    /// With or without the `@`.
    fn from_str(typed: &str) -> Result<Self, Invalid> {
        let typed = typed.strip_prefix(SIGN).unwrap_or(typed);
        match typed.split_once(SEPARATOR) {
            Some((namespace, name)) => Self::new(namespace.parse()?, name.to_owned()),
            None => Self::new(Namespace::default(), typed.to_owned()),
        }
    }
}

impl FromStr for DocumentRef {
    type Err = Invalid;

    fn from_str(typed: &str) -> Result<Self, Invalid> {
        match typed.starts_with(SIGN) {
            true => typed.parse().map(Self::Name),
            false => typed.parse().map(Self::Id),
        }
    }
}

impl fmt::Display for DocumentRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(prefix) => f.write_str(prefix.as_str()),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl Expected {
    /// Returns the expectation of a request: none, absence where the token is empty, or the token.
    pub fn from_token(expected: Option<String>) -> Self {
        match expected {
            None => Self::Whatever,
            Some(token) if token.is_empty() => Self::Absent,
            Some(token) => Self::Token(token),
        }
    }

    /// Returns the inverse of [`Self::from_token`].
    pub fn to_token(&self) -> Option<String> {
        match self {
            Self::Whatever => None,
            Self::Absent => Some(String::new()),
            Self::Token(token) => Some(token.clone()),
        }
    }

    /// Whether it is what is there: the token of that, or nothing.
    pub fn is_met(&self, there: Option<&str>) -> bool {
        match self {
            Self::Whatever => true,
            Self::Absent => there.is_none(),
            Self::Token(token) => there == Some(token),
        }
    }
}

impl From<Option<String>> for Expected {
    fn from(expected: Option<String>) -> Self {
        Self::from_token(expected)
    }
}

impl From<Expected> for Option<String> {
    fn from(expected: Expected) -> Self {
        expected.to_token()
    }
}

serde_str!(Namespace, DocumentName, DocumentRef);

fn part(field: &'static str, given: String) -> Result<String, Invalid> {
    let problem = if given.is_empty() {
        "must not be empty"
    } else if given.len() > PART_BYTES_MAX {
        "has more than 72 bytes"
    } else if given.chars().any(char::is_control) {
        "holds a control character"
    } else if given.contains(SEPARATOR) {
        "holds `/`, which only parts a namespace from a name"
    } else if given == "." || given == ".." {
        "is the name of a folder"
    } else if given.trim() != given {
        "begins or ends with white space"
    } else {
        return Ok(given);
    };
    Err(Invalid::new(field, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for (typed, namespace, name) in [
            ("@book", "default", "book"),
            ("book", "default", "book"),
            ("@team a/kapitel-1.txt", "team a", "kapitel-1.txt"),
            ("@書/道德經", "書", "道德經"),
            ("@@x", "default", "@x"),
        ] {
            let read: DocumentName = typed.parse().unwrap();
            assert_eq!((read.namespace().as_str(), read.name()), (namespace, name), "{typed}");
            assert_eq!(read.to_string().parse(), Ok(read));
        }
        assert_eq!("@default/x".parse::<DocumentName>().unwrap().to_string(), "@x");
    }

    #[test]
    fn what_is_no_name_is_refused_by_field() {
        let long = "x".repeat(PART_BYTES_MAX + 1);
        for wrong in ["", ".", "..", "a/b", "a\nb", "a\0", " a", "a ", &long] {
            let refused = DocumentName::from_parts(String::new(), wrong.to_owned()).unwrap_err();
            assert_eq!(refused.field, "name", "{wrong}");
            if !wrong.is_empty() {
                let refused = DocumentName::from_parts(wrong.to_owned(), "x".to_owned()).unwrap_err();
                assert_eq!(refused.field, "namespace", "{wrong}");
            }
        }
        assert!(DocumentName::from_parts(String::new(), "x".repeat(PART_BYTES_MAX)).is_ok());
        for wrong in ["@", "@/x", "@x/", "@a/b/c", "@../x"] {
            assert!(wrong.parse::<DocumentName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_id_is_never_a_name() {
        assert!(matches!("abcd".parse(), Ok(DocumentRef::Id(_))));
        assert!(matches!("@abcd".parse(), Ok(DocumentRef::Name(_))));
        assert!("book".parse::<DocumentRef>().is_err());
        assert_eq!("@a/b".parse::<DocumentRef>().unwrap().to_string(), "@a/b");
    }

    #[test]
    fn a_change_is_made_where_it_finds_what_it_expects() {
        for expected in [Expected::Whatever, Expected::Absent, Expected::Token("t".to_owned())] {
            assert_eq!(Expected::from_token(expected.to_token()), expected);
        }
        assert!(Expected::Absent.is_met(None) && !Expected::Absent.is_met(Some("t")));
        let token = Expected::Token("t".to_owned());
        assert!(token.is_met(Some("t")) && !token.is_met(Some("u")) && !token.is_met(None));
    }
}
