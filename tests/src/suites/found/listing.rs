//! Cost of a page of each listing.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use c3_proto::pb;
use c3_store::Store;
use c3_store::manifest::Manifest;
use c3_store::object::version::Version;
use c3_store::register::RegisterValue;
use c3_types::{Cascade, DocumentId, DocumentName, Expected, Fingerprint, Labels, LatentCodec, Namespace};
use futures::{StreamExt, TryStreamExt, stream};
use tempfile::TempDir;

use crate::harness::cluster::ClusterSpec;
use crate::harness::gateway_api::GatewayApi;
use crate::harness::quantity::Quantity;

/// Names of the measurements in this module.
pub const ROWS: &[&str] = &["quadratic-listing"];

/// Numbers of documents in the two compared stores. Each document has a name and a label.
const SMALL: usize = 300;
const LARGE: usize = 6_000;
/// Maximum time of a page in the large store, divided by the time of a page in the small store. The large store has 20
/// times as many entries.
const PAGE_COST_MAX: f64 = 4.0;
/// Entries of a page.
const PAGE_SIZE: u32 = 10;
/// Pages that are timed together, from the second one on: the first page of a list by name reads all names.
const PAGES: usize = 20;
/// Rounds of measurements. The fastest counts.
const ROUNDS: usize = 3;
/// Concurrent writes to a store that is being filled.
const WRITES_IN_FLIGHT: usize = 64;
/// File system in memory. Filling a store there takes no disk writes.
const MEMORY: &str = "/dev/shm";

/// A listing with pages.
#[derive(Clone, Copy, Debug)]
enum Listing {
    Names,
    Documents,
    DocumentsByLabel,
    DocumentsByName,
}

/// Runs the measurement called `row` and returns its quantities. Fails if [`ROWS`] does not contain `row`.
pub async fn measure(row: &str) -> Result<Vec<Quantity>> {
    match row {
        "quadratic-listing" => quadratic_listing().await,
        row => bail!("no measurement is named `{row}`"),
    }
}

/// Lists a small and a large store page by page; a page of the large store may take at most [`PAGE_COST_MAX`] times as
/// long.
async fn quadratic_listing() -> Result<Vec<Quantity>> {
    let listings = [
        ("names", Listing::Names),
        ("documents", Listing::Documents),
        ("documents-by-label", Listing::DocumentsByLabel),
        ("documents-by-name", Listing::DocumentsByName),
    ];
    let mut times = Vec::new();
    let mut quantities = Vec::new();
    for count in [SMALL, LARGE] {
        let folder = match Path::new(MEMORY).is_dir() {
            true => TempDir::with_prefix_in("c3-listing-", MEMORY)?,
            false => TempDir::with_prefix("c3-listing-")?,
        };
        let data = folder.path().to_str().context("the path is not UTF-8")?.to_owned();
        fill(&data, count).await?;
        let cluster = ClusterSpec { data: Some(data), ..ClusterSpec::default() }.start().await?;
        let api = cluster.api()?;
        let mut of_store = Vec::new();
        for (_, listing) in listings {
            let mut fastest = Duration::MAX;
            for _ in 0..ROUNDS {
                fastest = fastest.min(pages(&api, listing).await?);
            }
            of_store.push(fastest.as_secs_f64());
        }
        times.push(of_store);
        if count == LARGE {
            quantities.push(Quantity::equal("listing-names-complete", all_names(&api).await?, count));
            quantities.push(Quantity::equal("listing-documents-complete", api.ids().await?.len(), count));
        }
    }
    for (number, (name, _)) in listings.into_iter().enumerate() {
        let ratio = times[1][number] / times[0][number];
        quantities.push(Quantity::at_most(format!("listing-{name}-page-cost-over-small-store"), ratio, PAGE_COST_MAX));
    }
    Ok(quantities)
}

/// Fills a store with documents without text, each in a manifest of its own, and gives each a name and a label.
async fn fill(data: &str, count: usize) -> Result<()> {
    let store = &Store::open(data).await?;
    let writes = stream::iter(0..count).map(|number| async move {
        let manifest = store.put_manifest(manifest(number)).await?.value;
        let (document, version) = (manifest.id, manifest.version);
        let value = RegisterValue { document, version, labels: Labels::default() };
        let name = DocumentName::new(Namespace::default(), format!("name-{number}"))?;
        store.change_name(&name, &Expected::Any, Some(value.clone())).await?;
        let labels = Labels::new([("kind".to_owned(), "letter".to_owned())])?;
        let labelled = |_: Option<&RegisterValue>| {
            Ok::<_, c3_store::Error>(Some(RegisterValue { labels: labels.clone(), ..value.clone() }))
        };
        store.change_labels(document, &Expected::Any, labelled).await?;
        anyhow::Ok(())
    });
    writes.buffer_unordered(WRITES_IN_FLIGHT).try_collect().await
}

fn manifest(number: usize) -> Manifest {
    let fingerprint = Fingerprint::of(b"model");
    Manifest {
        id: DocumentId::of(&number.to_le_bytes()),
        version: Version::NONE,
        cascade: Cascade { name: "c3-mini".to_owned(), compressor: fingerprint, decoder: fingerprint },
        ratio: 20,
        codec: LatentCodec::Q4_0,
        verification: None,
        created_unix_ms: 1,
        expires_unix_ms: None,
        is_searchable: true,
        shards: Vec::new(),
        subtrees: Vec::new(),
    }
}

/// Requests the first page of a listing, then the next [`PAGES`] pages. Returns the time that the latter take.
async fn pages(api: &GatewayApi, listing: Listing) -> Result<Duration> {
    let (mut started, mut page_token) = (Instant::now(), String::new());
    for page in 0..=PAGES {
        if page == 1 {
            started = Instant::now();
        }
        page_token = match listing {
            Listing::Names => {
                let request = pb::ListNamesRequest { page_size: PAGE_SIZE, page_token, ..Default::default() };
                api.stub().list_names(request).await?.into_inner().next_page_token
            }
            _ => {
                let labels = match listing {
                    Listing::DocumentsByLabel => [("kind".to_owned(), "letter".to_owned())].into(),
                    _ => Default::default(),
                };
                let names = matches!(listing, Listing::DocumentsByName).then(pb::NamesFilter::default);
                let request = pb::ListRequest { page_size: PAGE_SIZE, page_token, labels, names, ..Default::default() };
                api.stub().list(request).await?.into_inner().next_page_token
            }
        };
    }
    Ok(started.elapsed())
}

/// Lists all names and returns the number of different ones.
async fn all_names(api: &GatewayApi) -> Result<usize> {
    let (mut names, mut page_token) = (BTreeSet::new(), String::new());
    loop {
        let request = pb::ListNamesRequest { page_token, ..Default::default() };
        let page = api.stub().list_names(request).await?.into_inner();
        names.extend(page.names.into_iter().map(|named| named.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(names.len());
        }
    }
}
