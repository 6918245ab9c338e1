//! Upkeep of names and labels: what the sweep removes of them, and what the check finds.
//!
//! A sweep removes what holds nothing any more, or tells of a document that is gone, once it is older than the grace:
//! all its generations, oldest first, as writers do. Whoever builds upon one just then finds it gone, and begins anew.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use c3_types::DocumentId;
use object_store::ObjectMeta;
use object_store::path::Path;

use crate::Error;
use crate::Store;
use crate::manifest::Inventory;
use crate::object::is_older_than;
use crate::object::key::{LABELS, NAMES, ObjectKey, ObjectKind};
use crate::object::version::Version;
use crate::register::{Register, State};
use c3_types::SweepSummary;
use c3_types::{AffectedWindows, Finding, FsckMode};

/// Both kinds of cells, and the folders where they lie.
pub const REGISTERS: [(ObjectKind, &str); 2] = [(ObjectKind::Name, NAMES), (ObjectKind::Labels, LABELS)];

impl Store {
    /// Removes names and labels that hold nothing any more. Gives the documents whose tombstones others still need.
    pub async fn sweep_registers(
        &self,
        grace: Duration,
        swept: &mut SweepSummary,
    ) -> Result<HashSet<DocumentId>, Error> {
        let mut needed = HashSet::new();
        for (kind, folder) in REGISTERS {
            let cells = self.registers(&Path::from(folder)).await?;
            // Read after them: what they tell of was there before they were.
            let inventory = self.inventory().await?;
            let highest = inventory.highest();
            for generations in cells.into_values() {
                let Some(newest) = generations.last() else { continue };
                let state = match self.read_register(kind, &ObjectKey::at(newest.location.clone())).await {
                    Ok(cell) => cell.state,
                    // Another came after it.
                    Err(Error::Missing { .. }) => continue,
                    Err(error @ Error::Damaged { .. }) => {
                        tracing::warn!(%error, "it stays: `c3 fsck` tells what to do");
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                let gone = !state.as_ref().is_some_and(|state| inventory.stands(state, &highest));
                let going = match (gone, is_older_than(newest, grace)) {
                    (true, true) => &generations[..],
                    (true, false) => {
                        needed.extend(state.map(|state| state.document));
                        continue;
                    }
                    // Left by a writer that was killed.
                    (false, _) => &generations[..generations.len().saturating_sub(2)],
                };
                for object in going {
                    self.remove(&ObjectKey::at(object.location.clone()), swept).await?;
                }
            }
        }
        Ok(needed)
    }

    /// What is wrong with a cell. Where its newest generation is damaged the cell is lost: an older one would tell what
    /// was true once.
    pub async fn fsck_register(
        &self,
        kind: ObjectKind,
        generations: &[ObjectMeta],
        faults: FsckMode,
    ) -> Result<Option<Finding>, Error> {
        let names = Vec::from_iter(generations.iter().map(|object| ObjectKey::at(object.location.clone())));
        let mut newest: Option<Register> = None;
        for (younger, name) in names.iter().rev().enumerate() {
            match self.read_register(kind, name).await {
                Ok(cell) if younger == 0 => newest = Some(cell),
                Ok(_) | Err(Error::Missing { .. }) => {}
                Err(Error::Damaged { problem, .. }) if younger == 0 => {
                    let problem = format!("{problem}; what it told is lost: set it again");
                    return self.register_finding(name, problem, None, &names, faults).await.map(Some);
                }
                Err(Error::Damaged { problem, .. }) => {
                    let this = std::slice::from_ref(name);
                    return self.register_finding(name, problem, None, this, faults).await.map(Some);
                }
                Err(error) => return Err(error),
            }
        }
        let (Some(name), Some(state)) = (names.last(), newest.and_then(|cell| cell.state)) else {
            return Ok(None);
        };
        if self.has(state.document).await? || self.is_tombstoned(&state).await? {
            return Ok(None);
        }
        let problem = format!("it tells of document {}, which is missing", state.document);
        self.register_finding(name, problem, Some(state.document), &names, faults).await.map(Some)
    }

    async fn register_finding(
        &self,
        name: &ObjectKey,
        problem: String,
        document: Option<DocumentId>,
        going: &[ObjectKey],
        faults: FsckMode,
    ) -> Result<Finding, Error> {
        let repaired = faults == FsckMode::Repair;
        if repaired {
            for name in going {
                self.objects.delete(name).await?;
            }
        }
        let affected = document.map(|document| AffectedWindows { document, first_window: 0, windows: 0 });
        Ok(Finding { object: name.to_string(), problem, affected, repaired })
    }
}

impl Inventory {
    /// Whether the document that a cell tells of is still the one that it was.
    fn stands(&self, state: &State, highest: &HashMap<DocumentId, Version>) -> bool {
        let deleted = self.deleted.get(&state.document);
        let newest = highest.get(&state.document);
        newest
            .is_some_and(|newest| deleted.is_none_or(|deleted| deleted < newest && *deleted < state.version))
    }
}
