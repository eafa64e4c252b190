"""How much memory processes take, as the kernel counts it: what is theirs, without the page cache."""

from __future__ import annotations

import contextlib
import os
import statistics
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from .cluster import Cluster

if TYPE_CHECKING:
    from .node import NodeProcess


def of(pid: int, what: str) -> int:
    """`VmRSS`: the resident memory of a process now; `VmHWM`: the most that it ever was. In bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"the kernel tells no {what} of process {pid}")


def forget_peak(pid: int) -> None:
    """The most that it ever was is from now on what it is now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


class Sampled:
    """A node's resident memory, looked at every so many seconds while this is entered."""

    def __init__(self, node: NodeProcess, every: float = 0.25):
        self.node = node
        self.every = every
        self.megabytes: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Sampled:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(self.every) and self.node.running:
            self.megabytes.append(self.node.resident_bytes() / 1e6)

    def quarter(self, number: int) -> float:
        """The median of one quarter of the time, from 1."""
        size = len(self.megabytes) // 4
        return statistics.median(self.megabytes[(number - 1) * size : number * size])


class Containers:
    """Sees to the peaks of Sextant's own containers on this machine while it is entered: they end with their runs, so somebody must
    look in time."""

    def __init__(self):
        # By command and control group, which names the pod.
        self._peaks: dict[tuple[str, str], int] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Containers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def peak(self, cluster: Cluster, run: int, command: str) -> int:
        """The most memory that `receive` or `return` of a run took, in bytes."""
        (pod,) = cluster.pods(run)
        uid = pod.metadata.uid
        found = [
            peak
            for (what, group), peak in self._peaks.items()
            if what == command and (uid in group or uid.replace("-", "_") in group)
        ]
        assert found, f"no process /sextant {command} of pod {uid} was seen on this machine: {list(self._peaks)}"
        return max(found)

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            for pid in filter(str.isdigit, os.listdir("/proc")):
                with contextlib.suppress(OSError, AssertionError):
                    self._look(int(pid))

    def _look(self, pid: int) -> None:
        program, *arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if program == b"/sextant":
            key = arguments[0].decode(), Path(f"/proc/{pid}/cgroup").read_text()
            self._peaks[key] = max(self._peaks.get(key, 0), of(pid, "VmHWM"))
