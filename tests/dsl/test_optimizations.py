"""`topology.optimization`: what it may change is the topics that are made, never what comes out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlet import JoinWindows, KStream, StreamsBuilder, Topic, Topology, TopologyTestDriver, serdes
from streamlet.errors import ConfigError
from streamlet.topology import SinkNode
from tests.dsl.support import IN

OTHER: Topic[Any, Any] = Topic("other", serdes.json, serdes.json)
ALL = {"topology.optimization": "all"}
Stream = KStream[Any, Any]
Program = Callable[[StreamsBuilder], object]


def built(program: Program, **config: Any) -> Topology:
    builder = StreamsBuilder(default_key_serde=serdes.json, default_value_serde=serdes.json)
    program(builder)
    return builder.build(config)


def both(program: Program) -> tuple[Topology, Topology]:
    return built(program), built(program, **ALL)


def repartition_topics(topology: Topology) -> list[str]:
    return [n.topic for n in topology.nodes if isinstance(n, SinkNode) and n.topic and n.topic.endswith("-repartition")]


def out(name: str) -> Topic[Any, Any]:
    return Topic(f"out-{name}", serdes.json, serdes.json)


def count(stream: Stream, name: str) -> None:
    stream.group_by_key(name=name).count().to_stream().to(out(name))


# --- merge.repartition.topics: which topics are left ----------------------------------------------------------------


def three_groupings(builder: StreamsBuilder) -> None:
    mapped = builder.stream(IN).select_key(lambda _, value: value)
    mapped.filter(lambda *_: True).map_values(lambda value: value).to(out("plain"))
    count(mapped, "first")
    count(mapped.filter(lambda *_: True).peek(lambda *_: None), "second")
    count(mapped, "third")


def test_one_topic_serves_several_groupings_and_has_the_first_ones_name() -> None:
    plain, optimised = both(three_groupings)
    assert repartition_topics(plain) == ["first-repartition", "second-repartition", "third-repartition"]
    assert repartition_topics(optimised) == ["first-repartition"]
    text = str(optimised.describe())
    assert (
        "    Processor: KSTREAM-KEY-SELECT-0000000001 (stores: [])\n"
        "      --> KSTREAM-FILTER-0000000002, first-repartition-filter\n"
    ) in text
    assert (
        "    Source: first-repartition-source (topics: [first-repartition])\n"
        "      --> KSTREAM-FILTER-0000000012, KSTREAM-AGGREGATE-0000000006, KSTREAM-AGGREGATE-0000000022\n"
    ) in text


def test_a_single_topic_moves_to_the_change_of_keys_and_its_nodes_are_called_after_it() -> None:
    def program(builder: StreamsBuilder) -> None:
        builder.stream(IN).select_key(lambda _, value: value).peek(lambda *_: None).group_by_key().count()

    plain, optimised = both(program)
    (topic,) = repartition_topics(plain)
    assert topic == "KSTREAM-AGGREGATE-STATE-STORE-0000000003-repartition"
    assert repartition_topics(optimised) == [topic]
    lines = str(optimised.describe()).splitlines()
    assert f"    Source: {topic}-source (topics: [{topic}])" in lines
    at = lines.index(f"    Processor: {topic}-filter (stores: [])")
    assert lines[at + 1 : at + 3] == [f"      --> {topic}-sink", "      <-- KSTREAM-KEY-SELECT-0000000001"]


def changed_values(builder: StreamsBuilder) -> None:
    mapped = builder.stream(IN).select_key(lambda _, value: value)
    count(mapped.map_values(str), "first")
    count(mapped.flat_map_values(lambda value: [value, value]), "second")


def repartitioned(builder: StreamsBuilder) -> None:
    mapped = builder.stream(IN).select_key(lambda _, value: value)
    count(mapped.repartition(name="one"), "first")
    count(mapped.repartition(name="two"), "second")


def nothing_to_repartition(builder: StreamsBuilder) -> None:
    parent = builder.stream(IN).select_key(lambda _, value: value)
    parent.map_values(str).merge(parent.map_values(str)).merge(parent.map_values(str)).to(out("all"))


@pytest.mark.parametrize("program", [changed_values, repartitioned, nothing_to_repartition])
def test_topics_behind_changed_values_and_those_that_were_asked_for_stay(program: Program) -> None:
    plain, optimised = both(program)
    assert str(plain.describe()) == str(optimised.describe())


def merged_streams(builder: StreamsBuilder) -> None:
    one = builder.stream(IN).select_key(lambda _, value: value)
    two = builder.stream(OTHER).select_key(lambda key, _: key)
    merged = one.merge(two)
    count(merged, "first")
    count(merged.filter(lambda *_: True), "second")


def test_behind_merged_streams_it_comes_after_the_merge() -> None:
    _, optimised = both(merged_streams)
    assert repartition_topics(optimised) == ["first-repartition"]
    assert (
        "    Processor: first-repartition-filter (stores: [])\n"
        "      --> first-repartition-sink\n"
        "      <-- KSTREAM-MERGE-0000000004\n"
    ) in str(optimised.describe())


def half_of_a_merge(builder: StreamsBuilder) -> None:
    """The other stream comes by a way of its own: behind the change of keys, a topic would miss it."""
    mapped = builder.stream(IN).select_key(lambda _, value: value)
    count(mapped, "first")
    count(mapped.merge(builder.stream(OTHER)), "second")


def test_what_comes_by_another_way_keeps_its_topic() -> None:
    _, optimised = both(half_of_a_merge)
    assert repartition_topics(optimised) == ["first-repartition", "second-repartition"]


# --- what comes out is the same -------------------------------------------------------------------------------------


def joined(builder: StreamsBuilder) -> None:
    mapped = builder.stream(IN).select_key(lambda _, value: value)
    table = builder.table(OTHER)
    mapped.peek(lambda *_: None).left_join(table, lambda one, other: [one, other]).to(out("left"))
    windows = JoinWindows.of_time_difference(timedelta(milliseconds=3), grace=timedelta(days=1))
    mapped.join(mapped.filter(lambda *_: True), lambda one, other: [one, other], windows).to(out("windowed"))
    count(mapped, "counted")


def branches(builder: StreamsBuilder) -> None:
    mapped = builder.stream(IN).map(lambda key, value: (value, key))
    split = mapped.split(name="s-").branch(lambda _, value: value == "a", name="a").default_branch(name="b")
    count(split["s-a"], "first")
    count(split["s-b"].merge(split["s-a"]), "second")
    split["s-b"].to(out("rest"))


def table_joined(builder: StreamsBuilder) -> None:
    mapped = builder.stream(IN).select_key(lambda _, value: value)
    counts = mapped.group_by_key().count()
    latest = mapped.filter(lambda *_: True).group_by_key().reduce(lambda _, value: value)
    counts.join(latest, lambda number, value: [number, value]).to_stream().to(out("joined"))
    builder.table(OTHER).join(counts, lambda one, other: [one, other]).to_stream().to(out("other"))


PROGRAMS = [
    three_groupings, changed_values, repartitioned, merged_streams, half_of_a_merge, joined, branches, table_joined,
]  # fmt: skip
ROWS = st.lists(
    st.tuples(st.sampled_from(["in", "other"]), st.sampled_from(["a", "b", None]), st.sampled_from(["a", "b", None]),
              st.integers(0, 9)),
    max_size=20,
)  # fmt: skip


def outputs(topology: Topology, rows: list[tuple[str, Any, Any, int]]) -> dict[str, list[Any]]:
    with TopologyTestDriver(topology, {}, initial_wall_clock_time=0) as driver:
        read = {topic for part in topology.sub_topologies for topic in part.source_topics}
        inputs = {topic.name: driver.create_input_topic(topic) for topic in (IN, OTHER) if topic.name in read}
        names = sorted({n.topic for n in topology.nodes if isinstance(n, SinkNode) and n.topic and "out-" in n.topic})
        sinks = {name: driver.create_output_topic(Topic(name, serdes.json, serdes.json)) for name in names}
        for topic, key, value, timestamp in rows:
            if topic in inputs:
                inputs[topic].pipe_input(key, value, timestamp)
        return {
            name: sorted(repr((r.key, r.value, r.timestamp)) for r in sink.read_records_to_list())
            for name, sink in sinks.items()
        }


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
@settings(max_examples=40, deadline=None)
@given(rows=ROWS)
def test_the_results_are_those_of_the_plain_program(program: Program, rows: list[tuple[str, Any, Any, int]]) -> None:
    """Records without a key included: where they reach a sink plainly, they reach it through the topic too."""
    plain, optimised = both(program)
    assert outputs(optimised, rows) == outputs(plain, rows)


# --- reuse.ktable.source.topics -------------------------------------------------------------------------------------


def source_tables(builder: StreamsBuilder) -> None:
    builder.table(IN, store="rows")
    builder.table(IN, store="again")
    builder.table(OTHER).filter(lambda *_: True).group_by(lambda key, value: (value, key)).count(store="counts")


def test_a_source_table_has_no_changelog_of_its_own() -> None:
    plain, optimised = both(source_tables)
    assert str(plain.describe()) == str(optimised.describe()), "the text is that of Kafka Streams: it does not tell"
    assert plain.fingerprint() != optimised.fingerprint()
    stores = {store.name: (store.logging, store.source_topic) for store in optimised.stores}
    assert stores.pop("rows") == (False, "in")
    assert stores.pop("again") == (True, None), "one store can be restored from a topic"
    assert stores.pop("counts") == (True, None)
    assert set(stores.values()) == {(False, "other")}
    assert all(store.source_topic is None and store.logging for store in plain.stores)


def test_each_optimisation_is_asked_for_by_name() -> None:
    reuse = built(source_tables, **{"topology.optimization": "reuse.ktable.source.topics"})
    assert [store.source_topic for store in reuse.stores if store.name == "rows"] == ["in"]
    merge = {"topology.optimization": "merge.repartition.topics"}
    assert all(store.source_topic is None for store in built(source_tables, **merge).stores)
    assert repartition_topics(built(three_groupings, **merge)) == ["first-repartition"]
    with pytest.raises(ConfigError, match=r"merge\.repartition.topics, reuse\.ktable\.source\.topics"):
        built(three_groupings, **{"topology.optimization": "merge.topics"})
