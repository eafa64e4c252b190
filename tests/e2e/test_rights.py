"""The Role has just what the node does: compared with what the API server's audit log shows that it did."""

import hashlib
import json

import pytest
from kubernetes import client

from harness.nodes import AVERAGE, ODD
from harness.paths import cache
from harness.wait import until

pytestmark = pytest.mark.cluster

AUDIT = cache() / "cluster" / "log" / "audit.log"


@pytest.fixture
def asked(cluster):
    """The requests of this session's service account in the namespace of the runs, as the API server wrote them down."""
    if cluster.kubeconfig != cache() / "cluster" / "admin.conf":
        pytest.skip("only the cluster that is built here has an audit log to be read")
    account = f"system:serviceaccount:{cluster.node_namespace}:sextant-node"
    start = AUDIT.stat().st_size

    def read() -> list[dict]:
        with AUDIT.open("rb") as file:
            file.seek(start if AUDIT.stat().st_size >= start else 0)
            entries = [json.loads(line) for line in file if line.endswith(b"\n")]
        return [each for each in entries if each["user"]["username"] == account]

    return read


def right(entry: dict) -> tuple[str, str, str]:
    """Group, resource and verb of a request, as a Role names them."""
    of = entry.get("objectRef", {})
    resource = of.get("resource", "")
    if sub := of.get("subresource"):
        resource += f"/{sub}"
    return of.get("apiGroup", ""), resource, entry["verb"]


def test_every_right_is_used_and_none_is_missed(asked, kubernetes_node, cluster, researcher, world):
    """A node that meets all that there is: a run that ends well, one whose image can't be had, and one whose Job is there already.
    What it asked of the API server in its namespace is exactly what the Role grants, and nothing was refused to it."""
    here = [world.organization()]
    # One that an earlier test's node has left would only be renewed.
    leases = client.CoordinationV1Api(cluster.api)
    leases.delete_collection_namespaced_lease(cluster.jobs_namespace)
    node = kubernetes_node(kubernetes={"image_pull_timeout": "10s"})
    blocked = researcher.ask(AVERAGE, "echo", here, value=1)
    name = job_name(world.api_key(), researcher.run(blocked), researcher.client.task.get(blocked))
    container = {"name": "a", "image": "localhost/pause:1"}
    spec = {"suspend": True, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}}
    cluster.create(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": cluster.jobs_namespace}, "spec": spec}
    )
    node.start_online()
    node.wait_log("not one of ours")
    cluster.batch.delete_namespaced_job(name, cluster.jobs_namespace)
    assert researcher.result(blocked) == 1
    researcher.finished(researcher.ask("localhost/no-such-image:1", "echo", here, value=1))
    researcher.result(researcher.ask(ODD, "sleep", here, seconds=1))

    granted = {
        (group, resource, verb)
        for rule in cluster.node_rules()
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }

    def used() -> set:
        entries = [each for each in asked() if each.get("objectRef", {}).get("namespace") == cluster.jobs_namespace]
        return {right(each) for each in entries if each.get("objectRef", {}).get("resource") != "namespaces"}

    until("the node to have used each of its rights", lambda: used() >= granted, within=40, shows=lambda: granted - used())
    assert used() == granted
    refused = {right(each) for each in asked() if each.get("responseStatus", {}).get("code") == 403}
    # At its start it looks whether the namespace is there, and whether the machine's address is to be had: it may be refused both.
    assert refused <= {("", "namespaces", "get"), ("", "nodes", "list")}


def job_name(api_key: str, run: dict, task: dict) -> str:
    """The name that the node gives to the run's Job (sextant-core/names.rs and run_identity.rs)."""
    key = hashlib.sha256(f"sextant node {api_key}".encode()).hexdigest()[:10]
    of = [run["id"], task["id"], run["organization"]["id"], task["collaboration"]["id"], moment(run["assigned_at"]), moment(task["created_at"])]
    of += [task["job_id"], "-", task["init_org"]["id"], "-", task["image"]]
    identity = hashlib.sha256(" ".join(map(str, of)).encode()).hexdigest()[:32]
    digest = hashlib.sha256(f"{key} {identity}".encode()).hexdigest()[:5]
    return f"v6-task-{task['id']}-run-{run['id']}-{digest}"


def moment(text: str) -> str:
    """A time of the server's as the node writes it."""
    whole, _, fraction = text.removesuffix("+00:00").partition(".")
    fraction = fraction.rstrip("0")
    return whole + (f".{fraction}Z" if fraction else "Z")
