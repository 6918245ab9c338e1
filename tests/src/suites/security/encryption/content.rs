//! Documents of every kind of object, and the search for traces of them.

use std::path::Path;

use anyhow::{Context, Result};
use c3_proto::pb::{PutName, WriteOptions};
use c3_types::DocumentId;
use futures::future;

use crate::harness::cluster::files_under;
use crate::harness::gateway_api::{GatewayApi, id_of};
use crate::suites::store::ops::{default_options, large_text, medium_text, small_text};

/// Documents that are put at the same time, so that they share packs.
const TOGETHER: usize = 24;
/// Name and label of a document.
const NAME: &str = "lighthouse";
const LABEL: (&str, &str) = ("keeper", "barnacle");

/// Documents that a store must return.
#[derive(Clone, Debug)]
pub(super) struct Content(Vec<(String, String)>);

impl Content {
    /// Puts documents of all sizes, one of them with a name and a label.
    pub(super) async fn put(api: &GatewayApi, seed: usize) -> Result<Self> {
        let mut texts = Vec::from_iter((0..TOGETHER).map(|number| small_text(seed + number)));
        texts.extend([medium_text(seed), large_text(seed)]);
        let puts = texts.iter().map(|text| api.put(text.as_bytes(), default_options()));
        let mut documents = Vec::new();
        for (put, text) in future::try_join_all(puts).await?.into_iter().zip(&texts) {
            documents.push((id_of(&put.document.context("no document")?), text.clone()));
        }
        let labels = [(LABEL.0.to_owned(), LABEL.1.to_owned())].into();
        let name = Some(PutName { name: NAME.to_owned(), ..PutName::default() });
        let text = small_text(seed + TOGETHER);
        let put = api.put(text.as_bytes(), WriteOptions { name, labels, ..default_options() }).await?;
        documents.push((id_of(&put.document.context("no document")?), text));
        Ok(Self(documents))
    }

    /// Returns the number of documents.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Counts the documents whose text a gateway does not return.
    pub(super) async fn lost(&self, api: &GatewayApi) -> usize {
        let mut lost = 0;
        for (id, text) in &self.0 {
            lost += usize::from(!api.get(id).await.is_ok_and(|got| got.text == text.as_bytes()));
        }
        lost
    }

    /// Reads documents in turn, the first one for the number 0.
    pub(super) async fn reads_back(&self, api: &GatewayApi, number: usize) -> bool {
        let (id, text) = &self.0[number % self.0.len()];
        api.get(id).await.is_ok_and(|got| got.text == text.as_bytes())
    }

    /// Returns what must not be visible: texts, ids, hashes, names and labels.
    fn secrets(&self, of_models: &[String]) -> Vec<Vec<u8>> {
        let mut secrets = Vec::from_iter([NAME, LABEL.0, LABEL.1].map(|text| text.as_bytes().to_vec()));
        for (id, text) in &self.0 {
            secrets.extend([id.as_bytes().to_vec(), text.as_bytes()[..40].to_vec(), b"C3 store".to_vec()]);
            secrets.extend(id.parse().map(|id: DocumentId| id.as_bytes().to_vec()));
        }
        secrets.extend(of_models.iter().map(|fingerprint| fingerprint.as_bytes().to_vec()));
        secrets
    }

    /// Searches bytes and a name for traces. Returns a description of each.
    pub(super) fn traces(&self, of_models: &[String], name: &str, bytes: &[u8]) -> Vec<String> {
        let found = self.secrets(of_models).into_iter().filter(|secret| {
            let is_in = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == *secret);
            is_in(name.as_bytes()) || is_in(bytes)
        });
        found.map(|secret| format!("{name}: {}", String::from_utf8_lossy(&secret))).collect()
    }

    /// Searches all files and names of a folder for traces. Returns them, and the number of files.
    pub(super) fn traces_under(&self, of_models: &[String], folder: &Path) -> Result<(Vec<String>, usize)> {
        let mut traces = Vec::new();
        let mut files = files_under(folder)?;
        // Random bytes, which only take up space.
        files.retain(|file| !file.components().any(|part| part.as_os_str() == "reserve"));
        for file in &files {
            let name = file.strip_prefix(folder)?.display().to_string();
            traces.extend(self.traces(of_models, &name, &std::fs::read(file)?));
        }
        Ok((traces, files.len()))
    }
}
