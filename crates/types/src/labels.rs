//! Labels: keys and values that callers attach to documents.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Invalid;

/// Maximum labels of a document.
const LABELS_MAX: usize = 32;
/// Maximum bytes of a key.
const KEY_BYTES_MAX: usize = 72;
/// Maximum bytes of a value.
const VALUE_BYTES_MAX: usize = 256;
/// Key of the label that holds the path of the file that a document was read from. If several files have the same text,
/// the further paths have the keys `path.2`, `path.3`, ….
pub const PATH_LABEL: &str = "path";

/// Labels of a document, at most 32. A key has 1 to 72 bytes and no `=`. A value has at most 256 bytes. Keys and values
/// have no control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct Labels(BTreeMap<String, String>);

/// A label, written as `key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The part before the first `=`.
    pub key: String,
    /// The part after the first `=`.
    pub value: String,
}

impl Labels {
    /// Checks the labels. If a key is repeated, its last value is used.
    pub fn new(labels: impl IntoIterator<Item = (String, String)>) -> Result<Self, Invalid> {
        let labels = BTreeMap::from_iter(labels);
        for (key, value) in &labels {
            check(key, value)?;
        }
        match labels.len() <= LABELS_MAX {
            true => Ok(Self(labels)),
            false => Err(Invalid::new("labels", format!("a document has at most {LABELS_MAX} labels"))),
        }
    }

    /// Returns the labels as a map of keys to values.
    pub fn to_map(&self) -> HashMap<String, String> {
        self.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// Iterates over keys and values, in the order of keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Returns true if there are no labels.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns true if all of `wanted` are present with equal values.
    pub fn contains_all(&self, wanted: &Self) -> bool {
        wanted.0.iter().all(|(key, value)| self.0.get(key) == Some(value))
    }

    /// Returns a copy without the keys in `remove` and with the labels of `set`. A key in both is set. Errors: too many
    /// labels.
    pub fn with_changes(&self, set: &Self, remove: &[String]) -> Result<Self, Invalid> {
        let mut labels = self.0.clone();
        labels.retain(|key, _| !remove.contains(key));
        labels.extend(set.0.clone());
        Self::new(labels)
    }

    /// Iterates over the paths of the files that contain the document's text.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        let is_path = |key: &str| match key.strip_prefix(PATH_LABEL) {
            Some("") => true,
            rest => rest.and_then(|rest| rest.strip_prefix('.')?.parse::<u32>().ok()).is_some(),
        };
        self.iter().filter(move |(key, _)| is_path(key)).map(|(_, value)| value)
    }

    /// Returns a copy with the labels of `set`, as a put sets them. The path in `set` does not replace other paths. It
    /// is added under the next free key (`path`, `path.2`, …), unless the document has this path or 32 labels already.
    /// Errors: too many labels.
    pub fn with_put(&self, set: &Self) -> Result<Self, Invalid> {
        let mut set = set.clone();
        let Some(path) = set.0.remove(PATH_LABEL) else { return self.with_changes(&set, &[]) };
        let mut labels = self.with_changes(&set, &[])?;
        if labels.0.len() < LABELS_MAX && !labels.paths().any(|known| known == path) {
            let further = (2..).map(|number| format!("{PATH_LABEL}.{number}"));
            let mut keys = std::iter::once(PATH_LABEL.to_owned()).chain(further);
            labels.0.extend(keys.find(|key| !labels.0.contains_key(key)).map(|key| (key, path)));
        }
        Ok(labels)
    }
}

impl TryFrom<BTreeMap<String, String>> for Labels {
    type Error = Invalid;

    fn try_from(labels: BTreeMap<String, String>) -> Result<Self, Invalid> {
        Self::new(labels)
    }
}

impl FromStr for Label {
    type Err = Invalid;

    fn from_str(typed: &str) -> Result<Self, Invalid> {
        let (key, value) =
            typed.split_once('=').ok_or_else(|| Invalid::new("labels", "must be written as KEY=VALUE"))?;
        check(key, value)?;
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

impl From<Label> for (String, String) {
    fn from(label: Label) -> Self {
        (label.key, label.value)
    }
}

fn check(key: &str, value: &str) -> Result<(), Invalid> {
    let problem = if key.is_empty() {
        "a key must not be empty"
    } else if key.len() > KEY_BYTES_MAX {
        "a key has more than 72 bytes"
    } else if value.len() > VALUE_BYTES_MAX {
        "a value has more than 256 bytes"
    } else if key.contains('=') {
        "a key contains `=`"
    } else if key.chars().chain(value.chars()).any(char::is_control) {
        "a label contains a control character"
    } else {
        return Ok(());
    };
    Err(Invalid::new("labels", problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(typed: &[&str]) -> Labels {
        Labels::new(typed.iter().map(|label| label.parse::<Label>().unwrap().into())).unwrap()
    }

    #[test]
    fn labels_are_set_removed_and_matched() {
        let labels_de = labels(&["lang=de", "kind=a=b", "empty="]);
        assert!(labels_de.contains_all(&labels(&["kind=a=b", "empty="])) && labels_de.contains_all(&Labels::default()));
        assert!(!labels_de.contains_all(&labels(&["lang=en"])) && !Labels::default().contains_all(&labels_de));
        let changed = labels_de.with_changes(&labels(&["lang=en"]), &["empty".to_owned(), "other".to_owned()]);
        assert_eq!(changed, Ok(labels(&["lang=en", "kind=a=b"])));
        assert_eq!(Labels::new(labels_de.to_map()), Ok(labels_de));
    }

    #[test]
    fn a_document_keeps_the_paths_of_all_its_files() {
        let mut kept = labels(&["lang=de", "pathology=x", "path.x=y"]);
        for path in ["a.txt", "b/c.txt", "a.txt", "d"] {
            kept = kept.with_put(&labels(&["lang=en", &format!("path={path}")])).unwrap();
        }
        assert_eq!(Vec::from_iter(kept.paths()), ["a.txt", "b/c.txt", "d"]);
        assert!(kept.contains_all(&labels(&["lang=en", "path.2=b/c.txt"])));
        for number in 0..LABELS_MAX {
            kept = kept.with_put(&labels(&[&format!("path={number}")])).unwrap();
        }
        assert_eq!(kept.iter().count(), LABELS_MAX);
    }

    #[test]
    fn invalid_labels_are_refused() {
        let long = format!("{}=v", "k".repeat(KEY_BYTES_MAX + 1));
        let long_value = format!("k={}", "v".repeat(VALUE_BYTES_MAX + 1));
        for wrong in ["", "key", "=v", "k=a\nb", "k\t=a", &long, &long_value] {
            assert_eq!(wrong.parse::<Label>().unwrap_err().field, "labels", "{wrong}");
        }
        let many = (0..=LABELS_MAX).map(|number| (number.to_string(), String::new()));
        assert!(Labels::new(many.clone()).is_err() && Labels::new(many.skip(1)).is_ok());
        assert!(Labels::new([("a=b".to_owned(), String::new())]).is_err());
    }
}
