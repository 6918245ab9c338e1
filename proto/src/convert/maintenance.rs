//! Reports of garbage collection and of the consistency check.

use bytes::Bytes;
use c3_types::{AffectedWindows, DocumentId, Finding, FsckEvent, FsckMode, FsckSummary, Invalid, SweepSummary};

use super::{FromWire, ToWire, required};
use crate::pb;

impl FromWire<pb::SweepResponse> for SweepSummary {
    fn from_wire(wire: pb::SweepResponse) -> Result<Self, Invalid> {
        let pb::SweepResponse { condemned, removed, removed_bytes, expired, packed, unreadable } = wire;
        Ok(Self { pending_deletes: condemned, removed, removed_bytes, expired, packed, unreadable })
    }
}

impl ToWire for SweepSummary {
    type Wire = pb::SweepResponse;

    fn to_wire(&self) -> pb::SweepResponse {
        let Self { pending_deletes, removed, removed_bytes, expired, packed, unreadable } = *self;
        pb::SweepResponse { condemned: pending_deletes, removed, removed_bytes, expired, packed, unreadable }
    }
}

impl FromWire<pb::CheckRequest> for FsckMode {
    fn from_wire(wire: pb::CheckRequest) -> Result<Self, Invalid> {
        Ok(if wire.repair { Self::Repair } else { Self::Report })
    }
}

impl ToWire for FsckMode {
    type Wire = pb::CheckRequest;

    fn to_wire(&self) -> pb::CheckRequest {
        pb::CheckRequest { repair: *self == Self::Repair, with_progress: false }
    }
}

impl FromWire<pb::Finding> for Finding {
    fn from_wire(wire: pb::Finding) -> Result<Self, Invalid> {
        let pb::Finding { object, problem, document, first_window, windows, repaired, .. } = wire;
        let affected = match document.as_ref() {
            [] => None,
            id => Some(AffectedWindows { document: DocumentId::try_from(id)?, first_window, windows }),
        };
        Ok(Self { object, problem, affected, repaired })
    }
}

impl ToWire for Finding {
    type Wire = pb::Finding;

    fn to_wire(&self) -> pb::Finding {
        let affected = self.affected.as_ref();
        pb::Finding {
            object: self.object.clone(),
            problem: self.problem.clone(),
            document: affected.map_or_else(Bytes::new, |affected| affected.document.to_wire()),
            first_window: affected.map_or(0, |affected| affected.first_window),
            windows: affected.map_or(0, |affected| affected.windows),
            repaired: self.repaired,
            hex_document: affected.map_or_else(String::new, |affected| affected.document.to_string()),
        }
    }
}

impl FromWire<pb::CheckResponse> for FsckEvent {
    fn from_wire(wire: pb::CheckResponse) -> Result<Self, Invalid> {
        use pb::check_response::Part;
        match required("part", wire.part)? {
            Part::Finding(finding) => Finding::from_wire(finding).map(Self::Finding),
            Part::Progress(pb::CheckProgress { documents, documents_total }) => {
                Ok(Self::Progress { documents, documents_total })
            }
            Part::Summary(pb::CheckSummary { objects, documents, foreign }) => {
                Ok(Self::Done(FsckSummary { objects, documents, foreign }))
            }
        }
    }
}

impl ToWire for FsckEvent {
    type Wire = pb::CheckResponse;

    fn to_wire(&self) -> pb::CheckResponse {
        use pb::check_response::Part;
        let part = match self {
            Self::Finding(finding) => Part::Finding(finding.to_wire()),
            &Self::Progress { documents, documents_total } => {
                Part::Progress(pb::CheckProgress { documents, documents_total })
            }
            &Self::Done(FsckSummary { objects, documents, foreign }) => {
                Part::Summary(pb::CheckSummary { objects, documents, foreign })
            }
        };
        pb::CheckResponse { part: Some(part) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_a_check_survive_the_wire() {
        let affected = AffectedWindows { document: DocumentId::of(b"text"), first_window: 3, windows: 2 };
        for affected in [Some(affected), None] {
            let (object, problem) = ("latents/x".to_owned(), "is cut short".to_owned());
            let event = FsckEvent::Finding(Finding { object, problem, affected, repaired: true });
            assert_eq!(FsckEvent::from_wire(event.to_wire()), Ok(event));
        }
        let progress = FsckEvent::Progress { documents: 1, documents_total: 2 };
        let done = FsckEvent::Done(FsckSummary { objects: 4, documents: 2, foreign: 1 });
        for event in [progress, done] {
            assert_eq!(FsckEvent::from_wire(event.to_wire()), Ok(event));
        }
    }
}
