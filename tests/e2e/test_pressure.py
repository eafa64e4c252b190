"""A machine runs low on disk, and its kubelet evicts runs until it has room again. It evicts whatever is there: so these tests run alone."""

import contextlib
import subprocess
from collections.abc import Iterator

import pytest

from harness.nodes import LONG, ODD
from harness.paths import REPOSITORY, cache
from harness.wait import until

pytestmark = [pytest.mark.cluster, pytest.mark.alone]


@pytest.fixture(autouse=True)
def own_cluster(cluster) -> None:
    """Only of the cluster that is built here can the kubelet be started anew."""
    if cluster.kubeconfig != cache() / "cluster" / "admin.conf":
        pytest.skip("machines that run low are for the cluster that is built here: its kubelet is started anew for that")


def kubelet(pressure: str) -> None:
    """Has the kubelet's disk run low (`on`), or not (`off`)."""
    command = [REPOSITORY / "testbed" / "kubelet-pressure", pressure]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def low_on_disk() -> Iterator[None]:
    """The machine is, and takes no pods, as long as this lasts."""
    try:
        kubelet("on")
        yield
    finally:
        kubelet("off")


def test_evicted_while_it_runs(kubernetes_node, researcher, world, cluster):
    """For the machine's sake, and not for what the run did. The algorithm may have done something: it isn't executed again unless the
    operator allows it."""
    kubernetes_node().start_online()
    task = researcher.ask(ODD, "sleep", [world.organization()], seconds=LONG)
    run = researcher.run(task)["id"]
    cluster.until_running(run)
    with low_on_disk():
        (ended,) = researcher.finished(task)
        said = until("the Event", lambda: cluster.events(run, "Evicted"))[0]
    assert ended["status"] == "crashed"
    assert "evicted from its machine, which ran low on disk space, before the algorithm ended." in ended["log"]
    assert "low on resource: ephemeral-storage" in said
    assert len(cluster.jobs(run)) == 1


def test_evicted_and_executed_again(kubernetes_node, researcher, world, cluster):
    """`retry_disrupted: 1`. Until the machine has room, it takes no pod or sends it away at once, which doesn't count: the algorithm has
    not started."""
    node = kubernetes_node(kubernetes={"retry_disrupted": 1}).start_online()
    task = researcher.ask(ODD, "count", [world.organization()], seconds=LONG)
    run = researcher.run(task)["id"]
    cluster.until_running(run)
    with low_on_disk():
        until("the second launch", lambda: cluster.pod_of(run, 2), shows=node.log)
        assert researcher.run(task)["finished_at"] is None
    cluster.release(run)
    assert len(researcher.result(task)) == 2, "executed twice, as allowed"
    assert "launched again" in until("the Event", lambda: cluster.events(run, "Evicted"))[0]
