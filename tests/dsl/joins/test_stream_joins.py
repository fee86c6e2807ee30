"""Joins of two streams: against all pairs of the input, and the traps one by one."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlet import serdes
from streamlet.config import StreamsConfig
from streamlet.dsl.builder import StreamsBuilder
from streamlet.dsl.windows import JoinWindows
from streamlet.errors import ConfigError, TopologyError
from streamlet.testing.driver import TopologyTestDriver
from tests.dsl.joins.support import (
    LEFT,
    OUT,
    RIGHT,
    Kind,
    Piped,
    Row,
    both,
    expected_join,
    inputs,
    join_windows,
    run,
    run_join,
    windows,
)

MS = timedelta(milliseconds=1)


@settings(max_examples=300, deadline=None)
@given(inputs(), join_windows(), st.sampled_from(["inner", "left", "outer"]))
def test_as_all_pairs_of_the_input(records: list[Piped], given: JoinWindows, kind: Kind) -> None:
    assert run_join(records, kind, given) == expected_join(records, kind, given)


@settings(max_examples=40, deadline=None)
@given(inputs(latest=400_000), st.sampled_from(["inner", "left", "outer"]))
def test_over_several_segments_on_disk(records: list[Piped], kind: Kind) -> None:
    given = windows(50_000, 70_000, 30_000)
    with TemporaryDirectory() as directory:
        assert run_join(records, kind, given, **{"state.dir": directory}) == expected_join(records, kind, given)


@settings(max_examples=150, deadline=None)
@given(inputs(), join_windows().map(lambda given: evolve(given, grace_ms=1_000)))
def test_a_self_join_over_one_store_gives_what_the_plain_one_gives(records: list[Piped], given: JoinWindows) -> None:
    def joined(config: dict[str, str]) -> list[list[Row]]:
        builder = StreamsBuilder()
        stream = builder.stream(LEFT)
        stream.join(stream, both, given).to(OUT)
        found = []
        with TopologyTestDriver(builder.build(config)) as driver:
            for record in records:
                driver.create_input_topic(LEFT).pipe_input(record.key, record.value, timestamp=record.timestamp)
                out = driver.create_output_topic(OUT).read_records_to_list()
                found.append([Row(r.key, r.value, r.timestamp) for r in out])
        return found

    plain, optimised = joined({}), joined({"topology.optimization": "all"})
    assert [sorted(map(str, rows)) for rows in optimised] == [sorted(map(str, rows)) for rows in plain]


def test_both_ends_of_the_window_match() -> None:
    rows = run_join(
        [Piped(False, "k", "early", 90), Piped(False, "k", "late", 120), Piped(True, "k", "l", 100)],
        "inner",
        windows(10, 20, 1000),
    )
    assert rows[-1] == [Row("k", "l+early", 100), Row("k", "l+late", 120)]


def test_the_ends_hold_for_the_other_side_the_other_way_round() -> None:
    given = windows(10, 20, 1000)
    assert run_join([Piped(True, "k", "l", 100), Piped(False, "k", "r", 120)], "inner", given)[-1]
    assert not run_join([Piped(True, "k", "l", 100), Piped(False, "k", "r", 121)], "inner", given)[-1]
    assert run_join([Piped(True, "k", "l", 100), Piped(False, "k", "r", 90)], "inner", given)[-1]
    assert not run_join([Piped(True, "k", "l", 100), Piped(False, "k", "r", 89)], "inner", given)[-1]


def test_records_of_one_key_and_time_are_all_joined() -> None:
    rows = run_join(
        [Piped(True, "k", "a", 1), Piped(True, "k", "b", 1), Piped(False, "k", "r", 1)], "outer", windows(5, 5, 0)
    )
    assert rows[-1] == [Row("k", "a+r", 1), Row("k", "b+r", 1)]


def test_an_unmatched_row_waits_for_the_grace_and_carries_its_own_time() -> None:
    records = [
        Piped(True, "k", "l", 100),
        Piped(True, "x", "mover", 115),  # the window ended at 110, the grace at 115
        Piped(False, "y", "mover", 116),
    ]
    assert run_join(records, "left", windows(10, 10, 5)) == [[], [], [Row("k", "l+None", 100)]]


def test_a_late_match_takes_an_unmatched_row_back() -> None:
    records = [
        Piped(True, "k", "l", 100),
        Piped(True, "x", "mover", 112),
        Piped(False, "k", "r", 105),
        Piped(True, "x", "mover", 200),
    ]
    found = run_join(records, "left", windows(10, 10, 5))
    assert found[2] == [Row("k", "l+r", 105)]
    assert Row("k", "l+None", 100) not in found[3]


def test_unmatched_rows_of_one_time_come_right_first() -> None:
    records = [Piped(True, "a", "l", 10), Piped(False, "b", "r", 10), Piped(True, "z", "z", 100)]
    assert run_join(records, "outer", windows(5, 5, 0))[-1] == [Row("b", "None+r", 10), Row("a", "l+None", 10)]


def test_a_row_whose_window_is_over_already_comes_at_once() -> None:
    records = [Piped(True, "x", "mover", 100), Piped(True, "k", "late", 10)]
    assert run_join(records, "left", windows(5, 5, 50))[-1] == [Row("k", "late+None", 10)]


def test_null_keys_have_no_partner() -> None:
    records = [Piped(True, None, "l", 1), Piped(False, None, "r", 1), Piped(True, None, None, 1)]
    given = windows(5, 5, 0)
    assert run_join(records, "inner", given) == [[], [], []]
    assert run_join(records, "left", given) == [[Row(None, "l+None", 1)], [], []]
    assert run_join(records, "outer", given) == [[Row(None, "l+None", 1)], [Row(None, "None+r", 1)], []]


def test_unmatched_rows_come_at_most_once_a_second_of_the_clock() -> None:
    builder = StreamsBuilder()
    builder.stream(LEFT).left_join(builder.stream(RIGHT), both, windows(1, 1, 0)).to(OUT)
    config = {"__emit.interval.ms.kstreams.outer.join.spurious.results.fix__": 1000}
    with TopologyTestDriver(builder.build(), config, initial_wall_clock_time=0) as driver:
        left, out = driver.create_input_topic(LEFT), driver.create_output_topic(OUT)
        for time in (10, 20):
            left.pipe_input("k", str(time), timestamp=time)
        assert out.read_values_to_list() == ["10+None"]
        left.pipe_input("k", "30", timestamp=30)
        assert out.read_values_to_list() == []
        driver.advance_wall_clock_time(timedelta(seconds=1))
        left.pipe_input("k", "40", timestamp=40)
        assert out.read_values_to_list() == ["20+None", "30+None"]


def test_what_waits_is_still_there_after_a_restart(tmp_path: Path) -> None:
    def topology() -> StreamsBuilder:
        builder = StreamsBuilder()
        builder.stream(LEFT).outer_join(builder.stream(RIGHT), both, windows(5, 5, 0)).to(OUT)
        return builder

    config = {"state.dir": str(tmp_path)}
    assert run(topology(), [Piped(True, "k", "l", 10), Piped(True, "m", "l", 10)], **config) == [[], []]
    assert run(topology(), [Piped(False, "m", "r", 12), Piped(False, "z", "z", 99)], **config) == [
        [Row("m", "l+r", 12)],
        [Row("k", "l+None", 10)],
    ]


def test_the_joiner_may_ask_for_the_key() -> None:
    builder = StreamsBuilder()
    joined = builder.stream(LEFT).join(
        builder.stream(RIGHT), lambda key, left, right: f"{key}:{left}{right}", windows(5, 5, 0), with_key=True
    )
    joined.to(OUT)
    assert run(builder, [Piped(True, "k", "l", 1), Piped(False, "k", "r", 1)])[-1] == [Row("k", "k:lr", 1)]


def test_changed_keys_are_repartitioned_and_topics_named() -> None:
    builder = StreamsBuilder()
    left = builder.stream(LEFT).select_key(lambda _, value: value)
    left.join(builder.stream(RIGHT), both, windows(5, 5, 0), name="pairs", key_serde=serdes.string).to(OUT)
    topology = builder.build()
    (part,) = [part for part in topology.sub_topologies if part.repartition_topics]
    assert [topic.name for topic in part.repartition_topics] == ["pairs-left-repartition"]
    assert part.copartition_groups == (frozenset({"pairs-left-repartition", "right"}),)
    assert {store.name for store in part.stores} == {
        "KSTREAM-JOINTHIS-0000000008-store",
        "KSTREAM-JOINOTHER-0000000009-store",
    }


def test_a_stream_that_is_joined_twice_is_repartitioned_once() -> None:
    builder = StreamsBuilder()
    left = builder.stream(LEFT).select_key(lambda _, value: value, name="by-value")
    for _ in range(2):
        left.join(builder.stream(RIGHT), both, windows(5, 5, 0), key_serde=serdes.string).to(OUT)
    text = str(builder.build().describe())
    assert text.count("Sink: by-value-repartition-sink") == 1


def test_missing_serdes_are_named_with_what_to_pass() -> None:
    builder = StreamsBuilder()
    left = builder.stream(LEFT).map_values(len)
    left.join(builder.stream(RIGHT), lambda size, right: f"{size}{right}", windows(5, 5, 0)).to(OUT)
    with pytest.raises(TopologyError, match=r"KSTREAM-MAPVALUES-0000000001.*join\(value_serde=\.\.\.\)"):
        builder.build()


def test_changelogs_are_kept_for_the_window_and_a_day() -> None:
    builder = StreamsBuilder()
    builder.stream(LEFT).outer_join(builder.stream(RIGHT), both, windows(10, 20, 30), store_name="pairs").to(OUT)
    config = StreamsConfig.parse({"application.id": "a", "bootstrap.servers": "embedded:"})
    (part,) = builder.build().sub_topologies
    configs = {store.name: store.changelog_config(config) for store in part.stores}
    assert configs["pairs-outer-this-join-store"]["cleanup.policy"] == "compact,delete"
    assert int(configs["pairs-outer-this-join-store"]["retention.ms"]) >= 60 + 24 * 60 * 60 * 1000
    assert configs["pairs-outer-shared-join-store"]["cleanup.policy"] == "compact"


def test_what_is_no_join_is_said() -> None:
    builder = StreamsBuilder()
    left = builder.stream(LEFT)
    with pytest.raises(TopologyError, match="JoinWindows"):
        left.join(builder.stream(RIGHT), both, timedelta(1))  # type: ignore[call-overload]  # what is tested
    with pytest.raises(TopologyError, match="KStream, KTable or GlobalKTable"):
        left.join("right", both)  # type: ignore[call-overload]  # what is tested
    with pytest.raises(TopologyError, match="another StreamsBuilder"):
        left.join(StreamsBuilder().stream(RIGHT), both, windows(1, 1, 0))
    with pytest.raises(ConfigError, match=r"single\.store.self.join"):
        builder.build({"topology.optimization": "everything"})
