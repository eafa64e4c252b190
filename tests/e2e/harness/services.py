"""Programs of others that listen at a port."""

import contextlib
import socket
import subprocess
from collections.abc import Iterator

from .wait import until


@contextlib.contextmanager
def started(port: int, command: list, **options) -> Iterator[subprocess.Popen]:
    """A process that listens at a port, until the end; also when this one is killed."""

    def listens() -> bool:
        assert process.poll() is None, f"{command} ended with {process.returncode}"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    bound = ["setpriv", "--pdeathsig", "TERM", *map(str, command)]
    process = subprocess.Popen(bound, stdin=subprocess.DEVNULL, **options)
    try:
        until(f"{command[0]} to listen", listens, 60)
        yield process
    finally:
        process.terminate()
        process.wait(30)
