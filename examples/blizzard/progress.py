"""A progress bar: drawn anew in a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time

WIDTH = 40
SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """Shows how far something of a known size has come.

    Args:
        what: What is counted.
        total: How many there are.
    """

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._began = time.monotonic()
        self._next_line = 0.0
        self._shown = -1
        self._in_place = sys.stderr.isatty()

    def show(self, done: int) -> None:
        """Show that so many are done."""
        seconds = time.monotonic() - self._began
        if not self._in_place and (done == self._shown or (done < self._total and seconds < self._next_line)):
            return
        self._next_line = seconds + SECONDS_BETWEEN_LINES
        self._shown = done
        filled = WIDTH * done // max(self._total, 1)
        bar = "#" * filled + "." * (WIDTH - filled)
        text = f"[{bar}] {done:,} of {self._total:,} {self._what}, {seconds:.0f} s"
        print(f"\r{text}" if self._in_place else text, end="" if self._in_place else "\n", file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the line."""
        if self._in_place:
            print(file=sys.stderr, flush=True)
