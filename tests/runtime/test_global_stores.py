"""Global tables on a log: read as a whole at first, kept up to date, gone on with after a restart."""

from __future__ import annotations

from typing import Never

import pytest

from streamlet import serdes
from streamlet.clients.embedded import cleaning
from streamlet.dsl.builder import StreamsBuilder
from streamlet.dsl.materialized import Materialized
from streamlet.errors import InvalidStateStoreError, MissingSourceTopicError
from streamlet.processor.api import Processor, ProcessorContext
from streamlet.records import Record
from streamlet.runtime.streams import KafkaStreams
from streamlet.state import Stores
from streamlet.time import SystemClock
from streamlet.topic import Topic
from streamlet.topology import Topology
from tests.runtime.harness import NOW, LogUnderTest, Recorder, eventually, running


def named_flights(log: LogUnderTest, *, in_memory: bool = False) -> Topology:
    """Joins flights with the names of their airlines."""
    builder = StreamsBuilder()
    airlines = builder.global_table(
        Topic(log.name("airlines"), serdes.string, serdes.string), store=Materialized("airlines", in_memory=in_memory)
    )
    flights = builder.stream(Topic(log.name("flights"), serdes.string, serdes.string))
    named = flights.left_join(airlines, lambda _, carrier: carrier, lambda carrier, name: f"{carrier}={name}")
    named.to(Topic(log.name("named"), serdes.string, serdes.string))
    return builder.build()


def named(log: LogUnderTest, count: int) -> list[str]:
    """The first so many results."""
    return [message.value().decode() for message in log.read("named", lambda found: len(found) >= count)]


@pytest.mark.parametrize("in_memory", [False, True])
def test_the_table_is_there_before_the_first_record(log: LogUnderTest, guarantee: str, in_memory: bool) -> None:
    for topic, partitions in (("airlines", 3), ("flights", 2), ("named", 1)):
        log.create(topic, partitions)
    log.write("airlines", [(f"A{number}", f"Airline {number}") for number in range(5_000)])
    log.write("flights", [(str(number), f"A{number}") for number in range(200)])
    with running(named_flights(log, in_memory=in_memory), log.config(guarantee=guarantee)) as app:
        found = named(log, 200)
        assert sorted(found) == sorted(f"A{number}=Airline {number}" for number in range(200))
        store = app.store("airlines")
        assert store.get("A4999") == "Airline 4999"
        assert store.approximate_num_entries() > 0
    with pytest.raises(InvalidStateStoreError):
        store.get("A4999")


def test_updates_and_deletions_arrive_while_it_runs(log: LogUnderTest) -> None:
    for topic in ("airlines", "flights", "named"):
        log.create(topic)
    with running(named_flights(log), log.config()) as app:
        store = app.store("airlines")
        log.write("flights", [("1", "UA")])
        assert named(log, 1) == ["UA=None"]
        log.write("airlines", [("UA", "United")])
        eventually(lambda: store.get("UA") is not None)
        log.write("flights", [("2", "UA")])
        assert named(log, 2)[1:] == ["UA=United"]
        log.write("airlines", [("UA", None)])
        eventually(lambda: store.get("UA") is None)
        log.write("flights", [("3", "UA")])
        assert named(log, 3)[2:] == ["UA=None"]


def test_a_restart_reads_only_what_is_new(log: LogUnderTest) -> None:
    for topic in ("airlines", "flights", "named"):
        log.create(topic)
    log.write("airlines", [(f"A{number}", "old") for number in range(1_000)])
    with running(named_flights(log), log.config()):
        pass
    log.write("airlines", [("A7", "new")])
    log.write("flights", [("1", "A7"), ("2", "A8")])
    sensor = Recorder()
    with running(named_flights(log), log.config(), sensor=sensor):
        assert named(log, 2) == ["A7=new", "A8=old"]
    assert sensor.processed == 3, "one airline and two flights"


def test_a_topic_made_again_is_read_from_its_beginning(log: LogUnderTest) -> None:
    for topic in ("airlines", "flights", "named"):
        log.create(topic)
    log.write("airlines", [("UA", "United"), ("DL", "Delta"), ("AA", "American")])
    with running(named_flights(log), log.config()):
        pass
    admin = log.supplier.admin({"bootstrap.servers": log.servers})
    for future in admin.delete_topics([log.name("airlines")]).values():
        future.result(30)
    eventually(lambda: log.name("airlines") not in admin.list_topics(timeout=10).topics)
    log.create("airlines")
    log.write("airlines", [("UA", "Uniquely")])
    log.write("flights", [("1", "UA"), ("2", "DL")])
    with running(named_flights(log), log.config()):
        assert named(log, 2) == ["UA=Uniquely", "DL=None"]


class Later(SystemClock):
    """A clock that is ahead of the machine's."""

    def __init__(self, ms: int) -> None:
        self._ms = ms

    def wall_ms(self) -> int:
        return super().wall_ms() + self._ms


@pytest.mark.parametrize(("policy", "gone"), [("compact", True), ("delete", False)])
def test_what_was_deleted_while_it_was_away_for_long_is_not_there(
    embedded: LogUnderTest, caplog: pytest.LogCaptureFixture, policy: str, gone: bool
) -> None:
    """Compaction has removed the tombstone by then: only the whole topic tells what is left."""
    day = 86_400_000
    for topic in ("flights", "named"):
        embedded.create(topic)
    embedded.create("airlines", **{"cleanup.policy": policy})
    embedded.write("airlines", [("UA", "United"), ("DL", "Delta")])
    with running(named_flights(embedded), embedded.config()):
        pass
    embedded.write("airlines", [("UA", None), ("DL", "Delta Air Lines")])
    for days in (0, 1, 2):
        cleaning.clean(embedded.supplier.broker.log, NOW + days * day + 60_000, force=True)
    embedded.write("flights", [("1", "UA"), ("2", "DL")])
    with running(named_flights(embedded), embedded.config(), clock=Later(3 * day)):
        assert named(embedded, 2) == ["UA=None", "DL=Delta Air Lines"]
    assert ("deletions may be gone" in caplog.text) == gone


NAMES = Stores.key_value("names", serdes.string, serdes.string)


class Fill(Processor[str, str]):
    """Keeps the names in capitals."""

    def init(self, context: ProcessorContext[Never, Never]) -> None:
        self.names = context.get_state_store(NAMES)

    def process(self, record: Record[str, str]) -> None:
        self.names.put(record.key, record.value.upper())


class Look(Processor[str, str, str, str]):
    """Reads them."""

    def init(self, context: ProcessorContext[str, str]) -> None:
        self.context = context
        self.names = context.get_state_store(NAMES)

    def process(self, record: Record[str, str]) -> None:
        self.context.forward(record.with_value(str(self.names.get(record.value))))


def test_a_store_filled_by_a_processor_is_read_by_others(log: LogUnderTest) -> None:
    for topic in ("airlines", "flights", "named"):
        log.create(topic)
    log.write("airlines", [("UA", "United")])
    log.write("flights", [("1", "UA")])
    builder = StreamsBuilder()
    builder.add_global_store(NAMES, Topic(log.name("airlines"), serdes.string, serdes.string), Fill)
    flights = builder.stream(Topic(log.name("flights"), serdes.string, serdes.string))
    flights.process(Look).to(Topic(log.name("named"), serdes.string, serdes.string))
    with running(builder.build(), log.config()):
        assert named(log, 1) == ["UNITED"]


def test_a_record_that_cannot_be_read_stops_the_application(log: LogUnderTest) -> None:
    for topic in ("airlines", "flights", "named"):
        log.create(topic)
    log.write("airlines", [("UA", b"\xff\xfe")])
    app = KafkaStreams(named_flights(log), log.config())
    with pytest.raises(Exception, match="airlines"):
        app.start()
    assert app.state.has_ended
    app.close()


def test_a_missing_topic_is_named(kafka: LogUnderTest) -> None:
    """The embedded log makes topics on first use."""
    kafka.create("flights")
    app = KafkaStreams(named_flights(kafka), kafka.config())
    with pytest.raises(MissingSourceTopicError, match="airlines"):
        app.start()
