"""What `make release` packs: names, digests, contents, and that the same commit gives the same bytes."""

import hashlib
import io
import json
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import urllib.request

import pytest
import yaml

import changes
import sbom
import version
from conftest import RELEASE, Packed, done, elf, pack, run
from harness.chart import SCHEMAS, helm, tool
from harness.paths import REPOSITORY, binary, cache

LEAST = REPOSITORY / "tests" / "chart" / "values" / "least.yaml"
NUMBER = version.current()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def files(archive) -> dict[str, bytes]:
    """The files of a tar archive."""
    with tarfile.open(archive) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar if entry.isfile()}


def digest(packed: Packed) -> str:
    """The image's digest, as the layout has it."""
    (entry,) = json.loads(files(packed["-image.tar"])["index.json"])["manifests"]
    return entry["digest"]


# -- the folder -----------------------------------------------------------------------------------


def test_names(packed):
    """The folder has what docs/RELEASING.md lists, and nothing else."""
    assert {each.name.replace(NUMBER, "V") for each in packed.folder.iterdir()} == {
        "INSTALL.md",
        "LICENSE",
        "NOTICE",
        "SHA256SUMS",
        "sextant-V-airgap.tar",
        "sextant-V-airgap.tar.sha256",
        "sextant-V-image.tar",
        "sextant-V-linux-amd64",
        "sextant-V-linux-arm64",
        "sextant-V-manifests.yaml",
        "sextant-V.cdx.json",
        "sextant-V.tgz",
    }
    assert packed["-linux-amd64"].read_bytes() == binary().read_bytes()
    assert done(packed["-linux-amd64"], "--version") == f"sextant {NUMBER}\n"


def test_checksums(packed):
    """Every file but the bundle has its checksum; the bundle's is beside it."""
    checked = done("env", "-C", packed.folder, "sha256sum", "--check", "SHA256SUMS", packed["-airgap.tar.sha256"].name)
    good = {line.removesuffix(": OK") for line in checked.splitlines()}
    assert good == {each.name for each in packed.folder.iterdir()} - {"SHA256SUMS", packed["-airgap.tar.sha256"].name}


def test_same_bytes(packed, tmp_path):
    """Packing the same commit and the same executables elsewhere gives the same bytes, whatever the time zone and the umask."""
    again = pack(tmp_path / "elsewhere, later" / "dist", umask="0077", TZ="Asia/Tokyo")
    first, second = ({each.name: sha256(each.read_bytes()) for each in made.folder.iterdir()} for made in (packed, again))
    assert first == second


def test_bundle(packed):
    """The bundle has every file of the folder, under one folder, owned by root and with one time."""
    with tarfile.open(packed["-airgap.tar"]) as tar:
        entries = tar.getmembers()
    top = f"sextant-{NUMBER}"
    assert [entry.name for entry in entries] == sorted(entry.name for entry in entries)
    assert {(entry.uid, entry.gid, entry.uname, entry.gname) for entry in entries} == {(0, 0, "", "")}
    assert len({entry.mtime for entry in entries}) == 1
    modes = {entry.name: entry.mode for entry in entries}
    assert modes[f"{top}/{top}-linux-amd64"] == 0o755
    assert modes[f"{top}/SHA256SUMS"] == 0o644
    beside = {each.name for each in packed.folder.iterdir() if "-airgap" not in each.name}
    content = files(packed["-airgap.tar"])
    assert content.keys() == {f"{top}/{name}" for name in beside}
    assert all(content[f"{top}/{name}"] == (packed.folder / name).read_bytes() for name in beside)


def test_instructions(packed):
    """INSTALL.md names the image's digest, and only files that are there."""
    text = (packed.folder / "INSTALL.md").read_text()
    assert digest(packed) in text
    assert "@VERSION@" not in text and "@DIGEST@" not in text
    named = set(re.findall(rf"sextant-{re.escape(NUMBER)}[-.][a-z0-9.]+[a-z]", text)) - {f"sextant-{NUMBER}-linux"}
    assert named and all((packed.folder / name).exists() for name in named), named
    # Its example values are what the chart takes.
    (values,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    helm("template", "sextant", str(packed[".tgz"]), "--namespace", "vantage6", values=yaml.safe_load(values))


@pytest.mark.parametrize(
    ("content", "architecture", "why"),
    [
        (b"#!/bin/sh\n", "amd64", "no 64-bit little-endian ELF executable"),
        (elf(183), "amd64", "another architecture (ELF machine 183)"),
        (None, "amd64", "asks for a dynamic loader"),
        (elf(62), "riscv64", "expected amd64=FILE or arm64=FILE"),
    ],
)
def test_refused_executables(tmp_path, content, architecture, why):
    """What can't be the one file of an image is refused."""
    file = tmp_path / "file"
    if content is None:
        shutil.copy("/bin/ls", file)
    else:
        file.write_bytes(content)
    outcome = run(RELEASE / "pack", tmp_path / "dist", f"{architecture}={file}", "--helm", tool("helm"))
    assert outcome.returncode == 1
    assert why in outcome.stdout


# -- the image ------------------------------------------------------------------------------------


def test_image(packed):
    """The archive is a valid OCI layout: each blob has its descriptor's digest and size, each image the executable alone."""
    content = files(packed["-image.tar"])
    assert json.loads(content["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    seen = set()

    def blob(descriptor: dict) -> bytes:
        algorithm, _, value = descriptor["digest"].partition(":")
        found = content[f"blobs/{algorithm}/{value}"]
        assert (algorithm, sha256(found), len(found)) == ("sha256", value, descriptor["size"])
        seen.add(f"blobs/{algorithm}/{value}")
        return found

    (top,) = json.loads(content["index.json"])["manifests"]
    assert top["annotations"] == {"org.opencontainers.image.ref.name": NUMBER}
    index = json.loads(blob(top))
    assert [each["platform"]["architecture"] for each in index["manifests"]] == ["amd64", "arm64"]
    for descriptor in index["manifests"]:
        manifest = json.loads(blob(descriptor))
        config = json.loads(blob(manifest["config"]))
        assert config["architecture"] == descriptor["platform"]["architecture"]
        assert config["config"]["Entrypoint"] == ["/sextant"]
        assert config["config"]["User"] == "65532:65532"
        assert config["config"]["Labels"]["org.opencontainers.image.version"] == NUMBER
        (layer,) = manifest["layers"]
        with tarfile.open(fileobj=io.BytesIO(blob(layer))) as tar:
            (entry,) = tar.getmembers()
            assert (entry.name, entry.mode, entry.uid, entry.gid) == ("sextant", 0o755, 0, 0)
            assert tar.extractfile(entry).read() == packed[f"-linux-{config['architecture']}"].read_bytes()
    assert seen == {name for name in content if name.startswith("blobs/")}


@pytest.fixture
def registry(tmp_path):
    """A real registry on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = tmp_path / "registry.yaml"
    settings.write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {tmp_path}/registry}}}}\nhttp: {{addr: '{address}'}}\n"
    )
    process = subprocess.Popen(
        [cache() / "built" / "registry" / "registry", "serve", settings],
        env={"OTEL_TRACES_EXPORTER": "none", "PATH": "/usr/bin:/bin"},
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(300):
            try:
                urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://{address}/v2/", timeout=2).close()
                break
            except OSError:
                time.sleep(0.1)
        yield address
    finally:
        process.kill()
        process.wait()


def test_registries_keep_the_digest(packed, registry, tmp_path):
    """As INSTALL.md says it, crane brings the layout into a registry, which finds it good and gives it the chart's digest."""
    layout = tmp_path / "layout"
    with tarfile.open(packed["-image.tar"]) as tar:
        tar.extractall(layout)
    crane, name = cache() / "built" / "registry" / "crane", f"{registry}/sextant:{NUMBER}"
    done(crane, "push", "--insecure", layout, name)
    assert done(crane, "digest", "--insecure", name).strip() == digest(packed)
    for platform in ("linux/amd64", "linux/arm64"):
        assert "PASS" in done(crane, "validate", "--insecure", "--platform", platform, "--remote", name)


# -- chart and manifests --------------------------------------------------------------------------


def test_chart(packed):
    """The packed chart makes node and proxy of the image's digest; a tag gives way to it."""
    helm("lint", str(packed[".tgz"]), "--strict", "--values", str(LEAST))
    made = helm("template", "sextant", str(packed[".tgz"]), "--namespace", "vantage6", "--values", str(LEAST))
    image = f"registry.example.org/sextant@{digest(packed)}"
    deployments = [each for each in yaml.safe_load_all(made) if each and each["kind"] == "Deployment"]
    assert [each["spec"]["template"]["spec"]["containers"][0]["image"] for each in deployments] == [image, image]
    (secret,) = [each for each in yaml.safe_load_all(made) if each and each["kind"] == "Secret"]
    assert yaml.safe_load(secret["stringData"]["node.yaml"])["kubernetes"]["image"] == image


def test_chart_annotations(packed):
    """Artifact Hub is told of this version's changes, and of its image."""
    chart = yaml.safe_load(files(packed[".tgz"])["sextant/Chart.yaml"])
    annotations = {name.removeprefix("artifacthub.io/"): yaml.safe_load(text) for name, text in chart["annotations"].items()}
    assert annotations["images"] == [{"name": "sextant", "image": f"sextant@{digest(packed)}"}]
    assert annotations["changes"] and all(each.keys() == {"kind", "description"} for each in annotations["changes"])
    assert annotations["license"] == "Apache-2.0"
    assert annotations["prerelease"] is ("-" in NUMBER)


def test_published_name(tmp_path):
    """A release that is published names the image with its registry."""
    binary = tmp_path / "amd64"
    binary.write_bytes(elf(62))
    done(RELEASE / "pack", tmp_path / "dist", f"amd64={binary}", "--helm", tool("helm"), "--repository", "registry.example.org/v6/sextant")
    packed = Packed(tmp_path / "dist" / NUMBER)
    content = files(packed[".tgz"])
    assert yaml.safe_load(content["sextant/values.yaml"])["image"]["repository"] == "registry.example.org/v6/sextant"
    assert f"registry.example.org/v6/sextant@{digest(packed)}" in content["sextant/Chart.yaml"].decode()


def test_manifests(packed, tmp_path):
    """The plain manifests are what Kubernetes takes, and only the lines that their head names have to be edited."""
    text = packed["-manifests.yaml"].read_text()
    place = f"{SCHEMAS}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json"
    if SCHEMAS.exists():
        done(tool("kubeconform"), "-strict", "-schema-location", place, packed["-manifests.yaml"])
    head, _, body = text.partition("\n---\n")
    lines = [re.sub(r"\s+", " ", line).strip(" -") for line in body.splitlines() if "example" in line]
    plain = [line for line in lines if not line.startswith("expression:")]
    image = f"image: registry.example.org/sextant@{digest(packed)}"
    server = "server_url: https://vantage6.example.org"
    assert sorted(plain) == sorted(
        ["claimName: data.example.org", image, image, image, server, server, r"^registry\.example\.org/approved/"]
    )
    assert [("data.example.org" in line, "registry.example.org" in line) for line in lines if line not in plain] == [(False, True), (True, False)]
    for word in ("registry.example.org", "server_url", "allowed_algorithms", "data.example.org", "ValidatingAdmissionPolicies"):
        assert word in head
    (secret,) = [each for each in yaml.safe_load_all(text) if each and each["kind"] == "Secret"]
    config = yaml.safe_load(secret["stringData"]["node.yaml"]) | {"api_key_file": None, "api_key": "3c2b61e4-0c2c-4b8e-b1a7-6a1e6c0e6a5c"}
    config.pop("api_key_file")
    file = tmp_path / "node.yaml"
    file.write_text(yaml.safe_dump(config))
    file.chmod(0o600)
    assert "can be used" in done(binary(), "check", file)


# -- the bill of materials ------------------------------------------------------------------------


def test_sbom(packed):
    """It names every crate of Cargo.lock with its checksum, and says which ones the executable is made of."""
    document = json.loads(packed[".cdx.json"].read_text())
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.5")
    own = document["metadata"]["component"]
    assert (own["name"], own["version"]) == ("sextant", NUMBER)
    lock = (REPOSITORY / "Cargo.lock").read_text()
    named = [(each["name"], each["version"]) for each in [own, *document["components"]]]
    assert sorted(named) == sorted(re.findall(r'^name = "(.+)"\nversion = "(.+)"$', lock, re.MULTILINE))
    hashes = {hash["content"] for each in document["components"] for hash in each.get("hashes", [])}
    assert hashes == set(re.findall(r'^checksum = "(.+)"$', lock, re.MULTILINE))
    scopes = {each["name"]: each["scope"] for each in document["components"]}
    assert {scopes[name] for name in ("kube", "rustls", "aws-lc-sys", "sextant-node")} == {"required"}
    assert {scopes[name] for name in ("proptest", "wiremock")} == {"excluded"}
    references = {own["bom-ref"], *(each["bom-ref"] for each in document["components"])}
    assert {each["ref"] for each in document["dependencies"]} == references
    assert all(set(each["dependsOn"]) <= references for each in document["dependencies"])


def test_sbom_refuses_what_it_cannot_read():
    """A lock file of another form is an error, not a shorter list."""
    with pytest.raises(ValueError, match="does not know"):
        sbom.locked('[[package]]\nversion = "1.0.0"\nname = "swapped"\n')


# -- the version ----------------------------------------------------------------------------------


def test_one_version():
    """Executable, Cargo.toml, chart, changelog and examples have one version."""
    assert version.mistakes() == []
    chart = yaml.safe_load((REPOSITORY / "charts/sextant/Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == changes.newest((REPOSITORY / "CHANGELOG.md").read_text()) == NUMBER
    assert done(binary(), "--version") == f"sextant {NUMBER}\n"


def test_set_version(tmp_path):
    """`version.py set` changes it everywhere, and leaves a lock file that cargo takes; `check` compares it with a tag."""
    for name in ("Cargo.toml", "Cargo.lock", "CHANGELOG.md", "README.md", ".cargo", "charts", "crates", "docs", "examples", "release"):
        source = REPOSITORY / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    tool = tmp_path / "release" / "version.py"
    unreleased = "\n- A line for this test.\n"
    changelog = tmp_path / "CHANGELOG.md"
    changelog.write_text(changelog.read_text().replace("## [Unreleased]\n", f"## [Unreleased]\n\n### Added\n{unreleased}", 1))
    outcome = run(sys.executable, tool, "check", f"v{NUMBER}")
    assert outcome.returncode == 1 and "unreleased changes" in outcome.stdout

    done(sys.executable, tool, "set", "9.8.7-rc.1")
    done(sys.executable, tool, "check", "v9.8.7-rc.1")
    assert unreleased in done(sys.executable, tool, "notes")
    tree = done("env", "-C", tmp_path, "cargo", "tree", "--offline", "--locked", "--package", "sextant", "--depth", "0")
    assert "sextant v9.8.7-rc.1 (" in tree
    outcome = run(sys.executable, tool, "check", "v9.8.7")
    assert outcome.returncode == 1 and "the tag is v9.8.7" in outcome.stdout
    assert "is no version" in run(sys.executable, tool, "set", "nine").stdout


def test_changelog():
    """Each version has a date and says how to upgrade to it, or that it was not published; its bullets are read as they are written."""
    text = (REPOSITORY / "CHANGELOG.md").read_text()
    sections = changes.sections(text)
    assert list(sections)[0] == changes.UNRELEASED
    for number, section in sections.items():
        assert changes.entries(section) or number == changes.UNRELEASED
        assert "### Upgrading\n" in section or "not published" in section or not section
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert kinds <= {*changes.KINDS, "Upgrading"}
    assert changes.entries("### Fixed\n\n- One\n  line.\n- Two.\n\n### Upgrading\n\n- not a change\n") == [("fixed", "One line."), ("fixed", "Two.")]


def test_docker_uses_the_same_compiler():
    """The Dockerfile builds with the toolchain of rust-toolchain.toml."""
    (channel,) = re.findall(r'^channel = "(.+)"$', (REPOSITORY / "rust-toolchain.toml").read_text(), re.MULTILINE)
    assert f"ARG RUST={channel}\n" in (REPOSITORY / "Dockerfile").read_text()
