"""The Kubernetes cluster as the tests use it: namespaces of their own, the node's account, Jobs and pods in short words."""

import base64
import contextlib
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import urllib3
import yaml
from kubernetes import client, config, utils, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import stream

from .chart import rendered, rules
from .paths import cache
from .wait import until

SELECTOR = "app.kubernetes.io/name=sextant"


def kubeconfig() -> Path | None:
    """$KUBECONFIG, else that of the cluster built here if it is up, else nothing."""
    if named := os.environ.get("KUBECONFIG"):
        return Path(named)
    built = cache() / "cluster" / "admin.conf"
    return built if built.exists() else None


class Cluster:
    """One cluster, with a pair of namespaces (node and jobs) that belong to this session of tests alone."""

    def __init__(self, kubeconfig: Path, tag: str | None = None):
        self.kubeconfig = kubeconfig
        self.api = config.new_client_from_config(str(kubeconfig))
        self.core = client.CoreV1Api(self.api)
        self.batch = client.BatchV1Api(self.api)
        self.apps = client.AppsV1Api(self.api)
        self.tag = tag or secrets.token_hex(3)
        self.jobs_namespace = f"v6-jobs-{self.tag}"
        self.node_namespace = f"vantage6-{self.tag}"

    def sibling(self, suffix: str) -> "Cluster":
        """The same cluster with another pair of namespaces."""
        return Cluster(self.kubeconfig, self.tag + suffix)

    # -- the session's namespaces ---------------------------------------------------------------

    def set_up(self) -> None:
        """Makes the namespaces, and for a node that runs on this machine what of the chart it needs: an account and its rights."""
        # Databases of these nodes are paths of the machine.
        self.make_namespace(self.jobs_namespace, "privileged")
        self.make_namespace(self.node_namespace, "restricted")
        self.limited_account("sextant-node", self.node_rules())

    def chart(self) -> list[dict]:
        """What the chart makes for this session's namespaces."""
        least = {
            "apiKey": {"secret": "v6-node"},
            "config": {"server_url": "https://vantage6.example.org"},
            "tasks": {"namespace": self.jobs_namespace, "create": False},
        }
        return rendered("sextant", self.node_namespace, least)

    def make_namespace(self, name: str, level: str) -> None:
        """A namespace that enforces a Pod Security Standard; waits until pods can be made in it."""
        labels = {"pod-security.kubernetes.io/enforce": level}
        self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        until(
            f"the default service account of {name}",
            lambda: self.core.list_namespaced_service_account(name).items,
            within=30,
        )

    def has_dns(self) -> bool:
        """Whether pods can look up the names of Services."""
        return bool(self.core.list_service_for_all_namespaces(label_selector="k8s-app=kube-dns").items)

    def free_service_address(self, namespace: str) -> str:
        """An address of the Service network that nobody has: that of a Service which comes and goes."""
        service = {"metadata": {"generateName": "address-"}, "spec": {"ports": [{"port": 1}]}}
        made = self.core.create_namespaced_service(namespace, service)
        self.core.delete_namespaced_service(made.metadata.name, namespace)
        return made.spec.cluster_ip

    def tear_down(self) -> None:
        """Removes both namespaces with all in them; waits until the jobs' pods are gone, so that nothing outlives the tests."""
        for namespace in (self.jobs_namespace, self.node_namespace):
            with contextlib.suppress(ApiException):
                self.core.delete_namespace(namespace, grace_period_seconds=0)
        until(
            "the end of the tests' namespaces",
            lambda: (
                not {self.jobs_namespace, self.node_namespace}
                & {ns.metadata.name for ns in self.core.list_namespace().items}
            ),
            within=120,
            every=0.5,
        )

    def forget_jobs(self) -> None:
        """Removes all Jobs, and waits until their pods are gone; and what was said of them: the server uses numbers of runs again."""
        if self.jobs() or self.pods():
            self.batch.delete_collection_namespaced_job(
                self.jobs_namespace, propagation_policy="Background", grace_period_seconds=0
            )
            for pod in self.pods():
                with contextlib.suppress(ApiException):
                    self.core.delete_namespaced_pod(pod.metadata.name, self.jobs_namespace, grace_period_seconds=0)
            until("the end of the test's pods", lambda: not self.pods(), within=60, shows=self.describe)
        self.core.delete_collection_namespaced_event(self.jobs_namespace)

    def create(self, manifest: dict) -> None:
        """Creates one object."""
        utils.create_from_dict(self.api, manifest)

    # -- who the node is ------------------------------------------------------------------------

    def account_kubeconfig(self, directory: Path, account: str = "sextant-node") -> Path:
        """A kubeconfig with the rights of a service account in the node's namespace: the node on the host has no more than in the cluster.
        One for all nodes of a test: the first may be reading it while the second is made."""
        file = directory / f"{account}.kubeconfig"
        if file.exists():
            return file
        request = client.AuthenticationV1TokenRequest(
            spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=7200)
        )
        token = self.core.create_namespaced_service_account_token(account, self.node_namespace, request).status.token
        cluster = {"server": self.api.configuration.host}
        if authority := self.api.configuration.ssl_ca_cert:
            cluster["certificate-authority-data"] = base64.b64encode(Path(authority).read_bytes()).decode()
        if not self.api.configuration.verify_ssl:
            cluster["insecure-skip-tls-verify"] = True
        file.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "cluster", "cluster": cluster}],
                    "users": [{"name": account, "user": {"token": token}}],
                    "contexts": [{"name": "default", "context": {"cluster": "cluster", "user": account}}],
                    "current-context": "default",
                }
            )
        )
        file.chmod(0o600)
        return file

    def node_rules(self) -> list[dict]:
        """The rules of the chart's Role."""
        return rules()

    def limited_account(self, name: str, rules: list[dict]) -> None:
        """A service account with just these rules in the jobs' namespace."""
        self.create(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": self.node_namespace}}
        )
        group = "rbac.authorization.k8s.io"
        meta = {"name": name, "namespace": self.jobs_namespace}
        self.create({"apiVersion": f"{group}/v1", "kind": "Role", "metadata": meta, "rules": rules})
        self.create(
            {
                "apiVersion": f"{group}/v1",
                "kind": "RoleBinding",
                "metadata": meta,
                "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": self.node_namespace}],
            }
        )

    def host_address(self) -> str:
        """Where pods reach this machine: $SEXTANT_E2E_ADDRESS, else the address from which this machine speaks to the cluster's."""
        if named := os.environ.get("SEXTANT_E2E_ADDRESS"):
            return named
        # One that has just joined has none yet.
        addresses = [each for node in self.core.list_node().items for each in node.status.addresses or []]
        machine = next(each.address for each in addresses if each.type == "InternalIP")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((machine, 1))  # sends nothing
            return probe.getsockname()[0]

    def machine(self) -> str:
        """The name of a machine that is there; not one that KWOK plays for another test."""
        (machine, *_) = self.core.list_node(label_selector="type!=kwok").items
        return machine.metadata.name

    @contextlib.contextmanager
    def labelled(self, machine: str, label: str) -> Iterator[None]:
        """The machine has this label, with the value `here`, for a while."""
        self.core.patch_node(machine, {"metadata": {"labels": {label: "here"}}})
        try:
            yield
        finally:
            self.core.patch_node(machine, {"metadata": {"labels": {label: None}}})

    # -- Jobs and pods --------------------------------------------------------------------------

    def jobs(self, run: int | None = None, node: int | None = None) -> list[client.V1Job]:
        """Sextant's Jobs, of one run or of one node or all."""
        return self.batch.list_namespaced_job(self.jobs_namespace, label_selector=self._selector(run, node)).items

    def reported(self, run: int) -> list[str | None]:
        """The statuses with which a run's Jobs are marked as reported; None for one that is not."""
        return [(job.metadata.annotations or {}).get("vantage6.ai/reported") for job in self.jobs(run)]

    def pods(self, run: int | None = None, node: int | None = None) -> list[client.V1Pod]:
        """Their pods."""
        return self.core.list_namespaced_pod(self.jobs_namespace, label_selector=self._selector(run, node)).items

    def pod_of(self, run: int, attempt: int = 1) -> client.V1Pod | None:
        """The pod of a run's nth launch."""
        for job in self.jobs(run):
            if (job.metadata.annotations or {}).get("vantage6.ai/attempt", "1") == str(attempt):
                for pod in self.pods(run):
                    if pod.metadata.labels["batch.kubernetes.io/controller-uid"] == job.metadata.uid:
                        return pod
        return None

    def events(self, run: int, reason: str) -> list[str]:
        """The texts of the Events of this kind on a run's Jobs."""
        found = self.core.list_namespaced_event(self.jobs_namespace, field_selector=f"involvedObject.kind=Job,reason={reason}").items
        return [each.message for each in found if f"-run-{run}-" in each.involved_object.name]

    @staticmethod
    def _selector(run: int | None, node: int | None) -> str:
        parts = [SELECTOR]
        if run is not None:
            parts.append(f"vantage6.ai/run={run}")
        if node is not None:
            parts.append(f"vantage6.ai/node={node}")
        return ",".join(parts)

    def container(self, run: int, name: str, node: int | None = None) -> client.V1ContainerStatus | None:
        """The status of a run's container (init containers too), once the kubelet has reported it."""
        for pod in self.pods(run, node):
            for status in (pod.status.init_container_statuses or []) + (pod.status.container_statuses or []):
                if status.name == name:
                    return status
        return None

    def until_container(self, run: int, name: str, state: str, within: float = 60) -> client.V1ContainerStatus:
        """Waits until the container is `running` or `terminated`."""

        def reached() -> client.V1ContainerStatus | None:
            status = self.container(run, name)
            return status if status and getattr(status.state, state) else None

        return until(f"container {name} of run {run} to be {state}", reached, within, shows=lambda: self.describe(run))

    def until_running(self, run: int, within: float = 60) -> None:
        """Waits until the run's algorithm works. It should have been asked for more seconds than a busy machine may lose; see `release`."""
        self.until_container(run, "algorithm", "running", within)

    def release(self, run: int) -> None:
        """Has the odd algorithm of a run end its sleep now, whatever time it was to take, as soon as it works."""

        def works() -> str | None:
            for pod in self.pods(run):
                states = {status.name: status.state for status in pod.status.container_statuses or []}
                if not pod.metadata.deletion_timestamp and "algorithm" in states and states["algorithm"].running:
                    return pod.metadata.name
            return None

        pod = until(f"the algorithm of run {run} to work", works, shows=lambda: self.describe(run))
        # `stream` makes the client speak WebSocket while it is at work; ours may be in use elsewhere.
        core = client.CoreV1Api(config.new_client_from_config(str(self.kubeconfig)))
        command = {"container": "algorithm", "command": ["/odd", "release"], "stdout": True, "stderr": True}
        said = stream(core.connect_get_namespaced_pod_exec, pod, self.jobs_namespace, **command)
        assert "odd: release" in said, said

    def until_job_created(self, within: float = 60) -> Iterator[client.V1Job]:
        """Yields each Job of Sextant's at the moment in which the API server tells of it (including those that exist)."""
        stream = watch.Watch().stream(
            self.batch.list_namespaced_job, self.jobs_namespace, label_selector=SELECTOR, timeout_seconds=int(within)
        )
        for event in stream:
            if event["type"] == "ADDED":
                yield event["object"]

    def until_job_complete(self, run: int, within: float = 60) -> client.V1Job:
        """Waits until the run's Job has a Complete condition."""

        def complete() -> client.V1Job | None:
            for job in self.jobs(run):
                if any(each.type == "Complete" and each.status == "True" for each in job.status.conditions or []):
                    return job
            return None

        return until(f"the Job of run {run} to complete", complete, within, shows=lambda: self.describe(run))

    def has_secret(self, name: str) -> bool:
        """Whether the task namespace has a Secret of this name."""
        names = self.core.list_namespaced_secret(self.jobs_namespace, field_selector=f"metadata.name={name}")
        return bool(names.items)

    def everything(self) -> str:
        """All that the API server tells of the task namespace, Secrets decoded."""
        lists = [
            self.core.list_namespaced_config_map,
            self.core.list_namespaced_event,
            self.core.list_namespaced_pod,
            self.core.list_namespaced_secret,
            self.batch.list_namespaced_job,
        ]
        objects = [each for read in lists for each in read(self.jobs_namespace).items]
        secrets = [each.data or {} for each in objects if isinstance(each, client.V1Secret)]
        decoded = [base64.b64decode(value).decode("latin-1") for each in secrets for value in each.values()]
        return "\n".join([*(str(each.to_dict()) for each in objects), *decoded])

    def pod_log(self, pod: str, container: str) -> str:
        """What a container has printed."""
        return self.core.read_namespaced_pod_log(pod, self.jobs_namespace, container=container)

    def node_pods(self) -> list[client.V1Pod]:
        """The pods of a node that runs in the cluster."""
        return self.core.list_namespaced_pod(self.node_namespace).items

    def describe_node(self) -> str:
        """What became of a node in the cluster: its pods' states, logs, events."""
        lines = []
        for pod in self.node_pods():
            lines.append(f"Pod {pod.metadata.name}: {pod.status.phase}")
            for status in pod.status.container_statuses or []:
                lines.append(
                    f"  {status.name}: { ({key: value for key, value in status.state.to_dict().items() if value}) }"
                )
            with contextlib.suppress(ApiException):
                lines.append(self.core.read_namespaced_pod_log(pod.metadata.name, self.node_namespace, tail_lines=30))
        for event in self.core.list_namespaced_event(self.node_namespace).items[-10:]:
            lines.append(
                f"Event {event.involved_object.kind}/{event.involved_object.name}: {event.reason} {event.message}"
            )
        return "\n".join(lines) or "no pod of the node"

    def describe(self, run: int | None = None) -> str:
        """Jobs, pods, containers and recent events in a few lines, for a test that failed."""
        lines = []
        with contextlib.suppress(ApiException, urllib3.exceptions.HTTPError):
            for job in self.jobs(run):
                conditions = [f"{each.type}={each.status} {each.reason or ''}" for each in job.status.conditions or []]
                lines.append(f"Job {job.metadata.name}: active={job.status.active} {conditions}")
            for pod in self.pods(run):
                lines.append(f"Pod {pod.metadata.name}: {pod.status.phase}")
                for status in (pod.status.init_container_statuses or []) + (pod.status.container_statuses or []):
                    state = {key: value for key, value in status.state.to_dict().items() if value}
                    lines.append(f"  {status.name}: {state}")
                    with contextlib.suppress(ApiException):
                        tail = self.pod_log(pod.metadata.name, status.name).splitlines()[-8:]
                        lines += [f"    | {line}" for line in tail]
            for event in self.core.list_namespaced_event(self.jobs_namespace).items[-10:]:
                lines.append(
                    f"Event {event.involved_object.kind}/{event.involved_object.name}: {event.reason} {event.message}"
                )
        return "\n".join(lines) or "no Job"
