"""The walls around algorithms: what makes them, and what a node says of them."""

import yaml
from kubernetes import client

from .cluster import Cluster
from .node import NodeProcess

WALLED = "Algorithms are walled in"
OPEN = "Algorithms are NOT walled in"


class Walls:
    """The network policies of one namespace, as `sextant walls` prints them for a node."""

    def __init__(self, cluster: Cluster):
        self.cluster = cluster
        self.api = client.NetworkingV1Api(cluster.api)

    def build(self, node: NodeProcess) -> None:
        """What the documentation says: `sextant walls CONFIG | kubectl apply -f -`."""
        for policy in yaml.safe_load_all(node.tool("walls").stdout):
            self.cluster.create(policy)

    def tear_down(self, name: str | None = None) -> None:
        """Removes all of them, or one."""
        which = f"metadata.name={name}" if name else None
        self.api.delete_collection_namespaced_network_policy(self.cluster.jobs_namespace, field_selector=which)
