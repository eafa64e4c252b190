"""Two nodes whose runs share a namespace: what the account of one may do to the other's, by the chart's Role and its admission policy."""

import copy
import json
from collections.abc import Callable, Iterator

import pytest
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from harness.chart import one
from harness.cluster import Cluster
from harness.nodes import merged
from harness.wait import until

pytestmark = [pytest.mark.cluster, pytest.mark.versions, pytest.mark.needs("helm")]

LABEL = "sextant.vantage6.ai/release"
OWN_IMAGE = "sextant"
CONFINED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


class Account:
    """A node's account in the cluster, with the rights and the bounds that the chart gives it."""

    def __init__(self, place: Cluster, directory):
        self.place = place
        self.namespace = place.jobs_namespace
        self.release = f"{place.node_namespace}.sextant"
        manifests = place.chart()
        for kind, name in (("ServiceAccount", "-node"), ("Role", None), ("RoleBinding", None)):
            place.create(one(manifests, kind, name))
        self.policies = [each for each in manifests if each["kind"].startswith("ValidatingAdmissionPolicy")]
        for each in self.policies:
            place.create(each)
        directory.mkdir()
        api = config.new_client_from_config(str(place.account_kubeconfig(directory)))
        self.batch, self.core = client.BatchV1Api(api), client.CoreV1Api(api)
        self.leases = client.CoordinationV1Api(api)

    def remove(self) -> None:
        """Takes away what belongs to no namespace."""
        api = client.AdmissionregistrationV1Api(self.place.api)
        for each in self.policies:
            name = each["metadata"]["name"]
            if each["kind"].endswith("Binding"):
                api.delete_validating_admission_policy_binding(name)
            else:
                api.delete_validating_admission_policy(name)

    def job(self, **changes) -> dict:
        """A run's Job, like those that the node makes."""
        labels = {"app.kubernetes.io/name": "sextant", "app.kubernetes.io/component": "algorithm", LABEL: self.release}
        labels |= {"app.kubernetes.io/instance": "sextant"}
        own = {
            "image": f"{OWN_IMAGE}:1",
            "securityContext": CONFINED | {"readOnlyRootFilesystem": True},
            "env": [
                {"name": "SEXTANT_RUN", "value": "1"},
                {"name": "SEXTANT_KEY", "valueFrom": {"secretKeyRef": {"name": "v6-task-1-run-1-abcde", "key": "run.key"}}},
            ],
        }
        powers = {"securityContext": merged(CONFINED, {"capabilities": {"add": ["DAC_OVERRIDE", "FOWNER"]}})}
        pod = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "initContainers": [
                own
                | powers
                | {
                    "name": "receive",
                    "args": ["receive"],
                    "volumeMounts": [{"name": "data", "mountPath": "/mnt/data"}, {"name": "token", "mountPath": "/run/sextant/token"}],
                }
            ],
            "containers": [
                {
                    "name": "algorithm",
                    "image": "example.org/any:1",
                    "securityContext": CONFINED,
                    "env": [{"name": "ANY", "valueFrom": {"secretKeyRef": {"name": "v6-task-1-run-1-abcde", "key": "ANY"}}}],
                    "volumeMounts": [{"name": "data", "mountPath": "/mnt/data"}],
                },
                own
                | powers
                | {"name": "return", "args": ["return"], "volumeMounts": [{"name": "data", "mountPath": "/mnt/data", "readOnly": True}]},
            ],
            "volumes": [{"name": "data", "emptyDir": {}}, {"name": "token", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}],
        }
        job = {
            "metadata": {"generateName": "v6-task-1-run-1-", "labels": labels},
            "spec": {"suspend": True, "template": {"metadata": {"labels": labels}, "spec": pod}},
        }
        return merged(copy.deepcopy(job), changes)


@pytest.fixture(scope="module")
def accounts(cluster, tmp_path_factory) -> Iterator[tuple[Account, Account]]:
    """Those of two releases of one name in different namespaces."""
    place = Cluster(cluster.kubeconfig)
    place.make_namespace(place.jobs_namespace, "privileged")
    other = place.sibling("-b")
    other.jobs_namespace = place.jobs_namespace
    made = []
    try:
        for each in (place, other):
            each.make_namespace(each.node_namespace, "restricted")
            made.append(Account(each, tmp_path_factory.mktemp("accounts") / "a"))
        for account in made:
            # The API server hears of its policies after a moment.
            until("the policy to hold", lambda account=account: denied(lambda: make(account, {"metadata": {"labels": {LABEL: None}}})), within=60)
        yield tuple(made)
    finally:
        for account in made:
            account.remove()
        place.tear_down()
        other.tear_down()


def make(account: Account, changes: dict, dry: bool = True) -> client.V1Job:
    return account.batch.create_namespaced_job(account.namespace, account.job(**changes), dry_run="All" if dry else None)


def denied(attempt: Callable[[], object]) -> str | None:
    """What the admission policy says of an attempt; None if it is let through. That another rule forbids it counts for nothing."""
    try:
        attempt()
    except ApiException as error:
        text = json.loads(error.body)["message"]
        assert "ValidatingAdmissionPolicy" in text, text
        return text
    return None


def pod(**changes) -> dict:
    return {"spec": {"template": {"spec": changes}}}


def algorithm(**changes) -> dict:
    return pod(initContainers=None, containers=[{"name": "algorithm", "image": "a", "securityContext": CONFINED} | changes])


def helper(**changes) -> dict:
    """A pod of `return` alone, with something else about it."""
    own = {"name": "return", "image": f"{OWN_IMAGE}:1", "args": ["return"], "securityContext": CONFINED}
    return pod(initContainers=None, containers=[own | changes])


def volume(**source) -> dict:
    return pod(volumes=[{"name": "data"} | source, {"name": "token", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}])


FORBIDDEN = {
    "no label": {"metadata": {"labels": {LABEL: None}}},
    "another's label": {"metadata": {"labels": {LABEL: "other.sextant"}}},
    "the name of another release": {"metadata": {"labels": {"app.kubernetes.io/instance": "other"}}},
    "the name of another release on the pod": {"spec": {"template": {"metadata": {"labels": {"app.kubernetes.io/instance": "other"}}}}},
    "no label on the pod": {"spec": {"template": {"metadata": {"labels": {LABEL: None}}}}},
    "another's label on the pod": {"spec": {"template": {"metadata": {"labels": {LABEL: "other.sextant"}}}}},
    "an owner": {"metadata": {"ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "x", "uid": "y"}]}},
    "a finalizer": {"metadata": {"finalizers": ["example.org/never"]}},
    "another controller": {"spec": {"managedBy": "example.org/other"}},
    "an account": pod(serviceAccountName="other"),
    "a token": pod(automountServiceAccountToken=True),
    "a token by default": pod(automountServiceAccountToken=None),
    "a token as a volume": volume(projected={"sources": [{"serviceAccountToken": {"path": "token"}}]}),
    "a path of the machine": volume(hostPath={"path": "/"}),
    "another's data": volume(persistentVolumeClaim={"claimName": "theirs"}),
    "another's Secret": volume(secret={"secretName": "theirs"}),
    "a copy of another's data": volume(
        ephemeral={
            "volumeClaimTemplate": {
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "1Gi"}},
                    "dataSource": {"kind": "PersistentVolumeClaim", "name": "theirs"},
                }
            }
        }
    ),
    "the machine's network": pod(hostNetwork=True),
    "the machine's processes": pod(hostPID=True),
    "the machine's memory": pod(hostIPC=True),
    "each other's processes": pod(shareProcessNamespace=True),
    "another network, by an annotation": {"spec": {"template": {"metadata": {"annotations": {"k8s.v1.cni.cncf.io/networks": "host"}}}}},
    "devices, by an annotation": {"spec": {"template": {"metadata": {"annotations": {"io.kubernetes.cri-o.Devices": "/dev/sda"}}}}},
    "a device of a network": algorithm(resources={"limits": {"rdma/hca": "1"}}),
    "a pod that stays": {"spec": {"template": {"metadata": {"finalizers": ["example.org/never"]}}}},
    "a sidecar, by a label": {"spec": {"template": {"metadata": {"labels": {"sidecar.istio.io/inject": "true"}}}}},
    "a machine": pod(nodeName="node-1"),
    "a priority": pod(priorityClassName="system-node-critical"),
    "a class of priority by number": pod(priority=1000),
    "another scheduler": pod(schedulerName="other"),
    "another runtime": pod(runtimeClassName="other"),
    "machines that nobody named": pod(nodeSelector={"disk": "ssd"}),
    "machines by affinity": pod(affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}}}),
    "machines of the control plane": pod(tolerations=[{"operator": "Exists"}]),
    "a group of others": pod(securityContext={"seccompProfile": {"type": "RuntimeDefault"}, "supplementalGroups": [4]}),
    "files given to a group": pod(securityContext={"seccompProfile": {"type": "RuntimeDefault"}, "fsGroup": 4}),
    "no seccomp": pod(securityContext=None),
    "a privileged container": algorithm(securityContext=merged(CONFINED, {"allowPrivilegeEscalation": True, "privileged": True})),
    "privileges to be gained": algorithm(securityContext=merged(CONFINED, {"allowPrivilegeEscalation": True})),
    "no rule for a container": algorithm(securityContext=None),
    "a capability": algorithm(securityContext=merged(CONFINED, {"capabilities": {"add": ["DAC_OVERRIDE"]}})),
    "a port of the machine": algorithm(ports=[{"containerPort": 80, "hostPort": 80}]),
    "a request of the kubelet": algorithm(lifecycle={"postStart": {"httpGet": {"host": "10.0.0.1", "port": 80}}}),
    "a program at every start": algorithm(lifecycle={"postStart": {"exec": {"command": ["a"]}}}),
    "a program that asks for its health": algorithm(livenessProbe={"exec": {"command": ["a"]}}),
    "a ConfigMap as environment": algorithm(envFrom=[{"configMapRef": {"name": "theirs"}}]),
    "a Secret as environment": algorithm(envFrom=[{"secretRef": {"name": "theirs"}}]),
    "an entry of a ConfigMap": algorithm(env=[{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "theirs", "key": "a"}}}]),
    "an algorithm's other program": algorithm(command=["a"]),
    "a mount that comes and goes": algorithm(volumeMounts=[{"name": "data", "mountPath": "/a", "mountPropagation": "HostToContainer"}]),
    "another image as return": helper(image="a"),
    "another program as return": helper(command=["/bin/sh"]),
    "another role as return": helper(args=["receive"]),
    "more arguments for return": helper(args=["return", "x"]),
    "a supervisor as return": helper(args=["supervise", "/tmp", "--", "/bin/sh"]),
    "no role for return": helper(args=None),
    "a variable that loads a library": helper(env=[{"name": "LD_PRELOAD", "value": "/mnt/data/x.so"}]),
    "a program put over Sextant's": helper(volumeMounts=[{"name": "data", "mountPath": "/usr/local/bin"}]),
    "another place for the last message": helper(terminationMessagePath="/usr/local/bin/sextant"),
    "a registry that begins like our image": helper(image=f"{OWN_IMAGE}:5000/evil"),
    "a registry that begins like our image, with a digest": helper(image=f"{OWN_IMAGE}:5000/evil@sha256:{'a' * 64}"),
    "no digest": helper(image=f"{OWN_IMAGE}@sha256:a"),
    "an image that begins like ours": helper(image=f"{OWN_IMAGE}.example.org/x:1"),
    "another container": algorithm(name="helper"),
    "another container before": pod(initContainers=[{"name": "before", "image": OWN_IMAGE, "args": ["before"], "securityContext": CONFINED}]),
    "a helper that stays": pod(initContainers=[{"name": "receive", "image": OWN_IMAGE, "args": ["receive"], "restartPolicy": "Always", "securityContext": CONFINED}]),
    "another image as receive": pod(initContainers=[{"name": "receive", "image": "x", "args": ["receive"], "securityContext": CONFINED}]),
}


def test_only_jobs_like_those_of_sextant_are_made(accounts):
    """An account makes its own Jobs, and none with anything else in it; by a name or by the beginning of one."""
    mine, _ = accounts
    assert denied(lambda: make(mine, {})) is None
    assert denied(lambda: make(mine, {"metadata": {"generateName": None, "name": "v6-task-1-run-1-abcde"}})) is None
    for name, changes in FORBIDDEN.items():
        made = []
        if denied(lambda changes=changes, made=made: made.append(make(mine, changes))):
            continue
        # Kubernetes 1.31 drops this field from every Job before admission, unless a feature gate is set.
        assert name == "another controller" and made[0].spec.managed_by is None, f"{name}: let through"


def test_jobs_of_another_node_are_left_alone(accounts):
    """Its Job can't be marked, suspended, ended, made to go away or taken over: neither by a patch nor with one's own label."""
    mine, theirs = accounts
    name = make(theirs, {}, dry=False).metadata.name
    for patch in (
        {"metadata": {"annotations": {"vantage6.ai/reported": "completed"}}},
        {"spec": {"activeDeadlineSeconds": 1, "ttlSecondsAfterFinished": 0, "suspend": False}},
        {"spec": {"suspend": False}},
        {"metadata": {"labels": {LABEL: mine.release}}},
        {"metadata": {"labels": {LABEL: None}}},
        {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "y"}]}},
    ):
        assert denied(lambda patch=patch: mine.batch.patch_namespaced_job(name, mine.namespace, patch)), patch
        body = [{"op": "add", "path": "/metadata/labels/sextant.vantage6.ai~1release", "value": mine.release}]
        assert denied(lambda body=body: mine.batch.patch_namespaced_job(name, mine.namespace, body))
    # Its own node marks it.
    theirs.batch.patch_namespaced_job(name, theirs.namespace, {"metadata": {"annotations": {"vantage6.ai/reported": "completed"}}})
    # While a Job is suspended, Kubernetes itself would take other labels for its pod.
    changed = {"spec": {"template": {"metadata": {"labels": {LABEL: mine.release}}}}}
    assert denied(lambda: theirs.batch.patch_namespaced_job(name, theirs.namespace, changed))
    given = {"metadata": {"labels": {LABEL: mine.release}}}
    assert denied(lambda: theirs.batch.patch_namespaced_job(name, theirs.namespace, given))


def test_leases_secrets_and_events_are_ones_own(accounts):
    """No Lease of another's is renewed or taken; no Secret is filled with an account's token; no Event looks like Kubernetes's."""
    mine, theirs = accounts
    namespace = mine.namespace

    def lease(account: Account, name: str = "sextant-0123456789", label: bool = True) -> dict:
        labels = {LABEL: account.release} if label else {}
        return {"metadata": {"name": name, "labels": labels}, "spec": {"holderIdentity": account.release}}

    def renew(account: Account, written: dict) -> client.V1Lease:
        name = written["metadata"]["name"]
        version = account.leases.read_namespaced_lease(name, namespace).metadata.resource_version
        whole = merged(written, {"metadata": {"resourceVersion": version}})
        return account.leases.replace_namespaced_lease(name, namespace, whole)

    assert denied(lambda: mine.leases.create_namespaced_lease(namespace, lease(mine, label=False)))
    assert denied(lambda: mine.leases.create_namespaced_lease(namespace, lease(mine, name="other")))
    theirs.leases.create_namespaced_lease(namespace, lease(theirs))
    for label in (True, False):
        assert denied(lambda label=label: renew(mine, lease(mine, label=label)))
    assert denied(lambda: renew(mine, lease(theirs)))
    renew(theirs, lease(theirs))
    # That of an earlier version says nothing of its release; whose it is, takes it over.
    everything = client.CoordinationV1Api(mine.place.api)
    everything.create_namespaced_lease(namespace, lease(mine, name="sextant-earlier", label=False))
    renew(mine, lease(mine, name="sextant-earlier"))

    def secret(**changes) -> Callable[[], object]:
        whole = merged({"metadata": {"name": "v6-task-1-run-1-abcde", "labels": {LABEL: mine.release}}}, changes)
        return lambda: mine.core.create_namespaced_secret(namespace, whole, dry_run="All")

    assert denied(secret()) is None
    assert denied(secret(type="kubernetes.io/dockerconfigjson", stringData={".dockerconfigjson": "{}"})) is None
    annotations = {"kubernetes.io/service-account.name": "default"}
    assert denied(secret(type="kubernetes.io/service-account-token", metadata={"annotations": annotations}))
    assert denied(secret(metadata={"name": "others"}))
    assert denied(secret(metadata={"labels": {LABEL: theirs.release}}))

    def event(**changes) -> Callable[[], object]:
        about = {"kind": "Job", "name": "x", "namespace": namespace, "apiVersion": "batch/v1"}
        whole = {
            "metadata": {"generateName": "x."},
            "involvedObject": about,
            "reason": "Crashed",
            "source": {"component": "sextant"},
            "reportingComponent": "vantage6.ai/sextant",
            "reportingInstance": "sextant",
        }
        return lambda: mine.core.create_namespaced_event(namespace, merged(whole, changes), dry_run="All")

    assert denied(event()) is None
    assert denied(event(source={"component": "job-controller"}, reportingComponent="job-controller", reason="FailedCreate"))
    assert denied(event(involvedObject={"kind": "Pod", "apiVersion": "v1"}))
    assert denied(event(reportingComponent=None))


def test_who_has_no_policy_may_all_of_that(accounts):
    """The policy binds the accounts of its releases, and nobody else: the cluster's own controllers and people go on."""
    mine, theirs = accounts
    name = make(theirs, {}, dry=False).metadata.name
    admin = client.BatchV1Api(mine.place.api)
    admin.patch_namespaced_job(name, mine.namespace, {"metadata": {"annotations": {"example.org/seen": "yes"}}})
    assert admin.create_namespaced_job(mine.namespace, mine.job(metadata={"labels": {LABEL: None}}), dry_run="All")
