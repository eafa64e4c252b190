"""What others see of a run: people on the Kubernetes dashboard, and everybody who listens at the server."""

import contextlib
import re
from collections.abc import Iterator

import pytest
import socketio

from harness.nodes import AVERAGE, ODD
from harness.wait import until
from harness.world import World


class Listener:
    """A second client at the server's socket, logged in as a user: it writes down every status change."""

    def __init__(self, world: World):
        self.statuses: list[dict] = []
        user = world.provision.users[1]
        token = world.server.login(user["username"], user["password"])
        self.client = socketio.Client(reconnection=False)
        self.client.on("algorithm_status_change", self.statuses.append, namespace="/tasks")
        server = world.server
        self.client.connect(
            f"{server.host}:{server.port}",
            headers={"Authorization": f"Bearer {token}"},
            namespaces=["/tasks"],
            wait_timeout=20,
        )

    def of(self, run: int) -> list[str]:
        """The statuses of a run, in the order in which they came."""
        return [each["status"] for each in self.statuses if each["run_id"] == run]


@pytest.fixture
def listener(world) -> Iterator[Listener]:
    made = Listener(world)
    yield made
    with contextlib.suppress(Exception):
        made.client.disconnect()


@pytest.mark.versions
@pytest.mark.cluster
def test_a_job_tells_what_it_is(kubernetes_node, researcher, world, cluster):
    """Name, labels and annotations of a Job and its pod: task, run, node, organization, image, the task's name."""
    kubernetes_node().start_online()
    task = researcher.ask(ODD, "sleep", [world.organization()], name="Mean age: a study (2024)", seconds=0)
    researcher.result(task)
    run = researcher.run(task)["id"]

    (job,) = cluster.jobs(run)
    assert re.fullmatch(rf"v6-task-{task}-run-{run}-[0-9a-z]{{5}}", job.metadata.name)
    (pod,) = cluster.pods(run)
    job_id = researcher.client.task.get(task)["job_id"]
    expected = {
        "app.kubernetes.io/name": "sextant",
        "vantage6.ai/task": str(task),
        "vantage6.ai/run": str(run),
        "vantage6.ai/node": str(world.node()),
        "vantage6.ai/job": str(job_id),
        "vantage6.ai/organization": str(world.organization()),
    }
    for thing in (job, pod):
        assert expected.items() <= thing.metadata.labels.items()
    assert job.metadata.annotations["vantage6.ai/image"] == ODD
    assert job.metadata.annotations["vantage6.ai/task-name"] == "Mean age: a study (2024)"
    assert [each.name for each in pod.spec.init_containers] == ["receive"]
    assert {each.name for each in pod.spec.containers} == {"algorithm", "return"}


@pytest.mark.versions
@pytest.mark.cluster
def test_every_container_is_confined(kubernetes_node, researcher, world, cluster):
    """No container of the pod may more than it must: the API's own words for it."""
    kubernetes_node().start_online()
    task = researcher.ask(ODD, "sleep", [world.organization()], seconds=0)
    researcher.result(task)
    (pod,) = cluster.pods(researcher.run(task)["id"])

    assert pod.spec.automount_service_account_token is False
    assert not pod.spec.host_network and not pod.spec.host_pid and not pod.spec.host_ipc
    assert pod.spec.enable_service_links is False
    for container in pod.spec.init_containers + pod.spec.containers:
        context = container.security_context
        assert context.allow_privilege_escalation is False, container.name
        assert context.capabilities.drop == ["ALL"], container.name
        assert not context.privileged, container.name
        profile = context.seccomp_profile or pod.spec.security_context.seccomp_profile
        assert profile.type == "RuntimeDefault", container.name
        assert container.resources.limits["memory"], container.name
        # Ours may do more: reach the files of an algorithm that runs as another user, and remove what an earlier one has left.
        added = {"receive": ["DAC_OVERRIDE", "FOWNER"], "algorithm": [], "return": ["DAC_OVERRIDE", "FOWNER"]}
        assert (context.capabilities.add or []) == added[container.name]
        if container.name != "algorithm":
            assert context.read_only_root_filesystem is True, container.name


@pytest.mark.cluster
def test_status_changes_are_told_at_once(kubernetes_node, researcher, world, listener):
    """Another user's client hears each status of a run that completes and of one that crashes, in the regular node's order."""
    kubernetes_node().start_online()
    # Long enough for a busy kubelet to tell that it runs before it tells that it has ended: it tells the two of a shorter run at once.
    good = researcher.ask(ODD, "sleep", [world.organization()], seconds=6)
    bad = researcher.ask(ODD, "exit", [world.organization()], code=3)
    researcher.finished(good)
    researcher.finished(bad)
    good_run, bad_run = researcher.run(good)["id"], researcher.run(bad)["id"]

    until(
        "both ends to be heard",
        lambda: "completed" in listener.of(good_run) and "crashed" in listener.of(bad_run),
        within=10,
        shows=lambda: listener.statuses,
    )
    assert listener.of(good_run) == ["initializing", "active", "completed"]
    assert listener.of(bad_run)[-1] == "crashed"
    told = next(each for each in listener.statuses if each["run_id"] == good_run)
    assert told["task_id"] == good
    assert told["node_id"] == world.node()
    assert told["organization_id"] == world.organization()
    assert told["collaboration_id"] == world.provision.collaboration_id


def test_node_is_online_and_shares_its_configuration(local_node, researcher, world):
    """The server knows the node as online, with what others may know of its configuration; and as offline when it has ended."""
    node = local_node(policies={"allowed_algorithms": [AVERAGE]}).start_online()
    researcher.until_node(world.node(), "online")

    def shared() -> dict[str, list[str]]:
        answer = world.server.request("GET", f"/node/{world.node()}")
        result: dict[str, list[str]] = {}
        for each in answer.get("config") or []:
            result.setdefault(each["key"], []).append(each["value"])
        return result

    until("the node's configuration to be shared", shared)
    assert shared()["allowed_algorithms"] == [AVERAGE]
    assert shared()["database_labels"] == ["default"]
    assert shared()["db_type_default"] == ["csv"]
    assert "salary" in shared()["columns_default"]

    node.terminate()
    researcher.until_node(world.node(), "offline")
