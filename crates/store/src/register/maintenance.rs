//! Garbage collection and fsck of names and labels.
//!
//! A *register* holds a name, or the labels of a document. Its value is *live* if the document exists and was not
//! deleted after the value was written. Each write adds a *generation*, a numbered version of the register. Garbage
//! collection removes a register without a live value if the newest generation is older than the grace period. It
//! deletes all generations in the order that writers also use, oldest first. A concurrent writer detects that its predecessor
//! generation was deleted, and starts over.

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

/// Folders that contain registers.
pub(crate) const REGISTERS: [&str; 2] = [NAMES, LABELS];

impl Store {
    /// Removes registers older than `grace` that have no live value, and old generations left behind by writers that
    /// were killed.
    /// Returns the documents of younger registers without a live value. The tombstones of these documents must stay:
    /// otherwise the values would become live again if the same texts were put again.
    pub(crate) async fn sweep_registers(
        &self,
        grace: Duration,
        summary: &mut SweepSummary,
    ) -> Result<HashSet<DocumentId>, Error> {
        let mut needed = HashSet::new();
        for folder in REGISTERS {
            let registers = self.registers(&Path::from(folder)).await?;
            // A document is stored before its registers. So the inventory, which is listed after the registers,
            // contains it.
            let inventory = self.inventory().await?;
            let versions = inventory.newest();
            for generations in registers.into_values() {
                let Some(newest) = generations.last() else { continue };
                let value = match self.read_register(&ObjectKey::from_path(newest.location.clone())).await {
                    Ok(register) => register.value,
                    // A writer replaced and deleted this generation after the listing.
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
                    // Keeps the two newest generations, as writers do. Killed writers left the older ones.
                    (true, _) => &generations[..generations.len().saturating_sub(2)],
                };
                for object in removed {
                    self.remove(&ObjectKey::from_path(object.location.clone()), summary).await?;
                }
            }
        }
        Ok(needed)
    }

    /// Checks a register. If the newest generation is damaged, the value is lost, because that of an older generation
    /// may be out of date.
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
                    let problem = format!("{problem}; the name or labels are lost: set them again");
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
        // A concurrent sweep may have removed the tombstone after the register was read. A sweep removes the register
        // before the tombstone, so a register that no longer exists is not a fault.
        if !self.objects.exists(key).await? {
            return Ok(None);
        }
        let problem = format!("it refers to document {}, which is missing", value.document);
        self.register_finding(key, problem, Some(value.document), &keys, mode).await.map(Some)
    }

    /// Returns the finding for a fault. In repair mode, deletes `keys` first.
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
    /// Returns whether a value's document exists and was not deleted after the value was written. Ignores expiry.
    fn is_live(&self, value: &RegisterValue, newest: &HashMap<DocumentId, Version>) -> bool {
        let deleted = self.deleted.get(&value.document);
        newest
            .get(&value.document)
            .is_some_and(|newest| deleted.is_none_or(|deleted| deleted < newest && *deleted < value.version))
    }
}
