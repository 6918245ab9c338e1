//! Manifests and shards for tests.

use c3_store::manifest::{Manifest, Placement, ShardEntry, Verification};
use c3_store::object::version::Version;
use c3_types::{
    Cascade, DocumentId, Fingerprint, LatentCodec, LatentGroup, Provenance, ShardHash, WindowHash, WindowLatents,
};

/// Returns a manifest with a shard for each element of `windows`, which lists the sizes of its windows in bytes.
pub(crate) fn manifest(windows: &[Vec<u32>], verified: bool) -> Manifest {
    let shards = windows.iter().map(|window_bytes| ShardEntry {
        hash: ShardHash::of(format!("{window_bytes:?}").as_bytes()),
        ratio: 20,
        window_bytes: window_bytes.clone(),
        window_newlines: Vec::new(),
        exact_windows: None,
        tokens: 40,
        latents: 2,
        right: 39,
        corrections: 1,
        stored_bytes: 400,
        import_digest: None,
        placement: Placement::Objects { latents: Version::NONE, corrections: Version::NONE },
    });
    let (compressor, decoder) = (Fingerprint::of(b"compressor"), Fingerprint::of(b"decoder"));
    Manifest {
        id: DocumentId::of(b"text"),
        version: Version::NONE,
        cascade: Cascade { name: "c3-mini".to_owned(), compressor, decoder },
        ratio: 20,
        codec: LatentCodec::Q4_0,
        verification: verified.then(|| Verification { margin: 2.0, arithmetic: "f32".to_owned() }),
        created_unix_ms: 1,
        expires_unix_ms: None,
        is_searchable: true,
        shards: shards.collect(),
        subtrees: Vec::new(),
    }
}

/// Returns the windows of one shard. `tokens` lists the tokens of each window. A token has three bytes of text.
pub(crate) fn windows(tokens: &[u32]) -> Vec<WindowLatents> {
    let mut end = 0;
    let windows = tokens.iter().map(|&tokens| {
        let provenance = Provenance { compressor: Fingerprint::of(b"compressor"), tokens, ratio: 20 };
        let bytes = end..end + 3 * tokens;
        end = bytes.end;
        let group = LatentGroup::encode(&[0.5; 64], 32, LatentCodec::Q4_0, provenance);
        WindowLatents { bytes, group: group.unwrap(), hash: WindowHash::of(&tokens.to_le_bytes()) }
    });
    windows.collect()
}
