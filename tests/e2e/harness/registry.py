"""The test bed's registries, for pulls that are real: one open, one that wants a login. Only on the test bed's own cluster."""

import secrets
import subprocess

from .paths import REPOSITORY

TESTBED = REPOSITORY / "testbed"


def _run(*command: str) -> str:
    done = subprocess.run(
        [TESTBED / command[0], *command[1:]], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"testbed/{' '.join(command)} failed: {done.stderr}"
    return done.stdout


class Registries:
    """Both registries, started when made."""

    def __init__(self) -> None:
        told = dict(line.removeprefix("export ").split("=", 1) for line in _run("registry-up").splitlines())
        self.open = told["SEXTANT_OPEN_REGISTRY"]
        self.closed = told["SEXTANT_CLOSED_REGISTRY"]
        self.user = told["SEXTANT_REGISTRY_USER"]
        self.password = told["SEXTANT_REGISTRY_PASSWORD"]

    def push(self, registry: str, image: str = "v6-odd") -> tuple[str, str]:
        """Pushes one of the test bed's images under a name that no machine has pulled before; its reference by tag and by digest."""
        (archive,) = _run("images/build", image).split()
        tag = f"{registry}/tests/{image}-{secrets.token_hex(4)}:1"
        return tag, _run("registry-push", archive, tag).strip()

    @staticmethod
    def down() -> None:
        """Ends both."""
        _run("registry-down")
