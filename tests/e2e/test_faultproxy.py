"""The tests' own tool: what the fault proxy does to requests, seen with the official client and a real server."""

import base64
import hashlib
import sys
import threading
import time

import pytest
import requests

from faultproxy import MUCH, FaultProxy, has
from harness.researcher import Researcher
from harness.world import World


@pytest.fixture
def user(world: World) -> dict:
    return world.provision.users[0]


def login(proxy: FaultProxy, user: dict, **more) -> requests.Response:
    address = f"http://127.0.0.1:{proxy.port}/api/token/user"
    return requests.post(address, json={"username": user["username"], "password": user["password"]} | more, timeout=30)


def test_requests_pass_and_are_written_down(world: World, proxy: FaultProxy, user: dict):
    """The official client works through it, and each request is there with its answer's status."""
    researcher = Researcher(
        "http://127.0.0.1", proxy.port, "/api", user["username"], user["password"], world.provision.collaboration_id
    )
    assert researcher.client.node.get(world.node())["id"] == world.node()
    assert len(proxy.seen("POST", "/token/user$", where=has("username"))) == 1
    assert len(proxy.seen("GET", f"/node/{world.node()}$")) == 1
    assert not proxy.seen("PATCH", ".")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_held_request_is_dropped(proxy: FaultProxy, user: dict, after: bool):
    """Held before it is forwarded, the server never sees a request; held after, it has answered, but the client never hears."""
    seen: list[object] = []

    def call() -> None:
        try:
            seen.append(login(proxy, user))
        except requests.ConnectionError as error:
            seen.append(error)

    with proxy.hold("POST", "/token/user$", after=after) as held:
        caller = threading.Thread(target=call)
        caller.start()
        request = held.wait(10)
        assert not seen
    caller.join(10)
    assert isinstance(seen[0], requests.ConnectionError)
    assert request.status == (200 if after else None)
    assert not request.answered


def test_a_held_request_can_go_on(proxy: FaultProxy, user: dict):
    """Let go, it is as if nothing had been; the next one is not held."""
    with proxy.hold("POST", "/token/user$") as held:
        threading.Timer(0.2, held.let_go).start()
        assert login(proxy, user).ok
        assert login(proxy, user).ok


def test_refusals_and_absence(proxy: FaultProxy, user: dict):
    """A path can be refused with a status, and the whole server can be away."""
    with proxy.refuse("POST", "/token", 502):
        assert login(proxy, user).status_code == 502
    with proxy.away(), pytest.raises(requests.ConnectionError):
        login(proxy, user)
    assert login(proxy, user).ok


def test_answers_that_are_slow(proxy: FaultProxy, user: dict):
    """As long as it is so, each answer comes late, whether the server gives it or a test; afterwards none does."""

    def takes() -> float:
        began = time.monotonic()
        assert login(proxy, user).status_code in (200, 502)
        return time.monotonic() - began

    with proxy.slow(5):
        assert takes() >= 5
        with proxy.refuse("POST", "/token", 502):
            assert takes() >= 5
    assert takes() < 5


def test_large_reports_pass_and_results_are_swallowed(local_node, proxy: FaultProxy, researcher, world: World):
    """Of a large report the beginning is written down, and the rest passes through; or it gives up its result, and the server gets none."""
    size = 2 * MUCH
    program = f"""
import base64, os
path = base64.b32decode(os.environ["OUTPUT_FILE"].replace("!", "="))
open(path, "wb").write(b"abc" * {size // 3})
"""
    algorithms = {"localhost/abc:1": [sys.executable, "-c", program]}
    local_node(via=proxy, local={"algorithms": algorithms}).start_online()

    def ask() -> bytes:
        task = researcher.ask("localhost/abc:1", "abc", [world.organization()])
        (run,) = researcher.finished(task)
        assert run["status"] == "completed"
        return researcher.result_bytes(task)

    assert ask() == b"abc" * (size // 3)
    with proxy.swallow() as swallowed:
        assert ask() == b""
    text = base64.b64encode(b"abc" * (size // 3))
    assert (swallowed.length, swallowed.digest) == (len(text), hashlib.sha256(text).hexdigest())
    reports = proxy.seen("PATCH", r"/run/\d+$", where=has("finished_at"))
    assert [(report.large, len(report.body) < MUCH + 1_000_000) for report in reports] == [(True, True)] * 2
