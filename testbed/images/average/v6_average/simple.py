"""Methods that only give back, wait or fail."""

import time


def echo(value):
    """The value, unchanged: what JSON makes of it on its way there and back."""
    return value


def big(size: int) -> str:
    """A text of that many characters."""
    return ("0123456789abcdef" * (size // 16 + 1))[:size]


def sleep_then(seconds: float, value=None):
    """The value, after that many seconds."""
    time.sleep(seconds)
    return value


def fail(message: str):
    """Raises."""
    raise RuntimeError(message)
