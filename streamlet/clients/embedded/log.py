"""The embedded log: topics, partitions, appends, reads and offsets over one SQLite file.

One `Log` exists for each file and process, shared by its clients; one connection and one lock serve them all. A write
is one short ``BEGIN IMMEDIATE`` in which no user code runs. Batches that this process appended stay in memory for its
consumers; others are read from the file.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import uuid
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from attrs import frozen
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, KafkaError, KafkaException

from streamlet.clients.embedded import batch as batches
from streamlet.clients.embedded import topic_configs
from streamlet.clients.embedded.batch import Records
from streamlet.clients.embedded.database import connect, explain

COMMITTED, OPEN, ABORTED = 0, 1, 2

# A blob above this is split: what one read brings into memory stays bounded.
MAX_BLOB_BYTES = 2 << 20
READ_BYTES = 1 << 20
READ_ROWS = 64
ROWS_A_STATEMENT = 500
# Python's own cost of a record beside the bytes of its key and value, for the cache's budget.
_RECORD_OVERHEAD = 140
_REFRESH_SECONDS = 0.005
_LEGAL_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


class Batch:
    """A batch as the log keeps it in memory."""

    __slots__ = ("base", "end", "epoch", "records", "size", "stamp", "state")

    def __init__(
        self, base: int, end: int, records: Records, *, state: int, stamp: int, epoch: int, size: int = 0
    ) -> None:
        self.base = base
        self.end = end
        self.records = records
        self.state = state
        self.stamp = stamp
        self.epoch = epoch
        self.size = size


class Partition:
    """A partition's bounds and its recent batches. Changed under the log's lock only."""

    __slots__ = ("bases", "end", "epoch", "epochs", "hidden", "number", "open", "recent", "start", "topic")

    def __init__(self, topic: Topic, number: int) -> None:
        self.topic = topic
        self.number = number
        self.start = 0
        self.end = 0
        self.epoch = 0
        self.epochs: list[tuple[int, int]] = []
        self.hidden = -1
        self.open: list[int] = []  # the first offsets of open transactions' batches: tests only
        self.bases: list[int] = []
        self.recent: list[Batch] = []

    @property
    def stable(self) -> int:
        """The last stable offset: where a read_committed reader stops."""
        return min(self.open) if self.open else self.end

    def recent_batch(self, offset: int) -> Batch | None:
        """The batch in memory that holds the offset."""
        at = bisect_right(self.bases, offset) - 1
        if at >= 0:
            found = self.recent[at]
            if offset < found.end:
                return found
        return None

    def forget_recent(self) -> None:
        """Drop the batches in memory; the file has them."""
        self.bases = []
        self.recent = []

    def __repr__(self) -> str:
        return f"{self.topic.name}[{self.number}]"


class Topic:
    """A topic: its identity, configuration and partitions."""

    __slots__ = ("config", "dropped", "id", "max_bytes", "name", "partitions", "stamp", "uuid")

    def __init__(self, id: int, name: str, uuid: bytes, config: Mapping[str, str]) -> None:
        self.id = id
        self.name = name
        self.uuid = uuid
        self.partitions: list[Partition] = []
        self.dropped = False
        self.configure(config)

    def configure(self, config: Mapping[str, str]) -> None:
        """Take a new configuration."""
        self.config = dict(config)
        self.max_bytes = topic_configs.number(config, "max.message.bytes")
        append_time = config.get("message.timestamp.type") == "LogAppendTime"
        self.stamp = TIMESTAMP_LOG_APPEND_TIME if append_time else TIMESTAMP_CREATE_TIME


Write: TypeAlias = tuple[Partition, Records]


@frozen
class GroupOffset:
    """A consumer group's committed offset."""

    topic: str
    partition: int
    offset: int
    epoch: int = -1
    metadata: str | None = None


class Log:
    """The log of one file, or one in memory.

    Attributes:
        lock: Guards everything below; held only briefly, and never over user code.
        changed: Notified after each change that a consumer may wait for.
        version: Grows with each such change.
        catalog_version: Grows when topics or partitions appear or vanish.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        name: str,
        synchronous: str = "normal",
        default_partitions: int = 1,
        cache_bytes: int = 64 << 20,
    ) -> None:
        self.path = path
        self.name = name
        self.default_partitions = default_partitions
        self.synchronous = synchronous
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.version = 0
        self.catalog_version = 0
        self.topics: dict[str, Topic] = {}
        self.producer_epochs: dict[str, int] = {}
        self._by_id: dict[int, Topic] = {}
        self._cache_bytes = cache_bytes
        self._cached = 0
        self._fifo: deque[tuple[Partition, Batch]] = deque()
        self._connection = connect(path, synchronous)
        self._data_version = -1
        self._generation = -1
        self._seq = 0
        self._refreshed = 0.0
        self.cluster_id: str = self._one("SELECT value FROM meta WHERE name = 'cluster'")[0]
        with self._errors(), self.lock, self._reading():
            self._data_version = self._one("PRAGMA data_version")[0]
            self._reload_catalog()

    @property
    def shared(self) -> bool:
        """Whether other processes may write to it."""
        return self.path is not None

    def close(self) -> None:
        """Close the file; the log is not usable afterwards."""
        with self.lock:
            self._connection.close()

    # -- catalog --------------------

    def topic(self, name: str, *, create: bool = False) -> Topic | None:
        """The topic of that name, made with the default partitions where asked to."""
        found = self.topics.get(name)
        if found is None and self.shared:
            self.refresh()
            found = self.topics.get(name)
        if found is None and create:
            try:
                self.create_topic(name, self.default_partitions, {})
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
            found = self.topics.get(name)
        return found

    def partition(self, topic: str, number: int, *, create: bool = False) -> Partition | None:
        """A partition, or None where the topic or the number does not exist."""
        found = self.topic(topic, create=create)
        if found is None or not 0 <= number < len(found.partitions):
            return None
        return found.partitions[number]

    def create_topic(
        self, name: str, partitions: int, config: Mapping[str, str], *, validate_only: bool = False
    ) -> None:
        """Make a topic.

        Raises:
            KafkaException: TOPIC_ALREADY_EXISTS, TOPIC_EXCEPTION (bad name), INVALID_PARTITIONS, INVALID_CONFIG.
        """
        if not name or len(name) > 249 or name in (".", "..") or not _LEGAL_NAME.issuperset(name):
            raise _error(KafkaError.TOPIC_EXCEPTION, f"{name!r} is no topic name: 1 to 249 of letters, digits, '._-'")
        if partitions < 1:
            raise _error(KafkaError.INVALID_PARTITIONS, f"topic {name}: a topic needs at least 1 partition")
        config = topic_configs.checked(name, config)
        with self.writing(catalog=True) as connection:
            if name in self.topics:
                raise _error(KafkaError.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
            if validate_only:
                return
            cursor = connection.execute(
                "INSERT INTO topics (name, uuid, config) VALUES (?, ?, ?)",
                (name, uuid.uuid4().bytes, json.dumps(config)),
            )
            self._insert_partitions(connection, cursor.lastrowid or 0, range(partitions))
            self.bump(connection)

    def delete_topic(self, name: str) -> None:
        """Delete a topic with its records and the offsets committed for it.

        Raises:
            KafkaException: UNKNOWN_TOPIC_OR_PART.
        """
        with self.writing(catalog=True) as connection:
            topic = self._existing(name)
            for table in ("batches", "partitions", "epochs"):
                connection.execute(f"DELETE FROM {table} WHERE topic = ?", (topic.id,))
            connection.execute("DELETE FROM offsets WHERE topic = ?", (name,))
            connection.execute("DELETE FROM topics WHERE id = ?", (topic.id,))
            self.bump(connection)

    def add_partitions(self, name: str, total: int, *, validate_only: bool = False) -> None:
        """Raise a topic's partition count.

        Raises:
            KafkaException: UNKNOWN_TOPIC_OR_PART, INVALID_PARTITIONS (not more than there are).
        """
        with self.writing(catalog=True) as connection:
            topic = self._existing(name)
            have = len(topic.partitions)
            if total <= have:
                raise _error(
                    KafkaError.INVALID_PARTITIONS,
                    f"Topic currently has {have} partitions, which is higher than or equal to the requested {total}.",
                )
            if validate_only:
                return
            self._insert_partitions(connection, topic.id, range(have, total))
            self.bump(connection)

    def configure_topic(self, name: str, config: Mapping[str, str]) -> None:
        """Replace a topic's configuration.

        Raises:
            KafkaException: UNKNOWN_TOPIC_OR_PART, INVALID_CONFIG.
        """
        config = topic_configs.checked(name, config)
        with self.writing(catalog=True) as connection:
            topic = self._existing(name)
            connection.execute("UPDATE topics SET config = ? WHERE id = ?", (json.dumps(config), topic.id))
            self.bump(connection)

    def delete_records(self, partition: Partition, before: int) -> int:
        """Raise a partition's first offset; -1 means its end. Returns the new one.

        Raises:
            KafkaException: OFFSET_OUT_OF_RANGE: beyond the end.
        """
        with self.writing(catalog=True) as connection:
            if before == -1:
                before = partition.stable
            if not 0 <= before <= partition.stable:
                raise _error(
                    KafkaError.OFFSET_OUT_OF_RANGE, f"{partition!r}: no offset {before}, it ends at {partition.stable}"
                )
            start = max(before, partition.start)
            self.advance_start(connection, partition, start)
        return start

    def advance_start(self, connection: sqlite3.Connection, partition: Partition, start: int) -> None:
        """Within a write: drop the batches that end at or before `start`, and let reading begin there."""
        where = (partition.topic.id, partition.number)
        connection.execute(
            'UPDATE partitions SET start = ?, floor = MAX(floor, COALESCE((SELECT MAX("end") FROM batches '
            "WHERE topic = ? AND partition = ?), 0)) WHERE topic = ? AND partition = ?",
            (start, *where, *where),
        )
        connection.execute('DELETE FROM batches WHERE topic = ? AND partition = ? AND "end" <= ?', (*where, start))
        self.bump(connection)

    # -- writing --------------------

    def append(
        self,
        writes: Sequence[Write],
        *,
        marker: bool = False,
        state: int = COMMITTED,
        fence: tuple[str, int] | None = None,
        offsets: Mapping[str, Sequence[GroupOffset]] | None = None,
    ) -> list[int]:
        """Append records and commit offsets, all or nothing.

        Args:
            writes: The records by partition, each partition once.
            marker: Use one more offset in each partition, as the control record of a transaction does.
            state: `COMMITTED`; the others are for tests.
            fence: The transactional id and epoch that must still be current.
            offsets: Offsets to commit, by group.

        Returns:
            The first offset of each write; the others follow without holes.

        Raises:
            KafkaException: _FENCED (fatal), UNKNOWN_TOPIC_OR_PART (a topic was deleted), or the file's failure.
        """
        for partition, records in writes:
            if partition.topic.stamp == TIMESTAMP_LOG_APPEND_TIME:
                records.timestamps = [int(time.time() * 1000)] * len(records)
        encoded = [(partition, list(_encoded(records))) for partition, records in writes]
        rows: list[tuple[Any, ...]] = []
        placed: list[tuple[Partition, Batch]] = []
        bases: list[int] = []
        last = 0
        with self.lock:
            with self.writing() as connection:
                if fence is not None:
                    self._check_fence(*fence)
                for partition, pieces in encoded:
                    bases.append(partition.end)
                    placed += self._place(partition, pieces, marker, state, rows)
                for at in range(0, len(rows), ROWS_A_STATEMENT):
                    part = rows[at : at + ROWS_A_STATEMENT]
                    # One statement for many rows: sqlite3 gives up the interpreter's lock at each step, not each row.
                    cursor = connection.execute(_insert_batches(len(part)), [value for row in part for value in row])
                    last = cursor.lastrowid or 0
                for group, committed in (offsets or {}).items():
                    self._put_offsets(connection, group, committed)
            self._seq = max(self._seq, last)
            self._publish(placed)
        return bases

    @staticmethod
    def _place(
        partition: Partition, pieces: list[tuple[Records, bytes]], marker: bool, state: int, rows: list[tuple[Any, ...]]
    ) -> Iterator[tuple[Partition, Batch]]:
        topic = partition.topic
        if topic.dropped:
            raise _error(KafkaError.UNKNOWN_TOPIC_OR_PART, f"topic {topic.name} was deleted")
        base = partition.end
        stamp, epoch = topic.stamp, partition.epoch
        for at, (records, blob) in enumerate(pieces):
            count = len(records)
            records.offsets = range(base, base + count)
            end = base + count + (1 if marker and at == len(pieces) - 1 else 0)
            newest = max(records.timestamps)
            rows.append((topic.id, partition.number, base, end, count, len(blob), newest, epoch, state, stamp, blob))
            size = len(blob) + count * _RECORD_OVERHEAD
            yield partition, Batch(base, end, records, state=state, stamp=stamp, epoch=epoch, size=size)
            base = end

    def _publish(self, placed: list[tuple[Partition, Batch]]) -> None:
        for partition, batch in placed:
            partition.end = max(partition.end, batch.end)
            if batch.state == OPEN:
                partition.open.append(batch.base)
            elif batch.state == COMMITTED and (not partition.recent or partition.recent[-1].end <= batch.base):
                partition.bases.append(batch.base)
                partition.recent.append(batch)
                self._fifo.append((partition, batch))
                self._cached += batch.size
        while self._cached > self._cache_bytes and self._fifo:
            partition, batch = self._fifo.popleft()
            self._cached -= batch.size
            if partition.recent and partition.recent[0] is batch:
                del partition.recent[0], partition.bases[0]
        if placed:
            self.version += 1
            self.changed.notify_all()

    def commit_offsets(self, group: str, offsets: Sequence[GroupOffset]) -> None:
        """Store a group's offsets."""
        with self.writing() as connection:
            self._put_offsets(connection, group, offsets)

    def delete_offsets(self, group: str) -> int:
        """Forget a group's offsets; returns how many there were."""
        with self.writing() as connection:
            return connection.execute("DELETE FROM offsets WHERE grp = ?", (group,)).rowcount

    def committed(self, group: str) -> dict[tuple[str, int], GroupOffset]:
        """A group's committed offsets."""
        rows = self.query('SELECT topic, partition, "offset", epoch, metadata FROM offsets WHERE grp = ?', (group,))
        return {(row[0], row[1]): GroupOffset(*row) for row in rows}

    def groups(self) -> list[str]:
        """The groups that have committed offsets."""
        return [row[0] for row in self.query("SELECT DISTINCT grp FROM offsets ORDER BY grp")]

    def next_producer_epoch(self, transactional_id: str) -> int:
        """Take over a transactional id: whoever held it before is fenced."""
        with self.writing(catalog=True) as connection:
            connection.execute(
                "INSERT INTO producers VALUES (?, 0) ON CONFLICT (id) DO UPDATE SET epoch = epoch + 1",
                (transactional_id,),
            )
            self.bump(connection)
        return self.producer_epochs[transactional_id]

    def check_fence(self, transactional_id: str, epoch: int) -> None:
        """Whether the producer is still the current one.

        Raises:
            KafkaException: _FENCED, fatal.
        """
        with self.lock:
            self.refresh()
            self._check_fence(transactional_id, epoch)

    def _check_fence(self, transactional_id: str, epoch: int) -> None:
        current = self.producer_epochs.get(transactional_id)
        if current != epoch:
            raise KafkaException(
                KafkaError(
                    KafkaError._FENCED,
                    f"producer {transactional_id} with epoch {epoch} was fenced by one with epoch {current}",
                    fatal=True,
                )
            )

    # -- reading --------------------

    def read(self, partition: Partition, offset: int) -> list[Batch]:
        """Batches from the one that holds `offset` on, about `READ_BYTES` of them, at least one where there is any."""
        rows: list[tuple[Any, ...]] = []
        size = 0
        with self._errors(), self.lock:
            cursor = self._connection.execute(
                f'SELECT {_BATCH} FROM batches WHERE topic = ? AND partition = ? AND "end" > ? ORDER BY "end" LIMIT ?',
                (partition.topic.id, partition.number, offset, READ_ROWS),
            )
            try:
                while size < READ_BYTES and (row := cursor.fetchone()) is not None:
                    rows.append(row)
                    size += len(row[5])
            finally:
                cursor.close()
        return [_batch(partition, row) for row in rows]

    def read_exactly(self, partition: Partition, seq: int) -> Batch | None:
        """The batch of a row, or None where it is gone."""
        rows = self.query(f"SELECT {_BATCH} FROM batches WHERE seq = ? AND topic = ?", (seq, partition.topic.id))
        return _batch(partition, rows[0]) if rows else None

    def read_all(self, partition: Partition) -> list[Batch]:
        """All batches of a partition."""
        rows = self.query(
            f'SELECT {_BATCH} FROM batches WHERE topic = ? AND partition = ? ORDER BY "end"',
            (partition.topic.id, partition.number),
        )
        return [_batch(partition, row) for row in rows]

    def query(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of the file, all read before anything else happens."""
        with self._errors(), self.lock:
            return self._connection.execute(statement, parameters).fetchall()

    def offset_for_time(self, partition: Partition, timestamp: int) -> tuple[int, int] | None:
        """The first offset whose record's timestamp is at least `timestamp` ms, and that timestamp."""
        after = partition.start
        while True:
            rows = self.query(
                f"SELECT {_BATCH} FROM batches "
                'WHERE topic = ? AND partition = ? AND "end" > ? AND newest >= ? ORDER BY "end" LIMIT 1',
                (partition.topic.id, partition.number, after, timestamp),
            )
            if not rows:
                return None
            batch = _batch(partition, rows[0])
            for offset, found in zip(batch.records.offsets, batch.records.timestamps):
                if offset >= partition.start and found >= timestamp:
                    return offset, found
            after = batch.end

    def newest_timestamp(self, partition: Partition) -> tuple[int, int] | None:
        """The offset and timestamp of the record with the greatest timestamp."""
        rows = self.query(
            'SELECT MAX(newest) FROM batches WHERE topic = ? AND partition = ? AND "end" > ? AND count > 0',
            (partition.topic.id, partition.number, partition.start),
        )
        return None if rows[0][0] is None else self.offset_for_time(partition, rows[0][0])

    # -- keeping up with other processes --------------------

    def refresh_if_due(self) -> None:
        """Look for other processes' changes, at most every few milliseconds."""
        if self.shared and time.monotonic() - self._refreshed > _REFRESH_SECONDS:
            self.refresh()

    def refresh(self) -> None:
        """Look for other processes' changes."""
        if not self.shared:
            return
        with self._errors(), self.lock:
            if self._connection.in_transaction or self._one("PRAGMA data_version")[0] == self._data_version:
                self._refreshed = time.monotonic()
                return
            with self._reading():
                self._take_changes()

    def _take_changes(self) -> None:
        self._refreshed = time.monotonic()
        version = self._one("PRAGMA data_version")[0]
        if version == self._data_version:
            return
        self._data_version = version
        if self._one("SELECT value FROM meta WHERE name = 'generation'")[0] != self._generation:
            self._reload_catalog()
            return
        rows = self._connection.execute(
            'SELECT seq, topic, partition, "end" FROM batches WHERE seq > ? ORDER BY seq', (self._seq,)
        ).fetchall()
        for seq, topic_id, number, end in rows:
            self._seq = seq
            partition = self._by_id[topic_id].partitions[number]
            partition.end = max(partition.end, end)
        if rows:
            self.version += 1
            self.changed.notify_all()

    def _reload_catalog(self) -> None:
        """Read the catalog anew, within a transaction: between two reads another process may add topics."""
        connection = self._connection
        self._generation = self._one("SELECT value FROM meta WHERE name = 'generation'")[0]
        self._seq = self._one("SELECT COALESCE(MAX(seq), 0) FROM batches")[0]
        self.producer_epochs = dict(connection.execute("SELECT id, epoch FROM producers").fetchall())
        topics: dict[str, Topic] = {}
        for id, name, identity, config in connection.execute("SELECT id, name, uuid, config FROM topics").fetchall():
            topic = self._by_id.get(id)
            if topic is None:
                topic = Topic(id, name, identity, json.loads(config))
            else:
                topic.configure(json.loads(config))
            topics[name] = topic
        for topic in self._by_id.values():
            if topics.get(topic.name) is not topic:
                topic.dropped = True
        self._by_id = {topic.id: topic for topic in topics.values()}
        rows = connection.execute(
            "SELECT topic, partition, start, epoch, hidden, MAX(floor, start, COALESCE("
            '(SELECT MAX("end") FROM batches b '
            "WHERE b.topic = p.topic AND b.partition = p.partition), 0)) FROM partitions p ORDER BY topic, partition"
        ).fetchall()
        for topic_id, number, start, epoch, hidden, end in rows:
            topic = self._by_id[topic_id]
            if number == len(topic.partitions):
                topic.partitions.append(Partition(topic, number))
            partition = topic.partitions[number]
            if partition.epoch != epoch or end < partition.end:
                partition.forget_recent()
            partition.start, partition.epoch, partition.hidden, partition.end = start, epoch, hidden, end
            partition.epochs, partition.open = [], []
        for topic_id, number, epoch, start in connection.execute("SELECT * FROM epochs ORDER BY epoch").fetchall():
            self._by_id[topic_id].partitions[number].epochs.append((epoch, start))
        for topic_id, number, base in connection.execute(
            "SELECT topic, partition, base FROM batches WHERE state = 1"
        ).fetchall():
            self._by_id[topic_id].partitions[number].open.append(base)
        self.topics = topics
        self.catalog_version += 1
        self.version += 1
        self.changed.notify_all()

    # -- the file --------------------

    @contextmanager
    def writing(self, *, catalog: bool = False) -> Iterator[sqlite3.Connection]:
        """One write: all or nothing, with this process's view of the log brought up to date first.

        Args:
            catalog: Read the catalog anew afterwards, as topics, partitions, first offsets or epochs change.
        """
        with self._errors(), self.lock:
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                if self.shared:
                    self._take_changes()
                yield connection
                connection.execute("COMMIT")
                if catalog:
                    with self._reading():
                        self._reload_catalog()
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Several reads of one state of the file; also after a failure the transaction ends, it holds nothing up."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            text = f"embedded log {self.name}: {explain(error)}"
            if "locked" in str(error):
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, text, retriable=True)) from error
            raise _error(KafkaError.KAFKA_STORAGE_ERROR, text) from error

    def _one(self, statement: str) -> Any:
        return self._connection.execute(statement).fetchone()

    def _existing(self, name: str) -> Topic:
        topic = self.topics.get(name)
        if topic is None:
            raise _error(KafkaError.UNKNOWN_TOPIC_OR_PART, f"topic {name} does not exist")
        return topic

    @staticmethod
    def bump(connection: sqlite3.Connection) -> None:
        """Within a write: tell other processes that topics, partitions, first offsets or epochs have changed."""
        connection.execute("UPDATE meta SET value = value + 1 WHERE name = 'generation'")

    @staticmethod
    def _insert_partitions(connection: sqlite3.Connection, topic: int, numbers: range) -> None:
        connection.executemany("INSERT INTO partitions (topic, partition) VALUES (?, ?)", [(topic, n) for n in numbers])
        connection.executemany("INSERT INTO epochs VALUES (?, ?, 0, 0)", [(topic, n) for n in numbers])

    @staticmethod
    def _put_offsets(connection: sqlite3.Connection, group: str, offsets: Sequence[GroupOffset]) -> None:
        for at in range(0, len(offsets), ROWS_A_STATEMENT):
            part = offsets[at : at + ROWS_A_STATEMENT]
            values: list[Any] = []
            for o in part:
                values += (group, o.topic, o.partition, o.offset, o.epoch, o.metadata)
            row = "(?, ?, ?, ?, ?, ?)"
            connection.execute(f"INSERT OR REPLACE INTO offsets VALUES {', '.join([row] * len(part))}", values)


@lru_cache(maxsize=1024)
def _insert_batches(count: int) -> str:
    row = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    return (
        'INSERT INTO batches (topic, partition, base, "end", count, bytes, newest, epoch, state, stamp, data) VALUES '
        + ", ".join([row] * count)
    )


def _encoded(records: Records) -> Iterator[tuple[Records, bytes]]:
    """The records with their blob, in pieces where one would be too large."""
    blob = batches.encode(records)
    if len(blob) <= MAX_BLOB_BYTES or len(records) == 1:
        yield records, blob
        return
    half = len(records) // 2
    del blob
    yield from _encoded(records.part(0, half))
    yield from _encoded(records.part(half, len(records)))


_BATCH = 'base, "end", epoch, state, stamp, data'


def _batch(partition: Partition, row: tuple[Any, ...]) -> Batch:
    base, end, epoch, state, stamp, data = row
    records = batches.decode(data, base, f"{partition!r} offset {base}")
    return Batch(base, end, records, state=state, stamp=stamp, epoch=epoch)


def _error(code: int, text: str) -> KafkaException:
    return KafkaException(KafkaError(code, text))
