"""The regular vantage6 node 4.5.5 with a Docker daemon of its own: to work beside Sextant, and to be measured.

Both live in namespaces of their own, so that Docker's bridges, firewall rules and mounts end with them and this machine's are never
touched. A pair of virtual network cards leads from there to this machine, where the server is, and nowhere else.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import yaml

from . import memory, nodes
from .images import IMAGES
from .lacking import missing
from .paths import REPOSITORY
from .wait import until
from .world import World

# This machine and the namespace, as they see each other: of the range that is reserved for tests (RFC 2544).
OURS, THEIRS, BITS = "198.18.77.1", "198.18.77.2", 30
# Where a container finds what listens in the namespace: Docker's own bridge.
BRIDGE = "172.17.0.1"

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


class Unavailable(Exception):
    """What keeps a regular node from running on this machine."""


class Docker:
    """A Docker daemon with everything of it in one folder and in namespaces of its own."""

    def __init__(self, directory: Path, inside: list[str]):
        self.address = f"unix://{directory}/docker.sock"
        self.inside = inside
        self.log = directory / "dockerd.log"
        # Its own, and not this machine's.
        settings = directory / "daemon.json"
        settings.write_text("{}")
        self.cgroup = f"sextant-regular-{os.getpid()}"
        command = ["dockerd", "--host", self.address, "--config-file", str(settings), "--cgroup-parent", f"/{self.cgroup}"]
        for option, name in (("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")):
            command += [option, str(directory / name)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([*inside, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            until("dockerd to answer", self._answers, within=60, shows=self._log_end)
        except BaseException:
            self.stop()
            raise

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise Unavailable(f"dockerd can't be started here:\n{self._log_end()}")
        return subprocess.run([*self._client(), "version"], capture_output=True).returncode == 0

    def _log_end(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def _client(self) -> list[str]:
        return ["docker", "--host", self.address]

    def run(self, *arguments: str, content: bytes | None = None) -> bytes:
        """What the Docker client answers, given `content`."""
        done = subprocess.run([*self._client(), *arguments], input=content or b"", capture_output=True, timeout=120)
        assert done.returncode == 0, f"docker {arguments}: {done.stderr.decode(errors='replace')}"
        return done.stdout

    def load(self, image: str) -> None:
        """One of the test bed's images, by the name of its folder."""
        built = subprocess.run([IMAGES / "build", image], check=True, stdout=subprocess.PIPE, text=True)
        self.run("load", "--input", built.stdout.strip())

    def stop(self) -> None:
        """Ends it and its containers."""
        if self.process.poll() is None:
            with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
                if containers := self.run("ps", "--all", "--quiet").decode().split():
                    self.run("rm", "--force", *containers)
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
        self.process.kill()
        self.process.wait()
        for left in [*Path("/sys/fs/cgroup").glob(self.cgroup), *Path("/sys/fs/cgroup").glob(f"*/{self.cgroup}")]:
            with contextlib.suppress(OSError):
                left.rmdir()


@contextlib.contextmanager
def docker(directory: Path) -> Iterator[Docker]:
    """A Docker daemon that can reach this machine, with the images that a regular node needs. Raises `Unavailable` where there can be none."""
    if os.geteuid() != 0:
        raise Unavailable("a regular node needs dockerd, and that needs root")
    if why := missing("docker"):
        raise Unavailable(f"a regular node needs dockerd: {why}")
    with contextlib.ExitStack() as ends:
        try:
            inside = ends.enter_context(_namespaces())
        except (OSError, AssertionError, subprocess.CalledProcessError) as error:
            raise Unavailable(f"a regular node needs namespaces of its own: {error}") from error
        made = Docker(directory, inside)
        ends.callback(made.stop)
        made.load("v6-odd")
        _make_helper(made)
        yield made


@contextlib.contextmanager
def _namespaces() -> Iterator[list[str]]:
    """Namespaces for mounts and for the network, with a way to this machine; what to put before a command to start it there."""
    # With the process that made it, whatever ends that.
    bound = ["setpriv", "--pdeathsig", "TERM"]
    private = ["unshare", "--net", "--mount", "--propagation", "slave"]
    holder = subprocess.Popen([*bound, *private, "sleep", "infinity"], stdin=subprocess.DEVNULL)
    target = str(holder.pid)
    inside = ["nsenter", "--target", target, "--net", "--mount", "--", *bound]

    def net(*arguments: str, prefix: list[str] | None = None) -> None:
        subprocess.run([*(prefix or []), "ip", *arguments], check=True, stdin=subprocess.DEVNULL)

    try:
        own = os.readlink("/proc/self/ns/net")
        until("the namespaces", lambda: os.readlink(f"/proc/{target}/ns/net") != own, within=10, every=0.05)
        # When the namespace goes, so does the pair.
        here = f"v6r{target}"[:15]
        net("link", "add", here, "type", "veth", "peer", "name", "v6r", "netns", target)
        net("address", "add", f"{OURS}/{BITS}", "dev", here)
        net("link", "set", here, "up")
        for device in ("lo", "v6r"):
            net("link", "set", device, "up", prefix=inside)
        net("address", "add", f"{THEIRS}/{BITS}", "dev", "v6r", prefix=inside)
        # Sockets and files of a Docker or containerd of this machine's are none of its.
        subprocess.run([*inside, "mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
        yield inside
    finally:
        holder.kill()
        holder.wait()


def _make_helper(made: Docker) -> None:
    """For each run the node starts a helper that sleeps, from an image of Alpine that can't be pulled here: one of the sleeping kind of
    v6-odd takes its name."""
    ask = "from vantage6.node.globals import ALPINE_IMAGE; print(ALPINE_IMAGE)"
    name = subprocess.run([python(), "-c", ask], check=True, capture_output=True, text=True).stdout.strip()
    container = made.run("create", nodes.ODD).decode().strip()
    content = made.run("export", container)
    made.run("import", "--change", f'ENTRYPOINT ["/odd", "sleep", "seconds={nodes.LONG}"]', "-", name, content=content)
    made.run("rm", container)


def python() -> str:
    """The Python that has it."""
    venv = REPOSITORY / "testbed" / "regular" / "venv"
    return subprocess.run([venv], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


class Regular:
    """The regular node's process."""

    def __init__(self, docker: Docker, world: World, organization: int, directory: Path, **changes):
        self.log_file = directory / "regular.log"
        self.process: subprocess.Popen | None = None
        config = {"encryption": {"enabled": False, "private_key": ""}} | nodes.regular(world, organization, directory)
        config |= {
            "server_url": f"http://{OURS}",
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
        file.write_text(yaml.safe_dump(config | changes))
        self._command = [*docker.inside, python(), "-c", LAUNCH, "start", "--user", "--config", str(file)]
        variables = {"DOCKER_HOST": docker.address, "HOME": str(directory), "PROXY_SERVER_HOST": BRIDGE}
        # Folders that it derives from HOME, unless these say otherwise.
        others = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
        self._environment = others | variables

    def start(self) -> None:
        """Starts it."""
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self._environment
            )

    def log(self) -> str:
        """The end of what it said."""
        return self.log_file.read_text(errors="replace")[-4000:]

    def until_online(self, world: World, organization: int) -> None:
        """Waits until the server calls it online."""

        def online() -> bool:
            if self.process.poll() is not None:
                raise Unavailable(f"the regular node can't be started here:\n{self.log()}")
            return world.researcher.node_status(world.node(organization)) == "online"

        until("the regular node to be online", online, within=120, shows=self.log)

    def stop(self) -> None:
        """Ends it, hard if it must be."""
        if self.process is None:
            return
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(15)
        self.process.kill()
        self.process.wait()

    def resident_bytes(self) -> int:
        """Its resident memory."""
        return memory.of(self.process.pid, "VmRSS")
