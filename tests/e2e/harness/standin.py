"""A stand-in for the vantage6 server, for more runs than the real one can answer for in the time of a test.

    with StandIn(runs=10_000, input_bytes=1024) as server:
        ...                                   # a node with server.config()
        assert server.finals[7] == 1

It speaks what a node needs of the REST API, as 4.5.5 does (newest runs first, pages, a finished run takes no changes), and counts
reports and the pages that it is asked for. It has no live connection: a node finds its runs by looking. `seconds_per_run` makes its lists as slow as the real ones.
"""

import asyncio
import base64
import json
import re
import threading
import time
from collections import Counter
from urllib.parse import parse_qs, urlsplit

IMAGE = "localhost/nothing:1"
ASSIGNED = "2026-01-01T00:00:00+00:00"


class StandIn:
    """One organization, one collaboration, one node; some open runs."""

    def __init__(self, runs: int, input_bytes: int = 1024, large: int = 0, seconds_per_run: float = 0.0):
        """`large` of the runs have an input of 1 MB."""
        small, big = (base64.b64encode(b"x" * size).decode() for size in (input_bytes, 1 << 20))
        self.inputs = {run: big if run <= large else small for run in range(1, runs + 1)}
        self.open = dict.fromkeys(range(1, runs + 1))
        self.state: dict[int, dict] = {}
        self.seconds_per_run = seconds_per_run
        self.pages: Counter[tuple[int, int]] = Counter()
        self.finals: Counter[int] = Counter()
        self.lists = 0
        self.first_change: float | None = None
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()

    def config(self) -> dict:
        """What a node's configuration says of its server."""
        return {"api_key": "stand-in", "server_url": "http://127.0.0.1", "port": self.port, "api_path": "/api"}

    def finished(self) -> int:
        """How many runs have completed, with their result."""
        return sum(1 for run in list(self.finals) if self.state[run]["status"] == "completed" and self.state[run].get("result"))

    def __enter__(self) -> "StandIn":
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._connection, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode().split("\r\n")
                length = next((int(line[15:]) for line in lines if line.lower().startswith("content-length:")), 0)
                body = json.loads(await reader.readexactly(length)) if length else {}
                method, target, _ = first.split(" ")
                status, answer = await self._answer(method, urlsplit(target), body)
                text = json.dumps(answer).encode()
                kind = b"Content-Type: application/json\r\n"
                writer.write(b"HTTP/1.1 %d x\r\n%bContent-Length: %d\r\n\r\n%b" % (status, kind, len(text), text))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, method: str, target, body: dict) -> tuple[int, dict]:
        path = target.path.removeprefix("/api/")
        if found := re.fullmatch(r"run/(\d+)", path):
            run = int(found[1])
            return self._change(run, body) if method == "PATCH" else (200, self._run(run))
        match path:
            case "run":
                return await self._list({key: values[0] for key, values in parse_qs(target.query).items()})
            case "token/node" | "token/refresh":
                return 200, {"access_token": token(), "refresh_token": token()}
            case "token/container":
                return 200, {"container_token": token()}
            case "node/1":
                return 200, {"id": 1, "name": "node", "collaboration": {"id": 1}, "organization": {"id": 1}}
            case "collaboration/1":
                return 200, {"id": 1, "name": "collaboration", "encrypted": False, "organizations": []}
            case "organization/1":
                return 200, {"id": 1, "name": "organization", "public_key": ""}
        return 404, {"msg": "no such thing"}

    def _change(self, run: int, body: dict) -> tuple[int, dict]:
        if run not in self.open:
            return 400, {"msg": "Cannot update an already finished algorithm run!"}
        self.first_change = self.first_change or time.monotonic()
        self.state.setdefault(run, {}).update(body)
        if "finished_at" in body:
            self.finals[run] += 1
            del self.open[run]
        return 200, self._run(run)

    async def _list(self, query: dict[str, str]) -> tuple[int, dict]:
        page, size = int(query.get("page", 1)), int(query.get("per_page", 10))
        self.pages[page, size] += 1
        newest_first = list(reversed(self.open))
        chosen = newest_first[(page - 1) * size : page * size]
        await asyncio.sleep(len(chosen) * self.seconds_per_run)
        following = {"next": "/api/run?…"} if page * size < len(newest_first) else {}
        self.lists += not following
        return 200, {"data": [self._run(run) for run in chosen], "links": following}

    def _run(self, run: int) -> dict:
        changed = {"status": "pending", "started_at": None, "finished_at": None} | self.state.get(run, {})
        task = {
            "id": run,
            "name": f"task {run}",
            "image": IMAGE,
            "job_id": run,
            "parent": None,
            "init_org": {"id": 1},
            "init_user": {"id": 1},
            "collaboration": {"id": 1},
            "databases": [],
        }
        return {
            "id": run,
            "task": task,
            "input": self.inputs[run],
            "organization": {"id": 1},
            "assigned_at": ASSIGNED,
        } | changed


def token() -> str:
    """One of node 1 that lives for a day; nobody here looks at signatures."""
    claims = json.dumps({"sub": 1, "iat": 0, "exp": 86_400}).encode()
    return f"eyJhbGciOiJIUzI1NiJ9.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.c2ln"
