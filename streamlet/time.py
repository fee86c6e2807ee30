"""The clock: the only place that asks the machine for the time."""

from __future__ import annotations

import time as _time
from datetime import timedelta
from typing import Protocol


class Clock(Protocol):
    """Source of wall-clock time (for records and punctuation) and of monotonic time (for intervals)."""

    def wall_ms(self) -> int:
        """Return milliseconds since the epoch."""

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start that never go back."""


class SystemClock:
    """The machine's clocks."""

    def wall_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return _time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start that never go back."""
        return _time.monotonic()


class ManualClock:
    """A clock that moves only when told to, for tests and simulations."""

    def __init__(self, now_ms: int = 0) -> None:
        self._now_ms = now_ms

    def wall_ms(self) -> int:
        """Return milliseconds since the epoch."""
        return self._now_ms

    def monotonic(self) -> float:
        """Return the same instant in seconds."""
        return self._now_ms / 1000

    def advance(self, by: timedelta) -> None:
        """Move the clock forward.

        Raises:
            ValueError: If `by` is negative.
        """
        if by < timedelta(0):
            raise ValueError(f"a clock cannot go back: {by}")
        self._now_ms += milliseconds(by)


def milliseconds(duration: timedelta) -> int:
    """Return a duration in whole milliseconds, rounded down."""
    return duration // timedelta(milliseconds=1)
