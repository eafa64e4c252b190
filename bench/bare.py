"""Jobs of the very shape that Sextant makes, made through the Kubernetes API alone: the floor that Sextant is measured against.

The pattern is one of Sextant's own Jobs: same containers, volumes, limits and security settings. Only what the containers do is
replaced: each writes a line and ends, no input comes and no output goes anywhere.
"""

import copy
import time

from harness.cluster import Cluster
from harness.nodes import ODD
from kubernetes import client, watch

LABEL = "sextant-bench"


def pattern(cluster: Cluster, run: int) -> client.V1Job:
    """The Job of a run that Sextant has made, as a pattern for bare ones."""
    (job,) = cluster.jobs(run)
    spec = copy.deepcopy(job.spec)
    spec.selector = None
    spec.template.metadata = client.V1ObjectMeta(labels={LABEL: "bare"})
    for container in spec.template.spec.init_containers + spec.template.spec.containers:
        container.image = ODD
        container.command = None
        container.args = ["exit", "code=0"]
        # The key of a run is a Secret of its own, which a bare Job doesn't have.
        container.env = [each for each in container.env or [] if each.value_from is None]
        if container.name == "algorithm":
            # The token's file is made by `receive`.
            container.volume_mounts = [each for each in container.volume_mounts if each.name != "token"]
    return client.V1Job(spec=spec)


def measure(cluster: Cluster, job: client.V1Job, delays: list[float]) -> tuple[float, float]:
    """Makes a Job at each of the delays after the start; seconds until the algorithm of the last was seen as ended, and until the last
    Job was complete."""
    names = [f"bare-{time.monotonic_ns()}-{number}" for number in range(len(delays))]
    began = time.monotonic()
    for name, delay in zip(names, delays, strict=True):
        time.sleep(max(0.0, began + delay - time.monotonic()))
        body = client.V1Job(metadata=client.V1ObjectMeta(name=name, labels={LABEL: "bare"}), spec=job.spec)
        cluster.batch.create_namespaced_job(cluster.jobs_namespace, body)
    ended = _until(cluster, set(names))
    for name in names:
        while not _complete(cluster, name):
            time.sleep(0.02)
    complete = time.monotonic()
    cluster.batch.delete_collection_namespaced_job(
        cluster.jobs_namespace, label_selector=LABEL, propagation_policy="Background"
    )
    return ended - began, complete - began


def _until(cluster: Cluster, names: set[str]) -> float:
    """When the last of the Jobs' algorithms was seen as ended."""
    left = set(names)
    stream = watch.Watch()
    for event in stream.stream(
        cluster.core.list_namespaced_pod, cluster.jobs_namespace, label_selector=LABEL, timeout_seconds=120
    ):
        pod = event["object"]
        for status in pod.status.container_statuses or []:
            if status.name == "algorithm" and status.state.terminated:
                left.discard(pod.metadata.labels["job-name"])
        if not left:
            stream.stop()
            return time.monotonic()
    raise AssertionError(f"Jobs that did not end within two minutes: {left}")


def _complete(cluster: Cluster, name: str) -> bool:
    status = cluster.batch.read_namespaced_job_status(name, cluster.jobs_namespace).status
    return any(each.type == "Complete" and each.status == "True" for each in status.conditions or [])
