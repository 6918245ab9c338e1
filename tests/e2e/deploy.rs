//! Tests of the deployment files without a container engine.

use std::fs;

use c3_client::Client;
use c3_tests::harness::compose::Compose;
use c3_tests::harness::fixtures;
use c3_tests::harness::process::{Launch, Program};
use c3_tests::suites::pipeline::roundtrip;

#[tokio::test]
async fn the_compose_file_starts_and_serves() {
    let compose = Compose::read().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let programs = compose.start(folder.path()).await.unwrap();
    assert_eq!(programs.len(), 5);
    let client = Client::connect(&programs["gateway"].url()).await.unwrap();
    assert_eq!(client.nodes().await.unwrap().len(), 4);
    let check = &compose.services["gateway"].healthcheck.as_ref().unwrap().test;
    let args = check.iter().skip(2).map(|arg| arg.replace("http://127.0.0.1:7300", &programs["gateway"].url()));
    let checked = Launch::new(Program::C3).args(args).output().await.unwrap();
    assert!(check.contains(&"--check".to_owned()) && checked.status.success(), "{check:?}: {checked:?}");
    assert!(roundtrip::trip(&client, &crate::page(), 20).await.unwrap().identical);
    assert!(fs::exists(folder.path().join("documents")).unwrap());
}

#[test]
fn only_the_gateway_port_is_published_and_only_on_loopback() {
    for (name, service) in Compose::read().unwrap().services {
        assert_eq!(service.ports.is_empty(), name != "gateway", "{name}");
        assert!(service.ports.iter().all(|port| port.starts_with("127.0.0.1:")), "{name}");
    }
}

#[test]
fn the_image_contains_every_program_and_does_not_run_as_root() {
    let containerfile = fs::read_to_string(fixtures::root().join("deploy/Containerfile")).unwrap();
    for program in [Program::CompressorNode, Program::DecoderNode, Program::Gateway, Program::C3] {
        assert!(containerfile.contains(&format!("--bin {}", program.name())), "{program:?}");
        assert!(containerfile.contains(&format!("/src/target/release/{}", program.name())), "{program:?}");
    }
    assert!(containerfile.contains("\nUSER c3\n"));
}
