"""Measures the regular vantage6 node with Docker: regular.py PYTHON IMAGE-ARCHIVE (started by `regular`, in namespaces of its own)."""

import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "e2e"), str(ROOT / "testbed" / "server")]

import yaml  # noqa: E402
from ended import Ended  # noqa: E402
from figures import Series  # noqa: E402
from harness import memory, nodes  # noqa: E402
from harness.wait import until  # noqa: E402
from harness.world import World  # noqa: E402
from v6server import Provision, Server  # noqa: E402


# Its command `vnode-local`, but for three things: 4.5.5 misses a setting outside of its own container, it takes any container for that
# one, and the images for a VPN, which is not used, can't be pulled from here.
LAUNCH = """
import vantage6.common.docker.addons
vantage6.common.docker.addons.running_in_docker = lambda: False
from vantage6.cli.context.node import NodeContext
NodeContext.running_in_docker = False
from vantage6.node.docker.vpn_manager import VPNManager
VPNManager._update_images = lambda self: None
from vantage6.node.cli.node import cli_node
cli_node(prog_name="vnode-local")
"""


def make_helper(address: str, python: str) -> None:
    """For each run the node starts a helper that sleeps, from an image of Alpine that can't be pulled here: one of the sleeping kind of
    v6-odd takes its name."""
    ask = "from vantage6.node.globals import ALPINE_IMAGE; print(ALPINE_IMAGE)"
    name = subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip()
    run = functools.partial(subprocess.run, check=True, capture_output=True)
    container = run(["docker", "--host", address, "create", nodes.ODD], text=True).stdout.strip()
    content = run(["docker", "--host", address, "export", container]).stdout
    entrypoint = 'ENTRYPOINT ["/odd", "sleep", "seconds=600"]'
    run(["docker", "--host", address, "import", "--change", entrypoint, "-", name], input=content)
    docker(address, "rm", container)


def dockerd(directory: Path, ends: contextlib.ExitStack) -> str:
    """Starts a Docker daemon with everything in one folder; its address."""
    address = f"unix://{directory}/docker.sock"
    log = ends.enter_context((directory / "dockerd.log").open("wb"))
    process = subprocess.Popen(
        [
            "dockerd",
            "--host",
            address,
            "--data-root",
            directory / "data",
            "--exec-root",
            directory / "exec",
            "--pidfile",
            directory / "pid",
        ],
        stdout=log,
        stderr=log,
    )
    ends.callback(lambda: (process.terminate(), process.wait(30)))
    until(
        "dockerd to answer",
        lambda: process.poll() is not None or docker(address, "version", check=False) == 0,
        within=60,
        shows=lambda: (directory / "dockerd.log").read_text()[-2000:],
    )
    if process.returncode is not None:
        sys.exit(f"dockerd can't be started here:\n{(directory / 'dockerd.log').read_text()[-2000:]}")
    return address


def docker(address: str, *arguments: str, check: bool = True) -> int:
    """Runs the Docker client."""
    return subprocess.run(
        ["docker", "--host", address, *arguments], check=check, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ).returncode


class Regular:
    """The regular node's process."""

    def __init__(self, command: str, world: World, directory: Path, address: str):
        config = nodes.regular(world, 0, directory) | {
            "task_dir": str(directory / "tasks"),
            "databases": [],
            "encryption": {"enabled": False, "private_key": ""},
            "logging": {
                "level": "INFO",
                "file": "node.log",
                "use_console": True,
                "backup_count": 1,
                "max_size": 1000,
                "format": "%(message)s",
                "datefmt": "%H:%M:%S",
                "loggers": [],
            },
        }
        file = directory / "regular.yaml"
        file.write_text(yaml.safe_dump(config))
        self.log = directory / "regular.log"
        self.command = [command, "-c", LAUNCH, "start", "--user", "--config", str(file)]
        self.environment = os.environ | {"DOCKER_HOST": address, "HOME": str(directory)}

    def start(self) -> None:
        """Starts it."""
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.environment
            )

    def stop(self) -> None:
        """Ends it, hard if it must be."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(15)
        self.process.kill()
        self.process.wait()

    def resident_bytes(self) -> int:
        """Its resident memory."""
        return memory.of(self.process.pid, "VmRSS")


def main(command: str, archive: str) -> None:
    """Measures and prints."""
    with contextlib.ExitStack() as ends:
        directory = Path(tempfile.mkdtemp(prefix="sextant-regular-"))
        ends.callback(shutil.rmtree, directory, ignore_errors=True)
        address = dockerd(directory, ends)
        docker(address, "load", "--input", archive)
        make_helper(address, command)
        server = ends.enter_context(Server.start(directory / "server"))
        world = World(server, Provision.create(server, organizations=1))
        node = Regular(command, world, directory, address)
        ended = Ended(world)

        began = time.monotonic()
        node.start()
        ends.callback(node.stop)
        until(
            "the regular node to be online",
            lambda: node.process.poll() is not None or world.researcher.node_status(world.node()) == "online",
            within=120,
            shows=lambda: node.log.read_text()[-3000:],
        )
        if node.process.returncode is not None:
            sys.exit(f"the regular node can't be started here:\n{node.log.read_text()[-3000:]}")
        print(f"regular node: start → online {time.monotonic() - began:.2f} s", flush=True)
        time.sleep(5)
        print(f"regular node: memory idle {node.resident_bytes() / 1e6:.0f} MB", flush=True)
        for number, times in ((1, 7), (10, 3)):
            series = Series(f"{number} at once: regular node, task created → finished", "s")
            for _ in range(times):
                began = time.monotonic()
                tasks = [world.researcher.ask(nodes.ODD, "exit", [world.organization()], code=0) for _ in range(number)]
                until(
                    "the tasks to finish",
                    lambda: ended.all(tasks),
                    within=180,
                    every=0.01,
                    shows=lambda: node.log.read_text()[-3000:],
                )
                series.values.append(time.monotonic() - began)
            statuses = {world.researcher.run(task)["status"] for task in tasks}
            assert statuses == {"completed"}, f"{statuses}: {node.log.read_text()[-3000:]}"
            print(series, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
