"""The cluster takes a pod away: launched again by itself before the algorithm started; after, only where the operator allows it."""

import contextlib
import secrets
from collections.abc import Iterator

import pytest
from kubernetes import client

from faultproxy import has
from harness.cluster import Cluster
from harness.nodes import LONG, ODD
from harness.images import Registry
from harness.wait import until

pytestmark = pytest.mark.cluster


def evict(cluster: Cluster, pod: str) -> None:
    """What `kubectl drain` does with each pod of a machine."""
    body = client.V1Eviction(metadata=client.V1ObjectMeta(name=pod, namespace=cluster.jobs_namespace))
    cluster.core.create_namespaced_pod_eviction(pod, cluster.jobs_namespace, body)


@contextlib.contextmanager
def no_tokens(proxy) -> Iterator[None]:
    """The server gives no token for algorithms: runs get so far that their pod's first container waits for it."""
    with proxy.refuse("POST", r"/token/container$", 503):
        yield


def test_drained_before_the_start(kubernetes_node, researcher, world, cluster, proxy):
    """Launched again by itself; the researcher sees nothing but the result. The older Job is done with."""
    node = kubernetes_node(via=proxy).start_online()
    with no_tokens(proxy):
        task = researcher.ask(ODD, "count", [world.organization()])
        run = researcher.run(task)["id"]
        cluster.until_container(run, "receive", "running")
        evict(cluster, cluster.pod_of(run).metadata.name)
        again = until("the second launch", lambda: cluster.pod_of(run, 2), shows=node.log)
    assert len(researcher.result(task)) == 1
    assert again.metadata.name.startswith(f"v6-task-{task}-run-{run}-")
    assert "launched again" in until("the Event", lambda: cluster.events(run, "Drained"))[0]
    marks = sorted(cluster.reported(run))
    assert marks == ["completed", "launched again"]


def test_drained_while_its_image_is_pulled(kubernetes_node, researcher, world, cluster, images):
    """The machine's kubelet lets no pull be, and then starts the algorithm all the same, and ends it: so it counts as started."""
    node = kubernetes_node().start_online()
    with contextlib.closing(Registry(images)) as registry:
        with registry.held():
            task = researcher.ask(registry.image("slow"), "sleep", [world.organization()], seconds=LONG)
            run = researcher.run(task)["id"]
            cluster.until_container(run, "receive", "terminated")
            evict(cluster, cluster.pod_of(run).metadata.name)
            node.wait_log("The node waits for the final state from its machine")
        (ended,) = researcher.finished(task)
    assert ended["status"] == "crashed"
    assert "taken out of service before the algorithm ended" in ended["log"]
    assert "odd: sleep" in ended["log"]


@pytest.mark.versions
def test_drained_and_the_node_killed(kubernetes_node, researcher, world, cluster, proxy):
    """Nobody saw whether the algorithm had started, and the pod is gone: it counts as started, and is executed again if that is allowed."""
    node = kubernetes_node(via=proxy, kubernetes={"retry_disrupted": 1}).start_online()
    with no_tokens(proxy):
        task = researcher.ask(ODD, "count", [world.organization()])
        run = researcher.run(task)["id"]
        cluster.until_container(run, "receive", "running")
        node.kill()
        evict(cluster, cluster.pod_of(run).metadata.name)
        until("the end of the Job", lambda: [job for job in cluster.jobs(run) if job.status.failed])
        node.start_online()
        until("the second launch", lambda: cluster.pod_of(run, 2), shows=node.log)
        # It is written after the launch, by this process alone.
        assert until("the Event", lambda: cluster.events(run, "Disrupted"))
        node.restart_killed()
    assert len(researcher.result(task)) == 1
    assert len(cluster.jobs(run)) == 2


def test_drained_and_its_second_launch_cut_off(kubernetes_node, researcher, world, cluster, proxy, gate):
    """The second Job is made and its Secret isn't, because the API server has a bad moment: that is made up for."""
    settings = {"kubeconfig": str(gate.kubeconfig), "data_port": {"address": cluster.host_address()}}
    node = kubernetes_node(via=proxy, kubernetes=settings).start_online()
    with no_tokens(proxy):
        task = researcher.ask(ODD, "count", [world.organization()])
        run = researcher.run(task)["id"]
        cluster.until_container(run, "receive", "running")
        with gate.refuse("POST", r"/secrets$", 500):
            evict(cluster, cluster.pod_of(run).metadata.name)
            until("the second launch", lambda: cluster.pod_of(run, 2), shows=node.log)
            node.wait_log("the Secret could not be created")
    assert len(researcher.result(task)) == 1


def test_drained_while_its_output_waits(kubernetes_node, researcher, world, cluster, proxy):
    """The server has not taken the report yet, and the output goes with its pod."""
    kubernetes_node(via=proxy).start_online()
    with proxy.hold("PATCH", r"/run/\d+$", where=has("finished_at")) as report:
        task = researcher.ask(ODD, "exit", [world.organization()], code=0)
        run = researcher.run(task)["id"]
        report.wait()
        (pod,) = cluster.pods(run)
        evict(cluster, pod.metadata.name)
        until("the pod to end", lambda: all(pod.status.phase in ("Succeeded", "Failed") for pod in cluster.pods(run)))
    (ended,) = researcher.finished(task)
    assert ended["status"] == "crashed"
    assert "taken out of service before its output could be uploaded" in ended["log"]
    assert len(cluster.jobs(run)) == 1
    assert until("the Event", lambda: cluster.events(run, "Drained"))


@pytest.mark.versions
def test_drained_while_it_runs(kubernetes_node, researcher, world, cluster):
    """The algorithm may have done something: it isn't executed again unless the operator allows it."""
    kubernetes_node().start_online()
    task = researcher.ask(ODD, "sleep", [world.organization()], seconds=100)
    run = researcher.run(task)["id"]
    cluster.until_container(run, "algorithm", "running")
    evict(cluster, cluster.pod_of(run).metadata.name)
    (ended,) = researcher.finished(task)
    assert ended["status"] == "crashed"
    assert "taken out of service before the algorithm ended" in ended["log"]
    assert "odd: sleep" in ended["log"], "the algorithm's own log is there, too"
    assert "EvictionByEvictionAPI" in until("the Event", lambda: cluster.events(run, "Drained"))[0]
    assert len(cluster.jobs(run)) == 1


def test_drained_again_and_again(kubernetes_node, researcher, world, cluster):
    """`retry_disrupted: 1`: executed once more, and then reported."""
    node = kubernetes_node(kubernetes={"retry_disrupted": 1}).start_online()
    task = researcher.ask(ODD, "sleep", [world.organization()], seconds=100)
    run = researcher.run(task)["id"]
    for attempt in (1, 2):
        pod = until(f"launch {attempt}", lambda attempt=attempt: cluster.pod_of(run, attempt), shows=node.log)

        def runs(name: str = pod.metadata.name) -> bool:
            statuses = cluster.core.read_namespaced_pod(name, cluster.jobs_namespace).status.container_statuses or []
            return any(each.name == "algorithm" and each.state.running for each in statuses)

        until("the algorithm to run", runs)
        evict(cluster, pod.metadata.name)
    (ended,) = researcher.finished(task)
    assert ended["status"] == "crashed"
    assert cluster.pod_of(run, 3) is None


@contextlib.contextmanager
def slot(cluster: Cluster) -> Iterator[str]:
    """The machine has one of something that only these tests know."""
    machine = cluster.machine()
    resource = f"sextant.test/slot-{secrets.token_hex(3)}"

    def patch(value: str | None) -> None:
        body = {"status": {"capacity": {resource: value}}}
        cluster.core.patch_node_status(machine, body)

    patch("1")
    read = cluster.core.read_node
    until("the resource to be allocatable", lambda: resource in read(machine).status.allocatable)
    try:
        yield resource
    finally:
        patch(None)


def test_preempted_while_it_runs(kubernetes_node, researcher, world, cluster):
    """A pod of a higher priority takes its place; `retry_disrupted` has it executed again when there is room."""
    scheduling = client.SchedulingV1Api(cluster.api)
    priority = f"high-{cluster.jobs_namespace}"
    scheduling.create_priority_class({"metadata": {"name": priority}, "value": 1000})
    try:
        with slot(cluster) as resource:
            settings = {"resources": {"limits": {resource: 1}, "requests": {resource: 1}}, "retry_disrupted": 1}
            node = kubernetes_node(kubernetes=settings).start_online()
            task = researcher.ask(ODD, "count", [world.organization()], seconds=LONG)
            run = researcher.run(task)["id"]
            cluster.until_container(run, "algorithm", "running")
            container = {
                "name": "important",
                "image": "localhost/pause:1",
                "resources": {"limits": {resource: 1}, "requests": {resource: 1}},
            }
            important = {
                "metadata": {"name": "important"},
                "spec": {"priorityClassName": priority, "containers": [container], "terminationGracePeriodSeconds": 0},
            }
            cluster.core.create_namespaced_pod(cluster.jobs_namespace, important)
            until("the second launch", lambda: cluster.pod_of(run, 2), shows=node.log)
            cluster.core.delete_namespaced_pod("important", cluster.jobs_namespace, grace_period_seconds=0)
            cluster.release(run)
            assert len(researcher.result(task)) == 2, "executed twice, as allowed"
            assert until("the Event", lambda: cluster.events(run, "Preempted"))
    finally:
        scheduling.delete_priority_class(priority)


@contextlib.contextmanager
def ghost(cluster: Cluster, label: str) -> Iterator[str]:
    """A machine that takes pods and never says anything."""
    name = f"ghost-{secrets.token_hex(3)}"
    taint = {"key": label, "value": "ghost", "effect": "NoSchedule"}
    cluster.core.create_node({"metadata": {"name": name, "labels": {label: "here"}}, "spec": {"taints": [taint]}})
    room = {"cpu": "4", "memory": "8Gi", "pods": "10", "ephemeral-storage": "100Gi"}
    ready = {"type": "Ready", "status": "True", "reason": "Ghost", "message": "", "lastHeartbeatTime": None}
    cluster.core.patch_node_status(name, {"status": {"capacity": room, "allocatable": room, "conditions": [ready]}})
    try:
        yield name
    finally:
        with contextlib.suppress(Exception):
            cluster.core.delete_node(name)


def test_a_machine_is_lost(kubernetes_node, researcher, world, cluster):
    """A machine took the pod and is never heard of again. A minute after it should have ended the pod, the run goes elsewhere."""
    label = f"sextant.test/{secrets.token_hex(3)}"
    machine = cluster.machine()
    with ghost(cluster, label) as lost:
        settings = {"node_selector": {label: "here"}, "tolerations": [{"key": label, "effect": "NoSchedule"}]}
        settings["tolerations"][0]["operator"] = "Exists"
        node = kubernetes_node(kubernetes=settings).start_online()
        task = researcher.ask(ODD, "exit", [world.organization()], code=0)
        run = researcher.run(task)["id"]
        until("the lost machine to have it", lambda: (pod := cluster.pod_of(run)) and pod.spec.node_name == lost)
        try:
            with cluster.labelled(machine, label):
                gone = {"key": "sextant.test/gone", "effect": "NoExecute"}
                taints = cluster.core.read_node(lost).spec.taints
                spec = [cluster.api.sanitize_for_serialization(each) for each in taints] + [gone]
                cluster.core.patch_node(lost, {"spec": {"taints": spec}})
                until("the second launch", lambda: cluster.pod_of(run, 2), within=120, shows=node.log)
                assert researcher.result(task) == "about to exit"
                assert until("the Event", lambda: cluster.events(run, "MachineLost"))
        finally:
            # Nobody else ends what the machine has.
            with contextlib.suppress(Exception):
                old = cluster.pod_of(run)
                cluster.core.delete_namespaced_pod(old.metadata.name, cluster.jobs_namespace, grace_period_seconds=0)


def bind(cluster: Cluster, pod: str, machine: str) -> None:
    """What the scheduler does with each pod at the end: it tells the API server which machine is to take it."""
    target = client.V1ObjectReference(api_version="v1", kind="Node", name=machine)
    body = client.V1Binding(metadata=client.V1ObjectMeta(name=pod), target=target)
    # The client expects the Binding back, and the API server answers with a Status.
    cluster.core.create_namespaced_pod_binding(pod, cluster.jobs_namespace, body, _preload_content=False)


def test_a_machine_refuses_the_pod(kubernetes_node, researcher, world, cluster):
    """What a machine finds when it looks at a pod may no longer be what the scheduler found. Here it never was: the pod was given to a
    machine that lacks what it asks for. The run is launched again by itself, and goes to one that has it."""
    label, machine = f"sextant.test/{secrets.token_hex(3)}", cluster.machine()
    node = kubernetes_node(kubernetes={"node_selector": {label: "here"}}).start_online()
    task = researcher.ask(ODD, "count", [world.organization()])
    run = researcher.run(task)["id"]

    def found_none() -> str | None:
        pod = cluster.pod_of(run)
        conditions = (pod.status.conditions or []) if pod else []
        return pod.metadata.name if any(each.reason == "Unschedulable" for each in conditions) else None

    bind(cluster, until("the scheduler to find no machine", found_none, shows=node.log), machine)
    until("the second launch", lambda: cluster.pod_of(run, 2), shows=node.log)
    with cluster.labelled(machine, label):
        assert len(researcher.result(task)) == 1, "the algorithm was started once"
    said = until("the Event", lambda: cluster.events(run, "MachineRefused"))[0]
    assert "NodeAffinity" in said and "launched again" in said
