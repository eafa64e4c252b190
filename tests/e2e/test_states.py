"""The states of docs/STATES.md, provoked for real: each run ends with the right status, tells its researcher what happened and nothing
of the organization, and leaves an Event on its Job."""

import contextlib
from collections.abc import Callable, Iterator

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from faultproxy import has
from harness import nodes
from harness.cluster import Cluster
from harness.images import Registry, variant
from harness.node import NodeProcess
from harness.nodes import LONG, ODD
from harness.wait import until

pytestmark = pytest.mark.cluster


@pytest.fixture
def asked(researcher, world, cluster):
    """Asks for something, waits for its end, and checks the three things that are to be said of it: status, words in the log, and the
    Event's word. The run, and its Event's text."""

    def ask(status: str, words: str, event: str | None, image: str = ODD, method: str = "exit", databases=(), within=120, **kwargs):
        kwargs = kwargs or {"code": 0}
        task = researcher.ask(image, method, [world.organization()], databases=list(databases), **kwargs)
        (run,) = researcher.finished(task, within=within)
        return run | {"event": check(cluster, run, status, words, event)}

    return ask


def check(cluster: Cluster, run: dict, status: str, words: str, event: str | None) -> str:
    """What a run has to say of its end; the text of its Event."""
    assert run["status"] == status, run["log"]
    assert words in run["log"]
    return until(f"the Event {event}", lambda: cluster.events(run["id"], event), 10)[0] if event else ""


@contextlib.contextmanager
def quota(cluster: Cluster, **hard: str) -> Iterator[None]:
    """The namespace has this quota for a while."""
    body = {"metadata": {"name": "little"}, "spec": {"hard": hard}}
    cluster.core.create_namespaced_resource_quota(cluster.jobs_namespace, body)
    read = cluster.core.read_namespaced_resource_quota
    until("the quota to count", lambda: read("little", cluster.jobs_namespace).status.hard)
    try:
        yield
    finally:
        cluster.core.delete_namespaced_resource_quota("little", cluster.jobs_namespace)


# -- waiting ------------------------------------------------------------------------------------


@pytest.mark.versions
def test_a_quota_that_asks_for_a_limit(kubernetes_node, asked, cluster):
    """Told within seconds, in the words of the rule, and as nothing that the task is to blame for."""
    node = kubernetes_node()
    with quota(cluster, **{"limits.cpu": "8"}):
        node.start_online()
        run = asked("start failed", "The cluster's rules do not allow the run. The task is not the cause", "Forbidden", within=30)
        looked = node.tool("doctor")
    assert "must specify limits.cpu for: " in run["event"]
    assert "limits.cpu" not in run["log"]
    assert "forbid every run: ResourceQuota 'little'" in node.log()
    assert "WRONG  quotas" in looked.stdout and "'little'" in looked.stdout, looked.stdout


def test_limits_where_a_quota_asks_for_them(kubernetes_node, asked, cluster):
    """With a limit for the algorithm, all of the pod has one."""
    node = kubernetes_node(kubernetes={"resources": {"limits": {"cpu": 1}}})
    with quota(cluster, **{"limits.cpu": "2", "requests.cpu": "2", "limits.memory": "4Gi", "limits.ephemeral-storage": "11Gi"}):
        node.start_online()
        asked("completed", "", None)
    assert "forbid every run" not in node.log()


def test_a_run_that_is_larger_than_a_quota(kubernetes_node, asked, cluster):
    """It does not wait for what will never be."""
    kubernetes_node().start_online()
    with quota(cluster, **{"limits.memory": "1Gi"}):
        words = "The run needs more than the node's quota allows: memory."
        run = asked("start failed", words, "QuotaExceeded", within=30)
    assert "exceeded quota: little" in run["event"]


def test_a_limit_range_with_a_minimum(kubernetes_node, asked, cluster):
    """Sextant's own containers can be given what it asks for."""
    body = {"metadata": {"name": "large"}, "spec": {"limits": [{"type": "Container", "min": {"cpu": "50m", "memory": "32Mi"}}]}}
    cluster.core.create_namespaced_limit_range(cluster.jobs_namespace, body)
    try:
        kubernetes_node(kubernetes={"helper_resources": {"requests": {"cpu": "50m"}}}).start_online()
        asked("completed", "", None)
    finally:
        cluster.core.delete_namespaced_limit_range("large", cluster.jobs_namespace)


def test_no_machine_has_room(kubernetes_node, asked):
    """The researcher hears which resource is missing, the operator what the scheduler said."""
    kubernetes_node(kubernetes={"pending_timeout": "5s", "resources": {"requests": {"cpu": "900"}}}).start_online()
    run = asked("start failed", "No machine had enough processors (cpu) for the run within 5 s.", "Unschedulable")
    assert "Insufficient cpu" in run["event"]


@pytest.mark.parametrize("source", [{"persistentVolumeClaim": {"claimName": "our-secret"}}, {"configMap": {"name": "our-secret"}}])
def test_a_volume_is_missing(source, kubernetes_node, asked):
    """A claim that isn't there keeps the pod from a machine, another volume its containers from being made."""
    node = kubernetes_node(kubernetes={"pending_timeout": "20s", "databases": {"default": source | {"path": "a.csv"}}})
    node.start_online()
    run = asked("start failed", "A volume that the run needs was not available", "VolumeUnavailable", databases=["default"])
    assert "our-secret" not in run["log"]
    assert "our-secret" in run["event"]


def test_a_quota_for_pods(kubernetes_node, asked, cluster):
    """The Job is there, but its pod may not be made for now."""
    kubernetes_node(kubernetes={"pending_timeout": "20s"}).start_online()
    with quota(cluster, pods="0"):
        run = asked("start failed", "Other runs left no room", "QuotaExceeded")
    assert "exceeded quota: little" in run["event"]


def test_a_quota_for_pods_that_has_room_again(kubernetes_node, researcher, world, cluster):
    """Such a run is started as soon as it may be."""
    kubernetes_node().start_online()
    with quota(cluster, pods="0"):
        task = researcher.ask(ODD, "exit", [world.organization()], code=0)
        run = researcher.run(task)["id"]
        until("the Job", lambda: cluster.jobs(run))
    assert researcher.result(task) == "about to exit"


def test_a_quota_for_jobs(kubernetes_node, asked, cluster):
    """Not even the Job may be made: nothing of the run is in the cluster."""
    node = kubernetes_node(kubernetes={"pending_timeout": "3s"}).start_online()
    with quota(cluster, **{"count/jobs.batch": "0"}):
        asked("start failed", "Other runs left no room", None)
    assert "exceeded quota" in node.log()


def test_the_nodes_own_image(kubernetes_node, asked):
    """That is the operator's mistake: the researcher is told so, and not that the algorithm's image were missing."""
    image = "nowhere.invalid/our/sextant:1"
    kubernetes_node(kubernetes={"image": image, "image_pull_timeout": "5s"}).start_online()
    run = asked("start failed", "The node could not start its own part of the run.", "OwnImageUnavailable")
    assert image not in run["log"]
    assert image in run["event"]


def test_a_pull_that_takes_its_time(kubernetes_node, researcher, world, images):
    """The log says that it goes on, and in the end how long it took."""
    node = kubernetes_node(kubernetes={"image_pull_timeout": "1s"}).start_online()
    with contextlib.closing(Registry(images)) as registry:
        with registry.held():
            task = researcher.ask(registry.image("slow"), "exit", [world.organization()], code=0)
            node.wait_log(r'Pulling image "127\.0\.0\.1:\d+/slow-\w+:1", \d+ s ago', within=60)
        assert researcher.result(task) == "about to exit"
        node.wait_log(r"Successfully pulled image .* Image size", within=30)


def test_a_pull_that_takes_too_long(kubernetes_node, asked, images):
    """It gets as long as everything else that a run waits for."""
    kubernetes_node(kubernetes={"pending_timeout": "10s"}).start_online()
    with contextlib.closing(Registry(images)) as registry, registry.held():
        asked("non-existing Docker image", "could not be pulled within 10 s", "ImageUnavailable", image=registry.image("slow"))


def test_a_registry_that_is_ill_for_a_while(kubernetes_node, researcher, world, images):
    """What may pass gets time."""
    kubernetes_node().start_online()
    with contextlib.closing(Registry(images)) as registry:
        registry.refuse(2)
        task = researcher.ask(registry.image("ill"), "exit", [world.organization()], code=0)
        assert researcher.result(task) == "about to exit"


@pytest.mark.versions
def test_an_image_that_may_not_be_pulled(kubernetes_node, asked):
    """`algorithm_pull_policy: Never`, and the machine doesn't have it."""
    kubernetes_node(kubernetes={"algorithm_pull_policy": "Never"}).start_online()
    image = "nowhere.invalid/no/such:1"
    asked("non-existing Docker image", "the node does not pull images", "ImageUnavailable", image=image)


def test_an_image_without_a_command(kubernetes_node, asked, images):
    """No try will help."""
    kubernetes_node().start_online()
    asked("start failed", "it has no command", "ContainerNotStarted", image=variant(images, {}))


def test_an_image_whose_command_is_not_there(kubernetes_node, asked, images):
    """The researcher hears of the command."""
    kubernetes_node().start_online()
    image = variant(images, {"Entrypoint": ["/no/such/program"]})
    asked("start failed", "/no/such/program", "ContainerNotStarted", image=image)


def test_a_container_that_can_not_be_made(kubernetes_node, asked, cluster):
    """The database's path leads through a file as if that were a folder. The machine sees it only when it makes the container, and tries
    again and again, since that might help; after two minutes the run ends."""
    volume = {"metadata": {"name": "our-data"}, "data": {"a.csv": "age\n42\n"}}
    cluster.core.create_namespaced_config_map(cluster.jobs_namespace, volume)
    try:
        database = {"configMap": {"name": "our-data"}, "path": "a.csv/b.csv"}
        kubernetes_node(kubernetes={"databases": {"default": database}}).start_online()
        words = "The algorithm's container could not be started. The node's log says why."
        run = asked("start failed", words, "ContainerNotStarted", databases=["default"], within=180)
    finally:
        cluster.core.delete_namespaced_config_map("our-data", cluster.jobs_namespace)
    assert "CreateContainerConfigError" in run["event"] and "subPath" in run["event"]
    assert "subPath" not in run["log"]


def test_pod_security_forbids_the_pod(kubernetes_node, asked, cluster):
    """The namespace's standard is stricter than the pods."""
    kubernetes_node().start_online()
    label = "pod-security.kubernetes.io/enforce"
    before = cluster.core.read_namespace(cluster.jobs_namespace).metadata.labels.get(label)
    cluster.core.patch_namespace(cluster.jobs_namespace, {"metadata": {"labels": {label: "restricted"}}})
    try:
        run = asked("start failed", "The cluster's rules do not allow the run.", "Forbidden")
    finally:
        cluster.core.patch_namespace(cluster.jobs_namespace, {"metadata": {"labels": {label: before}}})
    assert "violates PodSecurity" in run["event"]


def test_a_limit_range_forbids_the_pod(kubernetes_node, asked, cluster):
    """The namespace allows less memory than the algorithm is given."""
    kubernetes_node().start_online()
    body = {"metadata": {"name": "small"}, "spec": {"limits": [{"type": "Container", "max": {"memory": "1Gi"}}]}}
    cluster.core.create_namespaced_limit_range(cluster.jobs_namespace, body)
    try:
        run = asked("start failed", "The cluster's rules do not allow the run.", "Forbidden")
    finally:
        cluster.core.delete_namespaced_limit_range("small", cluster.jobs_namespace)
    assert "maximum memory usage per Container is 1Gi" in run["event"]


def test_a_policy_forbids_the_job(kubernetes_node, asked, cluster):
    """An admission policy of the cluster says no to the Job itself."""
    node = kubernetes_node().start_online()
    api = client.AdmissionregistrationV1Api(cluster.api)
    name = f"no-{cluster.jobs_namespace}"
    only = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": cluster.jobs_namespace}}}
    rule = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
    policy = {
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": only | {"resourceRules": [rule]},
            "validations": [{"expression": "false", "message": "our rules"}],
        },
    }
    binding = {"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"], "matchResources": only}}
    api.create_validating_admission_policy(policy)
    api.create_validating_admission_policy_binding(binding)
    try:
        pod = {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}
        probe = {"metadata": {"generateName": "try-"}, "spec": {"template": {"spec": pod}}}

        def denied() -> bool:
            try:
                cluster.batch.create_namespaced_job(cluster.jobs_namespace, probe, dry_run="All")
            except ApiException as refusal:
                return "our rules" in refusal.body
            return False

        until("the policy to hold", denied)
        run = asked("start failed", "The cluster's rules do not allow the run.", None)
    finally:
        api.delete_validating_admission_policy_binding(name)
        api.delete_validating_admission_policy(name)
    assert "our rules" not in run["log"]
    assert "our rules" in node.log()


NOT_ASKED = "failed calling webhook"


@contextlib.contextmanager
def webhook_that_is_away(cluster: Cluster, group: str, resource: str, probe: Callable[[], object]) -> Iterator[None]:
    """Somebody is to judge what is made of a kind, as long as this lasts, and can't be asked. `probe` makes one of them, on trial."""
    name = f"away-{cluster.jobs_namespace}"
    webhook = {
        "name": "away.sextant.test",
        "rules": [{"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [resource]}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": cluster.jobs_namespace}},
        # Nobody listens there.
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }

    def is_asked() -> bool:
        try:
            probe()
        except ApiException as error:
            return NOT_ASKED in error.body
        return False

    api = client.AdmissionregistrationV1Api(cluster.api)
    api.create_validating_webhook_configuration({"metadata": {"name": name}, "webhooks": [webhook]})
    try:
        until("the webhook to be asked", is_asked)
        yield
    finally:
        api.delete_validating_webhook_configuration(name)


POD = {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}


def test_a_webhook_for_jobs_that_can_not_be_asked(kubernetes_node, researcher, world, cluster, proxy):
    """Whoever is to judge the Job is away, and that is no judgement: the run waits until the Job can be made."""
    node = kubernetes_node(via=proxy).start_online()
    job = {"metadata": {"generateName": "try-"}, "spec": {"template": {"spec": POD}}}
    with webhook_that_is_away(
        cluster, "batch", "jobs", lambda: cluster.batch.create_namespaced_job(cluster.jobs_namespace, job, dry_run="All")
    ):
        task = researcher.ask(ODD, "exit", [world.organization()], code=0)
        until("the node to try it again and again", lambda: node.log().count(NOT_ASKED) >= 3, shows=node.log)
        assert not proxy.tried("PATCH", r"/run/\d+$", where=has("finished_at"))
        assert not cluster.jobs(researcher.run(task)["id"])
    assert researcher.result(task) == "about to exit"


def test_a_webhook_for_pods_that_can_not_be_asked(kubernetes_node, asked, cluster):
    """The Job is there, and its pod can't be made, for a reason of which nobody knows how long it will last: as long as for anything else."""
    kubernetes_node(kubernetes={"pending_timeout": "20s"}).start_online()
    pod = {"metadata": {"generateName": "try-"}, "spec": POD}
    with webhook_that_is_away(
        cluster, "", "pods", lambda: cluster.core.create_namespaced_pod(cluster.jobs_namespace, pod, dry_run="All")
    ):
        run = asked("start failed", "The run could not be started within 20 s.", "PendingTooLong")
    assert NOT_ASKED in run["event"]


# -- ends ---------------------------------------------------------------------------------------


def test_too_much_memory(kubernetes_node, asked, images):
    """The limit is in the log."""
    kubernetes_node(kubernetes={"resources": {"limits": {"memory": "64Mi"}}}).start_online()
    asked(
        "crashed", "used more memory than its limit (64Mi)", "OutOfMemory", image=variant(images), method="memory", bytes=2e8
    )


def test_too_much_disk(kubernetes_node, asked, images):
    """The machine evicts the pod for what it did itself: that is no disruption."""
    settings = {"resources": {"limits": {"ephemeral-storage": "10Mi"}}, "retry_disrupted": 3}
    kubernetes_node(kubernetes=settings, task_dir=None).start_online()
    asked("crashed", "more to disk than its limit (10Mi)", "DiskLimitExceeded", image=variant(images), method="disk", bytes=2e8, seconds=100)


def test_a_disk_that_is_full(kubernetes_node, asked, images):
    """The algorithm hears it from the system, and says so in its log."""
    tmp = {"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}
    kubernetes_node(kubernetes={"tmp": tmp}).start_online()
    asked("crashed", "no space left on device", "AlgorithmFailed", image=variant(images), method="disk", bytes=5e6)


@pytest.mark.versions
def test_a_deadline(kubernetes_node, asked):
    """The algorithm is stopped."""
    kubernetes_node(kubernetes={"deadline": "2s"}).start_online()
    asked("crashed", "longer than this node allows (2 s)", "DeadlineExceeded", method="sleep", seconds=100)


def test_the_jobs_own_deadline(kubernetes_node, researcher, world, cluster):
    """The last resort, for runs that no node cares for any more; here somebody has moved it closer."""
    kubernetes_node(kubernetes={"retry_disrupted": 3}).start_online()
    task = researcher.ask(ODD, "sleep", [world.organization()], seconds=LONG)
    run = researcher.run(task)["id"]
    cluster.until_running(run)
    (job,) = cluster.jobs(run)
    cluster.batch.patch_namespaced_job(job.metadata.name, cluster.jobs_namespace, {"spec": {"activeDeadlineSeconds": 1}})
    (ended,) = researcher.finished(task)
    check(cluster, ended, "crashed", "took longer than this node allows, before the algorithm ended", "TimedOut")
    assert len(cluster.jobs(run)) == 1, "it is not executed again"


@pytest.mark.parametrize(
    ("method", "kwargs", "status", "words", "event"),
    [
        ("output", {"bytes": 1000}, "completed", "", None),
        ("output", {"bytes": 1001}, "failed", "output has 1001 bytes; this node sends at most 1000.", "OutputTooLarge"),
        ("output", {"bytes": 3e7}, "failed", "output has 30000000 bytes", "OutputTooLarge"),
        ("silent", {}, "failed", "wrote no output", "OutputMissing"),
        ("exit", {"code": 3}, "crashed", "exit code 3", "AlgorithmFailed"),
    ],
)
def test_an_end_of_its_own(method, kwargs, status, words, event, kubernetes_node, asked, cluster):
    """Output and exit code decide; and the Job goes away in any case."""
    kubernetes_node(kubernetes={"output_limit": "1000"}).start_online()
    run = asked(status, words, event, method=method, **(kwargs or {"nothing": 0}))
    over = ("Succeeded", "Failed")
    until("the pod's end", lambda: all(pod.status.phase in over for pod in cluster.pods(run["id"])))


@pytest.mark.versions
def test_killed_by_the_kernel(kubernetes_node, asked, images):
    """SIGKILL, for more processor time than the algorithm had allowed itself: nobody in the cluster has anything to do with it."""
    kubernetes_node().start_online()
    asked("crashed", "killed by signal 9", "AlgorithmKilled", image=variant(images), method="spin", seconds=1)


def test_an_output_that_is_a_folder(kubernetes_node, asked, images):
    """Nothing but a file is an output."""
    kubernetes_node().start_online()
    asked("failed", "output could not be read", "OutputUnreadable", image=variant(images), method="folder_output", a=0)


def test_an_input_that_turns_out_wrong(kubernetes_node, researcher, world, cluster):
    """A long input is read by the pod's first container only: it says what is wrong with it."""
    kubernetes_node().start_online()
    task = researcher.ask_raw(ODD, "A" * 8000 + "%%%%", [world.organization()])
    (run,) = researcher.finished(task)
    check(cluster, run, "start failed", "base64", "ReceiveFailed")


def test_the_namespace_is_deleted(cluster, world, researcher, tmp_path, started):
    """What ran is lost and reported; what comes after waits for a namespace, and the log says so."""
    other = Cluster(cluster.kubeconfig)
    other.set_up()
    try:
        node = NodeProcess(tmp_path / "node", nodes.kubernetes(world, other, 0, tmp_path))
        started.append(node)
        node.start_online()
        task = researcher.ask(ODD, "sleep", [world.organization()], seconds=100)
        other.until_container(researcher.run(task)["id"], "algorithm", "running")
        other.core.delete_namespace(other.jobs_namespace)
        (run,) = researcher.finished(task)
        assert run["status"] == "crashed"
        assert "deleted from the cluster" in run["log"] or "removed" in run["log"]
        later = researcher.ask(ODD, "exit", [world.organization()], code=0)
        node.wait_log(r"run=\d+.*(being terminated|not found|forbidden)|(being terminated|not found|forbidden).*run=\d+")
        assert researcher.run(later)["finished_at"] is None
        assert node.running
    finally:
        other.tear_down()


def test_the_namespace_is_deleted_before_the_job_is_made(cluster, world, researcher, tmp_path, started):
    """With rights that don't go with the namespace (here an admin's) the node hears that nothing may be made there any more, waits as for
    everything else, and reports the run. Its lease is kept from going with the rest: without it, it would report nothing."""
    other = Cluster(cluster.kubeconfig)
    other.set_up()
    leases = client.CoordinationV1Api(cluster.api)
    try:
        config = nodes.kubernetes(world, other, 0, tmp_path)
        config["kubernetes"] |= {"kubeconfig": str(cluster.kubeconfig), "pending_timeout": "5s"}
        node = NodeProcess(tmp_path / "node", config)
        started.append(node)
        node.start_online()
        (lease,) = leases.list_namespaced_lease(other.jobs_namespace).items

        def keep(finalizers: list[str] | None) -> None:
            patch = {"metadata": {"finalizers": finalizers}}
            leases.patch_namespaced_lease(lease.metadata.name, other.jobs_namespace, patch)

        keep(["sextant.test/kept"])
        try:
            other.core.delete_namespace(other.jobs_namespace)
            task = researcher.ask(ODD, "exit", [world.organization()], code=0)
            (run,) = researcher.finished(task, node=node)
        finally:
            # An empty list would be merged with what is there.
            keep(None)
        check(cluster, run, "start failed", "The node's namespace in the cluster is being deleted.", None)
        assert "being terminated" in node.log()
        assert other.jobs_namespace not in run["log"]
    finally:
        other.tear_down()


@pytest.mark.versions
def test_a_pod_deleted_by_a_person(kubernetes_node, researcher, world, cluster):
    """It isn't launched again: somebody wanted it so."""
    kubernetes_node(kubernetes={"retry_disrupted": 3}).start_online()
    task = researcher.ask(ODD, "sleep", [world.organization()], seconds=100)
    run = researcher.run(task)["id"]
    cluster.until_container(run, "algorithm", "running")
    (pod,) = cluster.pods(run)
    cluster.core.delete_namespaced_pod(pod.metadata.name, cluster.jobs_namespace)
    (ended,) = researcher.finished(task)
    check(cluster, ended, "crashed", "pod was deleted from the cluster before the algorithm ended", "PodDeleted")


def test_a_job_deleted_by_a_person(kubernetes_node, researcher, world, cluster):
    """There is nothing left that an Event could be about."""
    kubernetes_node().start_online()
    task = researcher.ask(ODD, "sleep", [world.organization()], seconds=100)
    run = researcher.run(task)["id"]
    cluster.until_container(run, "algorithm", "running")
    cluster.forget_jobs()
    (ended,) = researcher.finished(task)
    assert ended["status"] == "crashed"
    assert "was removed" in ended["log"] or "was deleted" in ended["log"]
