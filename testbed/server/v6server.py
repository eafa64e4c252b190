#!/usr/bin/env python3
"""A real vantage6 server for tests and demos: started, filled with what a test needs, and stopped again.

As a module (nothing but the standard library is needed to import it):

    with Server.start(directory) as server:
        provision = Provision.create(server, organizations=3)
        print(provision.nodes[0]["api_key"])

As a command:

    v6server.py up --dir D [--organizations 3] [--encrypted] [--polling-only] [--port P] [--bare]

starts a server, prints one line of JSON once it can be used (see Provision.as_dict) and stays in the foreground until it gets SIGTERM
or SIGINT, or until its stdin is closed, if that is a pipe. `--detach` returns instead, and `v6server.py down --dir D` ends that server.
The server keeps everything in the directory: config.yaml, database, server.log, server.json. Started again with the same directory it is the same
server: same address, same data, same signing key, and the same line of JSON: no organizations are made again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import secrets
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
# A whole second is spent on imports alone; on two busy cores it has taken over twenty.
PATIENCE_SECONDS = 120


class ServerError(RuntimeError):
    """The server did not start or refused what it was asked."""


def python() -> str:
    """The interpreter that has the server installed; makes the environment the first time (half a minute).

    SEXTANT_SERVER_PYTHON names one that has another version of the server, for a look at how that behaves.
    """
    if other := os.environ.get("SEXTANT_SERVER_PYTHON"):
        return other
    made = subprocess.run([HERE / "venv"], stdout=subprocess.PIPE, text=True)
    if made.returncode:
        raise ServerError("testbed/server/venv could not provide the server; see its message above")
    return str(Path(made.stdout.strip()) / "bin" / "python")


def free_port() -> int:
    """A port that nobody listens on, below the range from which the kernel takes ports for outgoing connections."""
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("0.0.0.0", port))
            return port


class Server:
    """One running server process. `stop` and `start_again` play an outage; `pid` is there for rougher games."""

    def __init__(
        self,
        directory: Path,
        port: int,
        polling_only: bool = False,
        cheap_hashes: bool = False,
        environment: dict[str, str] | None = None,
    ):
        self.directory = Path(directory)
        self.port = port
        self.polling_only = polling_only
        self.cheap_hashes = cheap_hashes
        self.environment = environment or {}
        self.host = "http://127.0.0.1"
        self.api_path = "/api"
        self.process: subprocess.Popen | None = None
        self._token: str | None = None

    @classmethod
    def start(
        cls,
        directory,
        port: int = 0,
        polling_only: bool = False,
        cheap_hashes: bool = False,
        config: dict | None = None,
        environment: dict[str, str] | None = None,
        detach: bool = False,
    ) -> "Server":
        """Starts a server and waits until it answers.

        port 0: the one that this directory had before, else a free one. cheap_hashes: log-ins that don't take long, however many nodes there
        are. config: settings of the server's configuration file to add or replace, e.g.
        {"token_expires_hours": 1}; they count for the first start in a directory. environment: variables for its process, on top of
        the surrounding ones. detach: let it live on when this process ends.
        """
        directory = Path(directory).resolve()
        directory.mkdir(parents=True, exist_ok=True)
        config_file = directory / "config.yaml"
        if config_file.exists():
            port = port or json.loads(config_file.read_text())["port"]
        attempts = 1 if port else 3
        for attempt in range(attempts):
            server = cls(directory, port or free_port(), polling_only, cheap_hashes, environment)
            settings = json.loads(config_file.read_text()) if config_file.exists() else server._first_config() | (config or {})
            # JSON is YAML, and this way no YAML library is needed here.
            config_file.write_text(json.dumps(settings | {"port": server.port}, indent=1))
            try:
                server._launch(detach)
                return server
            except ServerError:
                if attempt + 1 == attempts:
                    raise
        raise AssertionError("unreachable")

    def _first_config(self) -> dict:
        return {
            "description": "test bed",
            "ip": "0.0.0.0",
            "api_path": self.api_path,
            "uri": f"sqlite:///{self.directory}/db.sqlite",
            "allow_drop_all": True,
            "jwt_secret_key": secrets.token_hex(32),
            "token_expires_hours": 6,
            "two_factor_auth": False,
            "logging": {
                "level": "INFO",
                "file": "vantage6.log",
                # serve.py logs to stderr, which goes to server.log.
                "use_console": False,
                "backup_count": 1,
                "max_size": 10_000,
                "format": "%(asctime)s %(levelname)s %(module)s %(message)s",
                "datefmt": "%H:%M:%S",
                "loggers": [],
            },
        }

    @contextlib.contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        """Its database, beside it: to see what is really kept, and to put into it what its API would refuse."""
        with contextlib.closing(sqlite3.connect(self.directory / "db.sqlite", timeout=30)) as connection, connection:
            yield connection

    def _launch(self, detach: bool) -> None:
        command = [python(), str(HERE / "serve.py"), str(self.directory / "config.yaml"), str(self.port)]
        if self.polling_only:
            command.append("--polling-only")
        if self.cheap_hashes:
            command.append("--cheap-hashes")
        if not detach:
            command += ["--with-parent", str(os.getpid())]
        # The server derives folders of its own from HOME (also with system_folders=False): they belong into the directory.
        environment = os.environ | {"HOME": str(self.directory), "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore"}
        for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
            environment.pop(name, None)
        environment |= self.environment
        log = (self.directory / "server.log").open("ab")
        with log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory, env=environment, start_new_session=True
            )
        (self.directory / "server.pid").write_text(f"{self.process.pid}\n")
        try:
            self._wait_until_healthy()
        except BaseException:
            self.stop()
            raise

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            if self.process.poll() is not None:
                raise ServerError(f"the server ended at once with code {self.process.returncode}:\n{self.log_tail()}")
            with contextlib.suppress(OSError, ServerError, ValueError):
                if self.request("GET", "/health", token=None, timeout=5).get("database") is True:
                    return
            if time.monotonic() > deadline:
                raise ServerError(f"the server did not answer within {PATIENCE_SECONDS} s:\n{self.log_tail()}")
            time.sleep(0.1)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def url(self) -> str:
        """Where the REST API is, as seen from this machine."""
        return f"{self.host}:{self.port}{self.api_path}"

    def log_tail(self, lines: int = 40) -> str:
        text = (self.directory / "server.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def stop(self, kill: bool = False) -> None:
        """Ends the server; kill: without giving it a chance to say goodbye to its clients."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)

    def start_again(self) -> None:
        """The same server, after `stop`: same port, same data, same signing key. Nobody is online: the server itself would believe for
        ever what one that was killed has left of that."""
        with self.database() as database:
            database.execute("UPDATE authenticatable SET status = 'offline'")
        self._launch(detach=False)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def request(self, method: str, path: str, body: dict | None = None, token: str | None = "root", timeout: float = 60):
        """One call of the REST API as root (or with another token, or with None); raises ServerError with what the server said."""
        headers = {"Content-Type": "application/json"}
        if token == "root":
            self._token = self._token or self.login("root", "root")
            token = self._token
        if token:
            headers["Authorization"] = f"Bearer {token}"
        call = urllib.request.Request(
            self.url + path, method=method, headers=headers, data=None if body is None else json.dumps(body).encode()
        )
        # Proxies of the environment are not meant for a server on this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(call, timeout=timeout) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            said = error.read(2000).decode(errors="replace")
            raise ServerError(f"{method} {path} answered {error.code}: {said}") from None

    def login(self, username: str, password: str) -> str:
        """An access token of a user."""
        return self.request("POST", "/token/user", {"username": username, "password": password}, token=None)["access_token"]


@dataclass
class Provision:
    """Organizations that work together in one collaboration: a node and a user with all rights (role Root) for each."""

    url: str  # http://host, as a node's configuration has it in server_url
    port: int
    api_path: str
    organizations: list[dict] = field(default_factory=list)  # id, name
    collaboration_id: int = 0
    collaboration_name: str = ""
    encrypted: bool = False
    nodes: list[dict] = field(default_factory=list)  # id, name, organization_id, api_key
    users: list[dict] = field(default_factory=list)  # id, username, password, organization_id

    @classmethod
    def create(cls, server: Server, organizations: int = 3, encrypted: bool = False, names: list[str] | None = None) -> "Provision":
        """Makes them on the server. Names are unique, so this may be called many times on one server."""
        tag = secrets.token_hex(3)
        names = names or [f"org-{tag}-{number}" for number in range(1, organizations + 1)]
        made = cls(server.host, server.port, server.api_path, encrypted=encrypted, collaboration_name=f"collaboration-{tag}")
        root_role = next(role["id"] for role in server.request("GET", "/role?name=Root&per_page=100")["data"] if role["name"] == "Root")
        for name in names:
            organization = server.request("POST", "/organization", {"name": name, "country": "NL", "domain": f"{name}.example"})
            made.organizations.append({"id": organization["id"], "name": name})
        collaboration = server.request(
            "POST",
            "/collaboration",
            {"name": made.collaboration_name, "organization_ids": [each["id"] for each in made.organizations], "encrypted": int(encrypted)},
        )
        made.collaboration_id = collaboration["id"]
        for number, organization in enumerate(made.organizations, 1):
            name = f"node-{tag}-{number}"
            node = server.request(
                "POST", "/node", {"collaboration_id": made.collaboration_id, "organization_id": organization["id"], "name": name}
            )
            made.nodes.append(
                {"id": node["id"], "name": node["name"], "organization_id": organization["id"], "api_key": node["api_key"]}
            )
            user = {"username": f"user-{tag}-{number}", "password": "Passw0rd!"}
            answer = server.request(
                "POST",
                "/user",
                user
                | {
                    "firstname": "Test",
                    "lastname": "User",
                    "email": f"{user['username']}@example.org",
                    "organization_id": organization["id"],
                    "roles": [root_role],
                },
            )
            made.users.append({"id": answer["id"], **user, "organization_id": organization["id"]})
        return made

    def as_dict(self) -> dict:
        return asdict(self)


def up(options: argparse.Namespace) -> None:
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())

    server = Server.start(options.dir, options.port, options.polling_only, json.loads(options.config), detach=options.detach)
    try:
        kept = server.directory / "server.json"
        if kept.exists():
            # The organizations, users and keys of the first start are still there, and nobody knows the keys but this file.
            answer = json.loads(kept.read_text()) | {"url": server.host, "port": server.port, "api_path": server.api_path}
        elif options.bare:
            answer = {"url": server.host, "port": server.port, "api_path": server.api_path}
        else:
            answer = Provision.create(server, options.organizations, options.encrypted).as_dict()
        answer["pid"] = server.pid
        answer["root"] = {"username": "root", "password": "root"}
        kept.write_text(json.dumps(answer, indent=1))
        print(json.dumps(answer), flush=True)
    except BaseException:
        server.stop()
        raise
    if options.detach:
        return

    def until_stdin_closes() -> None:
        while sys.stdin.buffer.read(4096):
            pass
        stopping.set()

    # /dev/null would count as closed at once, and a terminal has Ctrl-C.
    if stat.S_ISFIFO(os.fstat(0).st_mode) or stat.S_ISSOCK(os.fstat(0).st_mode):
        threading.Thread(target=until_stdin_closes, daemon=True).start()
    while not stopping.wait(0.5):
        if server.process.poll() is not None:
            raise ServerError(f"the server has ended by itself, with code {server.process.returncode}:\n{server.log_tail()}")
    server.stop()


def down(options: argparse.Namespace) -> None:
    pid_file = Path(options.dir) / "server.pid"
    if not pid_file.exists():
        return
    pid = int(pid_file.read_text())
    # The number may by now belong to somebody else's process.
    command = Path(f"/proc/{pid}/cmdline")
    with contextlib.suppress(OSError):
        if str(Path(options.dir).resolve()).encode() in command.read_bytes():
            os.kill(pid, signal.SIGTERM)
            while command.exists() and command.read_bytes():
                time.sleep(0.1)
    pid_file.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    starting = commands.add_parser("up", help="start a server, fill it, print JSON, stay in the foreground")
    starting.add_argument("--dir", required=True, help="where the server keeps everything")
    starting.add_argument("--port", type=int, default=0)
    starting.add_argument("--organizations", type=int, default=3)
    starting.add_argument("--encrypted", action="store_true")
    starting.add_argument("--polling-only", action="store_true")
    starting.add_argument("--config", default="{}", help="JSON: settings of the server to add or replace")
    starting.add_argument("--bare", action="store_true", help="create no organizations")
    starting.add_argument("--detach", action="store_true", help="return once it runs; `down` ends it")
    starting.set_defaults(run=up)
    ending = commands.add_parser("down", help="end a server that was started with --detach")
    ending.add_argument("--dir", required=True)
    ending.set_defaults(run=down)
    options = parser.parse_args()
    try:
        options.run(options)
    except ServerError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
