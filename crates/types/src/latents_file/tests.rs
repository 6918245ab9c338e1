use serde_json::{Value, json};

use super::*;

fn window(number: u32, codec: LatentCodec, corrections: Option<Vec<Correction>>) -> Window {
    let provenance = Provenance { compressor: Fingerprint::of(b"model"), tokens: 40, ratio: 20 };
    let values: Vec<f32> = (0..128).map(|i| ((i * 37 + number) as f32).sin() * 3.0).collect();
    Window {
        shard: number / 4,
        bytes: u64::from(number) * 100..u64::from(number + 1) * 100,
        group: LatentGroup::encode(&values, 64, codec, provenance).unwrap(),
        hash: WindowHash::of(&number.to_le_bytes()),
        corrections: corrections.map(|corrections| Corrections::new(corrections, 40).unwrap()),
    }
}

fn document() -> Document {
    let of = |name: &[u8]| Fingerprint::of(name);
    let cascade = Cascade { name: "c3-mini".to_owned(), compressor: of(b"model"), decoder: of(b"d") };
    Document {
        id: DocumentId::of(b"text"),
        bytes: 2400,
        tokens: 24 * 40,
        latents: 24 * 2,
        ratio: 20,
        codec: LatentCodec::F32,
        verification: None,
        cascade,
        shards: 6,
        windows: 24,
        stored_bytes: 0,
        created_unix_ms: 0,
        expires_unix_ms: None,
        labels: Default::default(),
        names: Vec::new(),
    }
}

/// Returns more than ten windows, since the name `window.10` sorts before `window.2`.
fn windows() -> Vec<Window> {
    let corrected = Some(vec![Correction { position: 3, token: 9 }]);
    let corrections = |number| if number % 3 == 0 { corrected.clone() } else { None };
    let window = |number| window(number, LatentCodec::ALL[number as usize % 4], corrections(number));
    (0..24).map(window).collect()
}

#[test]
fn windows_survive_the_file_bit_for_bit() {
    for format in [TensorFormat::F32, TensorFormat::Stored] {
        for document in [None, Some(document())] {
            let file = Bytes::from(write(format, document.as_ref(), &windows()).unwrap());
            let latents = read(&file).unwrap();
            assert_eq!(latents, Latents { document: document.clone(), windows: windows() });
            assert_eq!(write(format, latents.document.as_ref(), &latents.windows).unwrap(), file);
        }
    }
}

#[test]
fn stored_tensors_have_the_bytes_of_the_store() {
    let file = write(TensorFormat::Stored, None, &windows()).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    for (window, (dtype, shape)) in windows().iter().zip([
        (Dtype::F32, [2, 64]),
        (Dtype::BF16, [2, 64]),
        (Dtype::U8, [2, 68]),
        (Dtype::U8, [2, 36]),
    ]) {
        let tensor =
            tensors.tensor(&tensor_name(window.shard as usize * 4 + window.bytes.start as usize / 100)).unwrap();
        assert_eq!((tensor.dtype(), tensor.shape()), (dtype, &shape[..]));
        assert_eq!(tensor.data(), window.group.data());
    }
}

#[test]
fn an_empty_text_makes_a_file() {
    let none = Latents { document: None, windows: Vec::new() };
    assert_eq!(read(&write(TensorFormat::F32, None, &[]).unwrap().into()).unwrap(), none);
}

#[test]
fn files_of_earlier_versions_are_read_although_their_tensors_are_in_another_order() {
    let windows = Vec::from_iter(windows().into_iter().map(|window| Window { corrections: None, ..window }));
    let records = Vec::from_iter(windows.iter().map(WindowRecord::of));
    let metadata = HashMap::from([(KEY_F32.to_owned(), json!({ "windows": records }).to_string())]);
    let header = Header::new(TensorFormat::F32, None, records).unwrap();
    let tensors = Vec::from_iter((0..windows.len()).map(|at| header.tensor(at, &windows[at]).unwrap()));
    let views = tensors.iter().enumerate().map(|(number, data)| {
        (tensor_name(number), safetensors::tensor::TensorView::new(Dtype::F32, vec![2, 64], data).unwrap())
    });
    let file = Bytes::from(safetensors::serialize(views, Some(metadata)).unwrap());
    let start = LENGTH_BYTES + header_bytes(&file).unwrap();
    assert!(!Header::parse(&file[LENGTH_BYTES..start]).unwrap().is_in_order() && header.is_in_order());
    assert_eq!(read(&file).unwrap().windows, windows);
}

#[test]
fn foreign_files_are_refused() {
    assert!(matches!(read(&Bytes::from_static(b"text")), Err(Error::Safetensors(_))));
    let rows = [0; 4];
    let view = safetensors::tensor::TensorView::new(Dtype::F32, vec![1], &rows).unwrap();
    let foreign = safetensors::serialize([("weight", view)], None).unwrap();
    assert!(matches!(read(&foreign.into()), Err(Error::Format(_))));
}

#[test]
fn tensors_that_contradict_the_metadata_are_refused() {
    let window = window(0, LatentCodec::F32, None);
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 5] = [
        ("window.0", |record| record["latents"] = json!(1)),
        ("window.0", |record| record["width"] = json!(32)),
        ("fingerprint", |record| record["compressor"] = json!("model")),
        ("window.end", |record| record["start"] = json!(101)),
        ("data", |_| ()),
    ];
    for (says, change) in changes {
        let mut entry = json!({ "windows": [WindowRecord::of(&window)] });
        change(&mut entry["windows"][0]);
        let metadata = HashMap::from([(KEY_F32.to_owned(), entry.to_string())]);
        let mut data = window.group.data().to_vec();
        if says == "data" {
            let last = data.len() - size_of::<f32>();
            data[last..].copy_from_slice(&f32::NAN.to_le_bytes());
        }
        let view = safetensors::tensor::TensorView::new(Dtype::F32, vec![2, 64], &data).unwrap();
        let file = safetensors::serialize([(tensor_name(0), view)], Some(metadata)).unwrap();
        let error = read(&file.into()).unwrap_err().to_string();
        assert!(error.contains(says), "{says}: {error}");
    }
}
