"""The image: one static executable for each architecture, as an OCI image layout in a tar archive.

containerd, CRI-O, podman, skopeo and crane read this layout as it is. Its index has one entry, the multi-architecture
image index, whose digest is the one that the chart names.
"""

import io
import json
import struct
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from archive import Tar, gzip, sha256

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"

# Architectures as OCI names them: what ELF calls their machine, and the image's platform.
ARCHITECTURES = {
    "amd64": (62, {"architecture": "amd64", "os": "linux"}),
    "arm64": (183, {"architecture": "arm64", "os": "linux", "variant": "v8"}),
}
PT_INTERP = 3


def executable_error(binary: Path, architecture: str) -> str | None:
    """Why this file can't be the image of that architecture, where it can't."""
    with binary.open("rb") as file:
        header = file.read(64)
        if header[:6] != b"\x7fELF\x02\x01":
            return "it is no 64-bit little-endian ELF executable"
        machine = struct.unpack_from("<H", header, 18)[0]
        if machine != ARCHITECTURES[architecture][0]:
            return f"it is for another architecture (ELF machine {machine})"
        start = struct.unpack_from("<Q", header, 32)[0]
        size, count = struct.unpack_from("<HH", header, 54)
        file.seek(start)
        programs = file.read(size * count)
    if any(struct.unpack_from("<I", programs, size * each)[0] == PT_INTERP for each in range(count)):
        return "it asks for a dynamic loader, and the image has nothing but this one file"
    return None


@dataclass
class Image:
    """The image while it is being made: its blobs by digest."""

    version: str
    revision: str
    epoch: int
    blobs: dict[str, bytes] = field(default_factory=dict)

    def blob(self, content: bytes, media_type: str) -> dict:
        """Keeps a blob; its descriptor."""
        digest = sha256(content)
        self.blobs[digest] = content
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    def document(self, value: dict, media_type: str) -> dict:
        """The same for JSON."""
        return self.blob(json.dumps(value, sort_keys=True, separators=(",", ":")).encode(), media_type)

    def labels(self) -> dict[str, str]:
        """What the image says of itself, as the OCI specification names it."""
        return {
            "org.opencontainers.image.created": self.created(),
            "org.opencontainers.image.description": "A vantage6 node that runs every algorithm as a Kubernetes Job",
            "org.opencontainers.image.licenses": "Apache-2.0",
            "org.opencontainers.image.revision": self.revision,
            "org.opencontainers.image.title": "Sextant",
            "org.opencontainers.image.version": self.version,
        }

    def created(self) -> str:
        """The commit's time."""
        return datetime.fromtimestamp(self.epoch, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

    def manifest(self, binary: Path, architecture: str) -> dict:
        """The image of one architecture; its descriptor."""
        layer = io.BytesIO()
        with Tar(layer, self.epoch) as tar:
            tar.add("sextant", binary, mode=0o755)
        _, platform = ARCHITECTURES[architecture]
        config = {
            **platform,
            "created": self.created(),
            "config": {"Entrypoint": ["/sextant"], "User": "65532:65532", "Labels": self.labels()},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + sha256(layer.getvalue())]},
            "history": [{"created": self.created(), "created_by": "make release", "comment": "the static executable"}],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.document(config, CONFIG),
            "layers": [self.blob(gzip(layer.getvalue()), LAYER)],
            "annotations": self.labels(),
        }
        return self.document(manifest, MANIFEST) | {"platform": platform}

    def write(self, binaries: dict[str, Path], out: Path) -> str:
        """Writes the archive; the digest of the image index."""
        index = {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [self.manifest(binary, architecture) for architecture, binary in sorted(binaries.items())],
            "annotations": self.labels(),
        }
        top = self.document(index, INDEX)
        # The tag alone: a full name would need a registry's, and importers are told theirs (INSTALL.md).
        entry = top | {"annotations": {"org.opencontainers.image.ref.name": self.version}}
        layout = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
        with out.open("wb") as file, Tar(file, self.epoch) as tar:
            tar.folder("blobs")
            tar.folder("blobs/sha256")
            for digest, content in sorted(self.blobs.items()):
                tar.add(f"blobs/sha256/{digest}", content)
            tar.add("index.json", json.dumps(layout, sort_keys=True).encode())
            tar.add("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        return top["digest"]
