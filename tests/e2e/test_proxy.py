"""The proxy as a process of its own, between the real server and the real AlgorithmClient of both ends of 4.x."""

import contextlib
import json
import resource
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.nodes import AVERAGE, tools
from harness.proxies import ProxyProcess
from harness.wait import until

# All that the tools' client can ask a server for; prints one JSON object.
CLIENT = """
import inspect, json, sys, logging
logging.disable(logging.CRITICAL)
from vantage6.algorithm.client import AlgorithmClient
token, port, organizations, image = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4]
client = AlgorithmClient(token=token, host="http://127.0.0.1", port=port, path="")
task = client.task.create(input_={"method": "echo", "kwargs": {"value": 7}}, organizations=organizations, name="subtask")
run = client.run.from_task(task["id"])[0]["id"]
asks = {
    "task.create": lambda: task,
    "task.get": lambda: client.task.get(task["id"]),
    "run.get": lambda: client.run.get(run),
    "run.from_task": lambda: client.run.from_task(task["id"]),
    "result.get": lambda: client.result.get(run),
    "result.from_task": lambda: client.result.from_task(task["id"]),
    "organization.get": lambda: client.organization.get(organizations[0]),
    "organization.list": lambda: client.organization.list(),
    "collaboration.get": lambda: client.collaboration.get(),
    "node.get": lambda: client.node.get(),
    "study.get": lambda: client.study.get(1),
    "study.list": lambda: client.study.list(),
    "vpn.get_addresses": lambda: client.vpn.get_addresses(only_children=True, label="x"),
    "vpn.get_own_address": lambda: client.vpn.get_own_address(),
    "vpn.get_parent_address": lambda: client.vpn.get_parent_address(),
    "vpn.get_child_addresses": lambda: client.vpn.get_child_addresses(),
    "vpn.get_sibling_addresses": lambda: client.vpn.get_sibling_addresses(),
}
known = {f"{name}.{method}" for name, part in vars(client).items() if isinstance(part, AlgorithmClient.SubClient)
         for method, _ in inspect.getmembers(part, inspect.ismethod) if not method.startswith("_")}
seen = {}
for name in sorted(known):
    try:
        seen[name] = asks[name]()
    except KeyError as error:
        # A list of pages of which the server gives none.
        if error.args != ("data",):
            raise
blobs = getattr(client, "check_if_blob_store_enabled", None)
if blobs:
    try:
        blobs()
    except Exception:
        # The server before 4.13 has none.
        pass
print(json.dumps({
    "known": sorted(known),
    "organizations": [each["id"] for each in seen["organization.list"]],
    "one": seen["organization.get"]["id"],
    "collaboration": seen["collaboration.get"]["id"],
    "task": task["id"],
    "parent": seen["task.get"]["parent"]["id"],
    "runs": len(seen["run.from_task"]),
    "results": seen["result.from_task"],
    "nothing": client.task.get(987654),
}, default=str))
"""


@pytest.fixture
def served(world, proxy, tmp_path) -> Iterator[ProxyProcess]:
    """A proxy that goes to the server through a programmable one."""
    made = ProxyProcess(tmp_path, world, proxy.port)
    yield made
    if made.process.poll() is None:
        made.process.kill()
        made.process.wait(10)


@pytest.fixture
def token(world, researcher) -> str:
    """An algorithm's token, of a task that waits for its node."""
    return world.container_token(researcher.ask(AVERAGE, "echo", [world.organization()], value=1), AVERAGE)


@pytest.mark.parametrize("version", ["", "-4.15.2"])
def test_the_tools_client(version, served, world, token):
    """All that the tools' client knows, unchanged: the proxy's list of what algorithms need has it all."""
    arguments = [token, str(served.port), json.dumps(world.organizations), AVERAGE]
    done = subprocess.run([tools(version), "-c", CLIENT, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert sorted(seen["organizations"]) == sorted(world.organizations)
    assert seen["one"] == world.organization()
    assert seen["collaboration"] == world.provision.collaboration_id
    assert (seen["results"], seen["runs"]) == ([], 3)
    assert "msg" in seen["nothing"]
    assert {"task.create", "result.from_task", "study.list"} <= set(seen["known"])
    refused = [line for line in served.access() if line["status"] in (403, 405) or (line["tries"] == 0 and not line["shared"])]
    assert refused == [], "of all that went through the proxy"
    task = world.server.request("GET", f"/task/{seen['task']}")
    assert task["parent"]["id"] == seen["parent"]


def test_nobody_but_algorithms(served, world, token, researcher):
    """The version is for everybody, everything else for algorithms; and the server has the last word on their tokens."""
    assert served.ask("/version")[0] == 200
    for stranger in (None, world.node_token(), researcher.client.token):
        status, said = served.ask(f"/organization/{world.organization()}", stranger)
        assert status in (401, 403) and "msg" in said
    forged = ".".join([*token.split(".")[:2], "AAAA"])
    assert served.ask(f"/organization/{world.organization()}", forged)[0] in (401, 422)
    assert served.ask(f"/organization/{world.organization()}", token)[0] == 200


def test_pages_lead_through_the_proxy(served, world, token):
    """A page's links are paths of the proxy's own."""
    _, page = served.ask(f"/organization?collaboration_id={world.provision.collaboration_id}&per_page=1", token)
    seen = [each["id"] for each in page["data"]]
    while page["links"].get("next"):
        assert page["links"]["next"].startswith("/organization?")
        _, page = served.ask(page["links"]["next"], token)
        seen += [each["id"] for each in page["data"]]
    assert sorted(seen) == sorted(world.organizations)


def test_what_the_operator_sees(served, world, token):
    """A line for each request, with the task that asked; figures, also of the server; an end that finishes."""
    served.ask(f"/organization/{world.organization()}", token)
    line = until("the access log", lambda: [each for each in served.access() if each.get("task")])[-1]
    assert (line["method"], line["status"], line["tries"]) == ("GET", 200, 1)
    assert line["path"] == f"/organization/{world.organization()}" and token not in served.out.read_text()
    status, figures = served.figures()
    assert status == 200 and 'sextant_proxy_answers_total{status="2xx"} 1' in figures
    assert "sextant_proxy_upstream_up 1" in figures and "sextant_proxy_upstream_last_success_timestamp_seconds 1" in figures
    assert served.stop() == 0


def test_a_server_that_is_away(served, world, token, proxy):
    """The proxy remains ready and says so in its figures; what does no harm is answered as soon as the server is back. A task is not sent
    twice: the question whether its token is good waits, too, and a task that was sent already fails with words."""
    path = f"/organization/{world.organization()}"
    with ThreadPoolExecutor() as pool:
        with proxy.away():
            until("the figure of the server to fall", lambda: "sextant_proxy_upstream_up 0" in served.figures()[1], within=30)
            assert served.ready() == (200, "ready\n")
            asked = pool.submit(served.ask, path, token)
            posted = pool.submit(served.ask, "/task", token, "POST", {"image": AVERAGE, "organizations": []})
            time.sleep(2)
            assert not asked.done()
        assert asked.result(60)[0] == 200
        status, said = posted.result(60)
        assert status < 500 or (status in (502, 503) and "vantage6 server" in said["msg"]), said
    until("the figure of the server to rise", lambda: "sextant_proxy_upstream_up 1" in served.figures()[1])


@pytest.mark.parametrize("kind", ["idle", "slow heads", "slow bodies"])
def test_unauthenticated_connections_from_many_addresses(kind, served, world, token):
    """Forty addresses with 128 connections each, more than there are places; whoever is closed comes again. An algorithm and one that
    asks for the version are served meanwhile as if they were alone, and in the end nobody is counted any more."""
    forged = ".".join([*token.split(".")[:2], "AAAA"])
    begins = {
        "idle": b"",
        "slow heads": b"GET /version HTTP/1.1\r\nHost: proxyserver\r\nX-Slow: ",
        "slow bodies": f"POST /task HTTP/1.1\r\nHost: proxyserver\r\nAuthorization: Bearer {forged}\r\nContent-Length: 100000\r\n\r\n{{".encode(),
    }[kind]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    strangers, path = [], f"/organization/{world.organization()}"
    try:
        for number in range(40 * 128):
            stranger = socket.socket()
            stranger.bind((f"127.0.9.{1 + number % 40}", 0))
            # One that is closed at once is as good an attack.
            with contextlib.suppress(OSError):
                stranger.connect(("127.0.0.1", served.port))
                stranger.sendall(begins)
            strangers.append(stranger)
            if number % 512 == 511:
                since = time.monotonic()
                assert served.ask("/version")[0] == 200
                assert served.ask(path, token)[0] == 200
                assert time.monotonic() - since < 10, served.figures()[1]
        assert _figure(served, "sextant_proxy_connections") <= 600
        # A body with a token that the server refuses is not read: such a connection is closed without being in anybody's way.
        assert kind == "slow bodies" or _figure(served, "sextant_proxy_evicted_connections_total") > 1000
    finally:
        for stranger in strangers:
            stranger.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    until("the connections to be gone", lambda: _figure(served, "sextant_proxy_connections") == 0, within=30)


def _figure(served: ProxyProcess, name: str) -> float:
    return next(float(line.split()[1]) for line in served.figures()[1].splitlines() if line.startswith(f"{name} "))


def test_bodies_where_none_belong(served, world, token):
    """400 for a body with GET or DELETE, also an empty one in chunks; Python's own empty ones pass."""
    path = f"/organization/{world.organization()}"
    head = f"HTTP/1.1\r\nHost: proxyserver\r\nAuthorization: Bearer {token}\r\n"
    for method in ("GET", "DELETE", "OPTIONS"):
        for framing in ("Content-Length: 2\r\n\r\n{}", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", served.port)) as stream:
                stream.sendall(f"{method} {path} {head}{framing}".encode())
                assert stream.recv(100).startswith(b"HTTP/1.1 400")
    assert served.ask(path, token)[0] == 200
    assert served.ask(path, token, "DELETE")[0] in (400, 401, 403, 405)
