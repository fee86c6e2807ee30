"""Reading one partition: where a consumer is, what it has prefetched, and what happens at the edges."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, OFFSET_INVALID, OFFSET_STORED, KafkaError

from streamlet.clients.embedded.log import ABORTED, OPEN, Log, Partition
from streamlet.clients.embedded.message import ErrorMessage, Message

_NONE: tuple[Message, ...] = ()


class Fetch:
    """The state of one assigned partition.

    Attributes:
        position: One past the last record handed out; None before the first.
        paused: Nothing is handed out.
    """

    __slots__ = (
        "_ahead",
        "_asked_epoch",
        "_committed",
        "_eof_at",
        "_log",
        "_next",
        "_read_committed",
        "_reset",
        "buffer",
        "index",
        "name",
        "number",
        "partition",
        "paused",
        "position",
        "stopped",
    )

    def __init__(
        self,
        log: Log,
        name: str,
        number: int,
        *,
        offset: int,
        epoch: int | None,
        read_committed: bool,
        reset: str,
        committed: Callable[[str, int], int | None],
    ) -> None:
        self._log = log
        self.name = name
        self.number = number
        self.partition: Partition | None = log.partition(name, number, create=True)
        self._read_committed = read_committed
        self._reset = reset
        self._committed = committed
        self.paused = False
        self.stopped = False
        self.position: int | None = None
        self.seek(offset, epoch)

    def seek(self, offset: int, epoch: int | None = None) -> None:
        """Go on reading at an offset, or at one of confluent-kafka's ``OFFSET_…`` constants."""
        self._next = offset
        self._asked_epoch = epoch
        self._eof_at = -1
        self._ahead: list[tuple[list[Message], int]] = []
        self.buffer: Sequence[Message] = _NONE
        self.index = 0
        self.position = None
        self.stopped = False

    def end(self) -> int:
        """Where reading stops for now."""
        partition = self.partition
        if partition is None:
            return 0
        return partition.stable if self._read_committed else partition.end

    def fill(self, events: list[Message], want_eof: bool) -> bool:
        """Bring the next batch into the buffer; False where there is none, with the reason in `events` if it is one."""
        if self.stopped:
            return False
        partition = self.partition
        if partition is None or partition.topic.dropped:
            partition = self.partition = self._log.partition(self.name, self.number)
            if partition is None:
                text = f"{self.name}[{self.number}] does not exist"
                return self._stop(events, KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, text))
        if self._next < 0 and not self._resolve(partition, events):
            return False
        if self._asked_epoch is not None and not self._validate(partition, events):
            return False
        while True:
            if self._ahead:
                messages, end = self._ahead.pop(0)
                if self._take(messages, end):
                    return True
                continue
            offset = self._next
            if not partition.start <= offset <= partition.end:
                if not self._out_of_range(partition, events):
                    return False
                continue
            limit = self.end()
            if offset >= limit:
                if want_eof and self._eof_at != limit and partition.hidden != limit:
                    self._eof_at = limit
                    text = f"{partition!r}: reached the end at offset {limit}"
                    error = KafkaError(KafkaError._PARTITION_EOF, text)
                    events.append(ErrorMessage(error, self.name, self.number, limit))
                return False
            recent = partition.recent_batch(offset)
            if recent is not None and recent.end <= limit:
                if self._take(recent.messages, recent.end):
                    return True
            elif not self._read_ahead(partition, offset, limit):
                return False

    def _take(self, messages: list[Message], end: int) -> bool:
        at = 0
        if messages and (messages[0]._offset or 0) < self._next:
            at = bisect_left(messages, self._next, key=_offset_of)
        self._next = end
        if at < len(messages):
            self.buffer = messages
            self.index = at
            return True
        return False

    def _read_ahead(self, partition: Partition, offset: int, limit: int) -> bool:
        stored = self._log.read(partition, offset)
        for row in stored:
            if row.end > limit:
                break
            if row.state == ABORTED and self._read_committed:
                self._ahead.append(([], row.end))
            elif row.state != OPEN or not self._read_committed:
                self._ahead.append((self._log.messages(partition, row), row.end))
        if not self._ahead and not stored:
            # All that was left here was compacted away without a trace.
            self._next = limit
            return True
        return bool(self._ahead)

    def _resolve(self, partition: Partition, events: list[Message]) -> bool:
        offset = self._next
        if offset in (OFFSET_INVALID, OFFSET_STORED):
            found = self._committed(self.name, self.number)
            if found is not None:
                self._next = found
                return True
            return self._apply_reset(partition, events, "no committed offset")
        if offset == OFFSET_BEGINNING:
            self._next = partition.start
        elif offset == OFFSET_END:
            self._next = self.end()
        else:  # OFFSET_TAIL(n) and anything else below zero
            return self._apply_reset(partition, events, f"offset {offset} is no offset")
        return True

    def _validate(self, partition: Partition, events: list[Message]) -> bool:
        """Whether the log was truncated below the position since its epoch was current (KIP-320)."""
        asked, self._asked_epoch = self._asked_epoch, None
        if asked is None or asked < 0 or asked >= partition.epoch:
            return True
        later = [start for epoch, start in partition.epochs if epoch > asked]
        if not later or self._next <= later[0]:
            return True
        text = f"{partition!r}: truncated to offset {later[0]}, below {self._next} (leader epoch {asked})"
        if self._reset == "error":
            return self._stop(events, KafkaError(KafkaError._LOG_TRUNCATION, text))
        self._next = later[0]
        return True

    def _out_of_range(self, partition: Partition, events: list[Message]) -> bool:
        reason = f"offset {self._next} is out of range, it has {partition.start} to {partition.end}"
        return self._apply_reset(partition, events, reason)

    def _apply_reset(self, partition: Partition, events: list[Message], reason: str) -> bool:
        if self._reset == "error":
            return self._stop(events, KafkaError(KafkaError._AUTO_OFFSET_RESET, f"{partition!r}: {reason}"))
        self._next = partition.start if self._reset == "earliest" else self.end()
        return True

    def _stop(self, events: list[Message], error: KafkaError) -> bool:
        self.stopped = True
        events.append(ErrorMessage(error, self.name, self.number, self._next))
        return False


def _offset_of(message: Message) -> int:
    return message._offset or 0
