"""The embedded log against a model of lists and dicts: anything may happen in any order, and the file is reopened."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
from confluent_kafka import KafkaException, TopicPartition
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streamlet.clients import EmbeddedSupplier
from streamlet.clients.embedded import cleaning

PARTITIONS = 2
TOPIC, COMPACTED = "plain", "compacted"
NOW = 2_000_000_000_000

keys = st.sampled_from([b"a", b"b", b"c", b""])
values_ = st.one_of(st.none(), st.binary(max_size=6))
places = st.tuples(st.sampled_from([TOPIC, COMPACTED]), st.integers(0, PARTITIONS - 1))
records = st.lists(st.tuples(places, keys, values_, st.integers(1, 10**6)), min_size=1, max_size=6)


class LogAgainstModel(RuleBasedStateMachine):
    """Each partition of the model is a list of (offset, key, value, timestamp) and an end offset."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.address = f"embedded:{self.directory / 'log.db'}"
        all_places = [(topic, n) for topic in (TOPIC, COMPACTED) for n in range(PARTITIONS)]
        self.log: dict[tuple[str, int], list[tuple[int, bytes | None, bytes | None, int]]]
        self.log = {place: [] for place in all_places}
        self.ends = dict.fromkeys(all_places, 0)
        self.starts = dict.fromkeys(all_places, 0)
        self.offsets: dict[tuple[str, int], tuple[int, str]] = {}
        self.pending: list[tuple[tuple[str, int], bytes, bytes | None, int]] | None = None
        self.pending_offsets: dict[tuple[str, int], tuple[int, str]] = {}

    @initialize()
    def begin(self) -> None:
        self.open()
        self.supplier.broker.log.create_topic(TOPIC, PARTITIONS, {})
        self.supplier.broker.log.create_topic(COMPACTED, PARTITIONS, {"cleanup.policy": "compact"})

    def open(self) -> None:
        self.supplier = EmbeddedSupplier.open(self.address)
        self.producer = self.supplier.producer({})
        self.transactional = self.supplier.producer({"transactional.id": "x"})
        self.transactional.init_transactions()
        self.pending = None
        self.pending_offsets = {}

    @rule(batch=records)
    def produce(self, batch: list[tuple[tuple[str, int], bytes, bytes | None, int]]) -> None:
        for (topic, partition), key, value, timestamp in batch:
            self.producer.produce(topic, value, key, partition, timestamp=timestamp)
        assert self.producer.flush() == 0
        self.append(batch, marker=False)

    def append(self, batch: list[tuple[tuple[str, int], bytes, bytes | None, int]], *, marker: bool) -> None:
        touched = set()
        for place, key, value, timestamp in batch:
            self.log[place].append((self.ends[place], key, value, timestamp))
            self.ends[place] += 1
            touched.add(place)
        if marker:
            for place in touched:
                self.ends[place] += 1

    @precondition(lambda self: self.pending is None)
    @rule()
    def begin_transaction(self) -> None:
        self.transactional.begin_transaction()
        self.pending, self.pending_offsets = [], {}

    @precondition(lambda self: self.pending is not None)
    @rule(batch=records)
    def produce_in_transaction(self, batch: list[tuple[tuple[str, int], bytes, bytes | None, int]]) -> None:
        for (topic, partition), key, value, timestamp in batch:
            self.transactional.produce(topic, value, key, partition, timestamp=timestamp)
        assert self.pending is not None
        self.pending += batch

    @precondition(lambda self: self.pending is not None)
    @rule(place=places, offset=st.integers(0, 50), metadata=st.text(max_size=3).filter(lambda t: "\0" not in t))
    def send_offsets(self, place: tuple[str, int], offset: int, metadata: str) -> None:
        consumer = self.supplier.consumer({"group.id": "g"})
        position = TopicPartition(*place, offset, metadata=metadata)
        self.transactional.send_offsets_to_transaction([position], consumer.consumer_group_metadata())
        consumer.close()
        self.pending_offsets[place] = (offset, metadata)

    @precondition(lambda self: self.pending is not None)
    @rule(commit=st.booleans())
    def end_transaction(self, commit: bool) -> None:
        assert self.pending is not None
        if commit:
            self.transactional.commit_transaction()
            self.append(self.pending, marker=True)
            self.offsets |= self.pending_offsets
        else:
            self.transactional.abort_transaction()
        self.pending = None

    @rule(place=places, offset=st.integers(0, 50))
    def commit_offset(self, place: tuple[str, int], offset: int) -> None:
        consumer = self.supplier.consumer({"group.id": "g"})
        consumer.commit(offsets=[TopicPartition(*place, offset, metadata="m")], asynchronous=False)
        consumer.close()
        self.offsets[place] = (offset, "m")

    @rule(place=places, data=st.data())
    def delete_records(self, place: tuple[str, int], data: st.DataObject) -> None:
        before = data.draw(st.integers(0, self.ends[place]))
        where = TopicPartition(*place, before)
        self.supplier.admin({}).delete_records([where])[where].result()
        self.starts[place] = max(self.starts[place], before)
        self.log[place] = [record for record in self.log[place] if record[0] >= before]

    @rule()
    def compact(self) -> None:
        # Long before any tombstone may go.
        cleaning.clean(self.supplier.broker.log, 10**6, force=True)
        for place, found in self.log.items():
            if place[0] == COMPACTED:
                last = {key: offset for offset, key, _, _ in found}
                self.log[place] = [record for record in found if last[record[1]] == record[0]]

    @rule()
    def reopen(self) -> None:
        """The open transaction is lost, nothing else."""
        del self.producer, self.transactional, self.supplier
        self.open()

    @rule()
    def forget_the_cache(self) -> None:
        for topic in self.supplier.broker.log.topics.values():
            for partition in topic.partitions:
                partition.forget_recent()

    @rule()
    def another_process_looks(self) -> None:
        """A second connection to the file sees the same."""
        from streamlet.clients.embedded.broker import Broker

        other = EmbeddedSupplier(self.address, Broker(self.supplier.broker.address))
        self.compare(other)

    @invariant()
    def the_log_is_the_model(self) -> None:
        if hasattr(self, "supplier"):
            self.compare(self.supplier)

    def compare(self, supplier: EmbeddedSupplier) -> None:
        for isolation in ("read_committed", "read_uncommitted"):
            consumer = supplier.consumer({"group.id": "g", "isolation.level": isolation, "enable.partition.eof": True})
            for place, expected in self.log.items():
                bounds = consumer.get_watermark_offsets(TopicPartition(*place))
                assert bounds == (self.starts[place], self.ends[place])
                consumer.assign([TopicPartition(*place, self.starts[place])])
                found = consumer.consume(1000, 0)
                end = found.pop()
                assert end.error() is not None
                assert end.offset() == self.ends[place]
                assert [(m.offset(), m.key(), m.value(), m.timestamp()[1]) for m in found] == expected
            committed = consumer.committed([TopicPartition(*place) for place in self.offsets])
            assert {(p.topic, p.partition): (p.offset, p.metadata) for p in committed} == self.offsets
            consumer.close()

    def teardown(self) -> None:
        if self.pending is not None:
            try:
                self.transactional.abort_transaction()
            except KafkaException as error:
                raise AssertionError("nobody fences this producer") from error
        shutil.rmtree(self.directory)


TestLogAgainstModel = LogAgainstModel.TestCase
TestLogAgainstModel.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
