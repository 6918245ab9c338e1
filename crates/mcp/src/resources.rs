//! Resources: documents by id, which never change, and by name.

use c3_client::{ByteRange, DocumentId, ListQuery, Listed, ListedName, Namespace};
use c3_types::DocumentRef;
use futures::{StreamExt, TryStreamExt};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use rmcp::ErrorData;
use rmcp::model::{
    CacheScope, CompleteRequestParams, CompleteResult, CompletionInfo, ListResourcesResult, ReadResourceResult,
    Reference, Resource, ResourceContents, ResourceTemplate,
};
use url::Url;

use crate::call::{Call, DOCUMENTS_URI, handle};
use crate::error::Error;
use crate::text;

/// Beginning of the URI of a named document.
const NAMES_URI: &str = "c3://names/";
/// Maximum bytes of a resource. Longer texts are read in ranges.
const BYTES_MAX: u64 = 1 << 20;
/// Documents in a page of the list. The first page also has the names of the default namespace.
const PAGE: usize = 100;
/// Names in the first page.
const NAMES_MAX: usize = 1000;
/// Values that complete an argument, at most.
const COMPLETIONS_MAX: usize = 20;
/// A document with a full id never changes: a year, in milliseconds.
const FOR_EVER_MS: u64 = 365 * 24 * 3_600_000;
/// Characters of a name that are escaped in a URI.
const ESCAPED: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?').add(b'{').add(b'}');

pub(crate) fn templates() -> Vec<ResourceTemplate> {
    let template = |uri: &str, name: &str, about: &str| {
        ResourceTemplate::new(uri, name).with_description(about).with_mime_type("text/plain")
    };
    vec![
        template(
            &format!("{DOCUMENTS_URI}{{id}}{{?start,end}}"),
            "document",
            "Exact text of a document, or the bytes from start to end",
        ),
        template(
            &format!("{NAMES_URI}{{namespace}}/{{+name}}{{?start,end}}"),
            "named document",
            "Exact text of the document that has the name now, or the bytes from start to end",
        ),
    ]
}

/// Lists the names of the default namespace, then documents in the order of ids.
pub(crate) async fn list(call: &Call<'_>, cursor: Option<&str>) -> Result<ListResourcesResult, ErrorData> {
    let mut resources = Vec::new();
    let after = match cursor {
        Some(cursor) => {
            let id = cursor.parse::<DocumentId>();
            Some(id.map_err(|_| ErrorData::invalid_params("the cursor is not one of this list: begin again", None))?)
        }
        None => {
            resources = named(call).await.map_err(unreadable)?;
            None
        }
    };
    let query = ListQuery { after, ..ListQuery::default() };
    let listed: Vec<Listed> = call.client.list_where(&query).take(PAGE).try_collect().await.map_err(unreadable)?;
    let last = match listed.last() {
        Some(Listed::Document(document)) if listed.len() == PAGE => Some(document.id.to_string()),
        Some(Listed::Damaged(damaged)) if listed.len() == PAGE => Some(damaged.id.to_string()),
        _ => None,
    };
    for entry in listed {
        let Listed::Document(document) = entry else { continue };
        let title = document.labels.paths().next().map_or_else(|| handle(&document), str::to_owned);
        let resource = Resource::new(format!("{DOCUMENTS_URI}{}", document.id), title);
        resources.push(resource.with_mime_type("text/plain").with_size(document.bytes));
    }
    let mut result =
        ListResourcesResult::with_all_items(resources).with_ttl_ms(0).with_cache_scope(CacheScope::Private);
    result.next_cursor = last;
    Ok(result)
}

async fn named(call: &Call<'_>) -> Result<Vec<Resource>, c3_client::Error> {
    let names = call.client.names(&Namespace::default(), "").take(NAMES_MAX);
    let resources = names.try_filter_map(async |listed| {
        let ListedName::Named(named) = listed else { return Ok(None) };
        let (namespace, name) = (named.name.namespace(), utf8_percent_encode(named.name.name(), ESCAPED));
        let resource = Resource::new(format!("{NAMES_URI}{namespace}/{name}"), named.name.to_string());
        Ok(Some(resource.with_mime_type("text/plain")))
    });
    resources.try_collect().await
}

/// Reads a resource.
pub(crate) async fn read(call: &Call<'_>, uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let wanted = Wanted::parse(uri).map_err(|error| ErrorData::invalid_params(error.to_string(), None))?;
    let document = call.document(&wanted.reference).await.map_err(|error| failed(uri, error))?;
    let range = wanted.range.within(document.bytes).map_err(|invalid| failed(uri, invalid.into()))?;
    if range.end - range.start > BYTES_MAX {
        let problem = format!(
            "the text has {} bytes, more than {BYTES_MAX}: read ranges, such as {DOCUMENTS_URI}{}?start={}&end={}",
            range.end - range.start,
            document.id,
            range.start,
            range.start + BYTES_MAX
        );
        return Err(ErrorData::invalid_params(problem, None));
    }
    let part = text::read(call, &document, range).await.map_err(|error| failed(uri, error))?;
    // An id names the same bytes for ever; a prefix of an id and a name may stand for another document later.
    let ttl_ms = if wanted.reference == document.id.to_string() { FOR_EVER_MS } else { 0 };
    let contents = ResourceContents::text(part.text, uri);
    Ok(ReadResourceResult::new(vec![contents]).with_ttl_ms(ttl_ms).with_cache_scope(CacheScope::Private))
}

/// Completes the argument of a template.
pub(crate) async fn complete(call: &Call<'_>, request: &CompleteRequestParams) -> Result<CompleteResult, ErrorData> {
    let Reference::Resource(_) = &request.r#ref else {
        return Err(ErrorData::invalid_params("only the arguments of resources can be completed", None));
    };
    let typed = request.argument.value.clone();
    let values: Result<Vec<String>, c3_client::Error> = match request.argument.name.as_str() {
        "id" => {
            let documents = call.client.list(&typed).try_filter_map(async |listed| match listed {
                Listed::Document(document) => Ok(Some(document.id.to_string())),
                Listed::Damaged(_) => Ok(None),
            });
            documents.take(COMPLETIONS_MAX).try_collect().await
        }
        "name" => {
            let known = request.context.as_ref().and_then(|context| context.get_argument("namespace"));
            let namespace = crate::call::namespace(known.map(String::as_str))
                .map_err(|error| ErrorData::invalid_params(error.to_string(), None))?;
            let names = call.client.names(&namespace, &typed).try_filter_map(async |listed| match listed {
                ListedName::Named(named) => Ok(Some(named.name.name().to_owned())),
                ListedName::Damaged(_) => Ok(None),
            });
            names.take(COMPLETIONS_MAX).try_collect().await
        }
        _ => Ok(Vec::new()),
    };
    let values = CompletionInfo::new(values.map_err(unreadable)?);
    Ok(CompleteResult::new(values.map_err(|problem| ErrorData::internal_error(problem, None))?))
}

/// Document and range that a URI names.
#[derive(Debug, PartialEq)]
struct Wanted {
    reference: String,
    range: ByteRange,
}

impl Wanted {
    fn parse(uri: &str) -> Result<Self, Error> {
        let wrong = || {
            let forms = format!("{DOCUMENTS_URI}ID or {NAMES_URI}NAMESPACE/NAME, with ?start=A&end=B for a range");
            Error::argument(format!("`{uri}` is no resource: write {forms}"))
        };
        let url = Url::parse(uri).map_err(|_| wrong())?;
        let path = percent_decode_str(url.path().strip_prefix('/').ok_or_else(wrong)?).decode_utf8();
        let path = path.map_err(|_| wrong())?;
        let reference = match (url.scheme(), url.host_str()) {
            ("c3", Some("documents")) => path.into_owned(),
            ("c3", Some("names")) if path.contains('/') => format!("@{path}"),
            _ => return Err(wrong()),
        };
        reference.parse::<DocumentRef>()?;
        let (mut start, mut end) = (None, None);
        for (key, value) in url.query_pairs() {
            let value = value.parse().map_err(|_| Error::argument(format!("{key}: must be a number of bytes")))?;
            match key.as_ref() {
                "start" => start = Some(value),
                "end" => end = Some(value),
                _ => return Err(wrong()),
            }
        }
        Ok(Self { reference, range: ByteRange::new(start, end)? })
    }
}

fn failed(uri: &str, error: Error) -> ErrorData {
    let data = Some(serde_json::json!({ "uri": uri }));
    match &error {
        Error::NotFound(_) => ErrorData::resource_not_found(error.to_string(), data),
        Error::Argument(_) => ErrorData::invalid_params(error.to_string(), data),
        Error::Gateway(_) | Error::File(_) => ErrorData::internal_error(error.to_string(), data),
    }
}

fn unreadable(error: c3_client::Error) -> ErrorData {
    ErrorData::internal_error(Error::from(error).to_string(), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris() {
        let parse = |uri: &str| Wanted::parse(uri).map(|wanted| (wanted.reference, wanted.range.to_string()));
        let parsed = |uri: &str| parse(uri).unwrap();
        assert_eq!(parsed("c3://documents/ab12cd"), ("ab12cd".to_owned(), "0..".to_owned()));
        assert_eq!(parsed("c3://documents/ab12cd?start=5&end=9"), ("ab12cd".to_owned(), "5..9".to_owned()));
        assert_eq!(parsed("c3://names/default/plan"), ("@default/plan".to_owned(), "0..".to_owned()));
        assert_eq!(parsed("c3://names/team/notes/a%20b?end=7"), ("@team/notes/a b".to_owned(), "0..7".to_owned()));
        for wrong in [
            "",
            "ab12",
            "c3://documents/",
            "c3://documents/xyz",
            "c3://names/plan",
            "c3://other/ab12",
            "file:///etc/passwd",
            "c3://documents/ab12?start=x",
            "c3://documents/ab12?begin=1",
            "c3://documents/ab12?start=9&end=5",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
