//! Names of documents, and preconditions for changes of names and labels.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::{IdPrefix, Invalid};

/// Prefix that distinguishes a name from an id.
const SIGIL: char = '@';
/// Separates the namespace from the name.
const SEPARATOR: char = '/';
/// Namespace of names that are written without a namespace.
const DEFAULT_NAMESPACE: &str = "default";
/// Maximum bytes of a namespace or name. The store percent-encodes both in file names, which have at most 255 bytes,
/// and the encoding can triple their length.
const PART_BYTES_MAX: usize = 72;

/// ASCII punctuation that a new name may contain. Other punctuation has a meaning in shells or URLs.
const NEW_NAME_PUNCTUATION: &str = "._-+:@~,=/";

/// A name of a document: `@namespace/name`, or `@name` in the namespace `default`. The name itself may contain `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DocumentName {
    namespace: Namespace,
    name: String,
}

/// Namespace of names: 1 to 72 bytes. It has no control characters, no `/` and no white space at its ends, and is not
/// `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(String);

/// Reference to a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocumentRef {
    /// Id of the document, or a prefix of the id.
    Id(IdPrefix),
    /// Name of the document.
    Name(DocumentName),
}

/// Precondition for a change of a name or of labels. It concerns their current version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(into = "Option<String>")]
pub enum Expected {
    /// No precondition.
    #[default]
    Any,
    /// The name or the labels must not exist.
    Absent,
    /// The name or the labels must have this version token.
    Token(String),
}

/// A name for a document that is about to be stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PutName {
    /// The name.
    pub name: DocumentName,
    /// Precondition for setting the name.
    pub expected: Expected,
}

impl Namespace {
    /// Checks a namespace. An empty string means `default`.
    pub fn or_default(namespace: String) -> Result<Self, Invalid> {
        match namespace.is_empty() {
            true => Ok(Self::default()),
            false => part("namespace", namespace).map(Self),
        }
    }

    /// Returns the namespace.
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
    /// Checks a name. Each of its parts between `/` follows the rules of a [`Namespace`]. The whole name has at most 72
    /// bytes.
    pub fn new(namespace: Namespace, name: String) -> Result<Self, Invalid> {
        length("name", &name)?;
        name.split(SEPARATOR).try_for_each(|name| part("name", name.to_owned()).map(drop))?;
        Ok(Self { namespace, name })
    }

    /// Refuses a name with white space, or with ASCII punctuation other than `. _ - + : @ ~ , =` and `/`. Call it for
    /// new names only. Earlier versions allowed such names, which can still be used and removed.
    pub fn checked_as_new(self) -> Result<Self, Invalid> {
        let is_wrong = |c: &char| c.is_whitespace() || c.is_ascii_punctuation() && !NEW_NAME_PUNCTUATION.contains(*c);
        match self.namespace.0.chars().chain(self.name.chars()).find(is_wrong) {
            None => Ok(self),
            Some(wrong) => {
                let problem = format!("contains `{wrong}`: use letters, digits, `.`, `_`, `-` and `/`");
                Err(Invalid::new("name", problem))
            }
        }
    }

    /// Checks a namespace and a name. An empty namespace means `default`.
    pub fn from_parts(namespace: String, name: String) -> Result<Self, Invalid> {
        Self::new(Namespace::or_default(namespace)?, name)
    }

    /// Returns the namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Returns the name without its namespace.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for DocumentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.0 == DEFAULT_NAMESPACE && !self.name.contains(SEPARATOR) {
            true => write!(f, "{SIGIL}{}", self.name),
            false => write!(f, "{SIGIL}{}{SEPARATOR}{}", self.namespace, self.name),
        }
    }
}

impl FromStr for DocumentName {
    type Err = Invalid;

    /// Parses a name with or without the `@`.
    fn from_str(typed: &str) -> Result<Self, Invalid> {
        let typed = typed.strip_prefix(SIGIL).unwrap_or(typed);
        match typed.split_once(SEPARATOR) {
            Some((namespace, name)) => Self::new(namespace.parse()?, name.to_owned()),
            None => Self::new(Namespace::default(), typed.to_owned()),
        }
    }
}

impl FromStr for DocumentRef {
    type Err = Invalid;

    fn from_str(typed: &str) -> Result<Self, Invalid> {
        match typed.starts_with(SIGIL) {
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
    /// Converts the token in a request: `None` becomes [`Self::Any`], and an empty token becomes [`Self::Absent`].
    pub fn from_token(expected: Option<String>) -> Self {
        match expected {
            None => Self::Any,
            Some(token) if token.is_empty() => Self::Absent,
            Some(token) => Self::Token(token),
        }
    }

    /// Converts the precondition to the token in a request, as the inverse of [`Self::from_token`].
    pub fn to_token(&self) -> Option<String> {
        match self {
            Self::Any => None,
            Self::Absent => Some(String::new()),
            Self::Token(token) => Some(token.clone()),
        }
    }

    /// Returns true if the current version meets the precondition. `current` is the token of this version, or `None` if
    /// the name or labels do not exist.
    pub fn matches(&self, current: Option<&str>) -> bool {
        match self {
            Self::Any => true,
            Self::Absent => current.is_none(),
            Self::Token(token) => current == Some(token),
        }
    }
}

impl From<Expected> for Option<String> {
    fn from(expected: Expected) -> Self {
        expected.to_token()
    }
}

serde_str!(Namespace, DocumentName, DocumentRef);

fn length(field: &'static str, given: &str) -> Result<(), Invalid> {
    match given.len() > PART_BYTES_MAX {
        true => Err(Invalid::new(field, "has more than 72 bytes")),
        false => Ok(()),
    }
}

fn part(field: &'static str, given: String) -> Result<String, Invalid> {
    length(field, &given)?;
    let problem = if given.is_empty() {
        "must not be empty"
    } else if given.chars().any(char::is_control) {
        "contains a control character"
    } else if given.contains(SEPARATOR) {
        "contains `/`"
    } else if given == "." || given == ".." {
        "must not be `.` or `..`"
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
    fn names_survive_parsing_and_printing() {
        for (typed, namespace, name) in [
            ("@book", "default", "book"),
            ("book", "default", "book"),
            ("@team a/kapitel-1.txt", "team a", "kapitel-1.txt"),
            ("@書/道德經", "書", "道德經"),
            ("@@x", "default", "@x"),
            ("@team/notes/a.txt", "team", "notes/a.txt"),
            ("@default/a/b", "default", "a/b"),
        ] {
            let read: DocumentName = typed.parse().unwrap();
            assert_eq!((read.namespace().as_str(), read.name()), (namespace, name), "{typed}");
            assert_eq!(read.to_string().parse(), Ok(read));
        }
        assert_eq!("@default/x".parse::<DocumentName>().unwrap().to_string(), "@x");
    }

    #[test]
    fn invalid_names_are_refused() {
        let long = "x".repeat(PART_BYTES_MAX + 1);
        for wrong in ["", ".", "..", "a//b", "a/../b", "a/", "a\nb", "a\0", " a", "a ", &long] {
            let refused = DocumentName::from_parts(String::new(), wrong.to_owned()).unwrap_err();
            assert_eq!(refused.field, "name", "{wrong}");
            if !wrong.is_empty() {
                let refused = DocumentName::from_parts(wrong.to_owned(), "x".to_owned()).unwrap_err();
                assert_eq!(refused.field, "namespace", "{wrong}");
            }
        }
        assert!(DocumentName::from_parts(String::new(), "x".repeat(PART_BYTES_MAX)).is_ok());
        for wrong in ["@", "@/x", "@x/", "@a//b", "@../x"] {
            assert!(wrong.parse::<DocumentName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_new_name_needs_no_quotes_in_a_shell() {
        let new = |typed: &str| typed.parse::<DocumentName>().unwrap().checked_as_new();
        for wrong in ["bad name!", "bad name", "bad!", "a b/c", "x/$HOME", "a?b", "50%", "a\u{a0}b", "\"a\""] {
            assert_eq!(new(wrong).unwrap_err().field, "name", "{wrong}");
        }
        for right in ["書/道德經", "team/notes/a-1_v2.txt", "c++", "10:30"] {
            assert!(new(right).is_ok(), "{right}");
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
    fn a_precondition_matches_the_current_token() {
        for expected in [Expected::Any, Expected::Absent, Expected::Token("t".to_owned())] {
            assert_eq!(Expected::from_token(expected.to_token()), expected);
        }
        assert!(Expected::Absent.matches(None) && !Expected::Absent.matches(Some("t")));
        let token = Expected::Token("t".to_owned());
        assert!(token.matches(Some("t")) && !token.matches(Some("u")) && !token.matches(None));
    }
}
