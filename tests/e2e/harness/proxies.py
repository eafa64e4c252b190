"""A proxy as a process of its own."""

import json
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import yaml

from .node import free_port
from .paths import binary
from .wait import until


class ProxyProcess:
    """`sextant proxy CONFIG`, for the server at a port."""

    def __init__(self, directory: Path, world, port: int, **settings):
        self.port, self.health = free_port(), free_port()
        self.config = directory / "proxy.yaml"
        self.config.write_text(
            yaml.safe_dump(
                {
                    "server_url": world.server.host,
                    "port": port,
                    "api_path": world.server.api_path,
                    "kubernetes": {"proxy": {"listen": f"127.0.0.1:{self.port}"}},
                    "health": {"listen": f"127.0.0.1:{self.health}"},
                }
                | settings
            )
        )
        self.out, self.log = directory / "access.log", directory / "proxy.log"
        with self.out.open("wb") as out, self.log.open("wb") as log:
            command = [binary(), "proxy", self.config, "--log-format", "json"]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=log)
        until("the proxy to be ready", lambda: self.ready()[0] == 200, shows=self.log.read_text)

    def ask(self, path: str, token: str | None = None, method: str = "GET", body: dict | None = None) -> tuple[int, dict]:
        """One request; status and JSON."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        data = None if body is None else json.dumps(body).encode()
        status, text = _fetch(f"http://127.0.0.1:{self.port}{path}", headers, method, data)
        return status, json.loads(text)

    def ready(self) -> tuple[int, str]:
        """What /readyz says."""
        return self.figures("/readyz")

    def figures(self, path: str = "/metrics") -> tuple[int, str]:
        """What the health port says."""
        try:
            return _fetch(f"http://127.0.0.1:{self.health}{path}")
        except OSError as error:
            return 0, str(error)

    def access(self) -> list[dict]:
        """The access log."""
        return [json.loads(line) for line in self.out.read_text().splitlines()]

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        return self.process.wait(30)


def _fetch(url: str, headers: dict | None = None, method: str = "GET", data: bytes | None = None) -> tuple[int, str]:
    request = urllib.request.Request(url, headers=headers or {}, method=method, data=data)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
