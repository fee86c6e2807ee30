"""Windows: into which spans of time records are put, and how long each span waits for late records.

Durations are `timedelta`, whole milliseconds; grace is always given (KIP-633). Windows are values; their `..._ms`
attributes are what operators read.
"""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Self

from attrs import evolve, frozen

from streamlet.errors import TopologyError
from streamlet.time import milliseconds


class EmitStrategy(Enum):
    """When a windowed aggregation sends its results.

    Attributes:
        ON_WINDOW_UPDATE: Each time a window changes; the default.
        ON_WINDOW_CLOSE: Once per window, when stream time has passed its end and grace (KIP-825). Looked for when a
            record is processed, at most once a second of wall-clock time, so results may come later than stream time
            says.
    """

    ON_WINDOW_UPDATE = 1
    ON_WINDOW_CLOSE = 2


def duration_ms(what: str, duration: timedelta, *, least_ms: int = 0) -> int:
    """Return a duration in milliseconds.

    Raises:
        TopologyError: If it is no timedelta, is not whole milliseconds or less than `least_ms`.
    """
    if not isinstance(duration, timedelta):
        raise TopologyError(f"{what} must be a timedelta, not {duration!r}")
    length = milliseconds(duration)
    if length < least_ms or timedelta(milliseconds=length) != duration:
        raise TopologyError(f"{what} must be whole milliseconds from {least_ms} on, not {duration}")
    return length


@frozen
class TimeWindows:
    """Windows of one size: tumbling (the next begins where the last one ends) or hopping (they overlap).

    They are aligned to the epoch. A window holds the timestamps ``start <= t < end``. None begins before 0, so that
    early records are in fewer hopping windows.

    Attributes:
        size_ms: Length of a window.
        advance_ms: From the start of one window to the start of the next.
        grace_ms: How long after its end, in stream time, a window takes late records.
    """

    size_ms: int
    advance_ms: int
    grace_ms: int

    @classmethod
    def of_size(cls, size: timedelta, *, grace: timedelta) -> Self:
        """Return tumbling windows.

        Args:
            size: Length of a window.
            grace: How long after its end a window takes late records, in stream time; it also delays final results.

        Raises:
            TopologyError: If the size is not positive or the grace negative.
        """
        length = duration_ms("the size of windows", size, least_ms=1)
        return cls(length, length, duration_ms("grace", grace, least_ms=0))

    def advance_by(self, advance: timedelta) -> Self:
        """Return hopping windows: one begins every `advance`.

        Raises:
            TopologyError: If it is not positive, or longer than the windows: records would be in none.
        """
        step = duration_ms("the advance of windows", advance, least_ms=1)
        if step > self.size_ms:
            raise TopologyError(
                f"the advance of windows, {advance}, must not be longer than they are, {self.size_ms} ms: "
                f"records in between would be in no window"
            )
        return evolve(self, advance_ms=step)

    @property
    def retention_ms(self) -> int:
        """How long a store has to keep a window after its start."""
        return self.size_ms + self.grace_ms


@frozen
class SlidingWindows:
    """Windows in which no two records are further apart than a difference; there are as many as records need.

    A window ends at each record, and one begins right after it if there is something in it. Both ends belong to a
    window: ``start <= t <= start + difference``. Records before `difference` share the window that begins at 0.

    Attributes:
        difference_ms: Length of a window.
        grace_ms: How long after its end, in stream time, a window takes late records.
    """

    difference_ms: int
    grace_ms: int

    @classmethod
    def of_time_difference(cls, difference: timedelta, *, grace: timedelta) -> Self:
        """Return sliding windows.

        Args:
            difference: How far two records of a window may be apart.
            grace: How long after its end a window takes late records, in stream time.

        Raises:
            TopologyError: If one of them is negative.
        """
        return cls(duration_ms("the time difference", difference, least_ms=0), duration_ms("grace", grace, least_ms=0))

    @property
    def size_ms(self) -> int:
        """Length of a window."""
        return self.difference_ms

    @property
    def retention_ms(self) -> int:
        """How long a store has to keep a window: a new one is made of others, up to twice the difference before."""
        return 2 * self.difference_ms + self.grace_ms


@frozen
class SessionWindows:
    """Sessions: periods of activity of a key, between which there is nothing for longer than a gap.

    A session reaches from its first record to its last one. A record within the gap of two sessions makes one of them.

    Attributes:
        gap_ms: The longest pause within a session.
        grace_ms: How long after that pause, in stream time, a session takes late records.
    """

    gap_ms: int
    grace_ms: int

    @classmethod
    def of_inactivity_gap(cls, gap: timedelta, *, grace: timedelta) -> Self:
        """Return sessions.

        Args:
            gap: The longest pause within a session; exactly that long still belongs to it.
            grace: How long a session takes late records after its end and the gap, in stream time.

        Raises:
            TopologyError: If the gap is not positive or the grace negative.
        """
        return cls(duration_ms("the inactivity gap", gap, least_ms=1), duration_ms("grace", grace, least_ms=0))

    @property
    def retention_ms(self) -> int:
        """How long a store has to keep a session after its end."""
        return self.gap_ms + self.grace_ms


@frozen
class UnlimitedWindows:
    """One window that never ends: a landmark from which on everything counts. Records before it are dropped.

    Attributes:
        start_ms: Where it begins (ms since the epoch).
    """

    start_ms: int = 0

    @classmethod
    def of(cls) -> Self:
        """Return the window that begins at the epoch."""
        return cls()

    def start_on(self, start: int) -> Self:
        """Return the window that begins at `start` (ms since the epoch).

        Raises:
            TopologyError: If it is negative.
        """
        if isinstance(start, bool) or not isinstance(start, int) or start < 0:
            raise TopologyError(f"the start of a window must be whole milliseconds from 0 on, not {start!r}")
        return evolve(self, start_ms=start)


@frozen
class JoinWindows:
    """How far two records of a stream-stream join may be apart; both ends are included.

    Attributes:
        before_ms: How much earlier than the left record the right one may be.
        after_ms: How much later than the left record the right one may be.
        grace_ms: How long after the end of the window, in stream time, late records are joined.
    """

    before_ms: int
    after_ms: int
    grace_ms: int

    @classmethod
    def of_time_difference(cls, difference: timedelta, *, grace: timedelta) -> Self:
        """Return windows that reach as far to both sides.

        Args:
            difference: How far the other record may be before or after.
            grace: How long after the end of the window late records are joined, in stream time; unmatched rows of left
                and outer joins wait for it.

        Raises:
            TopologyError: If one of them is negative.
        """
        span = duration_ms("the time difference", difference, least_ms=0)
        return cls(span, span, duration_ms("grace", grace, least_ms=0))

    def before(self, before: timedelta) -> Self:
        """Return windows in which the right record may be this much earlier; negative: it must be later.

        Raises:
            TopologyError: If nothing is left between both ends.
        """
        return self._with(before_ms=_offset("before", before))

    def after(self, after: timedelta) -> Self:
        """Return windows in which the right record may be this much later; negative: it must be earlier.

        Raises:
            TopologyError: If nothing is left between both ends.
        """
        return self._with(after_ms=_offset("after", after))

    def _with(self, **changes: int) -> Self:
        windows = evolve(self, **changes)
        if windows.size_ms < 0:
            raise TopologyError(
                f"a join's window must not end before it begins: before={windows.before_ms} ms, "
                f"after={windows.after_ms} ms"
            )
        return windows

    @property
    def size_ms(self) -> int:
        """Length of the window."""
        return self.before_ms + self.after_ms


def _offset(what: str, duration: timedelta) -> int:
    if not isinstance(duration, timedelta) or duration % timedelta(milliseconds=1):
        raise TopologyError(f"{what} must be a timedelta of whole milliseconds, not {duration!r}")
    return milliseconds(duration)
