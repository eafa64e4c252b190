"""Containers that the cluster adds to pods, as service meshes do: what goes wrong in them is told by name to the operator, and what goes on
in them does no harm to a run that is done."""

import pytest

from harness.nodes import ODD, SEXTANT
from harness.wait import until
from harness.webhook import injecting

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

GOES_ON = {"name": "mesh-proxy", "image": "localhost/pause:1", "imagePullPolicy": "IfNotPresent"}
NOT_PREPARED = "The run's pod could not be prepared"


def conditions(job) -> set[str]:
    """What the Job controller says of a Job."""
    return {each.type for each in job.status.conditions or [] if each.status == "True"}


def finished(researcher, world, **kwargs) -> dict:
    """A small run, once it has ended."""
    task = researcher.ask(ODD, "exit", [world.organization()], code=0)
    (run,) = researcher.finished(task, **kwargs)
    return run


def test_an_init_container_that_fails(kubernetes_node, researcher, world, cluster, tmp_path):
    """The operator reads its name and exit code, the researcher that it was no fault of the task's."""
    node = kubernetes_node().start_online()
    fails = {"name": "mesh-init", "image": SEXTANT, "imagePullPolicy": "IfNotPresent", "args": ["check", "/no/such/file"]}
    with injecting(cluster, tmp_path, init=[fails]):
        run = finished(researcher, world, within=60)
    assert run["status"] == "start failed" and NOT_PREPARED in run["log"], run
    assert "mesh-init" not in run["log"]
    (event,) = until("the Event", lambda: cluster.events(run["id"], "InjectedContainerFailed"), 10)
    assert "'mesh-init'" in event and "exited with " in event
    assert "mesh-init" in node.log()


def test_an_image_that_can_not_be_pulled(kubernetes_node, researcher, world, cluster, tmp_path):
    """It is told with the container's name, while the run waits and when it has waited too long."""
    node = kubernetes_node(kubernetes={"image_pull_timeout": "10s"}).start_online()
    missing = {"name": "mesh-init", "image": "nowhere.invalid/mesh:1"}
    with injecting(cluster, tmp_path, init=[missing]):
        run = finished(researcher, world, within=90)
    assert run["status"] == "start failed" and NOT_PREPARED in run["log"], run
    assert "nowhere.invalid" not in run["log"]
    (event,) = until("the Event", lambda: cluster.events(run["id"], "InjectedImageUnavailable"), 10)
    assert "'mesh-init' (nowhere.invalid/mesh:1)" in event
    assert "waits for the container 'mesh-init' (nowhere.invalid/mesh:1)" in node.log()


def test_a_sidecar_that_goes_on(kubernetes_node, researcher, world, cluster, tmp_path):
    """The result comes, and pod and log stay as long as those of any finished run; then both go, and no Job is left that failed."""
    kubernetes_node(kubernetes={"keep_finished": "30s"}).start_online()
    with injecting(cluster, tmp_path, containers=[GOES_ON]):
        run = finished(researcher, world, within=60)
        assert run["status"] == "completed", run
        until("the mark", lambda: cluster.reported(run["id"]) == ["completed"], 10)
        (pod,) = cluster.pods(run["id"])
        # It can still be read.
        cluster.pod_log(pod.metadata.name, "algorithm")
        assert cluster.container(run["id"], "mesh-proxy").state.running
        assert "Failed" not in conditions(cluster.jobs(run["id"])[0])
        # A minute is what `return` has to hear that it may go, and comes on top.
        until("the Job to go", lambda: not cluster.jobs(run["id"]), within=150, shows=lambda: cluster.describe(run["id"]))


def test_a_lingering_pod_makes_room(kubernetes_node, researcher, world, cluster, tmp_path):
    """A run that waits for room is worth more than the log of one that is done."""
    kubernetes_node().start_online()
    with injecting(cluster, tmp_path, containers=[GOES_ON]):
        first = finished(researcher, world, within=60)
        until("the mark", lambda: cluster.reported(first["id"]) == ["completed"], 10)
        quota = {"metadata": {"name": "one"}, "spec": {"hard": {"pods": "1"}}}
        cluster.core.create_namespaced_resource_quota(cluster.jobs_namespace, quota)
        try:
            # Pods of probes may have the room then: it is enough that the first one's is given back.
            researcher.ask(ODD, "exit", [world.organization()], code=0)
            until("the first to go", lambda: not cluster.jobs(first["id"]), within=150)
        finally:
            cluster.core.delete_namespaced_resource_quota("one", cluster.jobs_namespace)
