"""What others do at the server while a run is under way: it is deleted, or finished. What they did stands, and the node goes on."""

import pytest

from faultproxy import has
from harness.nodes import LONG, ODD
from harness.wait import until

pytestmark = pytest.mark.cluster


@pytest.fixture
def under_way(kubernetes_node, proxy, researcher, world, cluster):
    """A node with a run whose algorithm runs; node, task and run."""
    node = kubernetes_node(via=proxy).start_online()
    task = researcher.ask(ODD, "count", [world.organization()], seconds=LONG)
    run = researcher.run(task)["id"]
    cluster.until_container(run, "algorithm", "running")
    return node, task, run


def test_something_in_front_of_the_server_says_that_there_is_nothing(kubernetes_node, proxy, researcher, world, cluster):
    """An ingress whose server is being replaced answers 404: that is nobody's last word on a run."""
    node = kubernetes_node(via=proxy).start_online()
    with proxy.refuse("POST", r"/token/container$", 404):
        task = researcher.ask(ODD, "exit", [world.organization()], code=0)
        run = researcher.run(task)["id"]
        cluster.until_container(run, "receive", "running")
        node.wait_log("The pod waits for its token")
    assert researcher.result(task) == "about to exit"


def is_done_with(cluster, run: int) -> bool:
    """Whether the run's Job is marked as one whose output nobody waits for any more, and its pod has ended."""
    return all(cluster.reported(run)) and all(pod.status.phase in ("Succeeded", "Failed") for pod in cluster.pods(run))


def still_works(node, researcher, world) -> None:
    """The node takes the next question."""
    assert node.running
    assert researcher.result(researcher.ask(ODD, "exit", [world.organization()], code=0)) == "about to exit"


@pytest.mark.parametrize("away", [False, True], ids=["while it looks", "while it is away"])
def test_a_task_is_deleted(away, under_way, researcher, world, cluster, proxy):
    """Nothing is reported, and nothing of it stays in the cluster."""
    node, task, run = under_way
    if away:
        node.terminate()
    world.server.request("DELETE", f"/task/{task}")
    if away:
        node.start_online()
    until("the run to be done with", lambda: is_done_with(cluster, run), shows=lambda: cluster.describe(run))
    assert not proxy.seen("PATCH", f"/run/{run}$", where=has("finished_at"))
    still_works(node, researcher, world)


@pytest.mark.parametrize("away", [False, True], ids=["while it looks", "while it is away"])
def test_a_run_is_finished_by_somebody_else(away, under_way, researcher, world, cluster, proxy):
    """Another one's report is not overwritten."""
    node, task, run = under_way
    if away:
        node.terminate()
    report = {"finished_at": "2026-01-01T12:00:00.000000", "status": "failed", "log": "by somebody else", "result": ""}
    world.server.request("PATCH", f"/run/{run}", report, token=world.node_token())
    if away:
        node.start_online()
    until("the run to be done with", lambda: is_done_with(cluster, run), shows=lambda: cluster.describe(run))
    seen = researcher.run(task)
    assert (seen["status"], seen["log"]) == ("failed", "by somebody else")
    assert not proxy.seen("PATCH", f"/run/{run}$", where=has("finished_at"))
    still_works(node, researcher, world)
