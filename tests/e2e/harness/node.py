"""The node as a process of this machine: started with a configuration, waited for, killed, restarted."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import yaml

from . import memory
from .paths import binary
from .wait import until


_ports = iter(range(21000 + os.getpid() * 50 % 9000, 32000))

# A process that sees no others looks to them like one of another machine: that it is gone, they can't see.
ELSEWHERE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


def free_port() -> int:
    """A port for a data port, never given twice: it must stay the same when the node restarts, so it lies outside the range from
    which the kernel takes ports for outgoing connections."""
    for port in _ports:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("0.0.0.0", port))
            return port
    raise RuntimeError("no free port below 32000")


class NodeProcess:
    """`sextant node CONFIG`. One object is one node; `start` after `kill` is a restart of it, with the log going on in the same file."""

    def __init__(
        self,
        directory: Path,
        config: dict,
        environment: dict[str, str] | None = None,
        arguments: tuple[str, ...] = (),
        prefix: tuple[str, ...] = (),
        program: Path | None = None,
    ):
        self.directory = directory
        self.config = config
        self.config_file = directory / "node.yaml"
        self.log_file = directory / "node.log"
        self.environment = environment or {}
        self.arguments = arguments
        self.prefix = prefix
        self.program = program
        self.process: subprocess.Popen | None = None
        self._log_start = 0
        directory.mkdir(parents=True, exist_ok=True)
        self.write_config()

    def write_config(self) -> None:
        """Writes the configuration file from `self.config`; readable by nobody else, as it holds the API key."""
        self.config_file.touch(mode=0o600)
        self.config_file.write_text(yaml.safe_dump(self.config, sort_keys=False))

    def start(self) -> "NodeProcess":
        """Starts the process, without waiting for anything."""
        assert not self.running, "this node is running already"
        self._log_start = self.log_file.stat().st_size if self.log_file.exists() else 0
        environment = {name: value for name, value in os.environ.items() if name not in ("KUBECONFIG", "RUST_LOG")}
        with self.log_file.open("ab") as log:
            log.write(b"--- start\n")
            log.flush()
            self.process = subprocess.Popen(
                [*self.prefix, self.program or binary(), "node", self.config_file, *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=environment | self.environment,
            )
        return self

    def start_online(self, within: float = 30) -> "NodeProcess":
        """Starts it and waits until it says that it is online."""
        self.start()
        return self.wait_online(within)

    def wait_online(self, within: float = 30) -> "NodeProcess":
        """Waits for the log line that says the node is connected."""
        self.wait_log(r"\bonline\b", within)
        return self

    def wait_log(self, pattern: str, within: float = 30) -> str:
        """Waits for a log line (since the last start) that matches; the line. Fails at once when the node has ended without one."""

        def line() -> str | None:
            ended = not self.running
            for each in self.log().splitlines():
                if re.search(pattern, each):
                    return each
            if ended:
                raise AssertionError(
                    f"the node ended with code {self.process.returncode} before it logged {pattern!r}:\n{self.log()}"
                )
            return None

        return until(f"a log line of the node like {pattern!r}", line, within, every=0.02, shows=self.log)

    def wait_log_anyhow(self, pattern: str, within: float = 30) -> None:
        """Waits for a text in the log (since the last start), whether the node still runs or has ended with it."""
        until(
            f"the node to log {pattern!r}", lambda: re.search(pattern, self.log()), within, every=0.02, shows=self.log
        )

    def wait_end(self, within: float = 15) -> int:
        """Waits until the node ends by itself; its exit code."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the node still runs after {within} s:\n{self.log()}") from None

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def log(self) -> str:
        """What the node has logged since its last start."""
        if not self.log_file.exists():
            return ""
        with self.log_file.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def whole_log(self) -> str:
        """What it has logged since the first start."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def kill(self) -> None:
        """SIGKILL: no chance to do anything."""
        self.process.kill()
        self.process.wait(10)

    def freeze(self) -> None:
        """SIGSTOP: it is there, but does nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it goes on after `freeze`."""
        self.process.send_signal(signal.SIGCONT)

    def restart_killed(self) -> None:
        """Kills it (if that has not been done) and starts it anew until it is online."""
        if self.running:
            self.kill()
        self.start_online()

    def terminate(self, within: float = 10) -> tuple[int, float]:
        """SIGTERM; exit code and the seconds it took to end."""
        started = time.monotonic()
        self.process.terminate()
        code = self.wait_end(within)
        return code, time.monotonic() - started

    def stop(self) -> None:
        """Ends it whatever its state, for the end of a test."""
        if self.running:
            self.thaw()
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()

    def readiness(self) -> tuple[int, str]:
        """What its health port's /readyz says; 0 and the reason when nobody answers there."""
        try:
            with urllib.request.urlopen(f"http://{self.config['health']['listen']}/readyz", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def tool(self, name: str, *arguments: str, within: float = 120) -> subprocess.CompletedProcess:
        """`sextant NAME CONFIG`, with this node's configuration."""
        environment = {name: value for name, value in os.environ.items() if name not in ("KUBECONFIG", "RUST_LOG")}
        command = [self.program or binary(), name, self.config_file, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=within, cwd=self.directory)

    def resident_bytes(self) -> int:
        """Its resident memory now."""
        return memory.of(self.process.pid, "VmRSS")

    def peak_bytes(self) -> int:
        """The most that it ever was, since `forget_peak`."""
        return memory.of(self.process.pid, "VmHWM")

    def forget_peak(self) -> None:
        """From now on the peak is a new one."""
        memory.forget_peak(self.process.pid)
