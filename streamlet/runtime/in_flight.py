"""Records that nodes have taken and will send on later, and what that means for the offsets of a task.

What is committed for a partition is the offset of the first record in flight. The offset's metadata names the others,
and how far the partition was read: all records up to there are done but the named ones. Whoever reads the partition
again skips those that are done. So results are committed as they come, in whichever order, each exactly once, and no
commit ever waits for user code. (RUNTIME.md, 3: recorded in the same transaction.)
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from attrs import frozen

from streamlet.errors import TopologyError
from streamlet.processor.operator import Deferring
from streamlet.runtime.queue import Message

Place: TypeAlias = tuple[str, int]

MOST_IN_FLIGHT: Final = 400
"""How many records the nodes of a task may have together: brokers take 4,096 characters of metadata by default."""

MARK: Final = "."
"""What parts the times in an offset's metadata from the records in flight; no character of base64."""


@frozen
class Reached:
    """How far a partition is done.

    Attributes:
        upto: All records below this offset are done,
        open: but for these.
    """

    upto: int = 0
    open: frozenset[int] = frozenset()

    @property
    def offset(self) -> int:
        """Where a reader has to begin."""
        return min(self.open, default=self.upto)

    def encode(self) -> str:
        """Return it as text, for the metadata of `offset`; empty if nothing is open."""
        if not self.open:
            return ""
        data = bytearray()
        before = 0
        for number in (*sorted(self.open), self.upto):
            rest = number - before
            while rest > 0x7F:
                data.append(rest & 0x7F | 0x80)
                rest >>= 7
            data.append(rest)
            before = number
        return MARK + base64.b64encode(data).decode()

    @classmethod
    def decode(cls, metadata: str | None) -> Reached | None:
        """Read it from the metadata of an offset; None if that names no records in flight."""
        _, mark, text = (metadata or "").partition(MARK)
        if not mark:
            return None
        try:
            data = base64.b64decode(text, validate=True)
        except ValueError:
            return None
        numbers: list[int] = []
        number = shift = before = 0
        for byte in data:
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                before += number
                numbers.append(before)
                number = shift = 0
        return cls(numbers[-1], frozenset(numbers[:-1])) if len(numbers) > 1 else None


def without_in_flight(metadata: str) -> str:
    """Return an offset's metadata without the records in flight: for an offset that was decided otherwise."""
    return metadata.partition(MARK)[0]


class _Progress:
    """One partition: what is done of what is read for the second time, and what is in flight."""

    def __init__(self, reached: Reached) -> None:
        self.start = reached
        self.running: dict[int, int] = {}

    def reached(self, last: Message | None) -> Reached:
        done = -1 if last is None else last.offset()
        waiting = {offset for offset in self.start.open if offset > done}
        return Reached(max(self.start.upto, done + 1), frozenset(waiting.union(self.running)))


class RecordsInFlight:
    """The records that the nodes of one task have taken.

    Args:
        at_hand: Makes a record the one at hand.
        wake: Has the task's thread look at the task soon.

    Attributes:
        one_at_a_time: Take the next record only when the one before is done: careful mode.
    """

    def __init__(self, at_hand: Callable[[Message | None, int], None], wake: Callable[[], None]) -> None:
        self.wake = wake
        self.one_at_a_time = False
        self._at_hand = at_hand
        self._nodes: list[Deferring] = []
        self._limit = 0
        self._count = 0
        self._places: dict[Place, _Progress] = {}

    def add(self, node: Deferring, limit: int) -> None:
        """Add a node; see `NodeContext.defer`."""
        self._limit += limit
        if self._limit > MOST_IN_FLIGHT:
            raise TopologyError(
                f"the operators of one sub-topology may have {MOST_IN_FLIGHT} records in flight together, not "
                f"{self._limit}: lower max_in_flight, or put repartition() between them"
            )
        self._nodes.insert(0, node)  # nodes are compiled leaves first

    def restore(self, place: Place, reached: Reached) -> None:
        """Take what was committed for a partition, before it is read."""
        self._places[place] = _Progress(reached)

    def forget(self, place: Place) -> None:
        """Forget what was done of a partition: it begins elsewhere."""
        self._places.pop(place, None)

    # --- records ----------------------------------------------------------------------------------------------------

    def __bool__(self) -> bool:
        return self._count > 0

    def enter(self, message: Message) -> None:
        """Take note that a node has a record."""
        running = self._progress((message.topic(), message.partition())).running
        offset = message.offset()
        running[offset] = running.get(offset, 0) + 1
        self._count += 1

    def leave(self, message: Message) -> None:
        """Take note that a node is done with a record."""
        running = self._places[message.topic(), message.partition()].running
        offset = message.offset()
        running[offset] -= 1
        if not running[offset]:
            del running[offset]
        self._count -= 1

    def at_hand(self, message: Message, timestamp: int) -> None:
        """Make a record the one at hand."""
        self._at_hand(message, timestamp)

    def room(self) -> int:
        """Return how many records the task may take now."""
        if self.one_at_a_time:
            return 0 if self._count else 1
        return min((node.room() for node in self._nodes), default=sys.maxsize)

    def settle(self) -> int:
        """Let the nodes send on what is ready."""
        return sum([node.settle() for node in self._nodes])

    def begin(self) -> None:
        """Let the nodes begin with what they have taken."""
        for node in self._nodes:
            node.begin()

    def drop(self) -> None:
        """Let the nodes forget all records."""
        for node in self._nodes:
            node.drop()
        for progress in self._places.values():
            progress.running.clear()
        self._count = 0

    def undone(self, place: Place, messages: Sequence[Message]) -> Sequence[Message]:
        """Return those of a partition's records that are not done yet."""
        progress = self._places.get(place)
        if progress is None or messages[0].offset() >= progress.start.upto:
            return messages
        start = progress.start
        return [one for one in messages if (offset := one.offset()) >= start.upto or offset in start.open]

    # --- commits ----------------------------------------------------------------------------------------------------

    def reached(self, place: Place, last: Message | None) -> Reached:
        """Return how far a partition is done, if `last` is the last record that was taken from it."""
        return self._progress(place).reached(last)

    def runs(self, place: Place, offset: int) -> bool:
        """Whether a node has a record."""
        return offset in self._progress(place).running

    def rewind(self, snapshot: Mapping[Place, Reached]) -> None:
        """Drop all records, and go back to what was committed."""
        self.drop()
        self._places = {place: _Progress(reached) for place, reached in snapshot.items()}

    def _progress(self, place: Place) -> _Progress:
        progress = self._places.get(place)
        if progress is None:
            progress = self._places[place] = _Progress(Reached())
        return progress
