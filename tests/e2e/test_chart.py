"""The node where it normally lives: the chart, installed with helm, in namespaces that enforce pod security, behind policies."""

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client

from harness import average
from harness.chart import CHART
from harness.nodes import AVERAGE, LONG, ODD
from harness.release import Release
from harness.wait import until

pytestmark = [pytest.mark.cluster, pytest.mark.needs("helm"), pytest.mark.timeout(600)]

COLUMN = "salary"


def partial(researcher, world, organization: int = 0):
    """Asks one organization for its part, and compares."""
    task = researcher.ask(
        AVERAGE, "partial_average", [world.organization(organization)], databases=["default"], column_name=COLUMN
    )
    file = average.employee_files()[organization]
    assert researcher.result(task, within=120) == pytest.approx(average.partial(file, COLUMN))
    return task


@pytest.mark.versions
@pytest.mark.parametrize("level", ["baseline", "restricted"])
def test_a_node_in_the_cluster(level, release, researcher, world):
    """The same question, the same answer: node and proxy in a restricted namespace, runs in one of either level, and nothing
    is refused or restarted. When the release goes, the namespace of the runs stays."""
    node = release(config={"kubernetes": {"pod_security": level}}).until_ready()
    jobs = node.cluster.core.read_namespace(node.cluster.jobs_namespace)
    assert jobs.metadata.labels["pod-security.kubernetes.io/enforce"] == level

    task = partial(researcher, world)

    (pod,) = node.cluster.pods(researcher.run(task)["id"])
    user = pod.spec.security_context.run_as_user
    assert user == (65532 if level == "restricted" else None)
    for line in node.log("node").splitlines():
        json.loads(line)
    for role in ("node", "proxy"):
        assert [each.status.container_statuses[0].restart_count for each in node.pods(role)] == [0]

    node.uninstall()
    assert node.cluster.core.read_namespace(node.cluster.jobs_namespace).status.phase == "Active"


def test_an_upgrade_in_the_middle_of_a_run(release, researcher, world):
    """New values are a new pod of the node; the run under way doesn't notice."""
    node = release().until_ready()
    before = node.pods("node")[0].metadata.name
    task = researcher.ask(ODD, "sleep", [world.organization()], seconds=LONG)
    run = researcher.run(task)["id"]
    node.cluster.until_container(run, "algorithm", "running")
    node.upgrade(config={"logging": {"level": "DEBUG"}}, proxy={"replicas": 2})
    node.until_ready()
    assert node.pods("node")[0].metadata.name != before
    assert len(node.pods("proxy")) == 2
    node.cluster.release(run)
    assert researcher.result(task, within=120) == LONG


def test_an_upgrade_from_a_chart_without_the_label_of_releases(cluster, world, researcher, tmp_path):
    """A run of the earlier chart keeps its way to node and proxy until it is over; then the next upgrade closes that way."""
    node = Release(cluster, world, 0)
    node.chart = earlier_chart(tmp_path)
    try:
        node.install().until_ready()
        task = researcher.ask(ODD, "sleep", [world.organization()], seconds=LONG)
        run = researcher.run(task)["id"]
        node.cluster.until_running(run)
        assert LABEL not in node.cluster.pods(run)[0].metadata.labels

        node.chart = CHART
        node.upgrade()
        node.until_ready()
        assert earlier_ways(node)
        node.cluster.release(run)
        assert researcher.result(task, within=120) == LONG
        node.cluster.until_job_complete(run)
        new = researcher.ask(ODD, "sleep", [world.organization()], seconds=0)
        assert researcher.result(new, within=120) == 0
        assert node.cluster.pods(researcher.run(new)["id"])[0].metadata.labels[LABEL] == f"{node.namespace}.sextant"

        node.upgrade()
        assert not earlier_ways(node)
        until("the node to be ready", lambda: node.ready("node"), within=120, shows=node.describe)
        assert researcher.result(researcher.ask(ODD, "sleep", [world.organization()], seconds=0), within=120) == 0
    finally:
        node.remove()


LABEL = "sextant.vantage6.ai/release"


def earlier_ways(node) -> list[str]:
    """The policies that are there for runs of an earlier chart."""
    policies = client.NetworkingV1Api(node.cluster.api).list_namespaced_network_policy(node.cluster.jobs_namespace).items
    return [each.metadata.name for each in policies if each.metadata.name.endswith("-earlier")]


def earlier_chart(folder: Path) -> Path:
    """This chart as it was before runs had the label of their release, and before there was an admission policy."""
    made = Path(shutil.copytree(CHART, folder / "sextant"))
    (made / "templates" / "admission.yaml").unlink()
    helpers = made / "templates" / "_helpers.tpl"
    text = helpers.read_text()
    for now, before in (
        (f'  {LABEL}: {{{{ include "sextant.release" . }}}}', "  app.kubernetes.io/instance: {{ .Release.Name }}"),
        (f' "{LABEL}" (include "sextant.release" .)', ""),
    ):
        assert now in text
        text = text.replace(now, before)
    helpers.write_text(text)
    return made


def test_a_second_node_stands_by(release, researcher, world):
    """With two replicas one is ready and acts. Pods that the Service leads to the other are refused, try again, and notice nothing
    else. When the pod that acts is gone, the other one takes over, and checks the isolation itself."""
    node = release(node={"replicas": 2})
    until("one pod of the node to be ready", lambda: len(ready(node)) == 1, within=120, every=0.5, shows=node.describe)
    partial(researcher, world)
    (acting,) = ready(node)
    node.cluster.core.delete_namespaced_pod(acting, node.namespace)
    until(
        "another pod to be ready",
        lambda: len(ready(node)) == 1 and acting not in ready(node),
        within=120,
        every=0.5,
        shows=node.describe,
    )
    partial(researcher, world)


def ready(node) -> list[str]:
    """The names of the node's pods that are ready."""

    def is_ready(pod) -> bool:
        return any(each.type == "Ready" and each.status == "True" for each in pod.status.conditions or [])

    return [each.metadata.name for each in node.pods("node") if is_ready(each)]


@pytest.mark.versions
def test_network_policies_of_the_chart(release, researcher, world, cluster):
    """From inside an algorithm: the proxy and the data port are open, and nothing else is, nor can anybody get in."""
    node = release().until_ready()
    services = {role: node.cluster.core.read_namespaced_service(f"sextant-{role}", node.namespace) for role in ("node", "proxy")}
    proxy, data = (f"{services[role].spec.cluster_ip}:{port}" for role, port in (("proxy", 8080), ("node", 7654)))
    pods = {role: node.pods(role)[0].status.pod_ip for role in ("node", "proxy")}
    machine = node.cluster.host_address()
    api = node.cluster.core.read_namespaced_service("kubernetes", "default").spec.cluster_ip
    neighbour = researcher.ask(ODD, "listen", [world.organization()], port=9999)
    run = researcher.run(neighbour)["id"]
    node.cluster.until_container(run, "algorithm", "running")
    beside = node.cluster.pods(run)[0].status.pod_ip
    closed = [
        f"{beside}:9999",
        f"{pods['node']}:8081",
        f"{pods['proxy']}:8081",
        f"{api}:443",
        f"{machine}:10250",
        f"{machine}:{world.server.port}",
        "169.254.169.254:80",
    ]
    task = researcher.ask(ODD, "connect", [world.organization()], addresses=",".join([proxy, data, *closed]), seconds=1)
    seen = researcher.result(task, within=120)
    assert {address: seen[address] for address in (proxy, data)} == {proxy: "open", data: "open"}, node.describe()
    assert not [address for address in closed if seen[address] != "timeout"], seen
    researcher.client.task.kill(neighbour)


@pytest.fixture
def database(cluster) -> Iterator[str]:
    """A database server of this machine, as far as a network can tell: something listens."""
    with socket.create_server(("0.0.0.0", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    listener.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        yield f"{cluster.host_address()}:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def test_a_database_on_the_network(release, researcher, world, database):
    """Who asks for the database reaches it, by its name too; who doesn't, doesn't."""
    host, port = database.rsplit(":", 1)
    release(
        config={
            "databases": [
                {"label": "default", "type": "csv"},
                {"label": "warehouse", "type": "sql", "uri": f"postgresql://reader:secret@db.example.org:{port}/registry"},
            ],
            "kubernetes": {
                "databases": {"warehouse": {"egress": [{"cidr": f"{host}/32", "port": int(port), "host": "db.example.org"}]}}
            },
        }
    ).until_ready()
    named = f"db.example.org:{port}"

    def seen(databases: list[str]) -> dict[str, str]:
        addresses = f"{database},{named}"
        here = [world.organization()]
        return researcher.result(researcher.ask(ODD, "connect", here, databases, addresses=addresses, seconds=1), within=120)

    assert seen(["default", "warehouse"]) == {database: "open", named: "open"}
    without = seen(["default"])
    assert without[database] == "timeout"
    assert without[named] != "open"
