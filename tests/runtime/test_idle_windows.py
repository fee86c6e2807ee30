"""Windows that close while nothing comes: results, and what is late since, outlive the process."""

from __future__ import annotations

from datetime import timedelta

from streamlet import EmitStrategy, StreamsBuilder, TimeWindows, Topic, Topology, serdes
from tests.runtime.harness import NOW, LogUnderTest, Recorder, running

INTERVAL = "__emit.interval.ms.kstreams.windowed.aggregation__"
SIZE = 100
START = NOW - NOW % SIZE


def topology(log: LogUnderTest) -> Topology:
    builder = StreamsBuilder()
    clicks = Topic(log.name("clicks"), serdes.string, serdes.string)
    windows = TimeWindows.of_size(timedelta(milliseconds=SIZE), grace=timedelta(0))
    builder.stream(clicks).group_by_key().windowed_by(windows).emit_strategy(
        EmitStrategy.ON_WINDOW_CLOSE, idle_after=timedelta(milliseconds=1)
    ).count(store="clicks").to_stream(lambda key, _: f"{key.key}@{key.window.start - START}").to(
        Topic(log.name("counts"), serdes.string, serdes.int64)
    )
    return builder.build()


def test_windows_closed_by_the_clock_stay_closed(log: LogUnderTest, guarantee: str) -> None:
    """The clock closes the window in a process that has read no record: only what nodes remember is new to commit."""
    log.create("clicks")
    log.create("counts")
    config = {**log.config(guarantee=guarantee), INTERVAL: 10}
    log.write("clicks", [("k", "1")], START)
    recorder = Recorder()
    with running(topology(log), {**config, INTERVAL: 10**9}, sensor=recorder):
        recorder.wait_for(lambda seen: seen.processed == 1)
    with running(topology(log), config):
        log.await_counts("counts", {"k@0": 1})
    log.write("clicks", [("k", "late"), ("late", "1")], START + 1)
    log.write("clicks", [("marker", "1")], START + 600_000)
    recorder = Recorder()
    with running(topology(log), config, sensor=recorder):
        found = log.await_counts("counts", {"k@0": 1, "marker@600000": 1})
        assert len(found) == 2
        recorder.wait_for(lambda seen: len(seen.dropped) == 2)
