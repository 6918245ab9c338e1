//! In-memory model of names and labels, with which the answers of gateways are compared.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use c3_proto::pb;
use c3_types::DocumentId;
use tonic::{Code, Status};

use super::ops::Rng;
use crate::harness::gateway_api::{GatewayApi, id_of};

/// Number of names.
const NAMES: usize = 8;
/// Number of different values of the label.
const VALUES: usize = 3;
/// Key of the label.
const KEY: &str = "kind";

/// Stored documents: ratio by document number.
type Stored = BTreeMap<usize, u32>;

/// Expected names and labels.
#[derive(Debug, Default)]
pub struct NameModel {
    /// Document number and version token by name.
    names: BTreeMap<String, (usize, String)>,
    /// Label value and version token by document number.
    labels: BTreeMap<usize, (String, String)>,
    /// Every version token that a gateway has returned so far.
    tokens: BTreeSet<String>,
}

impl NameModel {
    /// Removes the names and labels of a deleted document.
    pub fn forget(&mut self, number: usize) {
        self.names.retain(|_, (text, _)| *text != number);
        self.labels.remove(&number);
    }

    /// Runs one random operation. Returns true if the answer matches the model.
    pub async fn operate(
        &mut self,
        api: &GatewayApi,
        number: usize,
        ids: &[String],
        stored: &Stored,
        rng: &mut Rng,
    ) -> Result<bool> {
        let name = format!("näme-{}", rng.below(NAMES));
        match rng.below(7) {
            0 | 1 => self.set(api, &name, number, ids, stored, rng).await,
            2 => self.remove(api, &name, ids, rng).await,
            3 => self.read(api, &name, ids).await,
            4 => self.label(api, number, ids, stored, rng).await,
            5 => self.list_names(api, ids).await,
            _ => self.list_by_label(api, ids, rng).await,
        }
    }

    async fn set(
        &mut self,
        api: &GatewayApi,
        name: &str,
        number: usize,
        ids: &[String],
        stored: &Stored,
        rng: &mut Rng,
    ) -> Result<bool> {
        let now = self.names.get(name).map(|(_, token)| token.clone());
        let (expected, met) = self.expectation(now, rng);
        let request =
            pb::SetNameRequest { name: name.to_owned(), id: ids[number].clone(), expected, ..Default::default() };
        let set = api.stub().set_name(request).await;
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

    async fn remove(&mut self, api: &GatewayApi, name: &str, ids: &[String], rng: &mut Rng) -> Result<bool> {
        let now = self.names.get(name).map(|(_, token)| token.clone());
        let (expected, met) = self.expectation(now, rng);
        let request = pb::RemoveNameRequest { name: name.to_owned(), expected, ..Default::default() };
        let removed = api.stub().remove_name(request).await;
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

    async fn read(&self, api: &GatewayApi, name: &str, ids: &[String]) -> Result<bool> {
        match (api.stat(&format!("@{name}")).await, self.names.get(name)) {
            (Ok(document), Some((text, _))) => Ok(id_of(&document) == ids[*text]),
            (Err(status), None) => Ok(status.code() == Code::NotFound),
            _ => Ok(false),
        }
    }

    async fn label(
        &mut self,
        api: &GatewayApi,
        number: usize,
        ids: &[String],
        stored: &Stored,
        rng: &mut Rng,
    ) -> Result<bool> {
        let now = self.labels.get(&number).map(|(_, token)| token.clone());
        let (expected, met) = self.expectation(now, rng);
        // The value after the last one stands for the removal of the label.
        let value = Some(rng.below(VALUES + 1)).filter(|&value| value < VALUES).map(|value| value.to_string());
        let mut request = pb::SetLabelsRequest { id: ids[number].clone(), expected, ..Default::default() };
        match &value {
            Some(value) => drop(request.set.insert(KEY.to_owned(), value.clone())),
            None => request.remove.push(KEY.to_owned()),
        }
        let set = api.stub().set_labels(request).await;
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

    async fn list_names(&self, api: &GatewayApi, ids: &[String]) -> Result<bool> {
        let page = api.stub().list_names(pb::ListNamesRequest::default()).await?.into_inner();
        let mut listed = Vec::new();
        for named in page.names {
            listed.push((named.name, DocumentId::try_from(named.id.as_ref())?.to_string(), named.token));
        }
        let expected = self.names.iter();
        let expected = expected.map(|(name, (text, token))| (name.clone(), ids[*text].clone(), token.clone()));
        Ok(page.damaged.is_empty() && listed == Vec::from_iter(expected))
    }

    async fn list_by_label(&self, api: &GatewayApi, ids: &[String], rng: &mut Rng) -> Result<bool> {
        let value = rng.below(VALUES).to_string();
        let labels = [(KEY.to_owned(), value.clone())].into();
        let page = api.stub().list(pb::ListRequest { labels, ..Default::default() }).await?.into_inner();
        let listed = Vec::from_iter(page.documents.iter().map(id_of));
        let with_value = self.labels.iter().filter(|(_, (is, _))| *is == value);
        let mut expected = Vec::from_iter(with_value.map(|(number, _)| ids[*number].clone()));
        expected.sort();
        Ok(listed == expected)
    }

    /// Chooses a precondition for a name or label whose current token is `now`. Returns the precondition, and true if
    /// it is met.
    fn expectation(&self, now: Option<String>, rng: &mut Rng) -> (Option<String>, bool) {
        match rng.below(4) {
            0 | 1 => (None, true),
            2 => (Some(String::new()), now.is_none()),
            // The current token, or any of the tokens returned so far.
            _ => match (rng.below(2), &now) {
                (0, Some(token)) => (Some(token.clone()), true),
                _ => {
                    let old = self.tokens.iter().nth(rng.below(self.tokens.len().max(1))).cloned();
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
