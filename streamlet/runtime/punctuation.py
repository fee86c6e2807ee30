"""Punctuations: callbacks by stream time and by wall clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamlet.processor.api import PunctuationType

NEVER = 2**63 - 1


class Punctuation:
    """One scheduled callback; the `Cancellable` that `schedule` returns."""

    __slots__ = ("_owner", "callback", "interval_ms", "next_ms", "node")

    def __init__(
        self, owner: Punctuations, node: Any, interval_ms: int, next_ms: int, callback: Callable[[int], object]
    ) -> None:
        self._owner = owner
        self.node = node
        self.interval_ms = interval_ms
        self.next_ms = next_ms
        self.callback = callback

    def cancel(self) -> None:
        """Never call it again; allowed inside the callback."""
        self._owner.remove(self)


class Punctuations:
    """The punctuations of a task, of one type.

    Attributes:
        due_ms: When the next one is due.
    """

    def __init__(self, type: PunctuationType) -> None:
        self._type = type
        self._entries: list[Punctuation] = []
        self.due_ms = NEVER

    def add(self, node: Any, interval_ms: int, callback: Callable[[int], object], now_ms: int) -> Punctuation:
        """Schedule a callback.

        Stream time is aligned to the epoch: it is due as soon as there is data, then at multiples of the interval.
        Wall-clock time is due one interval from now.
        """
        first = 0 if self._type is PunctuationType.STREAM_TIME else now_ms + interval_ms
        entry = Punctuation(self, node, interval_ms, first, callback)
        self._entries.append(entry)
        self.due_ms = min(self.due_ms, first)
        return entry

    def remove(self, entry: Punctuation) -> None:
        """Forget one; nothing happens if it was removed already."""
        if entry in self._entries:
            self._entries.remove(entry)
            self._reckon()

    def run(self, now_ms: int, call: Callable[[Punctuation, int], None]) -> bool:
        """Call those that are due, each once, the earliest first; tell whether there was one."""
        if now_ms < self.due_ms:
            return False
        for entry in sorted(self._entries, key=lambda entry: entry.next_ms):
            if entry.next_ms > now_ms:
                break
            if entry not in self._entries:  # cancelled by one before it
                continue
            # the next multiple of the interval, counted from the first firing, that lies beyond now: no catching up
            entry.next_ms += ((now_ms - entry.next_ms) // entry.interval_ms + 1) * entry.interval_ms
            self._reckon()
            call(entry, now_ms)
        self._reckon()
        return True

    def snapshot(self) -> tuple[tuple[Punctuation, int], ...]:
        """Return when each is due, for `restore`."""
        return tuple((entry, entry.next_ms) for entry in self._entries)

    def restore(self, snapshot: tuple[tuple[Punctuation, int], ...]) -> None:
        """Go back to a snapshot: what fired since then fires again; what was scheduled or cancelled since then stays
        so."""
        for entry, next_ms in snapshot:
            entry.next_ms = next_ms
        self._reckon()

    def _reckon(self) -> None:
        self.due_ms = min((entry.next_ms for entry in self._entries), default=NEVER)
