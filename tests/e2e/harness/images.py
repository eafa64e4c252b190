"""Images made for one test: the odd algorithm with another configuration, or behind a registry that answers as the test wants."""

import contextlib
import hashlib
import json
import secrets
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from .paths import REPOSITORY, cache

IMAGES = REPOSITORY / "testbed" / "images"
ENTRYPOINT = {"Entrypoint": ["/odd"]}


def _run(*command: object) -> str:
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{command} failed: {done.stderr}"
    return done.stdout


def _layer(directory: Path) -> Path:
    """The only layer of the odd algorithm's image, as a tar file."""
    (archive,) = _run(IMAGES / "build", "v6-odd").split()
    layer = directory / "layer.tar"
    if not layer.exists():
        with tarfile.open(archive) as image:
            (name,) = json.load(image.extractfile("manifest.json"))[0]["Layers"]
            layer.write_bytes(image.extractfile(name).read())
    return layer


def variant(directory: Path, config: dict = ENTRYPOINT) -> str:
    """The odd algorithm under a name of its own, with this configuration, on the cluster's machine; its name."""
    layer = _layer(directory)
    digest = hashlib.sha256(layer.read_bytes() + json.dumps(config).encode()).hexdigest()[:12]
    name = f"localhost/v6-odd-{digest}:1"
    archive = directory / f"{digest}.tar"
    if not archive.exists():
        _run(IMAGES / "pack", archive, name, json.dumps(config), layer)
        _run(REPOSITORY / "testbed" / "load", archive)
    return name


class Registry:
    """A registry on this machine that has every image: each is the odd algorithm. What it answers can be held up or broken."""

    def __init__(self, directory: Path):
        layer = _layer(directory).read_bytes()
        self.go = threading.Event()
        self.go.set()
        self.refuses = 0
        self.status = 503
        self.asked: list[str] = []
        self.configs: dict[str, bytes] = {}
        registry = self

        def digest(content: bytes) -> str:
            return "sha256:" + hashlib.sha256(content).hexdigest()

        def described(kind: str, content: bytes) -> dict:
            return {"mediaType": f"application/vnd.docker.{kind}", "size": len(content), "digest": digest(content)}

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                registry.asked.append(self.path)
                if self.path == "/v2/":
                    return self.answer(b"{}", "application/json")
                _, _, rest = self.path.partition("/v2/")
                name, what, reference = rest.rsplit("/", 2)
                if registry.refuses:
                    registry.refuses -= 1
                    return self.answer(b'{"errors": []}', "application/json", registry.status)
                # The configuration has the name in it, so that no two images are the same to the machine.
                config = {
                    "architecture": "amd64",
                    "os": "linux",
                    "config": ENTRYPOINT | {"Labels": {"name": name}},
                    "rootfs": {"type": "layers", "diff_ids": [digest(layer + name.encode())]},
                }
                # Nor has any layer been seen before: bytes after a tar's end mean nothing.
                content = layer + name.encode()
                config = json.dumps(config).encode()
                if what == "manifests":
                    manifest = {
                        "schemaVersion": 2,
                        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                        "config": described("container.image.v1+json", config),
                        "layers": [described("image.rootfs.diff.tar", content)],
                    }
                    return self.answer(json.dumps(manifest).encode(), manifest["mediaType"])
                if reference == digest(config):
                    return self.answer(config, "application/octet-stream")
                return self.answer(content, "application/octet-stream", held=registry.go)

            do_HEAD = do_GET

            def answer(self, content: bytes, kind: str, status: int = 200, held: threading.Event | None = None) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Docker-Content-Digest", digest(content))
                self.end_headers()
                if self.command == "HEAD":
                    return
                if held:
                    # A little of it comes, so that the puller sees that something does.
                    self.wfile.write(content[:1000])
                    self.wfile.flush()
                    held.wait(120)
                    content = content[1000:]
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self._speaks_plain_http()

    def _speaks_plain_http(self) -> None:
        """Tells the containerd of the cluster that is built here, as its cluster-up does of the test bed's registries: by itself
        containerd 2 tries TLS first, and doesn't always turn to HTTP then."""
        registries = cache() / "cluster" / "etc" / "registries"
        if not registries.is_dir():
            return
        hosts = registries / self.address
        hosts.mkdir(exist_ok=True)
        host = f'"http://{self.address}"'
        (hosts / "hosts.toml").write_text(f'server = {host}\n[host.{host}]\n  capabilities = ["pull", "resolve"]\n')

    @property
    def address(self) -> str:
        """Where it listens, as names of images begin."""
        return f"127.0.0.1:{self.server.server_address[1]}"

    def image(self, name: str) -> str:
        """The reference of an image that no machine has."""
        return f"{self.address}/{name}-{secrets.token_hex(4)}:1"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Layers stand still in their middle as long as this lasts."""
        self.go.clear()
        try:
            yield
        finally:
            self.go.set()

    def refuse(self, times: int, status: int = 503) -> None:
        """The next so many answers are errors."""
        self.refuses, self.status = times, status

    def close(self) -> None:
        """Ends it."""
        self.go.set()
        self.server.shutdown()
        self.server.server_close()
