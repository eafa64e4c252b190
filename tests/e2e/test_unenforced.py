"""A cluster that takes network policies and enforces none: the policies are there, and the node is not taken in."""

import os

import pytest

from harness.nodes import ODD
from harness.policies import OPEN

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.unenforced,
    pytest.mark.skipif(os.environ.get("SEXTANT_CNI") != "bridge", reason="this cluster enforces policies"),
]


def test_policies_that_nobody_enforces_do_not_isolate(strict_node, network_policies, place, world, researcher):
    """The node refuses to run anything and says what is open; so does doctor."""
    node = strict_node()
    network_policies.build(node)
    node.start_online()
    task = researcher.ask(ODD, "exit", [world.organization()], code=0)
    line = node.wait_log(OPEN, within=90)
    for way in ("the API server", "the kubelet of its own machine", "another algorithm's pod"):
        assert way in line, line
    assert "network plugin enforces" in line
    assert node.readiness()[0] == 503
    looked = node.tool("doctor", "--isolation")
    assert looked.returncode == 1 and "WRONG  isolation" in looked.stdout, looked.stdout
    run = researcher.run(task)
    assert run["status"] == "pending" and not place.jobs(run["id"])


def test_a_trial_goes_on_all_the_same(strict_node, world, researcher):
    """With `allow_unisolated: true`, and a log that says what that means."""
    node = strict_node(kubernetes={"allow_unisolated": True}).start_online()
    task = researcher.ask(ODD, "exit", [world.organization()], code=0)
    assert researcher.result(task) == "about to exit"
    node.wait_log("ALGORITHMS ARE NOT ISOLATED", within=90)
