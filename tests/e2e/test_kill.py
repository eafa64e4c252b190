"""A researcher changes their mind: what is under way is stopped, and what has ended stays as it was."""

import pytest

from harness.nodes import ODD
from harness.wait import until

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("method", ["sleep", "stubborn"])
def test_a_run_is_killed(method, kubernetes_node, researcher, world, cluster):
    """`client.task.kill` ends the algorithm, even one that ignores SIGTERM; the status says who wanted it."""
    kubernetes_node().start_online()
    task = researcher.ask(ODD, method, [world.organization()], seconds=100)
    run = researcher.run(task)["id"]
    cluster.until_container(run, "algorithm", "running")
    researcher.client.task.kill(task)
    (killed,) = researcher.finished(task, within=40)
    assert killed["status"] == "killed by user"
    until(
        "the algorithm to be gone",
        lambda: (status := cluster.container(run, "algorithm")) is None or status.state.running is None,
        within=30,
        shows=lambda: cluster.describe(run),
    )


def test_what_has_ended_stays(kubernetes_node, researcher, world):
    """Killing a task that is over changes nothing, and the node serves on."""
    kubernetes_node().start_online()
    task = researcher.ask(ODD, "exit", [world.organization()], code=0)
    assert researcher.result(task) == "about to exit"
    researcher.client.task.kill(task)
    second = researcher.ask(ODD, "exit", [world.organization()], code=0)
    assert researcher.result(second) == "about to exit"
    assert researcher.run(task)["status"] == "completed"
