"""The same works as applications of streamlet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

from benchmarks.meter import Moment, Used, between, now
from benchmarks.work import JOIN_MS, WINDOW_MS, Job, net_of
from streamlet import JoinWindows, Materialized, Sensor, StreamsBuilder, Topic, Topology, serdes, start

_PATIENCE_SECONDS = 300


class Progress(Sensor):
    """Notes the moment after the first records, that after the last ones, and what the commit took that followed.

    Between the two last the thread may wait for its brake (no drained commit follows a long one at once).
    That is latency, and is left out.
    """

    def __init__(self, records: int) -> None:
        self._records = records
        self._done = 0
        self._first: Moment | None = None
        self._last: Moment | None = None
        self._finished = Event()

    def on_processed(self, task: str, records: int) -> None:
        """Count."""
        self._done += records
        if self._first is None:
            self._first = now(self._done)
        if self._done >= self._records:
            self._processed = now(self._done)

    def on_commit(self, thread: str, tasks: int, seconds: float) -> None:
        """See whether that was the last one."""
        if self._done >= self._records and self._last is None:
            self._last = now(self._done)._replace(wall=self._processed.wall + seconds)
            self._finished.set()

    def on_state(self, state: str) -> None:
        """Do not wait for one that has failed."""
        if state == "ERROR":
            self._finished.set()

    def used(self) -> Used:
        """Wait for the end and return what it took."""
        if not self._finished.wait(_PATIENCE_SECONDS) or self._first is None or self._last is None:
            raise RuntimeError(f"{self._done} of {self._records} records were processed")
        return between(self._first, self._last)


def stateless(job: Job) -> Topology:
    """Parse, map, filter, produce."""
    builder = StreamsBuilder()
    orders = builder.stream(Topic(job.input, serdes.bytes_, serdes.json))
    (
        orders.map_values(lambda o: {"customer": o["customer"], "net": o["amount"] / 1.19, "paid": o["paid"]})
        .filter(lambda _, net: net["paid"])
        .to(Topic(job.output, serdes.bytes_, serdes.json))
    )
    return builder.build()


def count(job: Job) -> Topology:
    """Count by key, with a changelog; each count is sent on if the job says so."""
    builder = StreamsBuilder()
    orders = builder.stream(Topic(job.input, serdes.bytes_, serdes.json))
    counts = orders.group_by_key().count(store="counts")
    if job.emits:
        counts.to_stream().to(Topic(job.output, serdes.bytes_, serdes.int64))
    return builder.build()


def windows(job: Job) -> Topology:
    """Count by key and window of time."""
    from streamlet.dsl.windows import TimeWindows

    builder = StreamsBuilder()
    orders = builder.stream(Topic(job.input, serdes.bytes_, serdes.json))
    size = timedelta(milliseconds=WINDOW_MS)
    counts: Any = orders.group_by_key().windowed_by(TimeWindows.of_size(size, grace=size)).count(store="counts")
    counts.to_stream().select_key(lambda windowed, _: windowed.key).to(Topic(job.output, serdes.bytes_, serdes.int64))
    return builder.build()


def _paid(_: bytes | None, order: Any) -> object:
    return order["paid"]


def _ids(paid: Any, open: Any) -> dict[str, int]:
    return {"paid": paid["id"], "open": open["id"]}


def streams(job: Job) -> Topology:
    """Join the paid orders with the open ones of the same key, within a window of time."""
    builder = StreamsBuilder()
    orders = builder.stream(Topic(job.input, serdes.bytes_, serdes.json))
    windows = JoinWindows.of_time_difference(timedelta(milliseconds=JOIN_MS), grace=timedelta(0))
    paid, open = orders.filter(_paid), orders.filter_not(_paid)
    paid.join(open, _ids, windows, immutable_values=True).to(Topic(job.output, serdes.bytes_, serdes.json))
    return builder.build()


def tables(job: Job) -> Topology:
    """Join the last paid order of each key with the last open one."""
    builder = StreamsBuilder()
    orders = builder.stream(Topic(job.input, serdes.bytes_, serdes.json))
    paid = orders.filter(_paid).to_table(store=Materialized("paid", immutable_values=True))
    open = orders.filter_not(_paid).to_table(store=Materialized("open", immutable_values=True))
    paid.join(open, _ids).to_stream().to(Topic(job.output, serdes.bytes_, serdes.json))
    return builder.build()


def threads(job: Job) -> Topology:
    """Make a value of each order by a plain function, in threads."""
    return _concurrent(job, net_of)


def coroutines(job: Job) -> Topology:
    """Make a value of each order by a coroutine function."""

    async def net(order: Any) -> dict[str, Any]:
        return net_of(order)

    return _concurrent(job, net)


def _concurrent(job: Job, function: Callable[[Any], Any]) -> Topology:
    builder = StreamsBuilder()
    orders = builder.stream(Topic(job.input, serdes.bytes_, serdes.json))
    orders.map_values_async(function).to(Topic(job.output, serdes.bytes_, serdes.json))
    return builder.build()


def run(make: Callable[[Job], Topology], job: Job, directory: Path) -> Used:
    """Run an application over the whole input."""
    progress = Progress(job.records)
    config = {
        "application.id": job.application,
        "bootstrap.servers": job.servers,
        "processing.guarantee": "exactly_once_v2" if job.exactly_once else "at_least_once",
        "commit.interval.ms": job.commit_ms,
        "state.dir": str(directory / "state"),
    }
    with start(make(job), config, sensor=progress):
        return progress.used()
