"""The demos, as `make demo` and `make demo-kubernetes` run them: the first thing that people see."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness import average
from harness.paths import REPOSITORY, binary
from harness.wait import until

AVERAGES = r"^ +average +([\d,.]+) +([\d,.]+)$"


def processes(directory: Path) -> list[str]:
    """Command lines of the processes that have a folder in their arguments or their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:
            continue
        if str(directory).encode() in command + environment:
            found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


def demo(runtime: str, directory: Path, **environment: str) -> str:
    """Runs a demo with its files in a folder; what it printed. Nothing of it is left, neither process nor file."""
    surroundings = os.environ | {"TMPDIR": str(directory), "SEXTANT_BINARY": str(binary())} | environment
    command = [sys.executable, REPOSITORY / "demo" / "demo.py", runtime]
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing is left" in done.stdout
    until("all processes of the demo to be gone", lambda: not processes(directory), 10, shows=lambda: processes(directory))
    assert not list(directory.glob("sextant-demo-*"))
    return done.stdout


def shows_the_average(said: str) -> None:
    """From the nodes, and from the central function: each beside what a csv reader finds, and the same."""
    files = average.employee_files()[:3]
    expected = f"{average.overall([average.partial(file, 'salary') for file in files]):,.2f}"
    assert re.findall(AVERAGES, said, re.M) == [(expected, expected)] * 2, said


def test_local(tmp_path):
    """Without a cluster."""
    shows_the_average(demo("local", tmp_path))


@pytest.mark.cluster
def test_kubernetes(cluster, tmp_path):
    """On the cluster, in a namespace of its own, which goes with the demo."""
    said = demo("kubernetes", tmp_path, KUBECONFIG=str(cluster.kubeconfig))
    shows_the_average(said)
    (namespace,) = set(re.findall(r"namespace (v6-jobs-\w+)", said))
    assert namespace not in {each.metadata.name for each in cluster.core.list_namespace().items}
    assert re.search(r"Job +v6-task-\S+ is complete", said)
    assert re.search(r"Job +v6-task-\S+ is gone", said)
