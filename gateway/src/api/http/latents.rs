//! Latents: export and import of documents, and compression and decompression without storing.

use axum::body::Bytes;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use c3_routing::RequestClass;
use c3_types::latents_file::{self, TensorFormat};
use c3_types::{DecompressOptions, Invalid, Prompt};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::documents::RefPath;
use super::latents_body::LatentsBody;
use super::model::{DocumentBody, ProblemBody};
use super::options::{PutBody, PutQuery};
use super::reply::{Json, Path, Query, Reply, Tenant};
use super::text::body;
use super::text_body::TextBody;
use crate::error::Error;
use crate::ingest::compress::compress;
use crate::ingest::latents::put_latents;
use crate::read::decompress::decompress;
use crate::read::latents::latents_file;

const SAFETENSORS: (HeaderName, HeaderValue) =
    (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));

/// Maximum bytes of a text whose latents are returned. The header of the file describes all latents, so they are held
/// in memory, where they take more bytes than the text.
const COMPRESS_BYTES_MAX: u64 = 4 << 20;

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LatentsParameters {
    /// `stored` (default): the bytes as they are stored. `f32`: decoded floats.
    #[param(nullable = false, inline)]
    dtype: Option<DataType>,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum DataType {
    Stored,
    F32,
}

/// Returns the latents of a document as a safetensors file.
///
/// Tensor `window.N` has the latents of window N: of the type of the codec for `f32` and `bf16`, else as bytes.
#[utoipa::path(
    get, operation_id = "get_latents", path = "/v1/documents/{ref}/latents", tag = "latents",
    params(RefPath, LatentsParameters),
    responses(
        (status = 200, description = "The latents", body = String, content_type = "application/octet-stream"),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(
    Tenant(gateway): Tenant,
    Path(reference): Path<String>,
    Query(parameters): Query<LatentsParameters>,
) -> Reply {
    let format = match parameters.dtype {
        Some(DataType::F32) => TensorFormat::F32,
        Some(DataType::Stored) | None => TensorFormat::Stored,
    };
    let file = latents_file(gateway, reference, format).await?;
    let location = format!("/v1/documents/{}/latents", file.document.id);
    let headers = [
        SAFETENSORS,
        (header::CONTENT_LENGTH, file.size.into()),
        (header::CONTENT_LOCATION, location.parse().expect("digits are valid in headers")),
    ];
    Ok((headers, body(file.content)).into_response())
}

/// Stores a document from its latents.
///
/// The body is a safetensors file as `GET /v1/documents/{ref}/latents` returns it. It becomes a document only if every
/// window decodes to its hash.
#[utoipa::path(
    post, operation_id = "put_latents", path = "/v1/latents", tag = "latents",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 201, description = "The document", body = DocumentBody, headers(("location" = String))),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn post(Tenant(gateway): Tenant, file: LatentsBody) -> Reply {
    gateway.admit(RequestClass::Write)?;
    let missing = || Invalid::new("document", "is missing: give a file of a stored document");
    let document = file.document.ok_or_else(missing)?;
    let document = Box::pin(put_latents(gateway, document, file.windows)).await?;
    let location = [(header::LOCATION, format!("/v1/documents/{}", document.id))];
    Ok((StatusCode::CREATED, location, Json(DocumentBody::from(&document))).into_response())
}

/// Returns the latents of a text, without storing anything.
///
/// The text has at most 4 MiB. The response is a safetensors file. The options `auto`, `upload`, `base`, `append_to`,
/// `name` and `labels` do not apply.
#[utoipa::path(
    post, operation_id = "compress", path = "/v1/compress", tag = "latents", params(PutQuery),
    request_body(content(
        (String = "text/plain", example = "Nothing in the world is as soft as water."),
        (PutBody = "application/json"),
    ), description = "The text"),
    responses(
        (status = 200, description = "The latents", body = String, content_type = "application/octet-stream"),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn compress_text(Tenant(gateway): Tenant, body: TextBody) -> Reply {
    gateway.admit(RequestClass::Write)?;
    let TextBody { options, text } = body;
    let limit = |bytes| match bytes > COMPRESS_BYTES_MAX {
        true => Err(Error::TooLarge { bytes, max: COMPRESS_BYTES_MAX }),
        false => Ok(()),
    };
    limit(options.bytes.unwrap_or(0))?;
    let mut collected = Vec::new();
    let mut windows = compress(gateway, options, text).boxed();
    while let Some(window) = windows.try_next().await? {
        limit(window.bytes.end)?;
        collected.push(window);
    }
    Ok(([SAFETENSORS], latents_file::write(TensorFormat::Stored, None, &collected)?).into_response())
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DecompressParameters {
    /// Name of the model; default: one whose compressor made the latents.
    #[param(nullable = false, min_length = 1)]
    cascade: Option<String>,
    /// Prompt to answer about each window, if the model supports prompts; default: restore the text.
    #[param(nullable = false, min_length = 1)]
    prompt: Option<String>,
    /// Maximum tokens of an answer.
    #[param(nullable = false, minimum = 1, maximum = 16384)]
    tokens_max: Option<u32>,
}

/// Returns the text of latents, or the answer to a prompt about them, without storing anything.
///
/// The body is a safetensors file as `/v1/compress` returns it.
#[utoipa::path(
    post, operation_id = "decompress", path = "/v1/decompress", tag = "latents", params(DecompressParameters),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "The text", body = String, content_type = "text/plain"),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn decompress_latents(
    Tenant(gateway): Tenant,
    Query(parameters): Query<DecompressParameters>,
    file: LatentsBody,
) -> Reply {
    gateway.admit(RequestClass::Read)?;
    let DecompressParameters { cascade, prompt, tokens_max } = parameters;
    if prompt.is_none() && tokens_max.is_some() {
        return Err(Invalid::new("tokens_max", "needs a prompt").into());
    }
    let prompt = prompt.map(|text| Prompt { text, tokens_max: tokens_max.unwrap_or(0) });
    let mut texts = decompress(gateway, DecompressOptions { cascade, prompt }, file.windows).boxed();
    // Waits for the first text, so that the response gets the status of an early failure.
    let first = texts.next().await.transpose()?;
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))];
    Ok((content_type, body(stream::iter(first.map(Ok::<Bytes, Error>)).chain(texts))).into_response())
}
