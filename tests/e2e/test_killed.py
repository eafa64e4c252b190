"""A node killed with SIGKILL at each step of a run, and started again: the algorithm runs once, and is reported once.

The algorithm writes a line into the folder that the runs of a job share, and answers all lines that are there: executed twice, it
would answer two. The proxy in front of the server has written down every report. Steps between node and server are hit by holding
the request in the proxy, steps in the cluster by watching it (frozen with SIGSTOP where the node would be too quick).
"""

from dataclasses import dataclass

import pytest

from faultproxy import FaultProxy, has
from harness.cluster import Cluster
from harness.node import NodeProcess
from harness.nodes import ODD
from harness.researcher import Researcher
from harness.wait import until

pytestmark = pytest.mark.cluster

RUN = r"/run/\d+$"
REPORT = has("finished_at")


@dataclass
class Scene:
    """What a step needs to kill the node in the right moment."""

    node: NodeProcess
    proxy: FaultProxy
    cluster: Cluster
    researcher: Researcher
    organization: int

    def ask(self) -> tuple[int, int]:
        """Asks for something that takes a second, says how often it was executed, and has a run; ids of task and run."""
        task = self.researcher.ask(ODD, "count", [self.organization], seconds=1)
        return task, self.researcher.run(task)["id"]


def is_beginning(request) -> bool:
    return has("started_at")(request) and not REPORT(request)


def seen(scene: Scene) -> int:
    """The node has seen the run, and has made nothing of it yet."""
    with scene.proxy.hold("GET", r"/run$", where=lambda request: "task_id" in request.query, after=True) as held:
        task, _ = scene.ask()
        held.wait()
        scene.node.kill()
    return task


def before_the_server_knows(scene: Scene) -> int:
    """The node has made the run's things and is about to say that it has begun."""
    with scene.proxy.hold("PATCH", RUN, where=is_beginning) as held:
        task, _ = scene.ask()
        held.wait()
        scene.node.kill()
    return task


def after_the_server_knows(scene: Scene) -> int:
    """The server knows that the run has begun, and the node never hears that it does."""
    with scene.proxy.hold("PATCH", RUN, where=is_beginning, after=True) as held:
        task, _ = scene.ask()
        held.wait()
        scene.node.kill()
    return task


def job_created(scene: Scene) -> int:
    """The Job is there, and nothing else yet."""
    task, run = scene.ask()
    for job in scene.cluster.until_job_created():
        if job.metadata.labels.get("vantage6.ai/run") == str(run):
            scene.node.kill()
            break
    return task


def receive_waits(scene: Scene) -> int:
    """The pod's first container asks for the input, and nobody answers."""
    task, run = scene.ask()
    for job in scene.cluster.until_job_created():
        if job.metadata.labels.get("vantage6.ai/run") == str(run):
            # Without it the pod's first container is not even started.
            until("the run's Secret", lambda: scene.cluster.has_secret(job.metadata.name), every=0.01)
            scene.node.freeze()
            break
    scene.cluster.until_container(run, "receive", "running")
    scene.node.kill()
    return task


def algorithm_runs(scene: Scene) -> int:
    """The algorithm is in the middle of its work."""
    task, run = scene.ask()
    scene.cluster.until_container(run, "algorithm", "running")
    scene.node.kill()
    return task


def algorithm_ended(scene: Scene) -> int:
    """The algorithm has ended while no node was there; its output waits in the pod."""
    task, run = scene.ask()
    scene.cluster.until_container(run, "algorithm", "running")
    scene.node.kill()
    scene.cluster.until_container(run, "algorithm", "terminated")
    return task


def reporting(scene: Scene) -> int:
    """The report is on its way, but the server never gets it."""
    with scene.proxy.hold("PATCH", RUN, where=REPORT) as held:
        task, _ = scene.ask()
        held.wait()
        scene.node.kill()
    return task


def reported(scene: Scene) -> int:
    """The server has the report, but the node never hears so: the Job isn't complete."""
    with scene.proxy.hold("PATCH", RUN, where=REPORT, after=True) as held:
        task, _ = scene.ask()
        held.wait()
        scene.node.kill()
    return task


STEPS = [
    seen,
    before_the_server_knows,
    after_the_server_knows,
    job_created,
    receive_waits,
    algorithm_runs,
    algorithm_ended,
    reporting,
    reported,
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_killed_and_restarted(step, kubernetes_node, proxy, cluster, researcher, world):
    """Whatever the step: completed, executed once, reported once, and the Job completes."""
    node = kubernetes_node(via=proxy).start_online()
    task = step(Scene(node, proxy, cluster, researcher, world.organization()))
    node.start_online()

    executions = researcher.result(task)
    assert len(executions) == 1, f"executed {len(executions)} times: {executions}"

    run = researcher.run(task)
    job = cluster.until_job_complete(run["id"])
    assert [each.metadata.uid for each in cluster.jobs(run["id"])] == [job.metadata.uid]
    (pod,) = cluster.pods(run["id"])
    assert all(status.restart_count == 0 for status in pod.status.container_statuses)
    assert len(proxy.seen("PATCH", RUN, where=REPORT)) == 1
    # Nothing changes any more once the server has the report.
    assert researcher.run(task) == run


def test_killed_and_restarted_again_and_again(kubernetes_node, proxy, cluster, researcher, world):
    """Five runs under way and a node that is killed as soon as it is online: each run is executed once and reported once."""
    node = kubernetes_node(via=proxy).start_online()
    tasks = [researcher.ask(ODD, "count", [world.organization()], seconds=2) for _ in range(5)]
    for _ in range(6):
        node.restart_killed()
    for task in tasks:
        assert len(researcher.result(task)) == 1
    reports = [request.path for request in proxy.seen("PATCH", RUN, where=REPORT)]
    assert sorted(reports) == sorted(set(reports))
    assert len(reports) == 5
