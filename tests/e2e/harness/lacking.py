"""What a test needs and this machine doesn't have."""

import os
import subprocess
from typing import NoReturn

import pytest

from .paths import REPOSITORY


def missing(tool: str) -> str | None:
    """Has `.ci/tools` see to a tool, which may install it; what is in the way, if it is not there then."""
    made = subprocess.run([REPOSITORY / ".ci" / "tools", tool], capture_output=True, text=True)
    return made.stderr.strip() if made.returncode else None


def lacking(what: str) -> NoReturn:
    """Skips the test that asks, and says what it lacks; in CI, which runs them all, that is a failure."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)
