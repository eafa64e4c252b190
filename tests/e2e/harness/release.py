"""A node as it normally lives: the chart, installed with helm into namespaces of its own that enforce pod security."""

import contextlib
from pathlib import Path

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from . import average
from .chart import CHART, helm
from .cluster import Cluster
from .nodes import SEXTANT, merged
from .wait import until
from .world import World

RELEASE = "sextant"


class Release:
    """One release of the chart: the node of one organization with its proxy in one namespace, its runs in another."""

    def __init__(self, cluster: Cluster, world: World, organization: int, **changes):
        self.cluster = cluster.sibling(f"-{organization}")
        self.world = world
        self.organization = organization
        self.namespace = self.cluster.node_namespace
        self.chart = CHART
        self.values = merged(self._values(), changes)

    def _values(self) -> dict:
        """What must be set for this world; the database is a ConfigMap, as a restricted namespace allows no paths."""
        repository, tag = SEXTANT.rsplit(":", 1)
        server = self.world.server
        return {
            "image": {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"},
            "apiKey": {"secret": "v6-node"},
            "tasks": {"namespace": self.cluster.jobs_namespace},
            "config": {
                "server_url": f"http://{self.cluster.host_address()}",
                "port": server.port,
                "api_path": server.api_path,
                "databases": [{"label": "default", "type": "csv"}],
                # The cluster's machines have the test bed's images, and no registry does.
                "policies": {"require_algorithm_pull": False},
                "kubernetes": {
                    "databases": {"default": {"configMap": {"name": "employees"}, "path": "employees.csv"}},
                    "image_pull_timeout": "20s",
                },
            },
            "proxy": {"replicas": 1},
        } | ({"encryption": {"enabled": True, "secret": "v6-private-key"}} if self._private_key() else {})

    def _private_key(self) -> Path | None:
        return self.world.private_key(self.organization)

    # -- install and remove ---------------------------------------------------------------------

    def install(self) -> "Release":
        """Makes what the chart expects (namespace, Secrets, data), and installs it."""
        self.cluster.make_namespace(self.namespace, "restricted")
        self.secret("v6-node", {"api-key": self.world.api_key(self.organization)})
        if private_key := self._private_key():
            self.secret("v6-private-key", {"private-key.pem": private_key.read_text()})
        for role in ("node", "proxy"):
            if not self.cluster.has_dns() and not self.values.get(role, {}).get("clusterIP"):
                self.values = merged(self.values, {role: {"clusterIP": self.cluster.free_service_address(self.namespace)}})
        self._helm("install", "--create-namespace")
        file = average.employee_files()[self.organization]
        self.cluster.create(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "employees", "namespace": self.cluster.jobs_namespace},
                "data": {"employees.csv": file.read_text()},
            }
        )
        return self

    def upgrade(self, **changes) -> None:
        """Changes values, as `helm upgrade` does."""
        self.values = merged(self.values, changes)
        self._helm("upgrade")

    def _helm(self, command: str, *more: str) -> None:
        arguments = [command, RELEASE, str(self.chart), "--namespace", self.namespace, *more]
        helm(*arguments, values=self.values, kubeconfig=self.cluster.kubeconfig)

    def uninstall(self) -> None:
        """Removes the release; the namespace of the runs stays, as the chart says."""
        helm("uninstall", RELEASE, "--namespace", self.namespace, kubeconfig=self.cluster.kubeconfig)

    def remove(self) -> None:
        """Removes everything, whatever there is."""
        with contextlib.suppress(Exception):
            self.uninstall()
        self.cluster.tear_down()

    def secret(self, name: str, content: dict[str, str]) -> None:
        """A Secret of the operator's in the node's namespace."""
        meta = {"name": name, "namespace": self.namespace}
        self.cluster.create({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": content})

    # -- wait and look --------------------------------------------------------------------------

    def until_online(self, within: float = 90) -> "Release":
        """Waits until the server sees the node."""
        until(
            f"the node of organization {self.organization} to be online",
            lambda: self.world.researcher.node_status(self.world.node(self.organization)) == "online",
            within,
            every=0.5,
            shows=self.describe,
        )
        return self

    def until_ready(self, within: float = 120) -> "Release":
        """Waits until node and proxy are ready: online, isolation confirmed, listening."""
        until("node and proxy to be ready", lambda: self.ready("node") and self.ready("proxy"), within, every=0.5, shows=self.describe)
        return self.until_online()

    def deployment(self, role: str) -> client.V1Deployment:
        """The Deployment of `node` or `proxy`."""
        return self.cluster.apps.read_namespaced_deployment(f"{RELEASE}-{role}", self.namespace)

    def ready(self, role: str) -> bool:
        """Whether all of its pods are ready, and of the newest values."""
        deployment = self.deployment(role)
        status = deployment.status
        current = status.observed_generation == deployment.metadata.generation
        wanted = deployment.spec.replicas
        return current and wanted == (status.ready_replicas or 0) == (status.updated_replicas or 0) == (status.replicas or 0)

    def pods(self, role: str) -> list[client.V1Pod]:
        """Its pods."""
        return self.cluster.core.list_namespaced_pod(
            self.namespace, label_selector=f"app.kubernetes.io/component={role}"
        ).items

    def log(self, role: str) -> str:
        """What its pods have logged."""
        texts = []
        for pod in self.pods(role):
            with contextlib.suppress(ApiException):
                texts.append(self.cluster.core.read_namespaced_pod_log(pod.metadata.name, self.namespace))
        return "".join(texts)

    def account(self) -> str:
        """The node's service account, as the API server names it."""
        return f"system:serviceaccount:{self.namespace}:{RELEASE}-node"

    def describe(self) -> str:
        """What became of it: pods, logs, events, and the runs."""
        return f"{self.cluster.describe_node()}\n{self.cluster.describe()}"
