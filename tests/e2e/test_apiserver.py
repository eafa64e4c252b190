"""The cluster's API server is killed and starts again, for everybody: watches, leases and calls of the node, the kubelet, the controllers."""

import os
import subprocess

import pytest

from harness.paths import REPOSITORY
from harness.steps import REPORT, RUN, STEPS, Scene

pytestmark = [pytest.mark.cluster, pytest.mark.alone]


@pytest.fixture
def scene(kubernetes_node, proxy, cluster, researcher, world) -> Scene:
    """A node that is online, with a proxy before the server; its way to the API server is the usual one."""
    if os.environ.get("SEXTANT_E2E_FOREIGN_CLUSTER") or os.geteuid() != 0:
        pytest.skip("only root can start the test bed's own API server anew")
    node = kubernetes_node(via=proxy).start_online()
    return Scene(node, proxy, None, cluster, researcher, world.organization())


@pytest.mark.parametrize("step", ["receiving", "running", "returning"])
def test_a_restart(step, scene: Scene):
    """A run under way is executed once and reported once, and the node is asked for the next one."""
    with STEPS[step](scene) as moment:
        done = subprocess.run([REPOSITORY / "testbed" / "restart-apiserver"], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        if moment.held:
            moment.held.let_go()
        if moment.works:
            scene.cluster.release(moment.works)
    assert len(scene.researcher.result(moment.task)) == 1
    run = scene.researcher.run(moment.task)["id"]
    assert scene.reported_once(run)
    scene.cluster.until_job_complete(run)
    assert scene.node.running

    later, _ = scene.ask(seconds=0)
    assert len(scene.researcher.result(later)) == 1
    assert len(scene.proxy.seen("PATCH", RUN, where=REPORT)) == 2
