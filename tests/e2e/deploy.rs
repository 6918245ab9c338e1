//! Tests of the deployment files without a container engine.

use std::collections::BTreeSet;
use std::fs;

use c3_client::DocumentId;
use c3_tests::harness::compose::{Compose, Service};
use c3_tests::harness::fixtures;
use c3_tests::harness::process::{Launch, Program};

const CPU: &[&str] = &["compose.yaml"];
const GPU: &[&str] = &["compose.yaml", "compose.gpu.yaml"];
/// Services whose ports are published.
const PUBLISHED: [&str; 3] = ["gateway", "grafana", "jaeger"];

#[tokio::test]
async fn the_compose_file_starts_and_serves() {
    let compose = Compose::read(CPU).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let programs = compose.start(folder.path()).await.unwrap();
    assert_eq!(programs.len(), 5);
    let (gateway, url) = (&compose.services["gateway"], programs["gateway"].url());
    let c3 = |key: &str, args: Vec<String>| {
        let mut environment = gateway.environment_in(folder.path());
        environment.insert("C3_API_KEY_FILE".to_owned(), folder.path().join("gateway").join(key).display().to_string());
        environment.into_iter().fold(Launch::new(Program::C3).args(args), |c3, (name, value)| c3.env(name, value))
    };
    let check = &gateway.healthcheck.as_ref().unwrap().test;
    assert!(check.contains(&"--check".to_owned()), "{check:?}");
    let args: Vec<_> = check.iter().skip(2).map(|arg| arg.replace("https://127.0.0.1:7300", &url)).collect();
    let key = gateway.environment["C3_API_KEY_FILE"].rsplit('/').next().unwrap();
    let checked = c3(key, args.clone()).output().await.unwrap();
    assert!(checked.status.success(), "{checked:?}");
    // Without a key, nothing is told.
    let refused = c3("missing.key", args).output().await.unwrap();
    assert!(!refused.status.success());
    let (text, file) = (crate::page(), folder.path().join("page.txt"));
    fs::write(&file, &text).unwrap();
    let args =
        |words: &[&str]| words.iter().map(ToString::to_string).chain(["--gateway".to_owned(), url.clone()]).collect();
    let id = DocumentId::of(text.as_bytes()).to_string();
    let put = c3("caller.key", args(&["put", &file.display().to_string()])).output().await.unwrap();
    assert!(put.status.success(), "{put:?}");
    let got = c3("caller.key", args(&["get", &id])).output().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&got.stdout), text);
    // The key of the health check belongs to another tenant.
    let foreign = c3(key, args(&["get", &id])).output().await.unwrap();
    assert!(!foreign.status.success() && foreign.stdout.is_empty(), "{foreign:?}");
    assert!(fs::exists(folder.path().join("documents")).unwrap());
}

#[test]
fn ports_are_published_only_on_loopback() {
    for (name, service) in [CPU, GPU].into_iter().flat_map(|file| Compose::read(file).unwrap().services) {
        assert_eq!(service.ports.is_empty(), !PUBLISHED.contains(&name.as_str()), "{name}");
        assert!(service.ports.iter().all(|port| port.starts_with("127.0.0.1:")), "{name}");
        assert_eq!(service.volumes.iter().any(|volume| volume.starts_with("ca:")), name == "setup", "{name}");
    }
}

#[test]
fn containers_have_no_root_no_capabilities_and_a_read_only_root_filesystem() {
    for (name, service) in [CPU, GPU].into_iter().flat_map(|file| Compose::read(file).unwrap().services) {
        assert!(
            service.user.split(':').next().is_some_and(|user| user.parse::<u32>().is_ok_and(|id| id > 0)),
            "{name}"
        );
        assert!(!service.is_ours() || service.user == "10001:10001", "{name}");
        assert_eq!(service.cap_drop, ["ALL"], "{name}");
        assert_eq!(service.security_opt, ["no-new-privileges:true"], "{name}");
        assert!(service.read_only, "{name}");
    }
}

#[test]
fn each_gpu_has_a_node_of_each_stage_that_the_gateway_knows() {
    let services = Compose::read(GPU).unwrap().services;
    let mut nodes = BTreeSet::new();
    for (name, service) in services.iter().filter(|(_, service)| is_node(service)) {
        let [device] = &service.deploy["resources"]["reservations"]["devices"].as_sequence().unwrap()[..] else {
            panic!("{name} reserves several devices");
        };
        let gpu = device["device_ids"][0].as_str().unwrap();
        nodes.insert((service.command[0].clone(), gpu.to_owned()));
        assert_eq!(service.environment["C3_DEVICE"], "cuda:0", "{name}");
        let stage = if service.command[0] == "decoder-node" { "C3_DECODERS" } else { "C3_COMPRESSORS" };
        assert!(services["gateway"].environment[stage].contains(&format!("//{name}:")), "{name}");
    }
    let expected = ["0", "1"].map(|gpu| ["compressor-node", "decoder-node"].map(|node| (node.into(), gpu.into())));
    assert_eq!(nodes, BTreeSet::from_iter(expected.into_iter().flatten()));
}

fn is_node(service: &Service) -> bool {
    service.command.first().is_some_and(|program| program.ends_with("-node"))
}

#[test]
fn images_of_others_are_pinned_to_a_version() {
    let services = Compose::read(CPU).unwrap().services;
    for (name, service) in services.iter().filter(|(_, service)| !service.is_ours()) {
        let tag = service.image.rsplit_once(':').map_or("", |(_, tag)| tag);
        assert!(tag.trim_start_matches('v').split('.').count() == 3, "{name}: {}", service.image);
    }
}

#[test]
fn the_images_contain_every_program_and_do_not_run_as_root() {
    let containerfile = fs::read_to_string(fixtures::root().join("deploy/Containerfile")).unwrap();
    for program in [Program::CompressorNode, Program::DecoderNode, Program::Gateway, Program::C3] {
        assert!(containerfile.contains(&format!("--bin {}", program.name())), "{program:?}");
        assert!(containerfile.contains(&format!("/out/{}", program.name())), "{program:?}");
        assert!(containerfile.contains(&format!(" AS {}\n", program.name())), "{program:?}");
    }
    // Each image is built on one of these stages, or sets its user itself.
    for base in ["small", "cuda", "all"] {
        let stage = containerfile.split("\nFROM ").find(|stage| stage.contains(&format!(" AS {base}\n"))).unwrap();
        assert!(stage.contains("\nUSER 10001:10001\n"), "{base}");
    }
}
