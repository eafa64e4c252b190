"""Many runs on fake machines: what is made, what is counted, what it must come to."""

import json
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from v6server import HERE, Provision, Server, python

from .cluster import Cluster
from .machines import PLACEMENT, Machines
from .memory import Sampled
from .node import NodeProcess
from .nodes import on_cluster
from .paths import cache
from .standin import IMAGE
from .wait import until

AUDIT = cache() / "cluster" / "log" / "audit.log"


def configuration(cluster: Cluster, server: dict, directory: Path, at_once: int) -> dict:
    """A node whose runs go to the fake machines, so many at once. Its finished Jobs go soon, as those of an hour would over days."""
    return server | {
        "databases": [],
        "kubernetes": on_cluster(cluster, directory)
        | {
            # The proof's pods would run on the real machine, but these are placed with the runs.
            "isolation": {"every": "24h"},
            "max_concurrent_runs": at_once,
            "keep_finished": "5s",
        }
        | PLACEMENT,
    }


class RealServer:
    """A real vantage6 server with open runs in its database."""

    def __init__(self, directory: Path, runs: int):
        self.directory, self.runs = directory, runs

    def __enter__(self) -> "RealServer":
        self.server = Server.start(self.directory)
        made = Provision.create(self.server, organizations=1)
        self.node_config = {
            "api_key": made.nodes[0]["api_key"],
            "server_url": made.url,
            "port": made.port,
            "api_path": made.api_path,
        }
        numbers = {
            "runs": self.runs,
            "collaboration": made.collaboration_id,
            "organization": made.organizations[0]["id"],
            "user": made.users[0]["id"],
        }
        options = [f"--{name}={number}" for name, number in numbers.items()]
        subprocess.run([python(), HERE / "backlog.py", self.directory, "--image", IMAGE, *options], check=True)
        self._log_start = (self.directory / "server.log").stat().st_size
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()

    def config(self) -> dict:
        """What a node's configuration says of its server."""
        return self.node_config

    def finished(self) -> int:
        """How many runs have completed, with their result."""
        query = "SELECT count(*) FROM run WHERE finished_at IS NOT NULL AND status = 'completed' AND length(result) > 0"
        with self.server.database() as database:
            return database.execute(query).fetchone()[0]

    def requests(self) -> Counter[str]:
        """What it was asked by the node since it had the runs, with the answers' codes."""
        pattern = re.compile(rb'"([A-Z]+) /api/([^ ?"]*)[^"]*" (\d+)')
        asked: Counter[str] = Counter()
        with (self.directory / "server.log").open("rb") as log:
            log.seek(self._log_start)
            for line in log:
                if found := pattern.search(line):
                    method, path, code = (part.decode() for part in found.groups())
                    asked[f"{method} {re.sub('[0-9]+', 'ID', path)} {code}"] += 1
        return asked


class Audit:
    """What an account asks of the API server from now on, by the audit log, read as it grows: it is turned over when it is large."""

    def __init__(self, cluster: Cluster):
        self.account = f"system:serviceaccount:{cluster.node_namespace}:sextant-node".encode()
        self.asked: Counter[str] = Counter()
        self._file = AUDIT.open("rb")
        self._file.seek(0, 2)
        self._rest = b""

    def read(self) -> Counter[str]:
        """Resource, verb and code of its requests so far."""
        while True:
            self._take(self._file.read())
            if AUDIT.exists() and AUDIT.stat().st_ino == Path(f"/proc/self/fd/{self._file.fileno()}").stat().st_ino:
                return self.asked
            self._take(self._file.read())
            self._file.close()
            self._file = AUDIT.open("rb")

    def _take(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if self.account in line:
                entry = json.loads(line)
                of = entry.get("objectRef", {})
                resource = "/".join(filter(None, [of.get("resource"), of.get("subresource")]))
                # A watch is written down when it begins; logs are, too, but all else counts when it has been answered.
                counts = entry["stage"] == ("ResponseStarted" if entry["verb"] == "watch" else "ResponseComplete")
                if counts and entry["user"]["username"].encode() == self.account:
                    code = entry.get("responseStatus", {}).get("code", 0)
                    self.asked[f"{entry['verb']} {resource}{'' if 200 <= code < 300 else f' {code}'}"] += 1


@dataclass
class Outcome:
    """What was counted."""

    runs: int
    seconds: float
    memory: Sampled
    played: dict[str, int]
    api: Counter[str]
    server: Counter[str]
    jobs_left: int

    def per_run(self, counted: Counter[str]) -> float:
        """How many requests there were for each run."""
        return sum(counted.values()) / self.runs

    def __str__(self) -> str:
        beats = ("create leases", "get leases", "update leases", "watch", "list")
        work = Counter({what: number for what, number in self.api.items() if not what.startswith(beats)})
        lines = [
            f"{self.runs} runs in {self.seconds:.0f} s: {self.runs / self.seconds:.1f} a second; at most {self.played['most']} pods at once",
            f"executed {self.played['executions']}, twice {self.played['twice']}, outputs taken {self.played['delivered']}, Jobs left {self.jobs_left}",
            f"memory: second quarter {self.memory.quarter(2):.1f} MB, last {self.memory.quarter(4):.1f} MB, at most {max(self.memory.megabytes):.1f} MB",
            f"API server: {self.per_run(work):.2f} requests a run: {shares(work, self.runs)}; besides: {shares(self.api - work)}",
            f"server: {self.per_run(self.server):.2f} requests a run: {shares(self.server, self.runs)}",
            f"pods that had to ask the data port again: {self.played['again']}",
        ]
        return "\n".join(lines)

    def assert_good(self) -> None:
        """Nothing lost, nothing done twice, memory flat, and no more requests than a run needs."""
        assert self.played["executions"] == self.played["delivered"] == self.runs, self.played
        assert self.played["twice"] == self.played["failed"] == 0, self.played
        assert self.memory.quarter(4) <= 1.2 * self.memory.quarter(2), str(self)
        # Job, Secret, log, mark; and the probes of the isolation have Jobs and logs too. What an API server that is too busy refuses is
        # asked again, and not counted here.
        work = sum(self.api[what] for what in ("create jobs", "create secrets", "get pods/log", "patch jobs"))
        assert work <= 4 * self.runs + 0.01 * self.runs + 60, str(self)
        # 400: it is finished already. 500: the server's own trouble, after which it is said again.
        refused = {what: number for what, number in self.server.items() if re.fullmatch(r"PATCH run/ID 4\d\d", what)}
        assert not refused, f"the server refused changes of runs: {refused}"


def shares(counted: Counter[str], by: int = 1) -> str:
    """A counter in words."""
    return ", ".join(f"{what} {number / by:.2f}" if by > 1 else f"{what} {number}" for what, number in counted.most_common())


def bring_through(
    cluster: Cluster, server: RealServer, machines: int, at_once: int, directory: Path, within: float, say: Callable[[object], None]
) -> Outcome:
    """Lets a node bring all runs of a server to their end on fake machines."""
    audit = Audit(cluster)
    node = NodeProcess(directory / "node", configuration(cluster, server.config(), directory, at_once))
    with Machines(cluster, machines, directory / "machines") as fake:
        say(f"{machines} fake machines are ready")
        began = said = time.monotonic()
        node.start()
        try:
            with Sampled(node) as memory:

                def done() -> bool:
                    nonlocal said
                    if time.monotonic() - said > 15:
                        said = time.monotonic()
                        audit.read()
                        playing = fake.figures().get("playing")
                        say(f"  {said - began:5.0f} s: {server.finished()} finished, {playing} pods, {memory.megabytes[-1]:.1f} MB")
                    return server.finished() >= server.runs or not node.running

                until(
                    f"{server.runs} runs to finish",
                    done,
                    within,
                    every=0.5,
                    shows=lambda: f"{server.finished()} finished\n{fake.log_tail()}\n{node.log()[-4000:]}",
                )
                seconds = time.monotonic() - began
                # The last marks and counts are under way.
                until("the Jobs to be released", lambda: not unreported(cluster), within=60, every=1)
            until("the figures to be told", lambda: fake.figures().get("playing") == 0, within=60, every=1, shows=fake.figures)
            return Outcome(server.runs, seconds, memory, fake.figures(), audit.read(), server.requests(), jobs_left(cluster))
        finally:
            node.stop()


def unreported(cluster: Cluster) -> bool:
    """Whether there is a Job that is not marked as reported."""
    items = cluster.batch.list_namespaced_job(cluster.jobs_namespace, label_selector="vantage6.ai/run").items
    return any("vantage6.ai/reported" not in (job.metadata.annotations or {}) for job in items)


def jobs_left(cluster: Cluster) -> int:
    """How many Jobs there are."""
    return len(cluster.batch.list_namespaced_job(cluster.jobs_namespace, label_selector="vantage6.ai/run").items)
