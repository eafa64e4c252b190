"""The network policies that isolate algorithms, and what a node says of the isolation."""

import json
import secrets

import yaml
from kubernetes import client

from .cluster import Cluster
from .node import NodeProcess
from .nodes import ODD
from .wait import until

ISOLATED = "Algorithms are isolated"
OPEN = "Algorithms are NOT isolated"


class NetworkPolicies:
    """The network policies of one namespace, as `sextant network-policies` prints them for a node."""

    def __init__(self, cluster: Cluster):
        self.cluster = cluster
        self.api = client.NetworkingV1Api(cluster.api)

    def build(self, node: NodeProcess) -> None:
        """What the documentation says: `sextant network-policies CONFIG | kubectl apply -f -`."""
        for policy in yaml.safe_load_all(node.tool("network-policies").stdout):
            self.cluster.create(policy)

    def tear_down(self, name: str | None = None) -> None:
        """Removes all of them, or one."""
        which = f"metadata.name={name}" if name else None
        self.api.delete_collection_namespaced_network_policy(self.cluster.jobs_namespace, field_selector=which)

    def knock(self, address: str) -> str:
        """Tries to connect from a pod of another namespace, which no policy keeps in; how it went."""
        core, namespace = self.cluster.core, self.cluster.node_namespace
        name = f"knock-{secrets.token_hex(3)}"
        confined = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        self.cluster.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": False,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": 65532,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [
                        {
                            "name": "knock",
                            "image": ODD,
                            "args": ["connect", f"addresses={address}", "seconds=2"],
                            "securityContext": confined,
                        }
                    ],
                },
            }
        )

        def ended() -> bool:
            return core.read_namespaced_pod(name, namespace).status.phase in ("Succeeded", "Failed")

        try:
            until(f"{name} to have knocked at {address}", ended, within=60)
            said = core.read_namespaced_pod_log(name, namespace)
        finally:
            core.delete_namespaced_pod(name, namespace, grace_period_seconds=0)
        (answer,) = [line for line in said.splitlines() if line.startswith("{")]
        return json.loads(answer)[address]
