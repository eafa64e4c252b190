"""make bench: what Sextant costs on top of Kubernetes, how quickly it starts, how little memory it needs. One run, all figures.

    bench.py [--pairs 10] [--tens 5] [--runs 50]

Sextant and bare Jobs take turns (A B A B …), so that a slow moment of the machine hits both. The end of a run is when the server has
committed its report (read from its database every 10 ms, which costs the server nothing); the end of a bare Job is when a watcher of
the API sees its algorithm as ended. Ten at once arrive at the bare side with the same gaps in which the server took the ten tasks.

The kubelet looks at its containers once a second, and twice in a pod's life something waits for that: a time is a number of ticks plus
a little, and a little later may be a whole tick later. So both sides start at the same moments between two ticks, spread evenly, and the
ratio is that of the means, where a median would jump by a tick. Ticks are some milliseconds more than a second apart, so the moments are
counted from one that was seen a while ago: for both sides, from the end of the last bare Job.
"""

import argparse
import base64
import contextlib
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "e2e"), str(ROOT / "testbed" / "server")]

import bare  # noqa: E402
from bed import bed  # noqa: E402
from ended import Ended  # noqa: E402
from figures import Series, ratio, verdict  # noqa: E402
from harness import nodes  # noqa: E402
from harness.cluster import Cluster  # noqa: E402
from harness.memory import Sampled  # noqa: E402
from harness.node import NodeProcess  # noqa: E402
from harness.wait import until  # noqa: E402
from harness.policies import NetworkPolicies  # noqa: E402
from harness.world import World  # noqa: E402


class Bench:
    """One server, one node, one cluster."""

    def __init__(self, world: World, cluster: Cluster, directory: Path):
        self.world = world
        self.cluster = cluster
        config = nodes.kubernetes(world, cluster, 0, directory)
        self.node = NodeProcess(directory / "node", nodes.merged(config, {"databases": []}))
        self.finished = Ended(world).all

    def ask(self, method: str = "exit", **kwargs: float) -> int:
        """A trivial task, by the one request that makes it; its id."""
        content = json.dumps({"method": method, "kwargs": kwargs}).encode()
        return self.world.researcher.ask_raw(nodes.ODD, base64.b64encode(content).decode(), [self.world.organization()])

    def sextant(self, number: int) -> tuple[float, list[float]]:
        """Seconds from the first request for a task until the last of them is finished, and when the server took each."""
        began = time.monotonic()
        tasks, taken = [], []
        for _ in range(number):
            taken.append(time.monotonic() - began)
            tasks.append(self.ask(code=0))
        until("the tasks to finish", lambda: self.finished(tasks), within=120, every=0.01)
        seconds = time.monotonic() - began
        for task in tasks:
            assert self.world.researcher.run(task)["status"] == "completed"
        return seconds, taken


def start_to_online(bench: Bench, times: int) -> Series:
    """From the start of the process to its being online, with nobody else on the server."""
    series = Series("start → online", "s")
    for _ in range(times):
        began = time.monotonic()
        bench.node.start()
        until(
            "the node to be online", lambda: "online" in bench.node.log(), within=30, every=0.002, shows=bench.node.log
        )
        series.values.append(time.monotonic() - began)
        bench.node.terminate()
        bench.world.researcher.until_node(bench.world.node(), "offline")
    return series


def in_turns(bench: Bench, pattern, number: int, pairs: int) -> tuple[Series, Series, Series]:
    """Sextant and bare Jobs in turns, `number` at once."""
    what = "one" if number == 1 else f"{number} at once"
    ours = Series(f"{what}: Sextant, task created → finished", "s")
    ended = Series(f"{what}: bare Job, created → algorithm seen as ended", "s")
    complete = Series(f"{what}: bare Job, created → complete", "s")

    def bare_jobs(delays: list[float]) -> tuple[float, float, float]:
        """When the last was seen as ended; seconds until then, and until the last was complete."""
        began = time.monotonic()
        first, last = bare.measure(bench.cluster, pattern, delays)
        return began + first, first, last

    # The first ones only show when the kubelet looks.
    tick, _, _ = bare_jobs([0.0] * number)
    for pair in range(pairs):
        settle(bench)
        wait_after(tick, pair / pairs)
        seconds, taken = bench.sextant(number)
        ours.values.append(seconds)
        settle(bench)
        wait_after(tick, pair / pairs)
        tick, first, last = bare_jobs(taken)
        ended.values.append(first)
        complete.values.append(last)
    settle(bench)
    return ours, ended, complete


def wait_after(tick: float, fraction: float) -> None:
    """Waits until this fraction of a second is over since a tick."""
    time.sleep((tick + fraction - time.monotonic()) % 1.0)


def settle(bench: Bench) -> None:
    """Waits until no pod is on its way any more: the next measurement begins on a quiet machine."""
    until(
        "the pods to be done",
        lambda: all(
            pod.status.phase in ("Succeeded", "Failed")
            for pod in bench.cluster.core.list_namespaced_pod(
                bench.cluster.jobs_namespace, label_selector="!vantage6.ai/probe"
            ).items
        ),
    )
    bench.cluster.forget_jobs()
    time.sleep(1)


def memory_with(bench: Bench, runs: int) -> Series:
    """The node's largest resident memory while so many runs are under way."""
    with Sampled(bench.node, every=0.1) as memory:
        tasks = [bench.ask("sleep", seconds=5) for _ in range(runs)]
        until("the runs to finish", lambda: bench.finished(tasks), within=300, every=0.1)
    return Series(f"memory with {runs} runs", "MB", memory.megabytes)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--tens", type=int, default=5)
    parser.add_argument("--runs", type=int, default=50)
    options = parser.parse_args()
    with contextlib.ExitStack() as ends:
        world, cluster, directory = ends.enter_context(bed("make bench"))
        bench = Bench(world, cluster, directory)
        ends.callback(bench.node.stop)

        say = lambda line: print(line, flush=True)  # noqa: E731
        online = start_to_online(bench, 5)
        say(str(online))

        # Isolated, as nodes should be: otherwise the node checks the isolation again and again, which needs pods.
        NetworkPolicies(cluster).build(bench.node)
        bench.node.start_online()
        bench.node.wait_log("Algorithms are isolated")
        task = bench.ask(code=0)
        until("the first run to finish", lambda: bench.finished([task]), within=60)
        pattern = bare.pattern(cluster, world.researcher.run(task)["id"])
        settle(bench)
        time.sleep(5)
        idle = Series("memory idle", "MB", [bench.node.resident_bytes() / 1e6])
        say(str(idle))

        one = in_turns(bench, pattern, 1, options.pairs)
        ten = in_turns(bench, pattern, 10, options.tens)
        for series in (*one, *ten):
            say(str(series))
        busy = memory_with(bench, options.runs)
        say(str(busy))

        say("")
        say(verdict("one task, against the bare Job's algorithm seen as ended", ratio(one[0], one[1]), 1.15, " ×"))
        say(verdict("ten at once, likewise", ratio(ten[0], ten[1]), 1.15, " ×"))
        say(verdict("start → online", online.median, 0.5, " s"))
        say(verdict("memory idle", idle.median, 20, " MB"))
        say(verdict(f"memory with {options.runs} runs", max(busy.values), 40, " MB"))


if __name__ == "__main__":
    main()
