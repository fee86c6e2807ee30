"""Another processing.guarantee than before, on what the first one left behind."""

from __future__ import annotations

import pytest

from streamlet import serdes
from streamlet.dsl.builder import StreamsBuilder
from streamlet.dsl.materialized import Materialized
from streamlet.topic import Topic
from streamlet.topology import Topology
from tests.runtime.harness import LogUnderTest, running

STORE: Materialized[str] = Materialized("together", value_serde=serdes.string)
GUARANTEES = ("exactly_once_v2", "at_least_once")


def joined(log: LogUnderTest) -> Topology:
    for topic in ("lines", "joined"):
        log.create(topic)
    builder = StreamsBuilder()
    lines = builder.stream(Topic(log.name("lines"), serdes.string, serdes.string))
    together = lines.group_by_key().aggregate(lambda: "", lambda _key, line, text: text + line, store=STORE)
    together.to_stream().to(Topic(log.name("joined"), serdes.string, serdes.string))
    return builder.build()


def values(log: LogUnderTest, count: int) -> list[str]:
    return [message.value().decode() for message in log.read("joined", lambda found: len(found) >= count)]


@pytest.mark.parametrize("kept", [True, False], ids=["state kept", "state lost"])
def test_there_and_back(log: LogUnderTest, kept: bool) -> None:
    topology = joined(log)
    for number, guarantee in enumerate([*GUARANTEES, *GUARANTEES]):
        state = log.directory / ("state" if kept else f"state{number}")
        with running(topology, {**log.config(guarantee=guarantee), "state.dir": str(state)}):
            log.write("lines", [("k", str(number))])
            assert values(log, number + 1)[-1] == "0123"[: number + 1]


def test_what_exactly_once_aborted_does_not_come_back_with_at_least_once(log: LogUnderTest) -> None:
    topology = joined(log)
    with running(topology, log.config(guarantee="exactly_once_v2")):
        log.write("lines", [("k", "a")])
        assert values(log, 1) == ["a"]
    producer = log.supplier.producer({"transactional.id": log.name("died")})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(log.name("app-together-changelog"), b"of a transaction that was aborted", b"k", 0)
    producer.flush(30)
    producer.abort_transaction(30)
    elsewhere = {**log.config(guarantee="at_least_once"), "state.dir": str(log.directory / "elsewhere")}
    with running(topology, elsewhere):
        log.write("lines", [("k", "b")])
        assert values(log, 2) == ["a", "ab"]


@pytest.mark.parametrize(("level", "seen"), [("read_committed", ["b"]), ("read_uncommitted", ["a", "b"])])
def test_at_least_once_may_read_committed_records_only(kafka: LogUnderTest, level: str, seen: list[str]) -> None:
    """The embedded log keeps nothing of an aborted transaction."""
    for topic in ("lines", "seen"):
        kafka.create(topic)
    producer = kafka.supplier.producer({"transactional.id": kafka.name("others")})
    producer.init_transactions(30)
    for line, end in ((b"a", producer.abort_transaction), (b"b", producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(kafka.name("lines"), line, b"k", 0)
        producer.flush(30)
        end(30)
    builder = StreamsBuilder()
    lines = builder.stream(Topic(kafka.name("lines"), serdes.string, serdes.string))
    lines.to(Topic(kafka.name("seen"), serdes.string, serdes.string))
    config = {**kafka.config(guarantee="at_least_once"), "consumer.isolation.level": level}
    with running(builder.build(), config):
        found = kafka.read("seen", lambda found: bool(found) and found[-1].value() == b"b")
    assert [message.value().decode() for message in found] == seen
