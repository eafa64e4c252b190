"""The node where it normally lives: a pod without privileges, made from the very manifests in deploy/."""

import json

import pytest
import yaml

from harness import average
from harness.nodes import AVERAGE, SEXTANT
from harness.wait import until

pytestmark = pytest.mark.cluster


@pytest.fixture
def deployed(cluster, world, request):
    """Applies deploy/config.yaml and deploy/node.yaml, with what is marked CHANGE changed; removes them at the end."""
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "employees", "namespace": cluster.jobs_namespace},
            "data": {"employees.csv": average.employee_files()[0].read_text()},
        }
    )

    def configured(manifest: dict) -> dict:
        if manifest["kind"] == "Secret":
            config = yaml.safe_load(manifest["stringData"]["node.yaml"])
            service = cluster.core.read_namespaced_service("sextant", cluster.node_namespace)
            # Clusters without DNS are served too: the Service's address in place of its name.
            config["kubernetes"]["data_port"]["address"] = f"{service.spec.cluster_ip}:7654"
            config |= {
                "api_key": world.api_key(),
                "server_url": f"http://{cluster.host_address()}",
                "port": world.server.port,
            }
            config["kubernetes"] |= {"image": SEXTANT, "allow_unisolated": True}
            manifest["stringData"]["node.yaml"] = yaml.safe_dump(config)
        if manifest["kind"] == "Deployment":
            manifest["spec"]["template"]["spec"]["containers"][0]["image"] = SEXTANT
        return manifest

    cluster.apply("node.yaml", configured)
    cluster.apply("config.yaml", configured)
    yield
    cluster.apps.delete_namespaced_deployment("sextant", cluster.node_namespace)
    cluster.core.delete_namespaced_service("sextant", cluster.node_namespace)
    cluster.core.delete_namespaced_secret("sextant", cluster.node_namespace)
    cluster.core.delete_namespaced_config_map("employees", cluster.jobs_namespace)
    until("the node's pod to be gone", lambda: not cluster.node_pods(), shows=cluster.describe_node)


def test_partial_average_by_a_node_in_the_cluster(deployed, cluster, researcher, world):
    """The same question, the same answer; the database is a ConfigMap, and the node's log is JSON."""
    until(
        "the node to be online",
        lambda: researcher.node_status(world.node()) == "online",
        every=0.5,
        shows=cluster.describe_node,
    )
    task = researcher.ask(
        AVERAGE, "partial_average", [world.organization()], databases=["default"], column_name="salary"
    )
    assert researcher.result(task) == pytest.approx(average.partial(average.employee_files()[0], "salary"))

    (pod,) = cluster.node_pods()
    log = cluster.core.read_namespaced_pod_log(pod.metadata.name, cluster.node_namespace)
    lines = [json.loads(line) for line in log.splitlines()]
    assert any("online" in line["message"] for line in lines), log
    assert pod.status.container_statuses[0].restart_count == 0
