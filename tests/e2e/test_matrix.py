"""The fault matrix: each step of a run × each fault. Whatever happens, the algorithm is executed once and reported once, and the researcher
gets the result.

`make matrix` tries every cell; otherwise it is all steps with a killed node, and each other fault at one step. Executions are counted by the
algorithm itself, in the folder that the runs of a job share; reports by the proxy before the server, and in the server's database.
"""

import os
import time

import pytest

from faultproxy import FaultProxy
from harness.faults import ELSEWHERE, FAULTS
from harness.nodes import ODD
from harness.steps import REPORT, RUN, STEPS, Scene
from harness.table import CELL

pytestmark = pytest.mark.cluster

# Seconds; long enough that what is tried again has been tried in vain more than once. The client of each side gives up after 5 s, and then the
# node's own patience begins; after 8 s without the API server the node's lease is not to be trusted any more.
LASTS = {"killed": 0.2, "terminated": 0.2, "server_restarted": 0.5, "server_away": 8, "api_away": 10, "server_slow": 8, "api_slow": 8}
USUALLY = 3
WHOLE = os.environ.get("SEXTANT_MATRIX") == "whole"


def cells() -> list[tuple[str, str]]:
    """Steps and faults to be tried."""
    steps = list(STEPS)
    if WHOLE:
        return [(step, fault) for step in steps for fault in FAULTS]
    killed = [(step, "killed") for step in steps]
    return killed + [(steps[number % len(steps)], fault) for number, fault in enumerate(FAULTS) if fault != "killed"]


@pytest.fixture
def scene(kubernetes_node, proxy: FaultProxy, gate: FaultProxy, cluster, researcher, world) -> Scene:
    """A node that is online, with a proxy on each side of it."""
    settings = {"kubeconfig": str(gate.kubeconfig), "data_port": {"address": cluster.host_address()}}
    node = kubernetes_node(via=proxy, kubernetes=settings).start_online()
    return Scene(node, proxy, gate, cluster, researcher, world.organization())


@pytest.mark.parametrize(("step", "fault"), cells(), ids=lambda name: name)
def test_exactly_once(step, fault, scene: Scene, world, record_property):
    """Completed, executed once, reported once, one Job that completes; and nothing changes afterwards."""
    with STEPS[step](scene) as moment, FAULTS[fault](scene, world.server):
        began = time.monotonic()
        if moment.held:
            moment.held.let_go() if fault in ELSEWHERE else moment.held.drop()
        if moment.works:
            scene.cluster.release(moment.works)
        time.sleep(LASTS.get(fault, USUALLY))
        record_property(CELL, (step, fault, None))
    executions = scene.researcher.result(moment.task)
    record_property(CELL, (step, fault, round(time.monotonic() - began, 1)))
    assert len(executions) == 1, f"executed {len(executions)} times: {executions}"

    run = scene.researcher.run(moment.task)
    job = scene.cluster.until_job_complete(run["id"])
    assert [each.metadata.uid for each in scene.cluster.jobs(run["id"])] == [job.metadata.uid]
    (pod,) = scene.cluster.pods(run["id"])
    assert all(status.restart_count == 0 for status in pod.status.container_statuses)
    assert scene.reported_once(run["id"])
    with world.server.database() as database:
        found = database.execute("SELECT status, result IS NOT NULL FROM run WHERE task_id = ?", [moment.task]).fetchall()
    assert found == [("completed", 1)]
    # Nothing changes any more once the server has the report, but whether the node is online.
    assert scene.researcher.run(moment.task) | {"node": run["node"]} == run
    assert scene.node.running


def test_killed_again_and_again(scene: Scene):
    """Five runs under way and a node that is killed as soon as it is online: each run is executed once and reported once."""
    tasks = [scene.researcher.ask(ODD, "count", [scene.organization], seconds=2) for _ in range(5)]
    for _ in range(6):
        scene.node.restart_killed()
    for task in tasks:
        assert len(scene.researcher.result(task)) == 1
    reports = [request.path for request in scene.proxy.seen("PATCH", RUN, where=REPORT)]
    assert sorted(reports) == sorted(set(reports))
    assert len(reports) == 5
