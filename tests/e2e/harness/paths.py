"""Where things are: in the checkout, in the cache, and what the environment says otherwise."""

import functools
import os
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
DATA = REPOSITORY / "examples" / "data"


def cache() -> Path:
    """Everything built or downloaded outside of cargo's folder; the same rule as in testbed/lib/common.sh."""
    if named := os.environ.get("SEXTANT_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sextant"


@functools.cache
def binary() -> Path:
    """The node's executable: $SEXTANT_BINARY, or where `make build` puts it."""
    if named := os.environ.get("SEXTANT_BINARY"):
        found = Path(named)
    else:
        triple = next(
            line.removeprefix("host: ")
            for line in subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout.splitlines()
            if line.startswith("host: ")
        )
        target = Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target")
        found = target / triple / "release" / "sextant"
    if not found.is_file():
        raise FileNotFoundError(f"there is no node at {found}: run `make build`, or name one in SEXTANT_BINARY")
    return found
