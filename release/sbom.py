"""The software bill of materials (CycloneDX 1.5, JSON): every crate of Cargo.lock, and which of them are in the executable.

Written here because cargo-cyclonedx makes one file a crate, leaves out what only tests use, and gives each file a random
serial number and the time of day: it neither covers the lock file nor comes out the same twice.
"""

import json
import re
import subprocess
import uuid
from datetime import datetime, timezone
from pathlib import Path

from archive import sha256

TARGETS = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu")
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"
PACKAGE = re.compile(
    r'^\[\[package\]\]\nname = "(?P<name>.+)"\nversion = "(?P<version>.+)"\n'
    r'(?:source = "(?P<source>.+)"\n)?(?:checksum = "(?P<checksum>.+)"\n)?(?:dependencies = \[\n(?P<dependencies>[^\]]*)\])?',
    re.MULTILINE,
)


def locked(lock: str) -> list[dict]:
    """The packages of a Cargo.lock: name, version, source, checksum, and what they depend on."""
    packages = [each.groupdict() for each in PACKAGE.finditer(lock)]
    if len(packages) != lock.count("[[package]]"):
        raise ValueError("Cargo.lock is written in a way that release/sbom.py does not know")
    return packages


def cargo(repository: Path, *arguments: str) -> str:
    """What cargo says about the workspace."""
    command = ["cargo", *arguments, "--locked"]
    return subprocess.run(command, cwd=repository, stdout=subprocess.PIPE, text=True, check=True).stdout


def shipped(repository: Path) -> set[tuple[str, str]]:
    """Name and version of the crates that the executable is made of, on one architecture or the other."""
    found = set()
    for target in TARGETS:
        tree = cargo(
            repository, "tree", "--package", "sextant", "--target", target, "--edges", "normal,build", "--prefix", "none", "--format", "{p}"
        )
        found |= {(name, version.removeprefix("v")) for name, version, *_ in map(str.split, filter(None, tree.splitlines()))}
    return found


def licences(repository: Path) -> dict[tuple[str, str], str]:
    """What each crate says of its licence."""
    metadata = json.loads(cargo(repository, "metadata", "--format-version", "1"))
    return {(each["name"], each["version"]): each["license"] for each in metadata["packages"] if each.get("license")}


def reference(package: dict) -> str:
    """How a component is referred to: in the form of a package URL. Sextant's own crates are in no registry."""
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package: dict, ships: bool, licence: str | None) -> dict:
    """One crate."""
    made = {
        "type": "library",
        "bom-ref": reference(package),
        "name": package["name"],
        "version": package["version"],
        "scope": "required" if ships else "excluded",
    }
    if package["source"]:
        made["purl"] = reference(package)
    if licence:
        made["licenses"] = [{"expression": licence.replace("/", " OR ")}]
    if package["checksum"]:
        made["hashes"] = [{"alg": "SHA-256", "content": package["checksum"]}]
    if package["source"] and package["source"] != REGISTRY:
        made["externalReferences"] = [{"type": "vcs", "url": package["source"]}]
    return made


def dependencies(packages: list[dict]) -> list[dict]:
    """Which crate depends on which. Cargo.lock gives a version only where a name has several."""
    by_name: dict[str, list[dict]] = {}
    for each in packages:
        by_name.setdefault(each["name"], []).append(each)
    entries = []
    for each in packages:
        wanted = []
        for words in map(str.split, re.findall(r'"(.+)"', each["dependencies"] or "")):
            (found,) = [other for other in by_name[words[0]] if words[1:2] in ([], [other["version"]])]
            wanted.append(reference(found))
        entries.append({"ref": reference(each), "dependsOn": sorted(wanted)})
    return entries


def bom(repository: Path, version: str, epoch: int) -> bytes:
    """The whole document. Its serial number follows from its content."""
    lock = (repository / "Cargo.lock").read_text()
    packages = sorted(locked(lock), key=lambda each: (each["name"], each["version"]))
    ships, says = shipped(repository), licences(repository)
    (own,) = [each for each in packages if each["name"] == "sextant"]
    others = [each for each in packages if each is not own]
    key = {id(each): (each["name"], each["version"]) for each in packages}
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": component(own, True, says.get(key[id(own)])) | {"type": "application", "version": version},
        },
        "components": [component(each, key[id(each)] in ships, says.get(key[id(each)])) for each in others],
        "dependencies": dependencies(packages),
    }
    content = json.dumps(document, sort_keys=True)
    serial = uuid.uuid5(uuid.NAMESPACE_URL, "pkg:cargo/sextant#" + sha256(content.encode()))
    return (json.dumps({"serialNumber": f"urn:uuid:{serial}"} | document, indent=1) + "\n").encode()
