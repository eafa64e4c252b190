"""A programmable proxy between the node and the vantage6 server, or the cluster's API server: it writes down every request, stops the
ones that a test names, and answers in the ways broken networks and servers do.

    with FaultProxy(server.port) as proxy:
        with proxy.hold("PATCH", r"/run/\\d+$", where=has("finished_at")) as held:   # before it is forwarded
            held.wait()                                                            # the request has arrived here
            node.kill()
        assert proxy.count("PATCH", r"/run/\\d+$", where=has("finished_at")) == 0

Each client's connection carries one request (the answer says so), which keeps this small: a request is read whole, but for a large one,
of which the end is passed on as it comes, like an answer. A websocket is passed on byte by byte after its handshake.

Results of which the real server can't take as many bytes as the node can send are swallowed here:

    with proxy.swallow() as swallowed:
        ...
    assert swallowed.length == 1_333_333_336
"""

import contextlib
import hashlib
import itertools
import json
import re
import select
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

END_OF_HEAD = b"\r\n\r\n"
# A request with more than this is a large one. A log has less.
MUCH = 8 << 20
# What stands before the result in a node's report, and after it: it is the last field.
RESULT, END = b',"result":"', b'"}'


@dataclass
class Request:
    """One request as it came by."""

    method: str
    path: str
    # Of a large one, its beginning.
    body: bytes
    query: str = ""
    large: bool = False
    at: float = field(default_factory=time.time)
    # The server's status code, once it has answered; None while under way, and for requests that never reached it.
    status: int | None = None
    # Whether the whole answer has been handed to the client.
    answered: bool = False

    def json(self) -> dict:
        """The body as a JSON object; empty if it is none. Of a large report, without its result."""
        with contextlib.suppress(ValueError):
            value = json.loads(self.body.partition(RESULT)[0] + RESULT + END if self.large else self.body)
            if isinstance(value, dict):
                return value
        return {}


Predicate = Callable[[Request], bool]
# What becomes of a frame with an event on its way to the client.
Way = Callable[[bytes], list[bytes]]


def anything(_: Request) -> bool:
    """Matches all requests."""
    return True


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
class Saying:
    """A rule that answers matching requests with these bytes, without asking the server, for as long as it is in force."""

    matches: Predicate
    answer: bytes


def answer(status: int, body: str = "{}", kind: str = "application/json", length: int | None = None, headers: str = "") -> bytes:
    """A server's whole answer, after which the connection ends; with a `length` that is longer than the body it breaks off."""
    content = body.encode()
    return (
        f"HTTP/1.1 {status} Said-by-a-test\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(content) if length is None else length}\r\n{headers}Connection: close\r\n\r\n"
    ).encode() + content


@dataclass
class Swallowed:
    """The result that was taken off a report on its way: its length and its SHA-256, as it travelled (in base64)."""

    length: int = 0
    digest: str = ""

    def read(self, pieces: Iterator[bytes]) -> bytes:
        """Counts and digests the result in a report, and gives the report with an empty one."""
        body = b""
        while RESULT not in body:
            body += next(pieces)
        body, _, first = body.partition(RESULT)
        digest = hashlib.sha256()
        last = b""
        for piece in itertools.chain([first], pieces):
            text, last = (last + piece)[: -len(END)], (last + piece)[-len(END) :]
            digest.update(text)
            self.length += len(text)
        assert last == END
        self.digest = digest.hexdigest()
        return body + RESULT + END


class FaultProxy:
    """Listens on a port of this machine (a free one if none is given), forwards to the port `upstream` of `host`; by TLS, if a context for
    that is given."""

    def __init__(self, upstream: int, port: int = 0, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None):
        self.upstream = upstream
        self.host = host
        self.tls = tls
        self.requests: list[Request] = []
        self._holds: list[Hold] = []
        self._sayings: list[Saying] = []
        self._swallowed: Swallowed | None = None
        self._way: Way = lambda event: [event]
        self._lock = threading.Lock()
        self._away = threading.Event()
        self._mute = threading.Event()
        # Seconds by which each answer is late.
        self._late = 0.0
        # Counts the calls of `cut`: streams that began before it end.
        self._cuts = 0
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
    def hold(self, method: str, path: str, where: Predicate = anything, after: bool = False) -> Iterator[Hold]:
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
    def saying(self, answer: bytes, to: Predicate = anything) -> Iterator[None]:
        """Answers matching requests with these bytes, without the server."""
        rule = Saying(to, answer)
        self._sayings.append(rule)
        try:
            yield
        finally:
            self._sayings.remove(rule)

    @contextlib.contextmanager
    def refuse(self, method: str, path: str, status: int) -> Iterator[None]:
        """Answers matching requests with the status, without the server."""
        with self.saying(answer(status), lambda request: request.method == method and bool(re.search(path, request.path))):
            yield

    @contextlib.contextmanager
    def mute(self) -> Iterator[None]:
        """Connections are accepted and stay, but nothing comes through them; at the end they are closed, since something was lost."""
        self._mute.set()
        try:
            yield
        finally:
            self._cuts += 1
            self._mute.clear()

    @contextlib.contextmanager
    def slow(self, seconds: float) -> Iterator[None]:
        """Each answer is late by so much; what is a stream already comes as it did."""
        before, self._late = self._late, seconds
        try:
            yield
        finally:
            self._late = before

    def cut(self) -> None:
        """Ends what comes as a stream at the moment: websockets, watches."""
        self._cuts += 1

    @contextlib.contextmanager
    def swallow(self) -> Iterator[Swallowed]:
        """Takes the result off the next report that has a large one: the server gets the report with an empty result."""
        self._swallowed = swallowed = Swallowed()
        try:
            yield swallowed
        finally:
            self._swallowed = None

    @contextlib.contextmanager
    def events(self, way: Way) -> Iterator[None]:
        """Each event that the server sends on a websocket is passed on in this way: as no, one or several frames."""
        before, self._way = self._way, way
        try:
            yield
        finally:
            self._way = before

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """The server seems gone: connections are closed as soon as they come, and those that exist (websockets too) end."""
        self._away.set()
        try:
            yield
        finally:
            self._away.clear()

    def seen(self, method: str, path: str, where: Predicate = anything) -> list[Request]:
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

    def tried(self, method: str, path: str, where: Predicate = anything) -> list[Request]:
        """All matching requests, whatever became of them."""
        with self._lock:
            return [
                each for each in self.requests if each.method == method and re.search(path, each.path) and where(each)
            ]

    # -- how it works ---------------------------------------------------------------------------

    def _dial(self) -> socket.socket:
        connection = socket.create_connection((self.host, self.upstream))
        return self.tls.wrap_socket(connection, server_hostname=self.host) if self.tls else connection

    def _goes_on(self, cuts: int) -> bool:
        """Whether a stream that began after so many cuts is still one; waits while nothing comes through."""
        while self._mute.is_set():
            time.sleep(0.05)
        return not self._away.is_set() and self._cuts == cuts

    def _serve(self, client: socket.socket) -> None:
        if self._away.is_set():
            return
        cuts = self._cuts
        head, rest = read_head(client)
        if not head:
            return
        method, path, headers = parse_head(head)
        pieces = read_body(client, headers, rest)
        length = int(headers.get("content-length", "0"))
        large = length > MUCH
        body = read_up_to(MUCH, pieces) if large else b"".join(pieces)
        path, _, query = path.partition("?")
        request = Request(method, path, body, query, large)
        with self._lock:
            self.requests.append(request)
            saying = next((each for each in self._sayings if each.matches(request)), None)
        if saying:
            time.sleep(self._late)
            client.sendall(saying.answer)
            return
        if headers.get("upgrade", "").lower() == "websocket":
            self._pass_websocket(client, head)
            return
        if self._held(request, after=False) or not self._goes_on(cuts):
            return
        if large and RESULT in body and self._swallowed:
            body = self._swallowed.read(itertools.chain([body], pieces))
            length = len(body)
        with self._dial() as server:
            server.sendall(closing(head, length if large else len(body)) + body)
            for piece in pieces:
                server.sendall(piece)
            answer_head, answer_rest = read_head(server)
            if not answer_head:
                return
            request.status = int(answer_head.split(b" ", 2)[1])
            time.sleep(self._late)
            if self._held(request, after=True) or not self._goes_on(cuts):
                return
            client.sendall(last_answer(answer_head) + answer_rest)
            # A look now and then whether it is still to go on: a watch may be quiet for long.
            server.settimeout(0.2)
            while self._goes_on(cuts):
                try:
                    chunk = server.recv(1 << 16)
                except TimeoutError:
                    continue
                if not chunk:
                    request.answered = True
                    return
                client.sendall(chunk)

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

    def _pass_websocket(self, client: socket.socket, head: bytes) -> None:
        cuts = self._cuts
        with self._dial() as server:
            server.sendall(head + END_OF_HEAD)
            answer_head, rest = read_head(server)
            if not answer_head:
                return
            time.sleep(self._late)
            client.sendall(answer_head + END_OF_HEAD)
            if b" 101 " not in answer_head.split(b"\r\n", 1)[0]:
                client.sendall(rest)
                return
            while True:
                frames, rest = split_frames(rest)
                for frame in frames:
                    for each in self._way(frame) if is_event(frame) else [frame]:
                        client.sendall(each)
                readable: list[socket.socket] = []
                while not readable:
                    if not self._goes_on(cuts):
                        return
                    readable, _, _ = select.select([client, server], [], [], 0.2)
                for end in readable:
                    chunk = end.recv(1 << 16)
                    if not chunk:
                        return
                    if end is client:
                        server.sendall(chunk)
                    else:
                        rest += chunk


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


def split_frames(data: bytes) -> tuple[list[bytes], bytes]:
    """A server's whole websocket frames (RFC 6455, 5.2; servers mask nothing), and the beginning of the next one."""
    frames = []
    while len(data) >= 2:
        start, length = 2, data[1] & 127
        if length > 125:
            start = 4 if length == 126 else 10
            length = int.from_bytes(data[2:start])
        if len(data) < start + length:
            break
        frames.append(data[: start + length])
        data = data[start + length :]
    return frames, data


def is_event(frame: bytes) -> bool:
    """Whether a frame is text with a Socket.IO event in it."""
    start = {126: 4, 127: 10}.get(frame[1] & 127, 2)
    return frame[0] & 15 == 1 and frame[start : start + 2] == b"42"


def parse_head(head: bytes) -> tuple[str, str, dict[str, str]]:
    """Method, path and headers (names in lower case) of a request."""
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    return (
        method,
        path,
        {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)},
    )


def read_up_to(length: int, pieces: Iterator[bytes]) -> bytes:
    """So many bytes, or a little more; all if there are fewer."""
    read = b""
    while len(read) < length and (piece := next(pieces, b"")):
        read += piece
    return read


def read_body(connection: socket.socket, headers: dict[str, str], rest: bytes) -> Iterator[bytes]:
    """The body of a request, with a length or in chunks, piece by piece. A client that waits for leave to send it gets that."""
    if headers.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    def more() -> bytes:
        chunk = connection.recv(1 << 18)
        if not chunk:
            raise ConnectionError("the client went away in the middle of its request")
        return chunk

    if headers.get("transfer-encoding", "").lower() == "chunked":
        while True:
            while b"\r\n" not in rest:
                rest += more()
            size, _, rest = rest.partition(b"\r\n")
            length = int(size.split(b";")[0], 16)
            while len(rest) < length + 2:
                rest += more()
            yield rest[:length]
            rest = rest[length + 2 :]
            if length == 0:
                return
    left = int(headers.get("content-length", "0")) - len(rest)
    if rest:
        yield rest
    while left > 0:
        piece = more()
        left -= len(piece)
        yield piece


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
