"""What a cluster can do to a log and the embedded log does not, on request: for tests, and reachable no other way.

Open and aborted transactions whose records a read_uncommitted reader sees, a last stable offset below the end,
truncation under a new leader epoch, and transaction markers that compaction removed.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

from confluent_kafka import TIMESTAMP_CREATE_TIME, KafkaError, KafkaException

from streamlet.clients.embedded import EmbeddedSupplier
from streamlet.clients.embedded import batch as batches
from streamlet.clients.embedded.batch import NO_RECORDS, Records
from streamlet.clients.embedded.log import ABORTED, COMMITTED, OPEN, Batch, Partition


class OpenTransaction:
    """Records that lie in a partition, undecided."""

    def __init__(self, faults: Faults, partition: Partition, base: int) -> None:
        self._faults = faults
        self._partition = partition
        self._base = base

    def commit(self) -> None:
        """Decide for the records: they become visible, and a marker takes the partition's next offset."""
        self._faults._decide(self._partition, self._base, COMMITTED)

    def abort(self) -> None:
        """Decide against them: only read_uncommitted readers go on seeing them. A marker takes an offset too."""
        self._faults._decide(self._partition, self._base, ABORTED)


class Faults:
    """Faults of one embedded log.

    Args:
        supplier: The log's supplier.
    """

    def __init__(self, supplier: EmbeddedSupplier) -> None:
        self._log = supplier.broker.log

    def open_transaction(
        self, topic: str, partition: int, records: Sequence[tuple[bytes | None, bytes | None]]
    ) -> OpenTransaction:
        """Append records, keys and values, of a transaction that stays open; the last stable offset stays there."""
        found = self._partition(topic, partition)
        now = int(time.time() * 1000)
        keys, values = [key for key, _ in records], [value for _, value in records]
        columns = Records(range(len(records)), keys, values, [now] * len(records), None)
        (base,) = self._log.append([(found, columns)], state=OPEN)
        return OpenTransaction(self, found, base)

    def append_aborted(self, topic: str, partition: int, records: Sequence[tuple[bytes | None, bytes | None]]) -> None:
        """Append records of a transaction and abort it."""
        self.open_transaction(topic, partition, records).abort()

    def truncate(self, topic: str, partition: int, offset: int) -> None:
        """Lose everything from an offset on, as an unclean leader election does, and begin a new leader epoch."""
        found = self._partition(topic, partition)
        where = (found.topic.id, found.number)
        with self._log.writing(catalog=True) as connection:
            for batch in self._log.read_all(found):
                if batch.end <= offset:
                    continue
                connection.execute(
                    'DELETE FROM batches WHERE topic = ? AND partition = ? AND "end" = ?', (*where, batch.end)
                )
                kept = sum(1 for o in batch.records.offsets if o < offset)
                if kept:
                    self._insert(connection, found, batch, batch.records.part(0, kept), offset)
            connection.execute(
                "UPDATE partitions SET epoch = epoch + 1, floor = ? WHERE topic = ? AND partition = ?", (offset, *where)
            )
            # Epochs that began in what is lost are forgotten: an earlier one ends here now (KIP-101).
            connection.execute("DELETE FROM epochs WHERE topic = ? AND partition = ? AND start >= ?", (*where, offset))
            connection.execute("INSERT INTO epochs VALUES (?, ?, ?, ?)", (*where, found.epoch + 1, offset))
            self._log.bump(connection)

    def remove_markers(self, topic: str, partition: int) -> None:
        """Remove the trailing transaction marker: the end stays, but no reader is ever told that it has reached it."""
        found = self._partition(topic, partition)
        with self._log.writing(catalog=True) as connection:
            connection.execute(
                "UPDATE partitions SET hidden = ? WHERE topic = ? AND partition = ?",
                (found.end, found.topic.id, found.number),
            )
            self._log.bump(connection)

    def _decide(self, partition: Partition, base: int, state: int) -> None:
        where = (partition.topic.id, partition.number)
        with self._log.writing(catalog=True) as connection:
            changed = connection.execute(
                "UPDATE batches SET state = ? WHERE topic = ? AND partition = ? AND base = ? AND state = ?",
                (state, *where, base, OPEN),
            ).rowcount
            if not changed:
                raise KafkaException(
                    KafkaError(KafkaError.INVALID_TXN_STATE, f"{partition!r}@{base} is decided or gone")
                )
            end = partition.end
            marker = Batch(
                end, end + 1, NO_RECORDS, state=COMMITTED, stamp=TIMESTAMP_CREATE_TIME, epoch=partition.epoch
            )
            self._insert(connection, partition, marker, NO_RECORDS, end + 1)
            self._log.bump(connection)

    @staticmethod
    def _insert(connection: sqlite3.Connection, partition: Partition, like: Batch, records: Records, end: int) -> None:
        blob = batches.encode(records)
        newest = max(records.timestamps, default=0)
        connection.execute(
            'INSERT INTO batches (topic, partition, base, "end", count, bytes, newest, epoch, state, stamp, data) '
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                partition.topic.id,
                partition.number,
                like.base,
                end,
                len(records),
                len(blob),
                newest,
                like.epoch,
                like.state,
                like.stamp,
                blob,
            ),
        )

    def _partition(self, topic: str, number: int) -> Partition:
        found = self._log.partition(topic, number, create=True)
        if found is None:
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, f"{topic}[{number}] does not exist"))
        return found
