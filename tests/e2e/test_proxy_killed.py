"""The proxy is killed under an algorithm that asks others. Its tools try to connect again every second, so it goes on where it was."""

import pytest

from faultproxy import FaultProxy, Predicate, anything
from harness import average
from harness.nodes import AVERAGE
from harness.release import Release
from harness.wait import until

pytestmark = [pytest.mark.cluster, pytest.mark.needs("helm"), pytest.mark.timeout(600)]

COLUMN = "salary"
# What of the algorithm's is under way when its proxy dies, whether the server has answered it, and how many subtasks there are in the end.
# The tools send whatever failed by a broken connection again, also what the server has done already: so does a regular node's algorithm.
MOMENTS = [
    pytest.param("GET", r"/task/\d+$", False, 1, id="while it waits for results"),
    pytest.param("POST", r"/task$", False, 1, id="while it asks"),
    pytest.param("POST", r"/task$", True, 2, id="before it hears that it has asked"),
]


def has_asked(proxy: FaultProxy) -> Predicate:
    """Holds once a subtask has been asked for: before that, the proxy itself looks at the algorithm's own task."""
    return lambda _: any(each.method == "POST" and each.path.endswith("/task") for each in proxy.requests)


@pytest.fixture
def asked(researcher, world):
    """Has the first organization's algorithm ask the second organization, whose node is away at first; the task."""

    def ask() -> int:
        return researcher.ask(
            AVERAGE,
            "central_average",
            [world.organization(0)],
            databases=["default"],
            column_name=COLUMN,
            org_ids=[world.organization(1)],
        )

    return ask


def completes(task: int, subtasks: int, researcher, world) -> None:
    """The second organization's part comes, and with it the whole; and this many times was it asked for."""
    part = average.partial(average.employee_files()[1], COLUMN)
    assert researcher.result(task, within=180) == {"average": pytest.approx(average.overall([part]))}
    tasks = world.server.request("GET", "/task?per_page=100")["data"]
    assert len([each for each in tasks if (each["parent"] or {}).get("id") == task]) == subtasks


@pytest.mark.parametrize(("method", "path", "after", "subtasks"), MOMENTS)
def test_a_node_that_is_its_own_proxy(method, path, after, subtasks, asked, kubernetes_node, proxy, researcher, world, cluster):
    """SIGKILL of the node on this machine, through which the algorithm asks; it is started again once the algorithm has noticed."""
    node = kubernetes_node(via=proxy).start_online()
    with proxy.hold(method, path, where=has_asked(proxy) if method == "GET" else anything, after=after) as held:
        task = asked()
        held.wait()
        node.kill()
        run = researcher.run(task)["id"]
        # Its log can be read once its machine has told that it works.
        cluster.until_running(run)
        (pod,) = cluster.pods(run)
        until(
            "the algorithm to find no proxy",
            lambda: "Connection error" in cluster.pod_log(pod.metadata.name, "algorithm"),
            shows=lambda: cluster.describe(),
        )
        node.start_online()
        kubernetes_node(1).start_online()
        completes(task, subtasks, researcher, world)


def kill_proxies(node: Release) -> None:
    """All pods of the chart's proxy end at once, whatever they have under way; waits until others are ready."""
    killed = [pod.metadata.name for pod in node.pods("proxy")]
    for name in killed:
        node.cluster.core.delete_namespaced_pod(name, node.namespace, grace_period_seconds=0)

    def another_is_ready() -> bool:
        return any(
            each.type == "Ready" and each.status == "True"
            for pod in node.pods("proxy")
            if pod.metadata.name not in killed
            for each in pod.status.conditions or []
        )

    until("another pod of the proxy to be ready", another_is_ready, within=120, shows=node.describe)


@pytest.mark.parametrize(("method", "path", "after", "subtasks"), MOMENTS)
def test_the_charts_proxy(method, path, after, subtasks, asked, release, kubernetes_node, proxy, researcher, world):
    """The proxy's pods are deleted without grace; the Deployment makes others, which the same Service leads to."""
    node = release(config={"port": proxy.port}).until_ready()
    with proxy.hold(method, path, where=has_asked(proxy) if method == "GET" else anything, after=after) as held:
        task = asked()
        held.wait(within=120)
        kill_proxies(node)
        kubernetes_node(1).start_online()
        completes(task, subtasks, researcher, world)
