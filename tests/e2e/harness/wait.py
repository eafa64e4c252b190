"""Waiting for conditions, never for time: every wait has a bound, and says what it waited for and what it saw last."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class NotInTime(AssertionError):
    """A condition did not become true within its bound."""


def until(
    what: str,
    check: Callable[[], T],
    within: float = 60,
    every: float = 0.1,
    shows: Callable[[], object] | None = None,
) -> T:
    """Calls `check` until it returns something true, and returns that. `shows` is asked for a description of what is there instead."""
    deadline = time.monotonic() + within
    while True:
        seen = check()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise NotInTime(f"waited {within} s for {what}; there is instead: {shows() if shows else repr(seen)}")
        time.sleep(every)
