"""Methods that only give back, wait or fail."""

import os
import time


def echo(value):
    """The value, unchanged: what JSON makes of it on its way there and back."""
    return value


def big(size: int) -> str:
    """A text of that many characters."""
    return ("0123456789abcdef" * (size // 16 + 1))[:size]


def sleep_then(seconds: float, value=None, unless: str | None = None):
    """The value, after that many seconds, or as soon as there is a file of the name `unless`."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not (unless and os.path.exists(unless)):
        time.sleep(min(left, 0.1) if unless else left)
    return value


def fail(message: str):
    """Raises."""
    raise RuntimeError(message)
