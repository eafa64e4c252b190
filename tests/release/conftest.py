"""A release, packed from the executable that is built anyway."""

import os
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

import version
from harness.chart import tool
from harness.paths import REPOSITORY, binary

RELEASE = REPOSITORY / "release"


@dataclass(frozen=True)
class Packed:
    """A release folder."""

    folder: Path

    def __getitem__(self, name: str) -> Path:
        """A file, by what comes after `sextant-VERSION`."""
        return self.folder / f"sextant-{version.current()}{name}"


def elf(machine: int) -> bytes:
    """The head of a static executable for another machine, which is enough to be packed."""
    return b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, 0, 64, 0, 0)


def run(*command, **environment: str) -> subprocess.CompletedProcess:
    """Runs a command; the outcome, with what it said."""
    return subprocess.run(
        [str(each) for each in command], env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def done(*command, **environment: str) -> str:
    """Runs a command that has to work; what it said."""
    outcome = run(*command, **environment)
    assert outcome.returncode == 0, outcome.stdout
    return outcome.stdout


def pack(dist: Path, *more: str, umask: str = "0022", **environment: str) -> Packed:
    """Packs a release for both architectures into a folder."""
    dist.mkdir(parents=True)
    arm64 = dist.parent / "arm64"
    arm64.write_bytes(elf(183))
    under = ("sh", "-c", f'umask {umask} && exec "$@"', "sh")
    # The order of the architectures is of no account.
    binaries = sorted((f"amd64={binary()}", f"arm64={arm64}"), reverse=bool(environment))
    done(*under, RELEASE / "pack", dist, *binaries, "--helm", tool("helm"), *more, **environment)
    folder = dist / version.current()
    done(*under, RELEASE / "bundle", folder, **environment)
    return Packed(folder)


@pytest.fixture(scope="session")
def packed(tmp_path_factory) -> Packed:
    """A release that nobody changes."""
    return pack(tmp_path_factory.mktemp("release") / "dist")
