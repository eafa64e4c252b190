"""Live logs at a real server 4.15.2: what an algorithm prints is there while it runs, each line once, and the final log replaces it.

The server runs in a Python of its own, which `testbed/store/venv` installs. No cluster is needed."""

import contextlib
import functools
import json
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

IMAGE = "registry.example.org/talks:1"
# Prints a line when a file of that number is there, and ends at `end`.
TALKS = """
echo "password: $TALK_PASSWORD"
n=1
while ! [ -e "$TALK_FOLDER/end" ]; do
  if [ -e "$TALK_FOLDER/$n" ]; then echo "line $n"; n=$((n + 1)); fi
  sleep 0.05
done
printf done > "$(echo "$OUTPUT_FILE" | tr '!' '=' | base32 -d)"
"""


@functools.cache
def python() -> str:
    """The Python with the server."""
    install = REPOSITORY / "testbed" / "store" / "venv"
    return subprocess.run([install], check=True, text=True, stdout=subprocess.PIPE).stdout.strip()


class Scene:
    """A server with one node, whose algorithm prints what a test wants."""

    def __init__(self, directory: Path, ends: contextlib.ExitStack):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/api"
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("SEXTANT_SERVER_PYTHON", python())
            self.server = ends.enter_context(Server.start(directory / "server", port=port, cheap_hashes=True))
        self.made = Provision.create(self.server, organizations=1)
        self.world = World(self.server, self.made)
        user = self.made.users[0]
        self.token = self.server.login(user["username"], user["password"])
        self.folder = directory / "talk"
        self.folder.mkdir()

    def call(self, method: str, path: str, body: dict | None = None) -> dict:
        """One request of the researcher."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def ask(self) -> int:
        """A task for the node; its number."""
        organization = {"id": self.made.organizations[0]["id"], "input": "e30="}
        task = {
            "name": "talk",
            "description": "",
            "image": IMAGE,
            "collaboration_id": self.made.collaboration_id,
            "organizations": [organization],
            "databases": [],
        }
        return self.call("POST", "task", task)["id"]

    def run(self, task: int) -> dict:
        """The one run of a task."""
        return self.call("GET", f"run?task_id={task}")["data"][0]

    def say(self, *lines: int) -> None:
        """Has the algorithm print these lines, which come in order."""
        for line in lines:
            (self.folder / str(line)).touch()

    def log_is(self, task: int, last: int) -> None:
        """Waits until the server has the lines up to this one; each of them once."""
        lines = "".join(f"line {number}\n" for number in range(1, last + 1))
        expected = f"password: ***\n{lines}"
        until(f"the log up to line {last}", lambda: self.run(task)["log"] == expected, within=20, shows=lambda: self.run(task))

    def node(self, directory: Path, **more) -> NodeProcess:
        """The node."""
        environment = {"TALK_FOLDER": str(self.folder), "TALK_PASSWORD": "hunter-2-and-more"}
        algorithm = {"command": ["sh", "-c", TALKS], "env": environment}
        config = nodes.local(self.world, 0, directory) | {"local": {"algorithms": {IMAGE: algorithm}}}
        return NodeProcess(directory / "node", config | more)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """One for each test."""
    with contextlib.ExitStack() as ends:
        yield Scene(tmp_path, ends)


def test_lines_come_while_the_algorithm_runs_each_of_them_once(scene: Scene, tmp_path: Path, started: list[NodeProcess]):
    """Also over a restart of the node that nobody has prepared; the final log replaces all."""
    node = scene.node(tmp_path, prometheus={"enabled": True, "report_interval_seconds": 1})
    started.append(node)
    node.start_online()
    task = scene.ask()
    scene.say(1, 2)
    scene.log_is(task, 2)
    scene.say(3)
    scene.log_is(task, 3)
    assert scene.run(task)["status"] == "active"
    node.kill()
    scene.say(4, 5)
    node.start_online()
    scene.log_is(task, 5)
    scene.say(6)
    scene.log_is(task, 6)
    (scene.folder / "end").touch()
    until("the run to end", lambda: scene.run(task)["finished_at"], shows=lambda: scene.run(task))
    assert scene.run(task)["status"] == "completed"
    scene.log_is(task, 6)


def test_a_node_that_shares_no_logs_sends_none(scene: Scene, tmp_path: Path, started: list[NodeProcess]):
    """The final log says so in the words of a regular node."""
    node = scene.node(tmp_path, share_algorithm_logs=False)
    started.append(node)
    node.start_online()
    task = scene.ask()
    scene.say(1)
    until("the run to be active", lambda: scene.run(task)["status"] == "active", shows=lambda: scene.run(task))
    assert not scene.run(task)["log"]
    (scene.folder / "end").touch()
    until("the run to end", lambda: scene.run(task)["finished_at"], shows=lambda: scene.run(task))
    assert scene.run(task)["log"].startswith("Node does not allow sharing algorithm logs")
