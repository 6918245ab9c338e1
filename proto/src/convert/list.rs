//! Lists, names, labels and totals.

use c3_types::{
    CreatedRange, DamagedDocument, DamagedName, Document, DocumentId, DocumentLabels, DocumentName, DocumentPage,
    Invalid, Labels, ListQuery, NameFilter, NamePage, NamedDocument, Namespace, Totals,
};

use super::{FromWire, ToWire};
use crate::pb;

impl FromWire<pb::ListRequest> for ListQuery {
    fn from_wire(wire: pb::ListRequest) -> Result<Self, Invalid> {
        let names = wire.names.map(|pb::NamesFilter { namespace, prefix }| {
            Ok::<_, Invalid>(NameFilter { namespace: Namespace::or_default(namespace)?, prefix })
        });
        let query = Self {
            prefix: wire.prefix,
            after: page_token(&wire.page_token)?,
            labels: Labels::new(wire.labels)?,
            names: names.transpose()?,
            created: CreatedRange {
                from_unix_ms: wire.created_from_unix_ms,
                before_unix_ms: wire.created_before_unix_ms,
            },
            page_size: wire.page_size,
        };
        query.checked()
    }
}

impl ToWire for ListQuery {
    type Wire = pb::ListRequest;

    fn to_wire(&self) -> pb::ListRequest {
        pb::ListRequest {
            prefix: self.prefix.clone(),
            page_size: self.page_size,
            page_token: self.after.map_or_else(String::new, |id| id.to_string()),
            created_from_unix_ms: self.created.from_unix_ms,
            created_before_unix_ms: self.created.before_unix_ms,
            labels: self.labels.to_wire(),
            names: self
                .names
                .as_ref()
                .map(|names| pb::NamesFilter { namespace: names.namespace.to_string(), prefix: names.prefix.clone() }),
        }
    }
}

impl FromWire<pb::ListResponse> for DocumentPage {
    fn from_wire(wire: pb::ListResponse) -> Result<Self, Invalid> {
        let damaged = wire.damaged.into_iter().map(|pb::DamagedDocument { id, problem, .. }| {
            Ok(DamagedDocument { id: DocumentId::try_from(id.as_ref())?, problem })
        });
        Ok(Self {
            documents: wire.documents.into_iter().map(Document::from_wire).collect::<Result<_, _>>()?,
            damaged: damaged.collect::<Result<_, Invalid>>()?,
            next: page_token(&wire.next_page_token)?,
        })
    }
}

impl ToWire for DocumentPage {
    type Wire = pb::ListResponse;

    fn to_wire(&self) -> pb::ListResponse {
        let damaged = self.damaged.iter();
        pb::ListResponse {
            documents: self.documents.iter().map(Document::to_wire).collect(),
            next_page_token: self.next.map_or_else(String::new, |id| id.to_string()),
            damaged: damaged
                .map(|DamagedDocument { id, problem }| pb::DamagedDocument {
                    id: id.to_wire(),
                    problem: problem.clone(),
                    hex_id: id.to_string(),
                })
                .collect(),
        }
    }
}

impl FromWire<pb::NamedDocument> for NamedDocument {
    fn from_wire(wire: pb::NamedDocument) -> Result<Self, Invalid> {
        Ok(Self {
            name: DocumentName::from_parts(wire.namespace, wire.name)?,
            id: DocumentId::try_from(wire.id.as_ref())?,
            token: wire.token,
            changed_unix_ms: wire.changed_unix_ms,
        })
    }
}

impl ToWire for NamedDocument {
    type Wire = pb::NamedDocument;

    fn to_wire(&self) -> pb::NamedDocument {
        pb::NamedDocument {
            namespace: self.name.namespace().to_string(),
            name: self.name.name().to_owned(),
            id: self.id.to_wire(),
            token: self.token.clone(),
            changed_unix_ms: self.changed_unix_ms,
            hex_id: self.id.to_string(),
        }
    }
}

impl FromWire<pb::ListNamesResponse> for NamePage {
    fn from_wire(wire: pb::ListNamesResponse) -> Result<Self, Invalid> {
        let damaged = wire.damaged.into_iter();
        Ok(Self {
            names: wire.names.into_iter().map(NamedDocument::from_wire).collect::<Result<_, _>>()?,
            damaged: damaged.map(|pb::DamagedName { name, problem }| DamagedName { name, problem }).collect(),
            next: Some(wire.next_page_token).filter(|token| !token.is_empty()),
        })
    }
}

impl ToWire for NamePage {
    type Wire = pb::ListNamesResponse;

    fn to_wire(&self) -> pb::ListNamesResponse {
        let damaged = self.damaged.iter().cloned();
        pb::ListNamesResponse {
            names: self.names.iter().map(NamedDocument::to_wire).collect(),
            next_page_token: self.next.clone().unwrap_or_default(),
            damaged: damaged.map(|DamagedName { name, problem }| pb::DamagedName { name, problem }).collect(),
        }
    }
}

impl FromWire<pb::SetLabelsResponse> for DocumentLabels {
    fn from_wire(wire: pb::SetLabelsResponse) -> Result<Self, Invalid> {
        let (id, labels) = (DocumentId::try_from(wire.id.as_ref())?, Labels::new(wire.labels)?);
        Ok(Self { id, labels, token: wire.token })
    }
}

impl ToWire for DocumentLabels {
    type Wire = pb::SetLabelsResponse;

    fn to_wire(&self) -> pb::SetLabelsResponse {
        pb::SetLabelsResponse {
            id: self.id.to_wire(),
            labels: self.labels.to_wire(),
            token: self.token.clone(),
            hex_id: self.id.to_string(),
        }
    }
}

impl FromWire<pb::TotalsResponse> for Totals {
    fn from_wire(wire: pb::TotalsResponse) -> Result<Self, Invalid> {
        let pb::TotalsResponse { documents, bytes, tokens, latents, shards, windows, .. } = wire;
        let pb::TotalsResponse { names, objects, stored_bytes, damaged, uploads, .. } = wire;
        let pb::TotalsResponse { upload_objects, upload_bytes, unused_objects, unused_bytes, .. } = wire;
        Ok(Self {
            documents,
            bytes,
            tokens,
            latents,
            shards,
            windows,
            names,
            objects,
            stored_bytes,
            damaged,
            uploads,
            upload_objects,
            upload_bytes,
            unused_objects,
            unused_bytes,
        })
    }
}

impl ToWire for Totals {
    type Wire = pb::TotalsResponse;

    fn to_wire(&self) -> pb::TotalsResponse {
        pb::TotalsResponse {
            documents: self.documents,
            bytes: self.bytes,
            tokens: self.tokens,
            latents: self.latents,
            shards: self.shards,
            windows: self.windows,
            names: self.names,
            objects: self.objects,
            stored_bytes: self.stored_bytes,
            damaged: self.damaged,
            uploads: self.uploads,
            upload_objects: self.upload_objects,
            upload_bytes: self.upload_bytes,
            unused_objects: self.unused_objects,
            unused_bytes: self.unused_bytes,
        }
    }
}

/// Parses a page token: the last id of the previous page. Returns `None` for an empty token.
fn page_token(token: &str) -> Result<Option<DocumentId>, Invalid> {
    match token {
        "" => Ok(None),
        id => id.parse().map(Some).map_err(|_| Invalid::new("page_token", "must be the next_page_token of a page")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_survives_the_wire() {
        let query = ListQuery {
            prefix: "ab12".to_owned(),
            after: Some(DocumentId::of(b"text")),
            labels: Labels::new([("lang".to_owned(), "de".to_owned())]).unwrap(),
            names: Some(NameFilter { namespace: "team".parse().unwrap(), prefix: "book".to_owned() }),
            created: CreatedRange { from_unix_ms: Some(3), before_unix_ms: None },
            page_size: 7,
        };
        assert_eq!(ListQuery::from_wire(query.to_wire()), Ok(query));
    }

    #[test]
    fn prefixes_and_page_tokens_are_checked() {
        let prefix = |prefix: &str| pb::ListRequest { prefix: prefix.to_owned(), ..Default::default() };
        assert_eq!(ListQuery::from_wire(prefix("AB")).unwrap().prefix, "ab");
        assert_eq!(ListQuery::from_wire(prefix("xy")).unwrap_err().field, "prefix");
        let token = pb::ListRequest { page_token: "2".to_owned(), ..Default::default() };
        assert_eq!(ListQuery::from_wire(token).unwrap_err().field, "page_token");
    }
}
