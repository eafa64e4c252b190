"""Runs don't queue: the cluster's scheduler decides how many go at once."""

import pytest

from harness.nodes import LONG, ODD
from harness.wait import until

pytestmark = pytest.mark.cluster


def test_ten_runs_at_once(kubernetes_node, researcher, world, cluster):
    """Ten tasks for one node: at some moment all ten algorithms run, and all ten complete."""
    node = kubernetes_node().start_online()
    tasks = [researcher.ask(ODD, "sleep", [world.organization()], seconds=LONG) for _ in range(10)]

    def running() -> int:
        return sum(
            1
            for pod in cluster.pods(node=world.node())
            for status in pod.status.container_statuses or []
            if status.name == "algorithm" and status.state.running
        )

    until("ten algorithms to run at once", lambda: running() == 10, within=60, shows=cluster.describe)
    for task in tasks:
        cluster.release(researcher.run(task)["id"])
    runs = [researcher.finished(task, node=node)[0] for task in tasks]
    assert [run["status"] for run in runs] == ["completed"] * 10
    # The same seen from the server: the last began before the first ended.
    assert max(run["started_at"] for run in runs) < min(run["finished_at"] for run in runs)


def test_no_more_than_max_concurrent_runs(kubernetes_node, researcher, world, cluster):
    """With `max_concurrent_runs: 1` the second algorithm starts when the first has ended; none is lost."""
    node = kubernetes_node(kubernetes={"max_concurrent_runs": 1}).start_online()
    tasks = [researcher.ask(ODD, "sleep", [world.organization()], seconds=1) for _ in range(3)]
    for task in tasks:
        researcher.finished(task, node=node)

    times = []
    runs = [pod for pod in cluster.pods(node=world.node()) if "vantage6.ai/run" in pod.metadata.labels]
    for pod in runs:
        (status,) = [each for each in pod.status.container_statuses if each.name == "algorithm"]
        times.append((status.state.terminated.started_at, status.state.terminated.finished_at))
    times.sort()
    assert len(times) == 3
    for (_, ended), (began, _) in zip(times, times[1:]):
        assert began >= ended
