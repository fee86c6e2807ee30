"""The loops that a careful engineer would write by hand, over the same clients and with the same promises.

They consume batches, decode with orjson, keep counts in RocksDB (raw mode) with a changelog, written through or held
back until the commit, and commit at the same interval as streamlet. What they leave out is what a library adds: error
handlers, restoring, rebalances, timestamps of results.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import orjson
from confluent_kafka import TopicPartition
from rocksdict import Options, Rdict, WriteBatch

from benchmarks.meter import Moment, Used, between, now
from benchmarks.work import WINDOW_MS, Job, changelogs, net_of
from streamlet.clients import supplier_for

BATCH = 2_000
_COUNT = struct.Struct(">q")
_WINDOW = struct.Struct(">qi")

Process = Callable[[Sequence[Any]], None]


class Loop:
    """Consuming, producing, committing.

    Args:
        job: What is to be done, and where.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        supplier = supplier_for(job.servers)
        self.consumer = supplier.consumer(
            {
                "group.id": job.application,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "isolation.level": "read_committed" if job.exactly_once else "read_uncommitted",
            }
        )
        config: dict[str, Any] = {"enable.idempotence": True, "linger.ms": 5}
        if job.exactly_once:
            config |= {"transactional.id": job.application, "retry.backoff.ms": 10}
        self.producer = supplier.producer(
            {**config, "on_delivery": self._delivered, "delivery.report.only.error": True}
        )
        self._failed: list[Any] = []
        if job.exactly_once:
            self.producer.init_transactions(30)

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self._failed.append(error)

    def produce(self, topic: str, value: bytes | None, key: bytes | None) -> None:
        """Hand a record over, waiting where the queue is full."""
        try:
            self.producer.produce(topic, value, key)
        except BufferError:
            self.producer.poll(0.01)
            self.produce(topic, value, key)

    def run(
        self,
        process: Process,
        commit: Callable[[], None] = lambda: None,
        committed: Callable[[], None] = lambda: None,
    ) -> Used:
        """Process the whole input; what the first batch took is left out.

        Args:
            process: Called with each batch.
            commit: Called before a commit.
            committed: Called after it.
        """
        job, consumer, producer = self.job, self.consumer, self.producer
        interval = job.commit_ms / 1000
        consumer.subscribe([job.input])
        first: Moment | None = None
        done, due, begun = 0, monotonic() + interval, False
        while done < job.records:
            messages = consumer.consume(BATCH, 0) or consumer.consume(1, 0.1)
            if not messages:
                continue
            for message in messages:
                if message.error() is not None:
                    raise RuntimeError(message.error())
            if job.exactly_once and not begun:
                producer.begin_transaction()
                begun = True
            process(messages)
            producer.poll(0)
            done += len(messages)
            if first is None:
                first = now(done)
            if monotonic() >= due or done == job.records:
                commit()
                self._commit(messages[-1])
                committed()
                due, begun = monotonic() + interval, False
        assert first is not None
        used = between(first, now(done))
        consumer.close()
        return used

    def _commit(self, last: Any) -> None:
        offsets = [TopicPartition(last.topic(), last.partition(), last.offset() + 1)]
        if self.job.exactly_once:
            self.producer.send_offsets_to_transaction(offsets, self.consumer.consumer_group_metadata(), 30)
            self.producer.commit_transaction(30)
        else:
            if self.producer.flush(30):
                raise RuntimeError("not everything was written")
            self.consumer.commit(offsets=offsets, asynchronous=False)
        if self._failed:
            raise RuntimeError(self._failed[0])


def stateless(job: Job, directory: Path) -> Used:
    """Parse, map, filter, produce."""
    loop = Loop(job)
    produce, output = loop.produce, job.output
    loads, dumps = orjson.loads, orjson.dumps

    def process(messages: Sequence[Any]) -> None:
        for message in messages:
            order = loads(message.value())
            net = {"customer": order["customer"], "net": order["amount"] / 1.19, "paid": order["paid"]}
            if net["paid"]:
                produce(output, dumps(net), message.key())

    return loop.run(process)


def values(job: Job, directory: Path) -> Used:
    """Parse, call a function, produce: one after the other, which is all that this function needs."""
    loop = Loop(job)
    produce, output = loop.produce, job.output
    loads, dumps = orjson.loads, orjson.dumps

    def process(messages: Sequence[Any]) -> None:
        for message in messages:
            produce(output, dumps(net_of(loads(message.value()))), message.key())

    return loop.run(process)


def count(job: Job, directory: Path) -> Used:
    """Count by key, or by key and window of time; each count is sent on if the job says so."""
    loop = Loop(job)
    store = Rdict(str(directory / "counts"), Options(raw_mode=True))
    used = (_count_buffered if job.buffers else _count_through)(loop, store)
    store.close()
    return used


def _count_through(loop: Loop, store: Rdict) -> Used:
    """Each update goes to RocksDB and to the changelog as it happens."""
    job, produce = loop.job, loop.produce
    output, emit, windowed = job.output, job.emits, job.kind == "windows"
    (changelog,) = changelogs(job.kind, job.application)
    pack, unpack, loads, pack_window = _COUNT.pack, _COUNT.unpack, orjson.loads, _WINDOW.pack

    def process(messages: Sequence[Any]) -> None:
        for message in messages:
            key = message.key()
            loads(message.value())
            if windowed:
                timestamp = message.timestamp()[1]
                key += pack_window(timestamp - timestamp % WINDOW_MS, 0)
            stored = store.get(key)
            counted = pack(1 if stored is None else unpack(stored)[0] + 1)
            store.put(key, counted)
            produce(changelog, counted, key)
            if emit:
                produce(output, counted, key)

    return loop.run(process)


def _count_buffered(loop: Loop, store: Rdict) -> Used:
    """What has changed goes to the changelog and to RocksDB with the commit, once for each key."""
    job, produce = loop.job, loop.produce
    output, emit, windowed = job.output, job.emits, job.kind == "windows"
    (changelog,) = changelogs(job.kind, job.application)
    pack, unpack, loads, pack_window = _COUNT.pack, _COUNT.unpack, orjson.loads, _WINDOW.pack
    changed: dict[bytes, int] = {}
    packed: dict[bytes, bytes] = {}

    def process(messages: Sequence[Any]) -> None:
        for message in messages:
            key = message.key()
            loads(message.value())
            if windowed:
                timestamp = message.timestamp()[1]
                key += pack_window(timestamp - timestamp % WINDOW_MS, 0)
            before = changed.get(key)
            if before is None:
                stored = store.get(key)
                before = 0 if stored is None else unpack(stored)[0]
            changed[key] = before + 1
            if emit:
                produce(output, pack(before + 1), key)

    def commit() -> None:
        packed.update((key, pack(value)) for key, value in changed.items())
        for key, value in packed.items():
            produce(changelog, value, key)

    def committed() -> None:
        batch = WriteBatch(raw_mode=True)
        for key, value in packed.items():
            batch.put(key, value)
        store.write(batch)
        changed.clear()
        packed.clear()

    return loop.run(process, commit, committed)
