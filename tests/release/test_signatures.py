"""Signatures by key, as `make release` makes them with COSIGN_KEY and INSTALL.md verifies them: by the real cosign, without a network."""

import base64
import json
import shutil
import tarfile

import pytest

import version
from conftest import RELEASE, Packed, done, run
from harness.paths import cache
from test_release import digest, registry  # noqa: F401 (a fixture)

COSIGN = cache() / "built" / "signing" / "cosign"
# Whoever tries to reach anything is told at once that nothing listens there.
OFFLINE = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Two key pairs: the maintainers', and somebody else's."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("own", "other"):
        done(COSIGN, "generate-key-pair", "--output-key-prefix", folder / name, COSIGN_PASSWORD="secret")
    return folder


@pytest.fixture(scope="module")
def signed(packed, keys, tmp_path_factory) -> Packed:
    """A signed release with its bundle."""
    folder = tmp_path_factory.mktemp("signed") / version.current()
    shutil.copytree(packed.folder, folder)
    said = done(RELEASE / "sign", folder, keys / "own.key", COSIGN=str(COSIGN), COSIGN_PASSWORD="secret", **OFFLINE)
    # It has not even tried to reach Sigstore.
    assert "TUF" not in said, said
    done(RELEASE / "bundle", folder)
    return Packed(folder)


def verify(folder, key):
    return run(RELEASE / "verify", folder, key, COSIGN=str(COSIGN), **OFFLINE)


def test_good(signed, keys):
    """The signature verifies with the maintainers' key, by cosign and by openssl, and travels in the bundle."""
    outcome = verify(signed.folder, keys / "own.pub")
    assert outcome.returncode == 0, outcome.stdout
    openssl = ("openssl", "dgst", "-sha256", "-verify", keys / "own.pub", "-signature")
    assert "Verified OK" in done(*openssl, signed.folder / "SHA256SUMS.sig", signed.folder / "SHA256SUMS")
    with tarfile.open(signed["-airgap.tar"]) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert names >= {"SHA256SUMS.sigstore.json", "SHA256SUMS.sig", "image.sigstore.json", "cosign.pub"}


def test_other_key(signed, keys):
    """It does not with another key."""
    assert verify(signed.folder, keys / "other.pub").returncode != 0


@pytest.mark.parametrize("name", [".tgz", "-linux-amd64", "-image.tar", "-manifests.yaml"])
def test_changed_file(signed, keys, tmp_path, name):
    """A changed file is found, also if its checksum was changed with it."""
    folder = tmp_path / version.current()
    shutil.copytree(signed.folder, folder)
    changed = Packed(folder)[name]
    with changed.open("r+b") as file:
        file.seek(changed.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    assert verify(folder, keys / "own.pub").returncode != 0
    sums = done("env", "-C", folder, "sha256sum", *[line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()])
    (folder / "SHA256SUMS").write_text(sums)
    assert verify(folder, keys / "own.pub").returncode != 0


def test_image_of_others(signed, keys, tmp_path):
    """The image's signature is for this image's digest alone."""
    statement = json.loads(
        base64.b64decode(json.loads((signed.folder / "image.sigstore.json").read_text())["dsseEnvelope"]["payload"])
    )
    assert [each["digest"]["sha256"] for each in statement["subject"]] == [digest(signed).removeprefix("sha256:")]
    command = (COSIGN, "verify-blob-attestation", "--key", keys / "own.pub", "--insecure-ignore-tlog", "--bundle")
    rest = ("--type", "https://sigstore.dev/cosign/sign/v1", "--digestAlg", "sha256", "--digest")
    assert run(*command, signed.folder / "image.sigstore.json", *rest, "0" * 64, **OFFLINE).returncode != 0


def test_in_a_registry(signed, keys, registry, tmp_path):  # noqa: F811
    """`cosign attach` brings the signature to the image in a registry, where `cosign verify` finds it good."""
    with tarfile.open(signed["-image.tar"]) as tar:
        tar.extractall(tmp_path / "layout")
    name = f"{registry}/sextant@{digest(signed)}"
    done(cache() / "built" / "registry" / "crane", "push", "--insecure", tmp_path / "layout", f"{registry}/sextant:{version.current()}")
    command = ("--key", keys / "own.pub", "--insecure-ignore-tlog", "--allow-http-registry", name)
    assert run(COSIGN, "verify", *command, **OFFLINE).returncode != 0
    done(COSIGN, "attach", "attestation", "--allow-http-registry", "--attestation", signed.folder / "image.sigstore.json", name, **OFFLINE)
    done(COSIGN, "verify", *command, **OFFLINE)
    assert run(COSIGN, "verify", "--key", keys / "other.pub", *command[2:], **OFFLINE).returncode != 0
