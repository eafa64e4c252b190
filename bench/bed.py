"""What the measurements on a cluster stand on. Whoever imports it has seen to the harness's being found."""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.cluster import Cluster, kubeconfig
from harness.world import World
from v6server import Provision, Server


@contextlib.contextmanager
def bed(command: str) -> Iterator[tuple[World, Cluster, Path]]:
    """A server with one organization, namespaces on the cluster, and a folder; all gone afterwards. Without a cluster it ends the program
    with advice, which names the command."""
    if kubeconfig() is None:
        sys.exit(f"no cluster: set KUBECONFIG, or run {command} as root, which builds one")
    with contextlib.ExitStack() as ends:
        directory = Path(tempfile.mkdtemp(prefix="sextant-bench-"))
        ends.callback(shutil.rmtree, directory, ignore_errors=True)
        cluster = Cluster(kubeconfig())
        server = ends.enter_context(Server.start(directory / "server"))
        world = World(server, Provision.create(server, organizations=1))
        ends.callback(cluster.tear_down)
        cluster.set_up()
        yield world, cluster, directory
