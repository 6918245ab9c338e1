//! Upkeep of names and labels: what the sweep removes of them, and what the check finds.
//!
//! A sweep removes what holds nothing any more, or tells of a document that is gone, once it is older than the grace:
//! all its generations, oldest first, as writers do. Whoever builds upon one just then finds it gone, and begins anew.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use c3_proto::DocumentId;
use object_store::ObjectMeta;
use object_store::path::Path;

use super::Store;
use super::cell::{Cell, State};
use super::check::{Faults, Finding, Touched};
use super::layout::{LABELS, NAMES, Name, ObjectKind};
use super::mark::Census;
use super::objects::StoreError;
use super::stamp::Stamp;
use super::sweep::{Swept, is_older};

/// Both kinds of cells, and the folders where they lie.
pub(super) const CELLS: [(ObjectKind, &str); 2] = [(ObjectKind::Name, NAMES), (ObjectKind::Labels, LABELS)];

impl Store {
    /// Removes names and labels that hold nothing any more. Gives the documents whose tombstones others still need.
    pub(super) async fn sweep_cells(
        &self,
        grace: Duration,
        swept: &mut Swept,
    ) -> Result<HashSet<DocumentId>, StoreError> {
        let mut needed = HashSet::new();
        for (kind, folder) in CELLS {
            let cells = self.cells(&Path::from(folder)).await?;
            // Read after them: what they tell of was there before they were.
            let census = self.census().await?;
            let highest = census.highest();
            for generations in cells.into_values() {
                let Some(newest) = generations.last() else { continue };
                let state = match self.read_cell(kind, &Name::at(newest.location.clone())).await {
                    Ok(cell) => cell.state,
                    // Another came after it.
                    Err(StoreError::Missing { .. }) => continue,
                    Err(error @ StoreError::Damaged { .. }) => {
                        tracing::warn!(%error, "it stays: `c3 fsck` tells what to do");
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                let gone = !state.as_ref().is_some_and(|state| census.stands(state, &highest));
                let going = match (gone, is_older(newest, grace)) {
                    (true, true) => &generations[..],
                    (true, false) => {
                        needed.extend(state.map(|state| state.document));
                        continue;
                    }
                    // Left by a writer that was killed.
                    (false, _) => &generations[..generations.len().saturating_sub(2)],
                };
                for object in going {
                    self.remove(&Name::at(object.location.clone()), swept).await?;
                }
            }
        }
        Ok(needed)
    }

    /// What is wrong with a cell. Where its newest generation is damaged the cell is lost: an older one would tell what
    /// was true once.
    pub(super) async fn check_cell(
        &self,
        kind: ObjectKind,
        generations: &[ObjectMeta],
        faults: Faults,
    ) -> Result<Option<Finding>, StoreError> {
        let names = Vec::from_iter(generations.iter().map(|object| Name::at(object.location.clone())));
        let mut newest: Option<Cell> = None;
        for (younger, name) in names.iter().rev().enumerate() {
            match self.read_cell(kind, name).await {
                Ok(cell) if younger == 0 => newest = Some(cell),
                Ok(_) | Err(StoreError::Missing { .. }) => {}
                Err(StoreError::Damaged { problem, .. }) if younger == 0 => {
                    let problem = format!("{problem}; what it told is lost: set it again");
                    return self.cell_finding(name, problem, None, &names, faults).await.map(Some);
                }
                Err(StoreError::Damaged { problem, .. }) => {
                    let this = std::slice::from_ref(name);
                    return self.cell_finding(name, problem, None, this, faults).await.map(Some);
                }
                Err(error) => return Err(error),
            }
        }
        let (Some(name), Some(state)) = (names.last(), newest.and_then(|cell| cell.state)) else {
            return Ok(None);
        };
        if self.has(state.document).await? || self.is_buried(&state).await? {
            return Ok(None);
        }
        let problem = format!("it tells of document {}, which is missing", state.document);
        self.cell_finding(name, problem, Some(state.document), &names, faults).await.map(Some)
    }

    async fn cell_finding(
        &self,
        name: &Name,
        problem: String,
        document: Option<DocumentId>,
        going: &[Name],
        faults: Faults,
    ) -> Result<Finding, StoreError> {
        let repaired = faults == Faults::Repair;
        if repaired {
            for name in going {
                self.objects.delete(name).await?;
            }
        }
        let touches = document.map(|document| Touched { document, first_window: 0, windows: 0 });
        Ok(Finding { object: name.to_string(), problem, touches, repaired })
    }
}

impl Census {
    /// Whether the document that a cell tells of is still the one that it was.
    fn stands(&self, state: &State, highest: &HashMap<DocumentId, Stamp>) -> bool {
        let deleted = self.deleted.get(&state.document);
        let newest = highest.get(&state.document);
        newest
            .is_some_and(|newest| deleted.is_none_or(|deleted| deleted < newest && *deleted < state.version))
    }
}
