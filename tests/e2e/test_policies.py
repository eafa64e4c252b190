"""What an organization allows: everything else is refused, and says so."""

import pytest

from harness.nodes import AVERAGE, ODD


def refused(researcher, task: int) -> dict:
    (run,) = researcher.finished(task)
    assert run["status"] == "not allowed"
    return run


def test_image_that_is_not_allowed(local_node, researcher, world):
    """Only the images named run here: the other is refused, finished, and the allowed one still runs."""
    node = local_node(policies={"allowed_algorithms": [AVERAGE]}).start_online()
    run = refused(researcher, researcher.ask(ODD, "exit", [world.organization()]))
    assert ODD in (run["log"] or node.log())
    assert researcher.result(researcher.ask(AVERAGE, "echo", [world.organization()], value=1)) == 1


def test_image_allowed_by_a_pattern(local_node, researcher, world):
    """A regular expression, matched from the start."""
    local_node(policies={"allowed_algorithms": [r"^localhost/v6-average:\d.*"]}).start_online()
    assert researcher.result(researcher.ask(AVERAGE, "echo", [world.organization()], value=1)) == 1
    refused(researcher, researcher.ask("elsewhere/" + AVERAGE, "echo", [world.organization()], value=1))


def test_organization_that_is_not_allowed(local_node, world):
    """Tasks of the second organization are welcome, those of the first are not. (Told of it, the server would not even pass them on.)"""
    allowed = world.provision.organizations[1]["id"]
    local_node(policies={"allowed_organizations": [allowed]}, share_config=False).start_online()
    first, second = world.user(0), world.user(1)
    refused(first, first.ask(AVERAGE, "echo", [world.organization()], value=1))
    assert second.result(second.ask(AVERAGE, "echo", [world.organization()], value=2)) == 2


def test_who_began_counts_too(local_node, world):
    """A subtask has the organization of the node that created it. Where another organization began, it is refused: that one must be
    allowed as well."""
    between, _, node = (world.organization(number) for number in range(3))
    local_node(2, policies={"allowed_organizations": [between]}, share_config=False).start_online()
    stranger, friend = world.user(1), world.user(0)
    parent = stranger.ask(AVERAGE, "echo", [between], value=1)
    refused(stranger, world.subtask(parent, AVERAGE, "echo", [node], value=2))
    parent = friend.ask(AVERAGE, "echo", [between], value=1)
    assert friend.result(world.subtask(parent, AVERAGE, "echo", [node], value=3)) == 3


def test_who_began_is_allowed(local_node, world):
    """Both organizations are named: the one that began, and the one whose algorithm asks."""
    between, began, node = (world.organization(number) for number in range(3))
    local_node(2, policies={"allowed_organizations": [between, began]}, share_config=False).start_online()
    parent = world.user(1).ask(AVERAGE, "echo", [between], value=1)
    assert world.user(0).result(world.subtask(parent, AVERAGE, "echo", [node], value=2)) == 2


@pytest.mark.cluster
def test_no_job_for_what_is_not_allowed(kubernetes_node, researcher, world, cluster):
    """On Kubernetes nothing is made for a refused run."""
    kubernetes_node(policies={"allowed_algorithms": [AVERAGE]}).start_online()
    run = refused(researcher, researcher.ask(ODD, "exit", [world.organization()]))
    assert not cluster.jobs(run["id"])
