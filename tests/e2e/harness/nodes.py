"""Configurations of nodes: a regular node's file plus `kubernetes:` or `local:`."""

import os
from pathlib import Path

from . import average
from .cluster import Cluster
from .node import free_port
from .paths import REPOSITORY, cache
from .world import World

# The test bed's images, in the cluster without a registry.
AVERAGE = "localhost/v6-average:4.5.5"
# The same algorithm with the last 4.x of the algorithm tools.
AVERAGE_4_15 = "localhost/v6-average:4.15.2"
ODD = "localhost/v6-odd:1"
# Seconds that an algorithm sleeps which a test ends itself: longer than a machine is ever too busy to get to that.
LONG = 600
# The cluster's machines have these images, and no registry does.
LOADED = {"policies": {"require_algorithm_pull": False}}
SEXTANT = os.environ.get("SEXTANT_IMAGE", "localhost/sextant:dev")


def regular(world: World, organization: int, directory: Path, port: int | None = None) -> dict:
    """What any vantage6 node of that organization has in its configuration; its database is the organization's example file."""
    files = average.employee_files()
    private_key = world.private_key(organization)
    encryption = {"encryption": {"enabled": True, "private_key": str(private_key)}} if private_key else {}
    return {
        "api_key": world.api_key(organization),
        "server_url": world.server.host,
        "port": port or world.server.port,
        "api_path": world.server.api_path,
        "task_dir": str(directory / "tasks"),
        "databases": [{"label": "default", "uri": str(files[organization % len(files)]), "type": "csv"}],
    } | encryption


def kubernetes(world: World, cluster: Cluster, organization: int, directory: Path, port: int | None = None) -> dict:
    """A node on this machine whose algorithms run on the cluster, with no more rights than the chart gives."""
    return regular(world, organization, directory, port) | LOADED | {"kubernetes": on_cluster(cluster, directory)}


def on_cluster(cluster: Cluster, directory: Path) -> dict:
    """How a node on this machine uses the cluster. It finds out by itself where pods reach this machine, unless $SEXTANT_E2E_ADDRESS says."""
    address = os.environ.get("SEXTANT_E2E_ADDRESS")
    return {
        "namespace": cluster.jobs_namespace,
        "kubeconfig": str(cluster.account_kubeconfig(directory)),
        "image": SEXTANT,
        "data_port": {"listen": f"0.0.0.0:{free_port()}"} | ({"address": address} if address else {}),
        "proxy": {"listen": f"0.0.0.0:{free_port()}"},
        # Most tests are of something else, and don't wait for a check; those of the isolation remove this.
        "allow_unisolated": True,
    }


def local(world: World, organization: int, directory: Path, port: int | None = None) -> dict:
    """A node whose algorithms are child processes: the average algorithm's package under the test bed's Python."""
    return regular(world, organization, directory, port) | {
        "local": {"algorithms": {AVERAGE: average_locally(), AVERAGE_4_15: average_locally("-4.15.2")}}
    }


def tools(version: str = "") -> Path:
    """A Python with the real vantage6-algorithm-tools: 4.5.5, or `-4.15.2`."""
    return cache() / f"venv-algorithm{version}" / "bin" / "python"


def average_locally(version: str = "") -> dict:
    """Runs the average algorithm without an image, on the real vantage6-algorithm-tools."""
    start = "from vantage6.algorithm.tools.wrap import wrap_algorithm; wrap_algorithm()"
    return {
        "command": [str(tools(version)), "-c", start],
        "package": "v6_average",
        "env": {"PYTHONPATH": str(REPOSITORY / "testbed" / "images" / "average")},
    }


def merged(base: dict, changes: dict) -> dict:
    """A copy of `base` with `changes` laid over it, key by key; None removes a key."""
    result = dict(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result
