"""Folders that are too deep for most programs."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def dug(top: Path, levels: int) -> Iterator[None]:
    """So many folders in each other, in `top`; no path could name the last ones. What the node leaves of them goes at the end, since
    neither Python nor pytest can remove it."""
    here = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    try:
        yield
    finally:
        left = [top, *(each for each in top.parent.iterdir() if each.name.startswith("removing"))]
        subprocess.run(["rm", "-rf", "--", *left], check=True)
