"""A programmable proxy between node and server: it writes down every request, and stops the ones that a test names.

    with FaultProxy(server.port) as proxy:
        with proxy.hold("PATCH", r"/run/\\d+$", where=has("finished_at")) as held:   # before it is forwarded
            held.wait()                                                            # the request has arrived here
            node.kill()
        assert proxy.count("PATCH", r"/run/\\d+$", where=has("finished_at")) == 0

Each client's connection carries one request (the answer says so), which keeps this small: a request is read whole, an answer is passed
on as it comes. A websocket is passed on byte by byte after its handshake.
"""

import contextlib
import json
import re
import select
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

END_OF_HEAD = b"\r\n\r\n"


@dataclass
class Request:
    """One request as it came by."""

    method: str
    path: str
    body: bytes
    query: str = ""
    at: float = field(default_factory=time.time)
    # The server's status code, once it has answered; None while under way, and for requests that never reached it.
    status: int | None = None
    # Whether the whole answer has been handed to the client.
    answered: bool = False

    def json(self) -> dict:
        """The body as a JSON object; empty if it is none."""
        with contextlib.suppress(ValueError):
            value = json.loads(self.body)
            if isinstance(value, dict):
                return value
        return {}


Predicate = Callable[[Request], bool]


def has(*fields: str) -> Predicate:
    """Matches requests whose JSON body has all these fields, with a value other than null."""
    return lambda request: all(request.json().get(each) is not None for each in fields)


def lacks(*fields: str) -> Predicate:
    """Matches requests whose JSON body has none of these fields."""
    return lambda request: not any(each in request.json() for each in fields)


@dataclass
class Hold:
    """A rule that stops a matching request until `let_go` (it goes on) or `drop` (its connection is closed)."""

    method: str
    path: str
    where: Predicate
    after: bool
    arrived: threading.Event = field(default_factory=threading.Event)
    decided: threading.Event = field(default_factory=threading.Event)
    dropped: bool = False
    request: Request | None = None

    def wait(self, within: float = 60) -> Request:
        """Waits until a matching request is held; the request."""
        if not self.arrived.wait(within):
            raise AssertionError(f"no {self.method} {self.path} came within {within} s")
        return self.request

    def let_go(self) -> None:
        """The held request goes on, and later ones are not held."""
        self.decided.set()

    def drop(self) -> None:
        """The held request's connection is closed: with `after`, the server has done what it asked, but the client never hears."""
        self.dropped = True
        self.decided.set()


@dataclass
class Refusal:
    """A rule that answers matching requests with a status code, without asking the server, for as long as it is in force."""

    method: str
    path: str
    status: int


class FaultProxy:
    """Listens on a port of this machine (a free one if none is given), forwards to the port `upstream` of it."""

    def __init__(self, upstream: int, port: int = 0):
        self.upstream = upstream
        self.requests: list[Request] = []
        self._holds: list[Hold] = []
        self._refusals: list[Refusal] = []
        self._lock = threading.Lock()
        self._away = threading.Event()
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    proxy._serve(self.request)

        class Listener(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 128

        self._listener = Listener(("0.0.0.0", port), Handler)
        self.port: int = self._listener.server_address[1]

    def __enter__(self) -> "FaultProxy":
        threading.Thread(target=self._listener.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for hold in self._holds:
            hold.drop()
        self._listener.shutdown()
        self._listener.server_close()

    # -- what tests say -------------------------------------------------------------------------

    @contextlib.contextmanager
    def hold(self, method: str, path: str, where: Predicate = lambda _: True, after: bool = False) -> Iterator[Hold]:
        """Stops the next matching request: before it is forwarded, or (`after`) when the server has answered but the client hasn't heard.
        At the end of the block a request that is still held is dropped."""
        rule = Hold(method, path, where, after)
        with self._lock:
            self._holds.append(rule)
        try:
            yield rule
        finally:
            with self._lock:
                self._holds.remove(rule)
            rule.drop()

    @contextlib.contextmanager
    def refuse(self, method: str, path: str, status: int) -> Iterator[None]:
        """Answers matching requests with the status, without the server."""
        rule = Refusal(method, path, status)
        self._refusals.append(rule)
        try:
            yield
        finally:
            self._refusals.remove(rule)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """The server seems gone: connections are closed as soon as they come, and those that exist (websockets too) end."""
        self._away.set()
        try:
            yield
        finally:
            self._away.clear()

    def seen(self, method: str, path: str, where: Predicate = lambda _: True) -> list[Request]:
        """The matching requests that the server has answered with success."""
        with self._lock:
            return [
                each
                for each in self.requests
                if each.method == method
                and re.search(path, each.path)
                and where(each)
                and each.status is not None
                and each.status < 300
            ]

    def tried(self, method: str, path: str, where: Predicate = lambda _: True) -> list[Request]:
        """All matching requests, whatever became of them."""
        with self._lock:
            return [
                each for each in self.requests if each.method == method and re.search(path, each.path) and where(each)
            ]

    # -- how it works ---------------------------------------------------------------------------

    def _serve(self, client: socket.socket) -> None:
        if self._away.is_set():
            return
        head, rest = read_head(client)
        if not head:
            return
        method, path, headers = parse_head(head)
        if headers.get("upgrade", "").lower() == "websocket":
            self._pass_websocket(client, head, rest)
            return
        body = read_body(client, headers, rest)
        path, _, query = path.partition("?")
        request = Request(method, path, body, query)
        with self._lock:
            self.requests.append(request)
            refusal = next((r for r in self._refusals if r.method == method and re.search(r.path, request.path)), None)
        if refusal:
            client.sendall(
                f"HTTP/1.1 {refusal.status} Refused\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode()
            )
            return
        if self._held(request, after=False):
            return
        with socket.create_connection(("127.0.0.1", self.upstream)) as server:
            server.sendall(closing(head, len(body)) + body)
            answer_head, answer_rest = read_head(server)
            if not answer_head:
                return
            request.status = int(answer_head.split(b" ", 2)[1])
            if self._held(request, after=True):
                return
            client.sendall(last_answer(answer_head) + answer_rest)
            while chunk := server.recv(1 << 16):
                if self._away.is_set():
                    return
                client.sendall(chunk)
            request.answered = True

    def _held(self, request: Request, after: bool) -> bool:
        """Holds the request if a rule says so; whether it is to be dropped."""
        with self._lock:
            rule = next(
                (
                    each
                    for each in self._holds
                    if each.after == after
                    and not each.arrived.is_set()
                    and each.method == request.method
                    and re.search(each.path, request.path)
                    and each.where(request)
                ),
                None,
            )
            if rule is None:
                return False
            rule.request = request
            rule.arrived.set()
        rule.decided.wait()
        return rule.dropped

    def _pass_websocket(self, client: socket.socket, head: bytes, rest: bytes) -> None:
        with socket.create_connection(("127.0.0.1", self.upstream)) as server:
            server.sendall(head + END_OF_HEAD + rest)
            while not self._away.is_set():
                readable, _, _ = select.select([client, server], [], [], 0.2)
                for end in readable:
                    chunk = end.recv(1 << 16)
                    if not chunk:
                        return
                    (server if end is client else client).sendall(chunk)


def read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    """The head of a request or an answer, and what came after it; empty when the connection ended before."""
    data = b""
    while END_OF_HEAD not in data:
        chunk = connection.recv(1 << 16)
        if not chunk:
            return b"", b""
        data += chunk
    head, _, rest = data.partition(END_OF_HEAD)
    return head, rest


def parse_head(head: bytes) -> tuple[str, str, dict[str, str]]:
    """Method, path and headers (names in lower case) of a request."""
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    return (
        method,
        path,
        {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)},
    )


def read_body(connection: socket.socket, headers: dict[str, str], rest: bytes) -> bytes:
    """The whole body of a request, with a length or in chunks. A client that waits for leave to send it gets that."""
    if headers.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    def more() -> bytes:
        chunk = connection.recv(1 << 16)
        if not chunk:
            raise ConnectionError("the client went away in the middle of its request")
        return chunk

    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while True:
            while b"\r\n" not in rest:
                rest += more()
            size, _, rest = rest.partition(b"\r\n")
            length = int(size.split(b";")[0], 16)
            while len(rest) < length + 2:
                rest += more()
            body, rest = body + rest[:length], rest[length + 2 :]
            if length == 0:
                return body
    length = int(headers.get("content-length", "0"))
    parts, have = [rest], len(rest)
    while have < length:
        parts.append(more())
        have += len(parts[-1])
    return b"".join(parts)


def last_answer(head: bytes) -> bytes:
    """The same answer's head, saying that the connection ends with it: else the client would send its next request here."""
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"connection:", b"keep-alive:"))]
    return b"\r\n".join([*lines, b"Connection: close"]) + END_OF_HEAD


def closing(head: bytes, length: int) -> bytes:
    """The same request head for a connection of its own, with the body's length."""
    dropped = (b"connection:", b"content-length:", b"transfer-encoding:", b"expect:")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(dropped)]
    if length or head.split(b" ", 1)[0] in (b"POST", b"PATCH", b"PUT"):
        lines.append(b"Content-Length: %d" % length)
    return b"\r\n".join([*lines, b"Connection: close"]) + END_OF_HEAD
