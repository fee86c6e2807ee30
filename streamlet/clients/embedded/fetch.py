"""Reading one partition: where a consumer is, what it has prefetched, and what happens at the edges."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, OFFSET_INVALID, OFFSET_STORED, KafkaError

from streamlet.clients.embedded.batch import NO_RECORDS, Records
from streamlet.clients.embedded.log import ABORTED, Batch, Log, Partition
from streamlet.clients.embedded.message import ErrorMessage, Message


class Fetch:
    """The state of one assigned partition.

    Attributes:
        position: One past the last record handed out; None before the first.
        left: How many prefetched records there are.
        paused: Nothing is handed out.
    """

    __slots__ = (
        "_ahead",
        "_asked_epoch",
        "_committed",
        "_eof_at",
        "_epoch",
        "_log",
        "_next",
        "_read_committed",
        "_records",
        "_reset",
        "_stamp",
        "index",
        "left",
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
        self._ahead: list[Batch] = []
        self._records: Records = NO_RECORDS
        self._stamp = self._epoch = 0
        self.index = 0
        self.left = 0
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
                if self._take(self._ahead.pop(0)):
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
                if self._take(recent):
                    return True
            elif not self._read_ahead(partition, offset, limit):
                return False

    def take(self, found: list[Message], room: int) -> None:
        """Hand out up to so many of the prefetched records."""
        start = self.index
        stop = start + min(room, self.left)
        records = self._records
        found.extend(records.messages(start, stop, self.name, self.number, self._stamp, self._epoch))
        self.position = records.offsets[stop - 1] + 1
        self.left -= stop - start
        self.index = stop
        if not self.left:
            self._records = NO_RECORDS

    def _take(self, batch: Batch) -> bool:
        records = batch.records
        at = 0
        if batch.base < self._next:
            at = bisect_left(records.offsets, self._next)
        self._next = batch.end
        if at < len(records) and not (batch.state == ABORTED and self._read_committed):
            self._records = records
            self._stamp = batch.stamp
            self._epoch = batch.epoch
            self.index = at
            self.left = len(records) - at
            return True
        return False

    def _read_ahead(self, partition: Partition, offset: int, limit: int) -> bool:
        found = self._log.read(partition, offset)
        if not found:
            # All that was left here was compacted away without a trace.
            self._next = limit
            return True
        # A read_committed limit is the last stable offset: no open batch lies below it.
        self._ahead = [batch for batch in found if batch.end <= limit]
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
