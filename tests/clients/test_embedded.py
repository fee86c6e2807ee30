"""What the embedded log does otherwise than a cluster, or has alone: files, cleaning, groups, faults."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from hypothesis import given

from streamlet.clients import supplier_for
from streamlet.clients.embedded import EmbeddedSupplier, cleaning, discard
from streamlet.clients.embedded.database import FORMAT
from streamlet.clients.embedded.faults import Faults
from streamlet.clients.embedded.groups import assign
from streamlet.errors import ConfigError, StreamsError
from tests.clients.conftest import Lab, drain, to_the_end, values

DAY = 86_400_000


def log_of(lab: Lab) -> Any:
    assert isinstance(lab.supplier, EmbeddedSupplier)
    return lab.supplier.broker.log


def stored_rows(lab: Lab) -> int:
    count: int = log_of(lab).query("SELECT count(*) FROM batches")[0][0]
    return count


# -- the address -----------------------------------------------------------------------------------------------------


def test_the_anonymous_log_in_memory_is_one_for_the_process() -> None:
    first, second = supplier_for("embedded:"), supplier_for("embedded:")
    assert first.admin({}).list_topics().cluster_id == second.admin({}).list_topics().cluster_id
    discard()
    assert supplier_for("embedded:").admin({}).list_topics().cluster_id != first.admin({}).list_topics().cluster_id
    discard()


def test_a_log_in_memory_outlives_its_clients() -> None:
    supplier_for("embedded:mem:kept").producer({}).list_topics("t")
    assert "t" in supplier_for("embedded:mem:kept").admin({}).list_topics().topics
    discard("kept")


def test_one_log_is_opened_with_one_set_of_options(tmp_path: Path) -> None:
    first = supplier_for(f"embedded:{tmp_path}/log.db")
    with pytest.raises(ConfigError, match="same options"):
        supplier_for(f"embedded:{tmp_path}/log.db?partitions=2")
    del first
    assert supplier_for(f"embedded:{tmp_path}/log.db?partitions=2")


def test_topics_are_made_on_first_use_with_the_partitions_asked_for(tmp_path: Path) -> None:
    supplier = supplier_for(f"embedded:{tmp_path}/log.db?partitions=3")
    producer = supplier.producer({})
    producer.produce("produced", b"v")
    producer.flush()
    consumer = supplier.consumer({"group.id": "g"})
    consumer.subscribe(["subscribed"])
    consumer.close()
    topics = supplier.admin({}).list_topics().topics
    assert {name: len(topic.partitions) for name, topic in topics.items()} == {"produced": 3, "subscribed": 3}


def test_the_cluster_id_stays_with_the_file(tmp_path: Path) -> None:
    address = f"embedded:{tmp_path}/log.db"
    first = supplier_for(address).admin({}).list_topics().cluster_id
    assert supplier_for(address).admin({}).list_topics().cluster_id == first
    assert supplier_for(f"embedded:{tmp_path}/other.db").admin({}).list_topics().cluster_id != first


# -- bad files -------------------------------------------------------------------------------------------------------


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "log.db").write_bytes(b"no database at all, but long enough to be asked for its header" * 20)
    with pytest.raises(StreamsError, match="not an embedded log"):
        supplier_for(f"embedded:{tmp_path}/log.db")


def test_a_database_of_another_program(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "log.db")
    connection.execute("CREATE TABLE customers (name TEXT)")
    connection.close()
    with pytest.raises(StreamsError, match="another program"):
        supplier_for(f"embedded:{tmp_path}/log.db")


def test_a_newer_format(tmp_path: Path) -> None:
    supplier_for(f"embedded:{tmp_path}/log.db")
    connection = sqlite3.connect(tmp_path / "log.db")
    connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    connection.close()
    with pytest.raises(StreamsError, match=f"format {FORMAT + 1}.*use a newer one"):
        supplier_for(f"embedded:{tmp_path}/log.db")


def test_a_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(StreamsError, match="does not exist; create it"):
        supplier_for(f"embedded:{tmp_path}/nowhere/log.db")


def test_a_full_disk_aborts_the_transaction_and_keeps_what_was_there(embedded: Lab) -> None:
    topic = embedded.topic()
    embedded.send(topic, b"before")
    log = log_of(embedded)
    producer = embedded.transactional()
    pages = log.query("PRAGMA page_count")[0][0]
    log.query(f"PRAGMA max_page_count = {pages + 3}")
    producer.begin_transaction()
    producer.produce(topic, b"x" * 500_000)
    with pytest.raises(KafkaException, match="free some space") as raised:
        producer.commit_transaction()
    error: KafkaError = raised.value.args[0]
    assert (error.code(), error.txn_requires_abort(), error.fatal()) == (KafkaError.KAFKA_STORAGE_ERROR, True, False)
    producer.abort_transaction()
    failed: list[Any] = []
    embedded.producer.produce(topic, b"x" * 500_000, on_delivery=lambda error, _: failed.append(error.code()))
    embedded.producer.flush()
    assert failed == [KafkaError.KAFKA_STORAGE_ERROR]
    log.query("PRAGMA max_page_count = 1000000")
    producer.begin_transaction()
    producer.produce(topic, b"after")
    producer.commit_transaction()
    assert values(to_the_end(embedded.reader(topic, enable_partition_eof=True))) == [b"before", b"after"]


def test_a_damaged_batch_names_its_place(embedded: Lab) -> None:
    topic = embedded.topic()
    embedded.send(topic, b"v")
    log = log_of(embedded)
    with log.writing() as connection:
        connection.execute("UPDATE batches SET data = substr(data, 1, 12)")
    log.topics[topic].partitions[0].forget_recent()
    with pytest.raises(StreamsError, match=rf"{topic}\[0\] offset 0: the stored batch is damaged"):
        embedded.reader(topic).consume(1, 1)


# -- configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"auto.offset.reset": "sometimes"}, r"auto\.offset\.reset: 'sometimes' is not one of"),
        ({"isolation.level": "none"}, r"isolation\.level"),
        ({"enable.auto.commit": True}, r"enable\.auto\.commit: the embedded log does not do this"),
        ({"max.poll.interval.ms": "soon"}, r"max\.poll\.interval\.ms: 'soon' is no number"),
        ({"enable.partition.eof": "perhaps"}, r"enable\.partition\.eof: 'perhaps' is neither"),
    ],
)
def test_a_bad_consumer_setting_is_named(embedded: Lab, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        embedded.supplier.consumer({"group.id": "g", **config})
    with pytest.raises(ValueError, match=r"group\.id must be set"):
        embedded.supplier.consumer({})


def test_a_large_transaction_never_finds_the_queue_full(embedded: Lab) -> None:
    topic = embedded.topic()
    producer = embedded.transactional()
    producer.begin_transaction()
    for _ in range(120_000):
        producer.produce(topic, b"v", partition=0)
    producer.commit_transaction()
    assert embedded.consumer().get_watermark_offsets(TopicPartition(topic, 0)) == (0, 120_001)


def test_what_lingers_is_sent_without_being_asked(embedded: Lab) -> None:
    topic = embedded.topic()
    reader = embedded.reader(topic)
    embedded.producer.produce(topic, b"v")
    assert values(drain(reader, 1)) == [b"v"]


def test_a_deleted_topic_fails_only_its_own_records(embedded: Lab) -> None:
    kept, gone = embedded.topic(), embedded.topic()
    reports: dict[str, Any] = {}
    producer = embedded.supplier.producer({"linger.ms": 60_000})
    for topic in (gone, kept):
        producer.produce(
            topic, b"v", on_delivery=lambda error, m: reports.update({m.topic(): error.code() if error else None})
        )
    stale = log_of(embedded).topics[gone].partitions[0]
    embedded.admin.delete_topics([gone])[gone].result()
    with pytest.raises(KafkaException, match="was deleted"):
        log_of(embedded).append([(stale, _records(b"v"))])
    producer.flush()
    assert reports == {gone: None, kept: None}, "the deleted topic is made again on its next use"


def _records(*given: bytes) -> Any:
    from streamlet.clients.embedded.batch import Records

    return Records(range(len(given)), [None] * len(given), list(given), [0] * len(given), None)


# -- cleaning --------------------------------------------------------------------------------------------------------


def put(lab: Lab, topic: str, key: bytes, value: bytes | None, timestamp: int) -> None:
    lab.producer.produce(topic, value, key, 0, timestamp=timestamp)
    lab.producer.flush()


def test_records_older_than_retention_go_from_the_front(embedded: Lab) -> None:
    topic = embedded.topic(retention_ms=str(DAY))
    for n in range(5):
        put(embedded, topic, b"k", str(n).encode(), 10 * DAY + n * DAY)
    cleaning.clean(log_of(embedded), 13 * DAY)
    consumer = embedded.reader(topic, offset=0, enable_partition_eof=True)
    assert values(to_the_end(consumer)) == [b"2", b"3", b"4"]
    assert consumer.get_watermark_offsets(TopicPartition(topic, 0)) == (2, 5)
    cleaning.clean(log_of(embedded), 100 * DAY)
    assert consumer.get_watermark_offsets(TopicPartition(topic, 0)) == (5, 5)
    assert stored_rows(embedded) == 0
    put(embedded, topic, b"k", b"next", 100 * DAY)
    assert [m.offset() for m in drain(consumer, 1)] == [5]


def test_retention_by_bytes_keeps_at_least_that_many(embedded: Lab) -> None:
    topic = embedded.topic(retention_bytes="3000", retention_ms="-1")
    for n in range(10):
        put(embedded, topic, b"k", b"x" * 1000, DAY + n)
    cleaning.clean(log_of(embedded), DAY)
    low, high = embedded.consumer().get_watermark_offsets(TopicPartition(topic, 0))
    assert (low, high) == (7, 10)


def test_tombstones_go_only_after_their_retention(embedded: Lab) -> None:
    topic = embedded.topic(cleanup_policy="compact", delete_retention_ms=str(DAY))
    put(embedded, topic, b"a", b"1", 1)
    put(embedded, topic, b"b", b"1", 2)
    put(embedded, topic, b"a", None, 3)

    def left() -> list[tuple[int | None, bytes | None, bytes | None]]:
        found = to_the_end(embedded.reader(topic, enable_partition_eof=True))
        return [(m.offset(), m.key(), m.value()) for m in found]

    log = log_of(embedded)
    cleaning.clean(log, 10 * DAY, force=True)
    assert left() == [(1, b"b", b"1"), (2, b"a", None)]
    assert stored_rows(embedded) == 1
    cleaning.clean(log, 11 * DAY - 1, force=True)
    assert left() == [(1, b"b", b"1"), (2, b"a", None)]
    cleaning.clean(log, 11 * DAY, force=True)
    assert left() == [(1, b"b", b"1")]
    assert embedded.consumer().get_watermark_offsets(TopicPartition(topic, 0)) == (0, 3)


def test_the_compaction_lag_protects_young_records(embedded: Lab) -> None:
    topic = embedded.topic(cleanup_policy="compact", min_compaction_lag_ms=str(DAY))
    put(embedded, topic, b"a", b"old", DAY)
    put(embedded, topic, b"a", b"newer", 2 * DAY)
    put(embedded, topic, b"a", b"newest", 10 * DAY)
    cleaning.clean(log_of(embedded), 10 * DAY, force=True)
    assert values(to_the_end(embedded.reader(topic, enable_partition_eof=True))) == [b"newer", b"newest"]


def test_a_reader_within_a_batch_that_is_compacted_goes_on(embedded: Lab) -> None:
    topic = embedded.topic(cleanup_policy="compact")
    for n in range(4):
        put(embedded, topic, b"a" if n % 2 else str(n).encode(), str(n).encode(), n + 1)
    consumer = embedded.reader(topic)
    assert values(drain(consumer, 1)) == [b"0"]
    cleaning.clean(log_of(embedded), DAY, force=True)
    assert values(drain(consumer, 2)) == [b"2", b"3"]


# -- groups ----------------------------------------------------------------------------------------------------------

topics_ = st.sampled_from(["a", "b", "c"])
members_ = st.dictionaries(st.sampled_from("uvwxyz"), st.frozensets(topics_, min_size=1), max_size=6)


@given(st.sets(st.tuples(topics_, st.integers(0, 5))), members_, st.data())
def test_assignments_are_complete_even_and_sticky(places: set[Any], topics: Any, data: st.DataObject) -> None:
    partitions = sorted(places)
    owners = {p: data.draw(st.sampled_from([None, *sorted(topics)])) for p in partitions}
    owned = {m: {p for p, owner in owners.items() if owner == m} for m in topics}
    result = assign(partitions, topics, owned)
    given_out = [p for found in result.values() for p in found]
    assert sorted(given_out) == [p for p in partitions if any(p[0] in t for t in topics.values())]
    assert all(p[0] in topics[m] for m, found in result.items() for p in found)
    for rich, held in result.items():
        for poor in result:
            if any(p[0] in topics[poor] for p in held):
                assert len(held) - len(result[poor]) <= 1 or rich == poor
    assert assign(partitions, topics, result) == result, "an even assignment stays as it is"


def test_a_silent_member_is_expelled_told_and_comes_back(embedded: Lab) -> None:
    topic = embedded.topic(2)
    lost: list[int] = []
    silent = embedded.consumer("g", max_poll_interval_ms=1)
    silent.subscribe([topic], on_lost=lambda _, partitions: lost.extend(p.partition for p in partitions))
    while len(silent.assignment()) < 2:
        silent.poll(0)
    membership = silent.consumer_group_metadata()
    other = embedded.consumer("g")
    other.subscribe([topic])
    while len(other.assignment()) < 2:
        other.poll(0.01)
    producer = embedded.transactional()
    producer.begin_transaction()
    with pytest.raises(KafkaException) as raised:
        producer.send_offsets_to_transaction([TopicPartition(topic, 0, 1)], membership)
    assert raised.value.args[0].code() == KafkaError.UNKNOWN_MEMBER_ID
    event = silent.poll(5)
    assert event is not None
    assert event.error() is not None
    assert event.error().code() == KafkaError._MAX_POLL_EXCEEDED  # type: ignore[union-attr]  # asserted above
    assert sorted(lost) == [0, 1]


def test_assign_within_a_rebalance_is_refused_as_librdkafka_does(embedded: Lab) -> None:
    topic = embedded.topic()
    consumer = embedded.consumer()
    codes: list[int] = []

    def on_assign(client: Any, partitions: list[TopicPartition]) -> None:
        try:
            client.assign(partitions)
        except KafkaException as error:
            codes.append(error.args[0].code())

    consumer.subscribe([topic], on_assign=on_assign)
    consumer.poll(0)
    assert codes == [KafkaError._STATE]


def test_a_pattern_follows_new_topics(embedded: Lab) -> None:
    log_of(embedded).create_topic("orders-eu", 1, {})
    consumer = embedded.consumer()
    consumer.subscribe(["^orders-.*"])
    consumer.poll(0)
    assert [p.topic for p in consumer.assignment()] == ["orders-eu"]
    log_of(embedded).create_topic("orders-us", 1, {})
    log_of(embedded).create_topic("invoices", 1, {})
    consumer.poll(0)
    consumer.poll(0)
    assert sorted(p.topic for p in consumer.assignment()) == ["orders-eu", "orders-us"]


def test_an_exception_in_a_callback_loses_no_record(embedded: Lab) -> None:
    topic = embedded.topic()
    embedded.send(topic, b"a")
    consumer = embedded.consumer()

    def on_assign(_: Any, __: Any) -> None:
        raise RuntimeError("user code")

    consumer.subscribe([topic], on_assign=on_assign)
    with pytest.raises(RuntimeError, match="user code"):
        consumer.consume(10, 0)
    assert values(drain(consumer, 1)) == [b"a"]


def test_a_waiting_consumer_is_woken_by_a_producer(embedded: Lab) -> None:
    topic = embedded.topic()
    consumer = embedded.reader(topic)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(consumer.poll(60)))
    thread.start()
    embedded.send(topic, b"v")
    thread.join(30)
    assert [m.value() for m in found] == [b"v"]


# -- faults ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def faults(embedded: Lab) -> Faults:
    assert isinstance(embedded.supplier, EmbeddedSupplier)
    return Faults(embedded.supplier)


def test_an_open_transaction_holds_committed_readers_back(embedded: Lab, faults: Faults) -> None:
    topic = embedded.topic()
    embedded.send(topic, b"1")
    undecided = faults.open_transaction(topic, 0, [(b"k", b"2"), (b"k", b"3")])
    embedded.send(topic, b"4")
    committed = embedded.reader(topic, enable_partition_eof=True)
    uncommitted = embedded.reader(topic, enable_partition_eof=True, isolation_level="read_uncommitted")
    assert values(to_the_end(committed)) == [b"1"]
    assert values(to_the_end(uncommitted)) == [b"1", b"2", b"3", b"4"]
    assert committed.get_watermark_offsets(TopicPartition(topic, 0)) == (0, 1)
    assert uncommitted.get_watermark_offsets(TopicPartition(topic, 0)) == (0, 4)
    undecided.commit()
    assert values(to_the_end(committed)) == [b"2", b"3", b"4"]
    assert committed.get_watermark_offsets(TopicPartition(topic, 0)) == (0, 5)
    with pytest.raises(KafkaException, match="decided"):
        undecided.abort()


def test_aborted_records_are_visible_to_uncommitted_readers_only(embedded: Lab, faults: Faults) -> None:
    topic = embedded.topic()
    faults.append_aborted(topic, 0, [(b"k", b"1"), (b"k", b"2")])
    embedded.send(topic, b"3")
    assert values(to_the_end(embedded.reader(topic, enable_partition_eof=True))) == [b"3"]
    uncommitted = embedded.reader(topic, enable_partition_eof=True, isolation_level="read_uncommitted")
    found = to_the_end(uncommitted)
    assert [(m.offset(), m.value()) for m in found] == [(0, b"1"), (1, b"2"), (3, b"3")]


def test_removed_markers_hide_the_end(embedded: Lab, faults: Faults) -> None:
    topic = embedded.topic()
    producer = embedded.transactional()
    producer.begin_transaction()
    producer.produce(topic, b"a")
    producer.commit_transaction()
    faults.remove_markers(topic, 0)
    consumer = embedded.reader(topic, enable_partition_eof=True)
    assert [(m.value(), m.error()) for m in consumer.consume(10, 0.05)] == [(b"a", None)]
    assert consumer.position([TopicPartition(topic, 0)])[0].offset == 1
    assert consumer.get_watermark_offsets(TopicPartition(topic, 0)) == (0, 2)
    embedded.send(topic, b"b")
    assert values(to_the_end(consumer)) == [b"b"]


def test_a_truncated_log_is_noticed_by_epoch(embedded: Lab, faults: Faults) -> None:
    topic = embedded.topic()
    embedded.send(topic, b"1", b"2", b"3")
    faults.truncate(topic, 0, 1)
    embedded.send(topic, b"other", b"records", b"now")
    place = TopicPartition(topic, 0, 3, leader_epoch=0)
    strict = embedded.consumer(auto_offset_reset="error")
    strict.assign([place])
    (event,) = drain(strict, 1)
    assert event.error() is not None
    assert event.error().code() == KafkaError._LOG_TRUNCATION  # type: ignore[union-attr]  # asserted above
    lenient = embedded.consumer()
    lenient.assign([place])
    found = drain(lenient, 3)
    assert [(m.offset(), m.value(), m.leader_epoch()) for m in found] == [
        (1, b"other", 1),
        (2, b"records", 1),
        (3, b"now", 1),
    ]
    fine = embedded.consumer(auto_offset_reset="error")
    fine.assign([TopicPartition(topic, 0, 1, leader_epoch=0)])
    assert values(drain(fine, 3)) == [b"other", b"records", b"now"]


def test_stored_configurations_are_plain(embedded: Lab) -> None:
    """The file's catalog is readable by any SQLite tool."""
    topic = embedded.topic(retention_ms="5")
    found = log_of(embedded).query("SELECT config FROM topics WHERE name = ?", (topic,))
    assert json.loads(found[0][0]) == {"retention.ms": "5"}


def test_a_group_lock_is_released_with_the_last_member(embedded: Lab) -> None:
    topic = embedded.topic()
    first, second = embedded.consumer("g"), embedded.consumer("g")
    first.subscribe([topic])
    second.subscribe([topic])
    first.close()
    second.close()
    third = embedded.consumer("g")
    third.subscribe([topic])
    before = time.monotonic()
    while not third.assignment():
        third.poll(0.01)
        assert time.monotonic() - before < 30
