"""Programs written with the builder describe themselves exactly as the same programs in Java."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from streamlet import (
    FixedKeyProcessor,
    KStream,
    KTable,
    Materialized,
    Processor,
    Record,
    Stores,
    StreamsBuilder,
    Topic,
    TopicPattern,
    serdes,
)
from tests.topology.recordings import recorded

B = StreamsBuilder


class Mock(Processor[Any, Any]):
    """Takes everything, does nothing: Java's MockApiProcessor."""

    def process(self, record: Record[Any, Any]) -> None:
        """Do nothing."""


class FixedMock(FixedKeyProcessor[Any, Any, Any]):
    """Takes everything, does nothing."""

    def process(self, record: Record[Any, Any]) -> None:
        """Do nothing."""


def topic(name: str) -> Topic[str, str]:
    return Topic(name, serdes.string, serdes.string)


def numbers(name: str) -> Topic[str, int]:
    return Topic(name, serdes.string, serdes.int64)


def first(key: Any, value: Any) -> bool:
    return True


STORE = Stores.key_value("store", serdes.string, serdes.string)
SUM = Stores.key_value("sum", serdes.string, serdes.string)

CASES: list[tuple[str, Callable[[StreamsBuilder], object]]] = []


def case(*tests: str) -> Callable[[Callable[[StreamsBuilder], object]], Callable[[StreamsBuilder], object]]:
    def add(program: Callable[[StreamsBuilder], object]) -> Callable[[StreamsBuilder], object]:
        CASES.extend((test, program) for test in tests)
        return program

    return add


@case("RelaxedNullKeyRequirementJoinTest.testDropNullKeyRecordsForRepartitionNodesWithNoRelaxedJoinDownstream")
def twice_repartitioned(b: B) -> None:
    left = b.stream(topic("left")).repartition()
    b.stream(topic("right")).repartition()
    left.repartition().to(topic("out"))


@case("KGroupedStreamImplTest.shouldCountAndMaterializeResults")
def count(b: B) -> None:
    b.stream(topic("topic")).group_by_key().count(store="count")


@case("KGroupedStreamImplTest.shouldAggregateAndMaterializeResults")
def aggregate(b: B) -> None:
    b.stream(topic("topic")).group_by_key().aggregate(
        str, lambda k, v, a: a + v, store=Materialized("aggregate", value_serde=serdes.string)
    )


@case("KGroupedStreamImplTest.shouldLogAndMeasureSkipsInReduce")
def reduce(b: B) -> None:
    b.stream(topic("topic")).group_by_key().reduce(lambda a, v: a + v, store="reduce")


@case("KGroupedStreamImplTest.shouldAggregateWithDefaultSerdes")
def aggregate_unnamed(b: B) -> None:
    table = (
        b.stream(topic("topic"))
        .group_by_key()
        .aggregate(str, lambda k, v, a: a + v, store=Materialized(value_serde=serdes.string))
    )
    table.to_stream().process(Mock)


@case("KTableFilterTest.shouldPassThroughOnMaterialization")
def filter_materialized(b: B) -> None:
    table = b.table(topic("topic1"))
    kept = table.filter(first, store="store2")
    rest = table.filter_not(first)
    kept.to_stream().process(Mock)
    rest.to_stream().process(Mock)


@case("KTableFilterTest.shouldGetValuesOnMaterialization")
def filters_materialized(b: B) -> None:
    table = b.table(topic("topic1"))
    table.filter(first, store="store2")
    table.filter_not(first, store="store3")
    table.filter_not(first)


@case("KTableMapValuesTest.testQueryableValueGetter")
def maps_materialized(b: B) -> None:
    table = b.table(topic("topic1"))
    table.map_values(len, store=Materialized("store2", value_serde=serdes.int64))
    table.map_values(len, store=Materialized("store3", value_serde=serdes.int64))
    table.map_values(len)


@case("KTableMapValuesTest.testQueryableKTable")
def map_materialized(b: B) -> None:
    b.table(topic("topic1")).map_values(
        len, store=Materialized("anyName", value_serde=serdes.int64)
    ).to_stream().process(Mock)


@case("KTableMapValuesTest.testKTable")
def map_table(b: B) -> None:
    b.table(topic("topic1")).map_values(len).to_stream().process(Mock)


@case("KTableSourceTest.kTableShouldLogAndMeterOnSkippedRecords")
def table(b: B) -> None:
    b.table(topic("topic"))


@case("KTableSourceTest.testKTable")
def table_to_stream(b: B) -> None:
    b.table(topic("topic1")).to_stream().process(Mock)


@case("KTableSourceTest.testValueGetter")
def table_materialized(b: B) -> None:
    b.table(topic("topic1"), store="store")


@case("KTableMapKeysTest.testMapKeysConvertingToStream")
def table_with_new_keys(b: B) -> None:
    b.table(topic("topic_map_keys")).to_stream(lambda k, v: v).process(Mock)


@case("KStreamImplTest.shouldBindStateWithOldProcessorSupplier")
def process_with_store(b: B) -> None:
    b.add_state_store(SUM)
    b.stream(topic("input")).process(Mock, stores=["sum"], name="p")


@case("KStreamImplTest.shouldSupportKeyChangeKTableFromKStream")
def to_table_with_new_keys(b: B) -> None:
    b.stream(topic("input")).map(lambda k, v: (k, v)).to_table().to_stream().to(topic("output"))


@case("KStreamImplTest.shouldNotMaterializedKTableFromKStream")
def to_table(b: B) -> None:
    b.stream(topic("input")).to_table().to_stream().to(topic("output"))


@case("KStreamImplTest.shouldMaterializeKTableFromKStream")
def to_table_materialized(b: B) -> None:
    b.stream(topic("input")).to_table(store="store")


@case("KStreamImplTest.shouldSupportTriggerMaterializedWithKTableFromKStream")
def to_table_mapped(b: B) -> None:
    table: KTable[str, str] = b.stream(topic("input")).to_table()
    table.map_values(lambda v: v, store=Materialized("store", value_serde=serdes.string)).to_stream().to(
        topic("output")
    )


@case("KStreamImplTest.shouldBindStateWithOldProcessor")
def process(b: B) -> None:
    b.stream(topic("input")).process(Mock, name="p").to(topic("output"))


@case("KStreamImplTest.shouldProcessValues")
def process_values(b: B) -> None:
    b.stream(topic("input")).process_values(FixedMock, name="fkp").to(topic("output"))


@case("KStreamImplTest.shouldSendDataThroughRepartitionTopicUsingRepartitioned")
def repartition(b: B) -> None:
    b.stream(topic("topic")).repartition().process(Mock)


@case("KStreamRepartitionTest.shouldInvokePartitionerWhenSet")
def repartition_named(b: B) -> None:
    b.stream(topic("input-topic")).repartition(name="test", partitioner=lambda topic, key, value, n: 0)


@case("KStreamMapTest.testMap")
def map(b: B) -> None:
    b.stream(topic("topic")).map(lambda k, v: (v, k)).process(Mock)


@case("KStreamFlatMapValuesTest.testFlatMapValues")
def flat_map_values(b: B) -> None:
    b.stream(topic("topic")).flat_map_values(lambda v: [v]).process(Mock)


@case("KStreamFilterTest.testFilter", "KStreamFilterTest.testFilterNot")
def filter(b: B) -> None:
    b.stream(topic("topic")).filter_not(first).process(Mock)


@case("KStreamForeachTest.testForeach")
def foreach(b: B) -> None:
    b.stream(topic("topic")).foreach(first)


@case("KStreamPeekTest.shouldObserveStreamElements")
def peek(b: B) -> None:
    b.stream(topic("topic")).peek(first).foreach(first)


@case("KStreamSelectKeyTest.testSelectKey")
def select_key(b: B) -> None:
    b.stream(topic("topic_key_select")).select_key(lambda k, v: v).process(Mock)


@case("KStreamSplitTest.testKStreamSplit")
def split(b: B) -> None:
    branches = b.stream(topic("topic")).split()
    for name in ("x2", "x3", "x5"):
        branches = branches.branch(first, then=lambda branch, name=name: branch.to(topic(name)))  # type: ignore[misc]
    assert branches.no_default_branch() == {}


@case("KStreamSplitTest.testBranchingWithNoTerminalOperation")
def split_to_one_topic(b: B) -> None:
    branches = b.stream(topic("topic")).split()
    branches.branch(first, then=lambda branch: branch.to(topic("output")))
    branches.branch(first, then=lambda branch: branch.to(topic("output")))


@case("KStreamSplitTest.testResultingMap")
def split_named(b: B) -> None:
    branches = (
        b.stream(topic("topic"))
        .split(name="foo-")
        .branch(first, name="bar")
        .branch(first, then=lambda branch: None)
        .branch(first, then=lambda branch: None)
        .branch(first)
        .branch(first)
        .default_branch()
    )
    assert list(branches) == ["foo-bar", "foo-4", "foo-5", "foo-0"]
    for name in sorted(branches, key=["foo-0", "foo-bar", "foo-4", "foo-5"].index):
        branches[name].to(topic(name))


@case("KStreamNewProcessorApiTest.shouldGetStateStoreWithConnectedStoreProvider")
def process_values_with_store(b: B) -> None:
    class WithStore(FixedMock):
        stores = (STORE,)

    b.stream(topic("input")).process_values(WithStore).to(topic("output"))


@case("KStreamNewProcessorApiTest.shouldGetStateStoreWithStreamBuilder")
def process_values_with_added_store(b: B) -> None:
    b.add_state_store(STORE)
    b.stream(topic("input")).process_values(FixedMock, stores=["store"]).to(topic("output"))


@case("StreamsBuilderTest.shouldMergeStreams")
def merge(b: B) -> None:
    one, other = b.stream(topic("topic-1")), b.stream(topic("topic-2"))
    one.merge(other).process(Mock)


@case("StreamsBuilderTest.shouldUseSerdesDefinedInMaterializedToConsumeTable")
def table_foreach(b: B) -> None:
    b.table(topic("topic"), store="store").to_stream().foreach(first)


@case(
    "ProcessingExceptionHandlerIntegrationTest.shouldContinueWhenProcessingExceptionOccursIfExceptionHandlerReturnsContinue"
)
def chain(b: B) -> None:
    b.stream(topic("TOPIC_NAME")).map(lambda k, v: (k, v)).map_values(len).process(Mock).process(Mock)


@case("TestTopicsTest.shouldNotAllowToCreateWithNullDriver")
def two_streams(b: B) -> None:
    b.stream(topic("input")).to(topic("output1"))
    b.stream(topic("output1")).map(lambda k, v: (v, k)).to(topic("output2"))


@case("TopologyTestDriverAtLeastOnceTest.shouldThrowForUnknownTopic")
def empty(b: B) -> None:
    pass


def test_patterns_and_merges() -> None:
    """Three sources, merged one after the other, as recorded in KStreamImplTest (without the tables around it)."""
    b = B()
    one = b.stream(TopicPattern(re.compile(r"topic-\d"), serdes.string, serdes.string))
    other = b.stream(TopicPattern(re.compile("topic-[A-Z]"), serdes.string, serdes.string))
    third = b.stream(topic("topic-without-pattern"))
    merged: KStream[Any, Any] = one.merge(other).merge(third)
    merged.process(Mock)
    expected = recorded("KStreamImplTest.shouldProcessFromSourcesThatMatchMultiplePattern")[0]
    block = expected[expected.index("    Source: KSTREAM-SOURCE-0000000007") :]
    for number in range(7, 13):
        block = block.replace(f"{number:010d}", f"{number - 7:010d}")
    assert str(b.build().describe()) == "Topologies:\n   Sub-topology: 0\n" + block


@pytest.mark.parametrize(("test", "program"), CASES, ids=[test for test, _ in CASES])
def test_describes_itself_as_in_java(test: str, program: Callable[[StreamsBuilder], object]) -> None:
    texts = recorded(test)
    assert texts, f"there is no recording of {test}"
    builder = StreamsBuilder(default_key_serde=serdes.string, default_value_serde=serdes.string)
    program(builder)
    described = str(builder.build().describe())
    assert described in texts, described
