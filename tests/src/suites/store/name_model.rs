//! Names and labels in the model of what gateways must answer.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use c3_proto::{DocumentId, pb};
use tonic::{Code, Status};

use super::ops::Dice;
use crate::calls::{Calls, id_of};

/// Names that operations choose from.
const NAMES: usize = 8;
/// Values of the label that operations choose from.
const VALUES: usize = 3;
/// The label.
const KEY: &str = "kind";

/// Documents that are there, by number.
type Stored = BTreeMap<usize, u32>;

/// What names and labels must be.
#[derive(Debug, Default)]
pub struct Notes {
    /// By name: the text, and the token.
    names: BTreeMap<String, (usize, String)>,
    /// By text: the value of the label, and the token.
    labels: BTreeMap<usize, (String, String)>,
    /// Every token that was ever given.
    tokens: BTreeSet<String>,
}

impl Notes {
    /// A document was deleted.
    pub fn forget(&mut self, number: usize) {
        self.names.retain(|_, (text, _)| *text != number);
        self.labels.remove(&number);
    }

    /// Does one random operation, and tells whether the answer is the model's.
    pub async fn operate(
        &mut self,
        calls: &Calls,
        number: usize,
        ids: &[String],
        stored: &Stored,
        dice: &mut Dice,
    ) -> Result<bool> {
        let name = format!("name {}", dice.roll(NAMES));
        match dice.roll(7) {
            0 | 1 => self.set(calls, &name, number, ids, stored, dice).await,
            2 => self.remove(calls, &name, ids, dice).await,
            3 => self.read(calls, &name, ids).await,
            4 => self.label(calls, number, ids, stored, dice).await,
            5 => self.list_names(calls, ids).await,
            _ => self.list_by_label(calls, ids, dice).await,
        }
    }

    async fn set(
        &mut self,
        calls: &Calls,
        name: &str,
        number: usize,
        ids: &[String],
        stored: &Stored,
        dice: &mut Dice,
    ) -> Result<bool> {
        let now = self.names.get(name).map(|(_, token)| token.clone());
        let (expected, met) = self.expectation(now, dice);
        let request = pb::SetNameRequest {
            name: name.to_owned(),
            id: ids[number].clone(),
            expected,
            ..Default::default()
        };
        let set = calls.raw().set_name(request).await;
        if !stored.contains_key(&number) {
            return Ok(is(&set, Code::NotFound));
        }
        if !met {
            return Ok(is(&set, Code::Aborted));
        }
        let named = set?.into_inner().named.context("no name")?;
        let fresh = self.tokens.insert(named.token.clone());
        self.names.insert(name.to_owned(), (number, named.token));
        Ok(fresh && DocumentId::try_from(named.id.as_ref())?.to_string() == ids[number])
    }

    async fn remove(&mut self, calls: &Calls, name: &str, ids: &[String], dice: &mut Dice) -> Result<bool> {
        let now = self.names.get(name).map(|(_, token)| token.clone());
        let (expected, met) = self.expectation(now, dice);
        let request = pb::RemoveNameRequest { name: name.to_owned(), expected, ..Default::default() };
        let removed = calls.raw().remove_name(request).await;
        match (met, self.names.get(name)) {
            (false, _) => Ok(is(&removed, Code::Aborted)),
            (true, None) => Ok(is(&removed, Code::NotFound)),
            (true, Some((text, _))) => {
                let same = DocumentId::try_from(removed?.into_inner().id.as_ref())?.to_string() == ids[*text];
                self.names.remove(name);
                Ok(same)
            }
        }
    }

    async fn read(&self, calls: &Calls, name: &str, ids: &[String]) -> Result<bool> {
        match (calls.stat(&format!("@{name}")).await, self.names.get(name)) {
            (Ok(document), Some((text, _))) => Ok(id_of(&document) == ids[*text]),
            (Err(status), None) => Ok(status.code() == Code::NotFound),
            _ => Ok(false),
        }
    }

    async fn label(
        &mut self,
        calls: &Calls,
        number: usize,
        ids: &[String],
        stored: &Stored,
        dice: &mut Dice,
    ) -> Result<bool> {
        let now = self.labels.get(&number).map(|(_, token)| token.clone());
        let (expected, met) = self.expectation(now, dice);
        // One value too many: the label is removed.
        let value =
            Some(dice.roll(VALUES + 1)).filter(|&value| value < VALUES).map(|value| value.to_string());
        let mut request = pb::SetLabelsRequest { id: ids[number].clone(), expected, ..Default::default() };
        match &value {
            Some(value) => drop(request.set.insert(KEY.to_owned(), value.clone())),
            None => request.remove.push(KEY.to_owned()),
        }
        let set = calls.raw().set_labels(request).await;
        if !stored.contains_key(&number) {
            return Ok(is(&set, Code::NotFound));
        }
        if !met {
            return Ok(is(&set, Code::Aborted));
        }
        let set = set?.into_inner();
        let Some(value) = value else {
            self.labels.remove(&number);
            return Ok(set.labels.is_empty() && set.token.is_empty());
        };
        let fresh = self.tokens.insert(set.token.clone());
        let same = set.labels.get(KEY) == Some(&value);
        self.labels.insert(number, (value, set.token));
        Ok(fresh && same)
    }

    async fn list_names(&self, calls: &Calls, ids: &[String]) -> Result<bool> {
        let page = calls.raw().list_names(pb::ListNamesRequest::default()).await?.into_inner();
        let mut listed = Vec::new();
        for named in page.names {
            listed.push((named.name, DocumentId::try_from(named.id.as_ref())?.to_string(), named.token));
        }
        let expected = self.names.iter();
        let expected =
            expected.map(|(name, (text, token))| (name.clone(), ids[*text].clone(), token.clone()));
        Ok(page.damaged.is_empty() && listed == Vec::from_iter(expected))
    }

    async fn list_by_label(&self, calls: &Calls, ids: &[String], dice: &mut Dice) -> Result<bool> {
        let value = dice.roll(VALUES).to_string();
        let labels = [(KEY.to_owned(), value.clone())].into();
        let page = calls.raw().list(pb::ListRequest { labels, ..Default::default() }).await?.into_inner();
        let listed = Vec::from_iter(page.documents.iter().map(id_of));
        let with_value = self.labels.iter().filter(|(_, (is, _))| *is == value);
        let mut expected = Vec::from_iter(with_value.map(|(number, _)| ids[*number].clone()));
        expected.sort();
        Ok(listed == expected)
    }

    /// What to expect of something that has the token `now`, and whether it is so.
    fn expectation(&self, now: Option<String>, dice: &mut Dice) -> (Option<String>, bool) {
        match dice.roll(4) {
            0 | 1 => (None, true),
            2 => (Some(String::new()), now.is_none()),
            // The right one, or one that was right once.
            _ => match (dice.roll(2), &now) {
                (0, Some(token)) => (Some(token.clone()), true),
                _ => {
                    let old = self.tokens.iter().nth(dice.roll(self.tokens.len().max(1))).cloned();
                    let old = old.unwrap_or_else(|| "never given".to_owned());
                    let met = now.as_ref() == Some(&old);
                    (Some(old), met)
                }
            },
        }
    }
}

fn is<T>(answer: &Result<T, Status>, code: Code) -> bool {
    answer.as_ref().is_err_and(|status| status.code() == code)
}
