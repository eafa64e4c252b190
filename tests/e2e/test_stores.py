"""Algorithm stores: the real store and the real server, both 4.15.2, which know each other; the node asks the store itself.

They run in a Python of their own, which `testbed/store/venv` installs. They need no cluster."""

import base64
import contextlib
import functools
import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from v6server import Provision, Server

from harness import nodes
from harness.node import NodeProcess, free_port
from harness.paths import REPOSITORY
from harness.wait import until
from harness.world import World

INSTALL = REPOSITORY / "testbed" / "store" / "venv"
IMAGE = "registry.example.org/average:1"
DIGEST = "sha256:" + "ab" * 32


@functools.cache
def python() -> str:
    """The Python with the store and its server."""
    return subprocess.run([INSTALL], check=True, text=True, stdout=subprocess.PIPE).stdout.strip()


def call(method: str, url: str, token: str, body: dict | None = None, **headers: str) -> dict:
    """One request to server or store, as JSON."""
    headers |= {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=30) as answer:
        return json.loads(answer.read())


class Store:
    """The store, with one algorithm that it has approved."""

    def __init__(self, directory: Path, server: str, made: Provision, view: str):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.directory = directory
        self.process: subprocess.Popen | None = None
        directory.mkdir()
        user = made.users[0]
        config = {
            "description": "a store",
            "ip": "127.0.0.1",
            "port": self.port,
            "api_path": "/api",
            "uri": f"sqlite:///{directory}/store.sqlite",
            "allow_drop_all": True,
            "root_user": {
                "v6_server_uri": server,
                "username": user["username"],
                "organization_id": user["organization_id"],
                "email": "root@example.org",
            },
            "dev": {"host_uri": "127.0.0.1", "disable_review": True},
            "policies": {"algorithm_view": view, "allow_localhost": True},
            "logging": {
                "level": "INFO",
                "file": "store.log",
                "use_console": False,
                "backup_count": 1,
                "max_size": 10_000,
                "format": "%(asctime)s %(levelname)s %(message)s",
                "datefmt": "%H:%M:%S",
                "loggers": [],
            },
        }
        (directory / "config.yaml").write_text(json.dumps(config))

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        command = [python(), REPOSITORY / "testbed" / "store" / "store.py", self.directory / "config.yaml", str(self.port), f"{IMAGE}={DIGEST}"]
        with (self.directory / "out.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.directory, env=os.environ | {"HOME": str(self.directory)}, stdout=log, stderr=log
            )

        def answers() -> bool:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.url}/version", timeout=5).close()
                return True
            return False

        until("the store to answer", answers, within=60, shows=lambda: (self.directory / "out.log").read_text()[-2000:])

    def stop(self) -> None:
        """Ends it."""
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None


class Scene:
    """A server, a collaboration and a store that know each other."""

    def __init__(self, directory: Path, view: str, ends: contextlib.ExitStack):
        port = free_port()
        self.server_url = f"http://127.0.0.1:{port}/api"
        settings = {"server_url": self.server_url, "dev": {"host_uri": "127.0.0.1"}}
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("SEXTANT_SERVER_PYTHON", python())
            self.server = ends.enter_context(Server.start(directory / "server", port=port, cheap_hashes=True, config=settings))
        self.made = Provision.create(self.server, organizations=1)
        self.world = World(self.server, self.made)
        self.store = Store(directory / "store", self.server_url, self.made, view)
        ends.callback(self.store.stop)
        self.store.start()
        user = self.made.users[0]
        self.token = self.server.login(user["username"], user["password"])
        algorithm = {
            "name": "average",
            "description": "the average of a column",
            "image": IMAGE,
            "partitioning": "horizontal",
            "vantage6_version": "4.15",
            "code_url": "https://example.org",
            "documentation_url": "https://example.org",
            "functions": [
                {
                    "name": "partial_average",
                    "type": "federated",
                    "databases": [{"name": "default"}],
                    "arguments": [{"name": "column_name", "type": "column"}],
                }
            ],
        }
        call("POST", f"{self.store.url}/algorithm", self.token, algorithm, **{"Server-Url": self.server_url})
        coupling = {
            "name": "a store",
            "algorithm_store_url": self.store.url,
            "server_url": self.server_url,
            "collaboration_id": self.made.collaboration_id,
            "force": True,
        }
        call("POST", f"{self.server_url}/algorithmstore", self.token, coupling)
        known = call("GET", f"{self.server_url}/algorithmstore?collaboration_id={self.made.collaboration_id}", self.token)
        self.store_id = known["data"][0]["id"]

    def ask(self, from_store: bool = True) -> dict:
        """A task for the average; the server makes the store's digest a part of its image."""
        question = {"method": "partial_average", "kwargs": {"column_name": "salary"}}
        task = {
            "name": "average",
            "description": "",
            "image": IMAGE,
            "collaboration_id": self.made.collaboration_id,
            "server_url": self.server_url,
            "databases": [{"label": "default"}],
            "organizations": [
                {"id": self.made.organizations[0]["id"], "input": base64.b64encode(json.dumps(question).encode()).decode()}
            ],
        }
        return call("POST", f"{self.server_url}/task", self.token, task | ({"store_id": self.store_id} if from_store else {}))

    def run(self, task: dict) -> dict:
        """The one run of a task."""
        return call("GET", f"{self.server_url}/run?task_id={task['id']}", self.token)["data"][0]

    def finished(self, task: dict) -> dict:
        """The run once it has ended."""
        until(f"task {task['id']} to end", lambda: self.run(task)["finished_at"], shows=lambda: self.run(task))
        return self.run(task)

    def node(self, directory: Path, **policies) -> NodeProcess:
        """A node with these policies that has the algorithm as a process."""
        config = nodes.local(self.world, 0, directory)
        local = {"algorithms": {IMAGE: nodes.average_locally("-4.15.2")}}
        return NodeProcess(directory / "node", config | {"local": local, "policies": policies})


@pytest.fixture(scope="module", params=["public", "private"])
def scene(request: pytest.FixtureRequest, directory: Path) -> Iterator[Scene]:
    """With a store that anybody may look at, and one that only those may whom it knows."""
    with contextlib.ExitStack() as ends:
        folder = directory / f"stores-{request.param}"
        folder.mkdir()
        yield Scene(folder, request.param, ends)


@pytest.fixture
def node(scene: Scene, tmp_path: Path, started: list[NodeProcess]):
    """Makes a node, online."""

    def make(**policies) -> NodeProcess:
        made = scene.node(tmp_path, **policies)
        started.append(made)
        return made.start_online()

    return make


def test_an_algorithm_that_the_store_has_approved(scene, node):
    """It runs, with the digest that the store has approved."""
    ours = node(allowed_algorithm_stores=[scene.store.url])
    task = scene.ask()
    assert task["image"] == f"{IMAGE}@{DIGEST}"
    assert scene.finished(task)["status"] == "completed", ours.log()
    ours.wait_log(rf"allow the image by its content.*{DIGEST}")
    assert "eyJ" not in ours.whole_log()


def test_a_task_that_is_from_no_store(scene, node):
    """Nobody has approved it."""
    node(allowed_algorithm_stores=[scene.store.url])
    assert scene.finished(scene.ask(from_store=False))["status"] == "not allowed"


def test_a_store_that_is_not_on_the_list(scene, node):
    """The log says which one it was."""
    ours = node(allowed_algorithm_stores=["https://store.example.org/api"])
    run = scene.finished(scene.ask())
    assert run["status"] == "not allowed" and "trusted algorithm store" in run["log"]
    ours.wait_log(scene.store.url)


def test_the_list_and_the_store(scene, node):
    """Both by default: an image that is not on the list does not run. An entry without a tag is every digest."""
    ours = node(allowed_algorithm_stores=[scene.store.url], allowed_algorithms=["registry.example.org/average"])
    assert scene.finished(scene.ask())["status"] == "completed", ours.log()
    ours.stop()
    node(allowed_algorithm_stores=[scene.store.url], allowed_algorithms=["registry.example.org/other"])
    assert scene.finished(scene.ask())["status"] == "not allowed"


def test_either_of_the_two(scene, node):
    """The store is enough, and so is the list for a task that is from no store."""
    ours = node(
        allowed_algorithm_stores=[scene.store.url],
        allowed_algorithms=["registry.example.org/other"],
        allow_either_whitelist_or_store=True,
    )
    assert scene.finished(scene.ask())["status"] == "completed", ours.log()


def test_a_store_that_is_away_for_a_while(scene, node):
    """The run waits, and the log says for what; then it goes on. `doctor` says so, too."""
    ours = node(allowed_algorithm_stores=[scene.store.url])
    ours.stop()
    task = scene.ask()
    scene.store.stop()
    try:
        ours.start_online()
        ours.wait_log(rf"the policies can't be checked yet: the algorithm store at {scene.store.url}.*can't be reached")
        assert not scene.run(task)["finished_at"]
        assert f"the algorithm store at {scene.store.url}" in ours.tool("doctor").stdout
    finally:
        scene.store.start()
    assert scene.finished(task)["status"] == "completed", ours.log()
    assert "answers this node" in ours.tool("doctor").stdout
