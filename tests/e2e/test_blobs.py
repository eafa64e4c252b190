"""Blob stores: inputs and results in azurite by way of the real server 4.15.2, with the official client and algorithm tools of 4.15.2 on the
other sides. They run in Pythons of their own, which `testbed/store/venv` and the test bed install. They need no cluster."""

import base64
import contextlib
import functools
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from v6server import Provision, Server
from vantage6.common.encryption import RSACryptor

from harness import average, nodes
from harness.node import NodeProcess, free_port
from harness.paths import REPOSITORY
from harness.wait import until
from harness.world import World

TESTBED = REPOSITORY / "testbed" / "store"


@functools.cache
def python() -> str:
    """The Python with the server and the client."""
    return subprocess.run([TESTBED / "venv"], check=True, text=True, stdout=subprocess.PIPE).stdout.strip()


def azurite(directory: Path, ends: contextlib.ExitStack) -> str:
    """Starts it with the server's container; returns how to connect."""
    port = free_port()
    connection = subprocess.run([TESTBED / "azurite", "--connection", str(port)], check=True, text=True, stdout=subprocess.PIPE).stdout
    process = subprocess.Popen([TESTBED / "azurite", directory, str(port)])
    ends.callback(process.wait)
    ends.callback(process.terminate)

    def listens() -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        return False

    # The first time it is installed.
    until("azurite to listen", listens, within=240)
    subprocess.run([python(), TESTBED / "container.py", connection.strip(), "vantage6"], check=True)
    return connection.strip()


@pytest.fixture(scope="module", params=["unencrypted", "encrypted"])
def world(request: pytest.FixtureRequest, directory: Path) -> Iterator[World]:
    """A server with a blob store, and three organizations."""
    folder = directory / f"blobs-{request.param}"
    folder.mkdir()
    keys = [folder / f"{number}.pem" for number in range(3)]
    private = [RSACryptor.create_new_rsa_key(key) for key in keys]
    encrypted = request.param == "encrypted"
    with contextlib.ExitStack() as ends:
        store = {"container_name": "vantage6", "connection_string": azurite(folder / "azurite", ends)}
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("SEXTANT_SERVER_PYTHON", python())
            server = Server.start(folder / "server", cheap_hashes=True, config={"large_result_store": store})
        server = ends.enter_context(server)
        made = Provision.create(server, organizations=3, encrypted=encrypted)
        if not encrypted:
            # The tools name a subtask's recipient by its key also where nothing is encrypted, and proxies require it.
            for user, key in zip(made.users, private, strict=True):
                public = base64.b64encode(RSACryptor.create_public_key_bytes(key)).decode()
                token = server.login(user["username"], user["password"])
                server.request("PATCH", f"/organization/{user['organization_id']}", {"public_key": public}, token)
        yield World(server, made, keys if encrypted else None)


def ask(world: World, method: str, organization: int, **arguments) -> dict:
    """Asks one organization as the researcher of the first one; returns results and runs."""
    user, server = world.provision.users[0], world.server
    key = world.private_key(0)
    settings = {
        "host": server.host,
        "port": server.port,
        "api_path": server.api_path,
        "username": user["username"],
        "password": user["password"],
        "key": str(key) if key else None,
        "collaboration": world.provision.collaboration_id,
        "organizations": [world.organization(organization)],
        "image": nodes.AVERAGE_4_15,
        "input": {"method": method, "kwargs": arguments},
    }
    script = Path(__file__).parent / "blob_researcher.py"
    asked = subprocess.run(
        [python(), script, json.dumps(settings)],
        env=os.environ | {"PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert asked.returncode == 0, asked.stderr
    return json.loads(asked.stdout.strip().splitlines()[-1])


def test_partial_average(world: World, tmp_path: Path, started: list[NodeProcess]):
    """Input and result of a single run are in the blob store."""
    node = NodeProcess(tmp_path / "node", nodes.local(world, 0, tmp_path))
    started.append(node)
    node.start_online()
    told = ask(world, "partial_average", 0, column_name="salary")
    assert [run["blob_storage_used"] for run in told["runs"]] == [True]
    assert json.loads(told["results"][0]) == pytest.approx(average.partial(average.employee_files()[0], "salary"))


def test_central_average(world: World, tmp_path: Path, started: list[NodeProcess]):
    """An algorithm stores the inputs of its subtasks, and reads their results, through the proxy."""
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        node = NodeProcess(folder / "node", nodes.local(world, number, folder))
        started.append(node)
        node.start_online()
    told = ask(world, "central_average", 1, column_name="salary")
    expected = average.overall([average.partial(file, "salary") for file in average.employee_files()[:3]])
    assert told["results"] and told["results"][0], told["runs"]
    assert json.loads(told["results"][0])["average"] == pytest.approx(expected)
