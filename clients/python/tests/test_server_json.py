"""`server.json`, which describes the MCP server to registries: its schema, and what it says about this repository."""

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT


@pytest.fixture
def server() -> dict[str, Any]:
    return json.loads((ROOT / "server.json").read_text())


@pytest.mark.skipif(
    find_spec("skillsaw") is None or find_spec("jsonschema") is None,
    reason="needs pip install skillsaw jsonschema; skillsaw contains the schemas of the registry",
)
def test_the_schema_of_the_registry_accepts_it(server: dict[str, Any]) -> None:
    import jsonschema
    import skillsaw

    version = re.fullmatch(r".*/(\d{4}-\d\d-\d\d)/server\.schema\.json", server["$schema"])
    assert version
    folder = "v" + version[1].replace("-", "_")
    path = Path(skillsaw.__file__).parent / "schemas/mcp_registry" / folder / "server.schema.json"
    schema = json.loads(path.read_text())
    jsonschema.Draft7Validator(schema).validate(server)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(schema).validate(server | {"name": "no-namespace"})


def test_it_follows_the_rules_that_the_schema_lacks(server: dict[str, Any]) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+", server["name"])
    assert len(server["description"]) <= 100
    packages = {package["registryType"]: package for package in server["packages"]}
    assert set(packages) == {"oci", "pypi"}
    # The version of an image is its tag.
    assert "version" not in packages["oci"]
    assert packages["oci"]["identifier"].endswith(f":{server['version']}")
    assert packages["pypi"]["version"] == server["version"]
    assert [remote["type"] for remote in server["remotes"]] == ["streamable-http"]


def test_the_packages_are_those_of_this_repository(server: dict[str, Any]) -> None:
    tomllib = pytest.importorskip("tomllib")
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
    wheel = tomllib.loads((ROOT / "deploy/wheel/pyproject.toml").read_text())["project"]
    assert server["version"] == workspace["version"] == wheel["version"]
    identifiers = {package["registryType"]: package["identifier"] for package in server["packages"]}
    assert identifiers["pypi"] == wheel["name"] and wheel["name"] in wheel["scripts"]
    # Registries look for the server's name in the wheel's README and the image's labels.
    assert f"mcp-name: {server['name']} " in (ROOT / "deploy/wheel/README.md").read_text()
    containerfile = (ROOT / "deploy/Containerfile").read_text()
    target = re.search(r"^FROM small AS c3\n(.*?)^FROM", containerfile, re.DOTALL | re.MULTILINE)
    assert target and f"io.modelcontextprotocol.server.name={server['name']}\n" in target[1]
    assert identifiers["oci"].rsplit("/", 1)[1].startswith("c3-serve-c3:")
