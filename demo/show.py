"""How the demos speak: numbered steps with their times, quiet colours on a terminal and none elsewhere."""

import os
import sys
import threading
import time


class Show:
    """Prints the demo as it goes; may be used from several threads."""

    def __init__(self) -> None:
        self._colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._lock = threading.Lock()
        self._number = 0
        self._began = time.monotonic()

    def _paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colours else text

    def _print(self, text: str) -> None:
        with self._lock:
            print(text, flush=True)

    def step(self, title: str, about: str) -> None:
        """Begins a step."""
        self._number += 1
        self._began = time.monotonic()
        self._print(f"\n{self._paint('1', f'{self._number}. {title}')}  {self._paint('2', about)}")

    def line(self, text: str) -> None:
        """A fact."""
        self._print(f"   {text}")

    def event(self, text: str) -> None:
        """Something that happened, with the seconds since the step began."""
        self._print(f"   {self._paint('2', f'{time.monotonic() - self._began:5.1f} s')}  {text}")

    def code(self, *lines: str) -> None:
        """What a researcher would type."""
        for line in lines:
            self._print("     " + self._paint("36", line))

    def row(self, name: str, left: str, right: str) -> None:
        """A row of the comparison."""
        self._print(f"   {name:16} {left:>22} {right:>22}")

    def done(self, text: str) -> None:
        """Ends a step."""
        self._print(f"   {self._paint('32', '✓')} {text}")
