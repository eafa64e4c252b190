"""make bench-recovery: how soon a node is online again after its server or its connection was away, and how soon another one takes over.

    recovery.py [--times 5]

Online is what the server says, read from its database. Each attempt to connect waits longer than the one before, with some chance in it
(a server that comes back is not to be overrun by all its nodes), so there are two times: from the end of the fault, and from
the first request of the attempt that succeeded, which is what the node itself takes.
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "e2e"), str(ROOT / "testbed" / "server")]

from bed import bed  # noqa: E402
from faultproxy import FaultProxy  # noqa: E402
from figures import Series, verdict  # noqa: E402
from harness import nodes  # noqa: E402
from harness.cluster import Cluster  # noqa: E402
from harness.node import ELSEWHERE, NodeProcess  # noqa: E402
from harness.wait import until  # noqa: E402
from harness.world import World  # noqa: E402


class Recovery:
    """One server with a proxy before it, one cluster, and two processes of the same node."""

    def __init__(self, world: World, cluster: Cluster, proxy: FaultProxy, directory: Path):
        self.world = world
        self.proxy = proxy
        config = nodes.merged(nodes.kubernetes(world, cluster, 0, directory, port=proxy.port), {"databases": []})
        self.first, self.second = (NodeProcess(directory / name, config) for name in ("first", "second"))

    def status(self) -> str:
        """The node's, as the server keeps it."""
        with self.world.server.database() as database:
            return database.execute("SELECT status FROM authenticatable WHERE id = ?", [self.world.node()]).fetchone()[0]

    def until_status(self, status: str) -> None:
        """Waits for it."""
        until(f"the node to be {status}", lambda: self.status() == status, within=90, every=0.005, shows=self.first.log)

    def outage(self, fault: Callable[[], None]) -> tuple[float, float]:
        """Seconds from the end of a fault until the node is online again, and from the beginning of the attempt that succeeded."""
        self.until_status("online")
        # A connection that has lived for so long is a good one: the waits begin anew.
        time.sleep(12)
        fault()
        over = time.time()
        self.until_status("online")
        online = time.time()
        attempts = [each.at for each in self.proxy.tried("GET", "socket.io") if each.at <= online]
        return online - over, online - max(attempts)

    def cut(self) -> None:
        """The connection ends, and could be had again at once."""
        self.proxy.cut()
        self.until_status("offline")

    def away(self) -> None:
        """The network is away for a quarter of a minute."""
        with self.proxy.away():
            time.sleep(15)

    def restart(self) -> None:
        """The server is killed and comes back."""
        self.world.server.stop(kill=True)
        self.world.server.start_again()

    def take_over(self, prefix: tuple[str, ...], end: Callable[[NodeProcess], object]) -> float:
        """Seconds from the end of the process that acts until the one that stands by is online."""
        self.first.prefix = prefix
        self.first.start_online()
        self.second.start().wait_log("stands by")
        end(self.first)
        ended = time.monotonic()
        self.second.wait_online(60)
        took = time.monotonic() - ended
        self.second.terminate()
        self.until_status("offline")
        return took


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    with contextlib.ExitStack() as ends:
        world, cluster, directory = ends.enter_context(bed("make bench-recovery"))
        proxy = ends.enter_context(FaultProxy(world.server.port))
        recovery = Recovery(world, cluster, proxy, directory)
        ends.callback(recovery.second.stop)
        ends.callback(recovery.first.stop)

        say = lambda line: print(line, flush=True)  # noqa: E731
        goals = []
        recovery.first.start_online()
        faults = {"the connection was cut": recovery.cut, "15 s without a network": recovery.away, "the server was restarted": recovery.restart}
        for name, fault in faults.items():
            taken = [recovery.outage(fault) for _ in range(options.times)]
            say(str(Series(f"{name}: its end → online", "s", [whole for whole, _ in taken])))
            own = Series(f"{name}: connecting → online", "s", [own for _, own in taken])
            say(str(own))
            goals.append(verdict(f"{name}: connecting → online", own.median, 1, " s"))
        recovery.first.terminate()
        # As one of another machine: the second can't see that it is gone.
        for name, prefix, end in [("killed with its machine", ELSEWHERE, NodeProcess.kill), ("stopped", (), NodeProcess.terminate)]:
            taken = [recovery.take_over(prefix, end) for _ in range(options.times)]
            series = Series(f"{name} → the other one online", "s", taken)
            say(str(series))
            goals.append(verdict(f"{name} → the other one online", max(series.values), 15, " s"))
        say("")
        for goal in goals:
            say(goal)


if __name__ == "__main__":
    main()
