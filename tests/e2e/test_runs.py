"""`sextant runs`: what is under way, what waits, and for what."""

import pytest

from harness.nodes import AVERAGE, LONG, ODD
from harness.wait import until


def row(node, run: int) -> str:
    """The table's line about a run; empty if there is none."""
    listed = node.tool("runs")
    assert listed.returncode == 0, listed.stderr
    return next((line for line in listed.stdout.splitlines() if line.split()[:1] == [str(run)]), "")


def test_local(local_node, researcher, world, proxy, tmp_path):
    """With the local runtime as well: what runs, what the server has and nobody took yet, and nothing of what is over."""
    node = local_node(via=proxy)
    task = researcher.ask(AVERAGE, "sleep_then", [world.organization()], seconds=LONG, value="slept", unless=str(tmp_path / "enough"))
    run = researcher.run(task)["id"]
    assert "not started yet: the node is not running" in row(node, run)
    node.start_online()
    until("the run to be listed as running", lambda: "  running  " in row(node, run))
    with proxy.away():
        listed = node.tool("runs").stdout
        assert "The server does not answer" in listed
        assert "  running  ?  " in listed
    (tmp_path / "enough").touch()
    assert researcher.result(task) == "slept"
    until("the run to be listed no more", lambda: not row(node, run))


@pytest.mark.cluster
def test_what_waits_and_for_what(kubernetes_node, researcher, world, cluster):
    """On the cluster: who is at work, what runs, and an output that waits while the node is away."""
    node = kubernetes_node()
    assert "No process of this node is running" in node.tool("runs").stdout
    node.start_online()
    task = researcher.ask(ODD, "count", [world.organization()], seconds=LONG, name="how many?")
    run = researcher.run(task)["id"]
    until("the run to be listed as running", lambda: "  running  " in row(node, run), shows=node.log)
    assert "how many?" in row(node, run)
    assert "is the leader of this node" in node.tool("runs").stdout
    node.kill()
    cluster.release(run)
    cluster.until_container(run, "algorithm", "terminated")
    until("its output to be listed as waiting", lambda: "the output waits in pod v6-task-" in row(node, run))
    until(
        "the list to say that nobody is at work",
        lambda: "No process of this node is running" in node.tool("runs").stdout,
        within=30,
    )
    node.start_online()
    assert len(researcher.result(task)) == 1
    until("the run to be listed no more", lambda: not row(node, run))


@pytest.mark.cluster
def test_what_does_not_start(kubernetes_node, researcher, world):
    """Why, in the cluster's words."""
    node = kubernetes_node(kubernetes={"resources": {"requests": {"cpu": "1000"}}}).start_online()
    task = researcher.ask(ODD, "count", [world.organization()], seconds=1)
    run = researcher.run(task)["id"]
    until("the list to say that no machine has room", lambda: "nsufficient cpu" in row(node, run), shows=lambda: row(node, run))
    researcher.client.task.kill(task)
    researcher.finished(task)
