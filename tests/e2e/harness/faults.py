"""What can go wrong beside a run, each as a context manager: `with FAULTS[name](scene, server)` it is so, and afterwards it isn't any more."""

import contextlib
import json
import re
from collections.abc import Callable, Iterator

from v6server import Server

from faultproxy import FaultProxy, Request, answer, anything

from .steps import Scene

Fault = Callable[[Scene, Server], contextlib.AbstractContextManager[None]]
FAULTS: dict[str, Fault] = {}
# While one of these lasts, requests under way go on: it is not their connection that suffers.
ELSEWHERE: set[str] = set()

EXPIRED = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410, "message": "too old resource version"}


def status(code: int, reason: str) -> str:
    """An error in the API server's words."""
    return json.dumps({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": "said by a test"})


def fault(elsewhere: bool = False) -> Callable[[Callable[[Scene, Server], Iterator[None]]], Fault]:
    """Enters it under its name."""

    def enter(function: Callable[[Scene, Server], Iterator[None]]) -> Fault:
        made = contextlib.contextmanager(function)
        FAULTS[function.__name__] = made
        if elsewhere:
            ELSEWHERE.add(function.__name__)
        return made

    return enter


@contextlib.contextmanager
def everything_says(proxy: FaultProxy, said: bytes, to: Callable[[Request], bool] = anything) -> Iterator[None]:
    """All requests get the same answer; what was a stream ends, so that it is asked for anew."""
    with proxy.saying(said, to):
        proxy.cut()
        yield


# -- the vantage6 server ------------------------------------------------------------------------


@fault()
def server_away(scene: Scene, _: Server) -> Iterator[None]:
    """Connections to the server end, and there are no new ones."""
    with scene.proxy.away():
        yield


@fault()
def server_restarted(_: Scene, server: Server) -> Iterator[None]:
    """The server is killed and started again: it knows no Socket.IO session any more."""
    server.stop(kill=True)
    try:
        yield
    finally:
        server.start_again()


@fault()
def server_silent(scene: Scene, _: Server) -> Iterator[None]:
    """The server takes requests and says nothing."""
    with scene.proxy.mute():
        yield


@fault(elsewhere=True)
def server_slow(scene: Scene, _: Server) -> Iterator[None]:
    """The server has much to do: each of its answers takes a second longer."""
    with scene.proxy.slow(1):
        yield


@fault()
def server_500(scene: Scene, _: Server) -> Iterator[None]:
    """The server has a fault of its own."""
    with everything_says(scene.proxy, answer(500, '{"msg": "Internal Server Error"}')):
        yield


@fault()
def server_502_html(scene: Scene, _: Server) -> Iterator[None]:
    """A web server stands before it, and it is away."""
    with everything_says(scene.proxy, answer(502, "<html><h1>502 Bad Gateway</h1></html>", "text/html")):
        yield


@fault()
def server_200_html(scene: Scene, _: Server) -> Iterator[None]:
    """Something else answers in its place, and is friendly: a page for maintenance, a login page of the network."""
    with everything_says(scene.proxy, answer(200, "<html>Back soon!</html>", "text/html")):
        yield


@fault()
def server_half(scene: Scene, _: Server) -> Iterator[None]:
    """Answers break off in the middle."""
    with everything_says(scene.proxy, answer(200, '{"data": [{"id": 1, "st', length=1000)):
        yield


@fault()
def tokens_expired(scene: Scene, _: Server) -> Iterator[None]:
    """No token is good enough, also none that has just been got."""
    with everything_says(scene.proxy, answer(401, '{"msg": "Token has expired"}'), lambda request: "/token/" not in request.path):
        yield


@fault()
def live_connection_cut(scene: Scene, _: Server) -> Iterator[None]:
    """The live connection ends and does not come back for a while; requests pass."""
    with everything_says(scene.proxy, answer(503), lambda request: "socket.io" in request.path):
        yield


# -- the cluster --------------------------------------------------------------------------------


@fault(elsewhere=True)
def api_away(scene: Scene, _: Server) -> Iterator[None]:
    """Connections to the API server end, and there are no new ones."""
    with scene.gate.away():
        yield


@fault(elsewhere=True)
def api_silent(scene: Scene, _: Server) -> Iterator[None]:
    """The API server takes requests and says nothing."""
    with scene.gate.mute():
        yield


@fault(elsewhere=True)
def api_slow(scene: Scene, _: Server) -> Iterator[None]:
    """The API server has much to do: each of its answers takes a second longer."""
    with scene.gate.slow(1):
        yield


@fault(elsewhere=True)
def api_conflict(scene: Scene, _: Server) -> Iterator[None]:
    """Whatever the node changes, somebody else has just changed: the marks of Jobs, its Lease. What it makes anew is not concerned."""

    def changes(request: Request) -> bool:
        return request.method in ("PATCH", "PUT") and bool(re.search("/(jobs|leases)/", request.path))

    with scene.gate.saying(answer(409, status(409, "Conflict")), changes):
        yield


@fault(elsewhere=True)
def api_429(scene: Scene, _: Server) -> Iterator[None]:
    """The API server has too much to do."""
    with everything_says(scene.gate, answer(429, status(429, "TooManyRequests"), headers="Retry-After: 1\r\n")):
        yield


@fault(elsewhere=True)
def api_500(scene: Scene, _: Server) -> Iterator[None]:
    """The API server has lost its database."""
    with everything_says(scene.gate, answer(500, status(500, "InternalError"))):
        yield


@fault(elsewhere=True)
def api_half(scene: Scene, _: Server) -> Iterator[None]:
    """Its answers break off in the middle."""
    with everything_says(scene.gate, answer(200, '{"kind": "JobList", "ite', length=1000)):
        yield


@fault(elsewhere=True)
def watches_expired(scene: Scene, _: Server) -> Iterator[None]:
    """Watches end with 410: what they began with is too old."""
    event = json.dumps({"type": "ERROR", "object": EXPIRED}) + "\n"
    with everything_says(scene.gate, answer(200, event), lambda request: "watch=true" in request.query):
        yield


# -- our own process ----------------------------------------------------------------------------


@fault()
def killed(scene: Scene, _: Server) -> Iterator[None]:
    """SIGKILL, and started again."""
    scene.node.kill()
    try:
        yield
    finally:
        scene.node.start_online()


@fault()
def terminated(scene: Scene, _: Server) -> Iterator[None]:
    """SIGTERM, and started again."""
    code, _seconds = scene.node.terminate()
    assert code == 0
    try:
        yield
    finally:
        scene.node.start_online()


@fault(elsewhere=True)
def frozen(scene: Scene, _: Server) -> Iterator[None]:
    """SIGSTOP for a while."""
    scene.node.freeze()
    try:
        yield
    finally:
        scene.node.thaw()
