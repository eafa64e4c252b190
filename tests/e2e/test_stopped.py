"""A node that is asked to end, as an upgrade or a reboot does: it goes at once and leaves its runs alone."""

import pytest

from harness.nodes import LONG, ODD

pytestmark = [pytest.mark.cluster, pytest.mark.versions]


def test_sigterm_while_a_run_is_under_way(kubernetes_node, researcher, world, cluster):
    """SIGTERM ends the node in under five seconds; the algorithm goes on without it; the next node reports it."""
    node = kubernetes_node().start_online()
    task = researcher.ask(ODD, "count", [world.organization()], seconds=LONG)
    run = researcher.run(task)["id"]
    cluster.until_container(run, "algorithm", "running")

    code, seconds = node.terminate()
    assert code == 0
    assert seconds < 5
    researcher.until_node(world.node(), "offline")
    cluster.release(run)
    assert cluster.until_container(run, "algorithm", "terminated").state.terminated.exit_code == 0
    assert researcher.run(task)["finished_at"] is None

    node.start_online()
    assert len(researcher.result(task)) == 1
    cluster.until_job_complete(run)
