"""Windows that close while nothing comes: results, and what is late since, outlive the process."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from streamlet import (
    EmitStrategy,
    KGroupedStream,
    KTable,
    Materialized,
    StreamsBuilder,
    Suppressed,
    TimeWindows,
    Topic,
    Topology,
    serdes,
)
from tests.runtime.harness import NOW, LogUnderTest, Recorder, running

INTERVAL = "__emit.interval.ms.kstreams.windowed.aggregation__"
SIZE = 100
START = NOW - NOW % SIZE
WINDOWS = TimeWindows.of_size(timedelta(milliseconds=SIZE), grace=timedelta(0))
CLOSE = EmitStrategy.ON_WINDOW_CLOSE
SOON = timedelta(milliseconds=1)

Grouped = KGroupedStream[str, str]
Make = Callable[[Grouped, Grouped], KTable[Any, int]]


def aggregated(clicks: Grouped, orders: Grouped) -> KTable[Any, int]:
    return clicks.windowed_by(WINDOWS).emit_strategy(CLOSE, idle_after=SOON).count(store="counts")


def cogrouped(clicks: Grouped, orders: Grouped) -> KTable[Any, int]:
    both = clicks.cogroup(lambda _, value, n: n + 1).cogroup(orders, lambda _, value, n: n + 1)
    store = Materialized("counts", value_serde=serdes.int64)
    return both.windowed_by(WINDOWS).emit_strategy(CLOSE, idle_after=SOON).aggregate(int, store=store)


def suppressed(clicks: Grouped, orders: Grouped) -> KTable[Any, int]:
    closed = Suppressed.until_window_closes(idle_after=SOON)
    return clicks.windowed_by(WINDOWS).count(store="counts").suppress(closed, name="closed")


def topology(log: LogUnderTest, make: Make) -> Topology:
    builder = StreamsBuilder()
    clicks, orders = (
        builder.stream(Topic(log.name(name), serdes.string, serdes.string)).group_by_key()
        for name in ("clicks", "orders")
    )
    make(clicks, orders).to_stream(lambda key, _: f"{key.key}@{key.window.start - START}").to(
        Topic(log.name("counts"), serdes.string, serdes.int64)
    )
    return builder.build()


@pytest.mark.parametrize("make", [aggregated, cogrouped, suppressed])
def test_windows_closed_by_the_clock_stay_closed(log: LogUnderTest, guarantee: str, make: Make) -> None:
    """The clock closes the window in a process that has read no record: only what nodes remember is new to commit."""
    for name in ("clicks", "orders", "counts"):
        log.create(name)
    config = {**log.config(guarantee=guarantee), INTERVAL: 10}
    log.write("clicks", [("k", "1")], START)
    recorder = Recorder()
    with running(topology(log, make), {**config, INTERVAL: 10**9}, sensor=recorder):
        recorder.wait_for(lambda seen: seen.processed == 1)
    with running(topology(log, make), config):
        log.await_counts("counts", {"k@0": 1})
    log.write("clicks", [("k", "late"), ("late", "1")], START + 1)
    log.write("clicks", [("marker", "1")], START + 600_000)
    recorder = Recorder()
    elsewhere = {**config, "state.dir": str(log.directory / "elsewhere")}
    with running(topology(log, make), elsewhere, sensor=recorder):
        found = log.await_counts("counts", {"k@0": 1, "marker@600000": 1})
        assert len(found) == 2
        recorder.wait_for(lambda seen: len(seen.dropped) == 2)


@pytest.mark.parametrize("make", [aggregated, suppressed])
def test_time_goes_on_in_each_partition_by_itself(embedded: LogUnderTest, make: Make) -> None:
    """The record of another partition, ten minutes ahead, makes nothing late in the first."""
    for name in ("clicks", "orders", "counts"):
        embedded.create(name, 2)
    embedded.write("clicks", [("ahead", "1")], START + 600_000, partition=1)
    config = {**embedded.config(), INTERVAL: 10}
    recorder = Recorder()
    with running(topology(embedded, make), config, sensor=recorder):
        embedded.await_counts("counts", {"ahead@600000": 1})
        embedded.write("clicks", [("k", "1")], START, partition=0)
        embedded.await_counts("counts", {"ahead@600000": 1, "k@0": 1})
        assert not recorder.dropped
