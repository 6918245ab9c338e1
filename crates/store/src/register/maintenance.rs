//! Garbage collection and fsck of names and labels.
//!
//! Garbage collection removes registers without a live value whose newest generation is older than the grace period. It
//! deletes all generations, oldest first, in the order in which writers delete them. A concurrent writer detects that
//! the generation which it built upon is gone, and starts over.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use c3_types::{AffectedWindows, DocumentId, Finding, FsckMode, SweepSummary};
use object_store::ObjectMeta;
use object_store::path::Path;

use crate::manifest::Inventory;
use crate::object::is_older_than;
use crate::object::key::{LABELS, NAMES, ObjectKey};
use crate::object::version::Version;
use crate::register::{Register, RegisterValue};
use crate::{Error, Store};

/// Folders of registers.
pub(crate) const REGISTERS: [&str; 2] = [NAMES, LABELS];

impl Store {
    /// Removes registers without a live value, and generations that killed writers left. Returns the documents of dead
    /// registers that are still within the grace period. Their tombstones must stay, or those registers would be live
    /// again after another put.
    pub(crate) async fn sweep_registers(
        &self,
        grace: Duration,
        summary: &mut SweepSummary,
    ) -> Result<HashSet<DocumentId>, Error> {
        let mut needed = HashSet::new();
        for folder in REGISTERS {
            let registers = self.registers(&Path::from(folder)).await?;
            // Listed after the registers, so that it has their documents: they were stored before the registers.
            let inventory = self.inventory().await?;
            let versions = inventory.newest();
            for generations in registers.into_values() {
                let Some(newest) = generations.last() else { continue };
                let value = match self.read_register(&ObjectKey::from_path(newest.location.clone())).await {
                    Ok(register) => register.value,
                    // A writer replaced it after the listing.
                    Err(Error::Missing { .. }) => continue,
                    Err(error @ Error::Damaged { .. }) => {
                        tracing::warn!(%error, "a damaged register is kept: run `c3 fsck`");
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                let live = value.as_ref().is_some_and(|value| inventory.is_live(value, &versions));
                let removed = match (live, is_older_than(newest, grace)) {
                    (false, true) => &generations[..],
                    (false, false) => {
                        needed.extend(value.map(|value| value.document));
                        continue;
                    }
                    // Keeps the two newest, as writers do. A killed writer left the others.
                    (true, _) => &generations[..generations.len().saturating_sub(2)],
                };
                for object in removed {
                    self.remove(&ObjectKey::from_path(object.location.clone()), summary).await?;
                }
            }
        }
        Ok(needed)
    }

    /// Checks a register. If its newest generation is damaged, its value is lost: an older one may be out of date.
    pub(crate) async fn fsck_register(
        &self,
        generations: &[ObjectMeta],
        mode: FsckMode,
    ) -> Result<Option<Finding>, Error> {
        let keys = Vec::from_iter(generations.iter().map(|object| ObjectKey::from_path(object.location.clone())));
        let mut newest: Option<Register> = None;
        for (age, key) in keys.iter().rev().enumerate() {
            match self.read_register(key).await {
                Ok(register) if age == 0 => newest = Some(register),
                Ok(_) | Err(Error::Missing { .. }) => {}
                Err(Error::Damaged { problem, .. }) if age == 0 => {
                    let problem = format!("{problem}; its value is lost: set it again");
                    return self.register_finding(key, problem, None, &keys, mode).await.map(Some);
                }
                Err(Error::Damaged { problem, .. }) => {
                    let this = std::slice::from_ref(key);
                    return self.register_finding(key, problem, None, this, mode).await.map(Some);
                }
                Err(error) => return Err(error),
            }
        }
        let (Some(key), Some(value)) = (keys.last(), newest.and_then(|register| register.value)) else {
            return Ok(None);
        };
        if self.has_document(value.document).await? || self.is_tombstoned(&value).await? {
            return Ok(None);
        }
        let problem = format!("it refers to document {}, which is missing", value.document);
        self.register_finding(key, problem, Some(value.document), &keys, mode).await.map(Some)
    }

    /// Reports a fault, and deletes `keys` in repair mode.
    async fn register_finding(
        &self,
        key: &ObjectKey,
        problem: String,
        document: Option<DocumentId>,
        keys: &[ObjectKey],
        mode: FsckMode,
    ) -> Result<Finding, Error> {
        let repaired = mode == FsckMode::Repair;
        if repaired {
            for key in keys {
                self.objects.delete(key).await?;
            }
        }
        let affected = document.map(|document| AffectedWindows { document, first_window: 0, windows: 0 });
        Ok(Finding { object: key.to_string(), problem, affected, repaired })
    }
}

impl Inventory {
    /// Returns whether a value's document exists and was not deleted since the write.
    fn is_live(&self, value: &RegisterValue, newest: &HashMap<DocumentId, Version>) -> bool {
        let deleted = self.deleted.get(&value.document);
        newest
            .get(&value.document)
            .is_some_and(|newest| deleted.is_none_or(|deleted| deleted < newest && *deleted < value.version))
    }
}
