"""What stays in the cluster of runs that have ended, and for how long (`keep_finished`)."""

import pytest

from harness.nodes import ODD
from harness.wait import until

pytestmark = pytest.mark.cluster


@pytest.fixture
def stranger(cluster):
    """A Job and a Secret of somebody else's, in the same namespace: the Job is over, and its owner wants to keep it. Nobody may touch them."""
    namespace = cluster.jobs_namespace
    container = {"name": "odd", "image": ODD, "args": ["silent"]}
    pod = {"restartPolicy": "Never", "containers": [container]}
    cluster.batch.create_namespaced_job(namespace, {"metadata": {"name": "stranger"}, "spec": {"template": {"spec": pod}}})
    cluster.core.create_namespaced_secret(namespace, {"metadata": {"name": "stranger"}, "stringData": {"key": "theirs"}})

    def seen() -> list[tuple[str, str]]:
        """Both, with the number of their latest change."""
        things = [
            cluster.batch.read_namespaced_job("stranger", namespace),
            cluster.core.read_namespaced_secret("stranger", namespace),
        ]
        return [(each.metadata.uid, each.metadata.resource_version) for each in things]

    def over() -> bool:
        # Its conditions are the last that changes.
        conditions = cluster.batch.read_namespaced_job_status("stranger", namespace).status.conditions or []
        return any(each.type == "Complete" and each.status == "True" for each in conditions)

    until("somebody else's Job to complete", over)
    yield seen
    cluster.batch.delete_namespaced_job("stranger", namespace, propagation_policy="Background")
    cluster.core.delete_namespaced_secret("stranger", namespace)


def test_finished_runs_go_away(kubernetes_node, researcher, world, cluster, stranger):
    """A second after its report a Job may go, with pod and Secret, however its run ended; the researcher keeps all that was reported."""
    before = stranger()
    node = kubernetes_node(kubernetes={"keep_finished": "1s"}).start_online()
    asked = [("exit", {"code": 0}), ("silent", {"nothing": 0}), ("exit", {"code": 3}), ("stubborn", {"seconds": 100})]
    tasks = [researcher.ask(ODD, method, [world.organization()], **kwargs) for method, kwargs in asked]
    stubborn = tasks[-1]
    run = researcher.run(stubborn)["id"]
    cluster.until_container(run, "algorithm", "running")
    names = [job.metadata.name for job in cluster.jobs(run)]
    assert all(cluster.has_secret(name) for name in names), "a run's Secret has the name of its Job"
    researcher.client.task.kill(stubborn)
    ended = [researcher.finished(task)[0] for task in tasks]
    assert [each["status"] for each in ended] == ["completed", "failed", "crashed", "killed by user"]

    def left() -> list[str]:
        """Names of Jobs, pods and Secrets of runs: the pods' begin with the Job's, and the Secret has it. The isolation's probes have others."""
        secrets = cluster.core.list_namespaced_secret(cluster.jobs_namespace).items
        names = [each.metadata.name for each in [*cluster.jobs(), *cluster.pods(), *secrets]]
        return [each for each in names if each.startswith("v6-task-")]

    until("all that was theirs to be gone", lambda: not left(), within=60, every=0.5, shows=left)
    assert stranger() == before
    assert node.running
    # That their Jobs are gone is no news for the server.
    assert [researcher.run(task)["status"] for task in tasks] == [each["status"] for each in ended]
    assert researcher.result(tasks[0]) == "about to exit"
