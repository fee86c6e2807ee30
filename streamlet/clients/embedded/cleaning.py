"""Retention and compaction: what Kafka's log cleaner does, on batches instead of segments.

Compaction keeps the last record of each key and every offset; a tombstone goes ``delete.retention.ms`` after it was
first compacted (KIP-534), so that readers who began before have seen it. Small batches become one: commits make many.
"""

from __future__ import annotations

from itertools import repeat

from attrs import frozen

from streamlet.clients.embedded import batch as batches
from streamlet.clients.embedded import topic_configs
from streamlet.clients.embedded.batch import Records
from streamlet.clients.embedded.log import COMMITTED, Batch, Log, Partition, Topic
from streamlet.clients.embedded.message import Headers

MERGED_BYTES = 1 << 20


def clean(log: Log, now: int, *, force: bool = False) -> None:
    """Apply each topic's cleanup policy.

    Args:
        log: The log.
        now: The time to judge ages by, ms since 1970.
        force: Compact also what ``min.cleanable.dirty.ratio`` would leave for later.

    Raises:
        KafkaException: The file cannot be written.
    """
    log.refresh()
    for topic in list(log.topics.values()):
        policy = topic.config.get("cleanup.policy", "delete")
        for partition in list(topic.partitions):
            if "delete" in policy:
                retain(log, topic, partition, now)
            if "compact" in policy:
                compact(log, topic, partition, now, force=force)


def retain(log: Log, topic: Topic, partition: Partition, now: int) -> None:
    """Drop batches that are too old, or too many bytes, from the partition's beginning."""
    oldest = topic_configs.number(topic.config, "retention.ms")
    most = topic_configs.number(topic.config, "retention.bytes")
    if oldest < 0 and most < 0:
        return
    with log.lock:
        rows = log.query(
            'SELECT "end", newest, bytes FROM batches WHERE topic = ? AND partition = ? ORDER BY "end"',
            (topic.id, partition.number),
        )
    size = sum(row[2] for row in rows)
    start = partition.start
    for end, newest, length in rows:
        too_old = oldest >= 0 and newest < now - oldest
        too_much = 0 <= most <= size - length
        if end > partition.stable or not (too_old or too_much):
            break
        start = end
        size -= length
    if start > partition.start:
        with log.writing(catalog=True) as connection:
            log.advance_start(connection, partition, start)


@frozen
class _Row:
    seq: int
    base: int
    end: int
    bytes: int
    newest: int
    cleaned: int
    state: int
    epoch: int


def compact(log: Log, topic: Topic, partition: Partition, now: int, *, force: bool = False) -> None:
    """Keep the last record of each key."""
    lag = topic_configs.number(topic.config, "min.compaction.lag.ms")
    stable = partition.stable
    with log.lock:
        found = log.query(
            'SELECT seq, base, "end", bytes, newest, cleaned, state, epoch FROM batches '
            'WHERE topic = ? AND partition = ? ORDER BY "end"',
            (topic.id, partition.number),
        )
    rows = [_Row(*row) for row in found]
    for at, row in enumerate(rows):
        if row.end > stable or row.state != COMMITTED or (lag > 0 and row.newest > now - lag):
            rows = rows[:at]
            break
    dirty = sum(row.bytes for row in rows if row.cleaned == 0)
    total = sum(row.bytes for row in rows)
    expired = any(0 < row.cleaned <= now for row in rows)
    ratio = float(topic.config.get("min.cleanable.dirty.ratio", topic_configs.DEFAULTS["min.cleanable.dirty.ratio"]))
    if not rows or not (expired or (dirty and (force or dirty > total * ratio))):
        return
    last = _last_offsets(log, partition, rows)
    horizon = now + topic_configs.number(topic.config, "delete.retention.ms")
    for run in _runs(rows):
        _rewrite(log, topic, partition, run, last, now, horizon)


def _last_offsets(log: Log, partition: Partition, rows: list[_Row]) -> dict[bytes | None, int]:
    last: dict[bytes | None, int] = {}
    for row in rows:
        batch = log.read_exactly(partition, row.seq)
        if batch is not None:
            last.update(zip(batch.records.keys, batch.records.offsets))
    return last


def _runs(rows: list[_Row]) -> list[list[_Row]]:
    """Neighbouring batches that may become one: they have one epoch."""
    runs: list[list[_Row]] = []
    size = 0
    for row in rows:
        fits = size + row.bytes <= MERGED_BYTES and runs and row.end - runs[-1][0].base < 2**31
        if fits and row.epoch == runs[-1][0].epoch:
            runs[-1].append(row)
            size += row.bytes
        else:
            runs.append([row])
            size = row.bytes
    return runs


def _rewrite(
    log: Log,
    topic: Topic,
    partition: Partition,
    run: list[_Row],
    last: dict[bytes | None, int],
    now: int,
    horizon: int,
) -> None:
    kept: list[tuple[int, bytes | None, bytes | None, int, Headers | None]] = []
    batch: Batch | None = None
    dropped = False
    due = 0
    for row in run:
        batch = log.read_exactly(partition, row.seq)
        if batch is None:
            return  # deleted meanwhile
        records = batch.records
        headers = records.headers or repeat(None)
        for record in zip(records.offsets, records.keys, records.values, records.timestamps, headers):
            offset, key, value = record[:3]
            expired = value is None and 0 < row.cleaned <= now
            if key is None or last.get(key) != offset or expired:
                dropped = True
                continue
            if value is None:
                due = max(due, row.cleaned if row.cleaned > 0 else horizon)
            kept.append(record)
    cleaned = due or -1
    if batch is None or (len(run) == 1 and not dropped and run[0].cleaned == cleaned):
        return
    columns = [list(column) for column in zip(*kept)] if kept else [[], [], [], [], []]
    offsets, keys, values, timestamps, all_headers = columns
    blob = batches.encode(Records(offsets, keys, values, timestamps, all_headers if any(all_headers) else None))
    newest = max(timestamps, default=run[-1].newest)
    with log.writing() as connection:
        seqs = [row.seq for row in run]
        marks = ", ".join("?" * len(seqs))
        alive = connection.execute(f"SELECT count(*) FROM batches WHERE seq IN ({marks})", seqs).fetchone()[0]
        if alive != len(seqs):
            return  # deleted meanwhile
        connection.execute(f"DELETE FROM batches WHERE seq IN ({marks})", seqs)
        connection.execute(
            'INSERT INTO batches (seq, topic, partition, base, "end", count, bytes, newest, epoch, state, stamp, '
            "cleaned, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                run[-1].seq,
                topic.id,
                partition.number,
                run[0].base,
                run[-1].end,
                len(kept),
                len(blob),
                newest,
                batch.epoch,
                COMMITTED,
                batch.stamp,
                cleaned,
                blob,
            ),
        )
        with log.lock:
            partition.forget_recent()
