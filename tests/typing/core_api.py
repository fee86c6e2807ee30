"""What users write, and what a type checker has to say about it. Checked by test_typing.py, never run.

`# E` marks a line that must be an error for mypy and for pyright, both strict; all others must be clean.
"""
# pyright: strict, reportUnusedExpression=false, reportUnusedVariable=false, reportUnknownLambdaType=false
# mypy: disable-error-code="empty-body"

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Self, assert_type

from attrs import frozen

from streamlet import (
    HostInfo,
    KeyValueStore,
    KGroupedStream,
    KStream,
    KTable,
    Materialized,
    Processor,
    ProcessorContext,
    PunctuationType,
    Record,
    Serde,
    StoreBuilder,
    Stores,
    StreamsBuilder,
    Topic,
    Windowed,
    serdes,
    start,
)
from streamlet.state import VersionedRecord
from streamlet.testing import TopologyTestDriver


@frozen
class Event:
    id: str


@frozen
class Delay:
    total: float = 0
    n: int = 0

    @classmethod
    def empty(cls) -> Self: ...
    def add(self, flight: dict[str, Any]) -> Delay: ...


@frozen
class Order:
    customer: str
    total: float


@frozen
class Customer:
    name: str


class Flight:
    carrier: str
    dep_delay: int | None


lines = Topic("lines", serdes.string, serdes.string)
counts = Topic("word-counts", serdes.string, serdes.int64)
flights = Topic("flights", serdes.string, serdes.json)
events_topic = Topic("events", serdes.string, serdes.json_of(Event))
orders_topic = Topic("orders", serdes.string, serdes.json_of(Order))
customers_topic = Topic("customers", serdes.string, serdes.json_of(Customer))
typed_flights = Topic("typed-flights", serdes.string, serdes.json_of(Flight))
delay_serde: Serde[Delay] = serdes.json_of(Delay)
assert_type(flights, Topic[str, Any])

builder = StreamsBuilder()

# Grouping and counting

words = (
    builder.stream(lines)
    .flat_map_values(lambda line: line.lower().split())
    .group_by(lambda _, word: word, key_serde=serdes.string, value_serde=serdes.string)
)
assert_type(words, KGroupedStream[str, str])
counted = words.count(store="counts")
assert_type(counted, KTable[str, int])
assert_type(counted.to_stream(), KStream[str, int | None])
assert_type(counted.to_stream().drop_nulls(), KStream[str, int])
counted.to_stream().to(counts)
counted.to_stream().map_values(lambda n: n + 1)  # E: a table's change may be a deletion
counted.to_stream().drop_nulls().map_values(lambda n: n + 1).to(counts)
builder.stream(lines).to(counts)  # E: the topic has other values

by_carrier = builder.stream(typed_flights).group_by(lambda _, f: f.carrier, key_serde=serdes.string)
assert_type(by_carrier, KGroupedStream[str, Flight])
by_delay = builder.stream(typed_flights).group_by(lambda _, f: f.dep_delay, key_serde=serdes.int64)
assert_type(by_delay, KGroupedStream[int, Flight])
builder.stream(typed_flights).group_by(lambda _, f: f.carrier, key_serde=serdes.int64)  # E: the serde has other keys
builder.stream(typed_flights).group_by(lambda _, f: f.carrier).count().to_stream().to(counts)

# Aggregating

flights_by_carrier = builder.stream(flights).group_by(lambda _, f: str(f["carrier"]), key_serde=serdes.string)
delays = flights_by_carrier.aggregate(
    Delay.empty, lambda _, flight, delay: delay.add(flight), store=Materialized("delays", value_serde=delay_serde)
)
assert_type(delays, KTable[str, Delay])
assert_type(Materialized("delays", value_serde=delay_serde), Materialized[Delay])
flights_by_carrier.aggregate(Delay, lambda _, f, delay: delay.add(f), store=Materialized("d", in_memory=True))
assert_type(words.aggregate(lambda: 0, lambda _, word, n: n + len(word)), KTable[str, int])
assert_type(words.aggregate(dict[str, int], lambda _, word, d: {**d, word: 1}), KTable[str, dict[str, int]])
words.aggregate(lambda: 0, lambda _, word, n: n + 1, store=Materialized("n", value_serde=serdes.string))  # E: serde
assert_type(words.reduce(lambda a, b: a + b), KTable[str, str])

# Mapping, filtering, merging

orders = builder.stream(orders_topic)
assert_type(orders.map(lambda k, o: (o.customer, o.total)), KStream[str, float])
assert_type(orders.flat_map(lambda k, o: [(o.customer, o.total)]), KStream[str, float])
assert_type(orders.map_values(lambda o: o.total), KStream[str, float])
assert_type(orders.map_values(lambda k, o: (k, o.total), with_key=True), KStream[str, tuple[str, float]])
assert_type(orders.merge(orders), KStream[str, Order])
orders.filter(lambda k, o: o.customer)  # any truth value will do
orders.map_values(lambda o: o.nope)  # E: no such field
builder.stream([orders_topic, orders_topic])
builder.stream([orders_topic, customers_topic])  # E: topics of different values

# Calls that wait


async def total_of(order: Order) -> float: ...
def customer_of(key: str, order: Order) -> Customer: ...
async def stamped(record: Record[str, Order]) -> int: ...
def no_total(order: Order, error: Exception) -> float: ...


assert_type(orders.map_values_async(total_of), KStream[str, float])
assert_type(orders.map_values_async(total_of, recover=no_total, ordering="key"), KStream[str, float])
assert_type(orders.map_values_async(lambda o: o.total, max_in_flight=8), KStream[str, float])
assert_type(orders.map_values_async(customer_of, with_key=True), KStream[str, Customer])
assert_type(orders.map_values_async(stamped, with_record=True), KStream[str, int])
builder.stream(lines).map_values_async(total_of)  # E: takes orders
orders.map_values_async(total_of, ordering="random")  # E: there are three
orders.map_values_async(customer_of)  # E: takes the key too

customers = builder.table(customers_topic)
assert_type(customers, KTable[str, Customer])
assert_type(customers.filter(lambda _, c: bool(c.name)), KTable[str, Customer])

# Processors and their stores

SEEN = Stores.key_value("seen", serdes.string, serdes.int64)
assert_type(SEEN, StoreBuilder[KeyValueStore[str, int]])


class Deduplicate(Processor[str, Event, str, Event]):
    stores = [SEEN]

    def init(self, context: ProcessorContext[str, Event]) -> None:
        self.context = context
        self.seen = context.get_state_store(SEEN)
        context.schedule(timedelta(minutes=1), PunctuationType.STREAM_TIME, self.forget)

    def process(self, record: Record[str, Event]) -> None:
        if self.seen.put_if_absent(record.value.id, record.timestamp) is None:
            self.context.forward(record)
            self.context.forward(record.with_value(1))  # E: forwards events

    def forget(self, now: int) -> None: ...


class Untyped(Processor[str, Event, str, Event]):
    stores = [SEEN]

    def init(self, context):  # E: strict mode wants annotations
        self.context = context

    def process(self, record):  # E: as above
        self.context.forward(record)


class Sink(Processor[str, Event]):
    def process(self, record: Record[str, Event]) -> None:
        self.context.forward(record)  # E: declared to forward nothing


class Expiring(Processor[str, Event, str, str]):
    def __init__(self, ttl: timedelta) -> None: ...
    def process(self, record: Record[str, Event]) -> None: ...


class AnyKey(Processor[object, Event, str, Event]):
    def process(self, record: Record[object, Event]) -> None: ...


events = builder.stream(events_topic)
assert_type(events.process(Deduplicate), KStream[str, Event])
assert_type(events.process(AnyKey), KStream[str, Event])
assert_type(events.process(lambda: Expiring(timedelta(1))), KStream[str, str])
events.process(Deduplicate).to(events_topic)
events.process(Expiring)  # E: needs an argument, so a factory
events.process(Sink)
orders.process(Deduplicate)  # E: takes events
builder.stream(flights).process(Deduplicate)  # values of Any fit everything

# Testing and running

topology = builder.build()
with TopologyTestDriver(topology) as driver:
    driver.create_input_topic(lines).pipe_input("k", "hello kafka hello", timestamp=0)
    driver.create_input_topic(lines).pipe_input("k", 3)  # E: the topic has strings
    assert_type(driver.create_output_topic(counts).read_key_values_to_map(), dict[str, int | None])
    assert_type(driver.get_state_store(SEEN), KeyValueStore[str, int])
    assert driver.get_state_store("counts").get("hello") == 2

HOUR = timedelta(hours=1)
WINDOWS = Stores.window("windows", serdes.string, serdes.int64, retention=HOUR, window_size=HOUR)
SESSIONS = Stores.session("sessions", serdes.string, serdes.int64, retention=HOUR)
VERSIONS = Stores.versioned_key_value("versions", serdes.string, serdes.int64, history_retention=HOUR)

with start(topology, {"application.id": "x"}) as app:
    app.wait()
    assert_type(app.store(SEEN).get("x"), int | None)
    assert_type(app.store(WINDOWS).fetch("x", 0), int | None)
    assert_type(app.store(WINDOWS).fetch("x", 0, 1), Iterator[tuple[int, int]])
    assert_type(list(app.store(SESSIONS).fetch("x")), list[tuple[Windowed[str], int]])
    assert_type(app.store(VERSIONS, stale_stores=True).get("x", 5), VersionedRecord[int] | None)
    assert_type(app.query_metadata_for_key("seen", "x", serdes.string).active_host, HostInfo)
