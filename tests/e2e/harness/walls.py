"""The walls around algorithms: what makes them, and what a node says of them."""

import subprocess
import urllib.error
import urllib.request

import yaml
from kubernetes import client

from .cluster import Cluster
from .node import NodeProcess
from .paths import binary

WALLED = "Algorithms are walled in"
OPEN = "Algorithms are NOT walled in"


class Walls:
    """The network policies of one namespace, as `sextant walls` prints them for a node."""

    def __init__(self, cluster: Cluster):
        self.cluster = cluster
        self.api = client.NetworkingV1Api(cluster.api)

    def build(self, node: NodeProcess) -> None:
        """What the documentation says: `sextant walls CONFIG | kubectl apply -f -`."""
        for policy in yaml.safe_load_all(sextant("walls", node).stdout):
            self.cluster.create(policy)

    def tear_down(self, name: str | None = None) -> None:
        """Removes all of them, or one."""
        which = f"metadata.name={name}" if name else None
        self.api.delete_collection_namespaced_network_policy(self.cluster.jobs_namespace, field_selector=which)


def sextant(command: str, node: NodeProcess, *options: str) -> subprocess.CompletedProcess:
    """Runs another of our commands with a node's configuration."""
    return subprocess.run(
        [binary(), command, node.config_file, *options], capture_output=True, text=True, timeout=120, cwd=node.directory
    )


def readiness(node: NodeProcess) -> tuple[int, str]:
    """What /readyz says."""
    try:
        with urllib.request.urlopen(f"http://{node.config['health']['listen']}/readyz", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)
