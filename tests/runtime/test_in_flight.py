"""Records in flight against a sequential model: any order of results, commits, rewinds and crashes."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from concurrent.futures import Future
from time import monotonic
from typing import Any

import pytest
from attrs import define, frozen
from hypothesis import given
from hypothesis import strategies as st

from streamlet import ErrorContext, Record, Response, StreamsBuilder, TaskId, Topic, serdes
from streamlet.config import StreamsConfig
from streamlet.metrics import Counters
from streamlet.runtime.in_flight import MOST_IN_FLIGHT, Reached, without_in_flight
from streamlet.runtime.task import Task
from streamlet.runtime.times import decode_times, encode_times
from streamlet.state import StateMemory, TaskState
from streamlet.testing.messages import TestMessage
from streamlet.time import ManualClock

DEADLINE = 60.0
A, B = Topic("a", serdes.string, serdes.int64), Topic("b", serdes.string, serdes.int64)
OUT = Topic("out", serdes.string, serdes.int64)


@frozen
class In:
    """A record; its number is its timestamp and value too, and grows over both topics."""

    topic: str
    offset: int
    key: str | None
    number: int

    @property
    def lane(self) -> tuple[str, Any]:
        return self.topic, self.offset


class Calls:
    """The user's function: each call waits until the test says what comes of it, or until its life is over."""

    def __init__(self, kind: str) -> None:
        self.said: dict[int, bool] = {}
        self.running: Counter[Any] = Counter()
        self.most = 0
        self.most_of_a_key = 0
        self._answers: dict[int, Future[int]] = {}
        self._lock = threading.Lock()
        self.function: Any = self.wait_for if kind == "thread" else self.await_

    def say(self, number: int, good: bool) -> None:
        """Let a call end, in this life and all others."""
        with self._lock:
            self.said[number] = good
            if number in self._answers:
                self._give(number)

    def new_life(self) -> None:
        """Let calls that nobody waits for any more end."""
        with self._lock:
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_result(-1)
            self._answers = {}

    def _answer(self, number: int) -> Future[int]:
        with self._lock:
            if number not in self._answers:
                self._answers[number] = Future()
                if number in self.said:
                    self._give(number)
            return self._answers[number]

    def _give(self, number: int) -> None:
        answer = self._answers[number]
        if self.said[number]:
            answer.set_result(number)
        else:
            answer.set_exception(ValueError("no"))

    def _count(self, record: Record[str, int], by: int) -> None:
        with self._lock:
            self.running[record.key] += by
            self.most = max(self.most, sum(self.running.values()))
            self.most_of_a_key = max(self.most_of_a_key, *(n for key, n in self.running.items() if key is not None), 0)

    def wait_for(self, record: Record[str, int]) -> int:
        self._count(record, 1)
        try:
            return self._answer(record.value).result(DEADLINE)
        finally:
            self._count(record, -1)

    async def await_(self, record: Record[str, int]) -> int:
        self._count(record, 1)
        try:
            return await asyncio.shield(asyncio.wrap_future(self._answer(record.value)))
        finally:
            self._count(record, -1)


class Bench:
    """One life of a task."""

    def __init__(self, calls: Calls, ordering: Any, most: int, committed: dict[tuple[str, int], Any]) -> None:
        builder = StreamsBuilder()
        stream = builder.stream(A).merge(builder.stream(B))
        stream.map_values_async(calls.function, with_record=True, ordering=ordering, max_in_flight=most).to(OUT)
        (part,) = builder.build().sub_topologies
        self.sent: list[int] = []
        self.failed: list[int] = []
        self.wake = threading.Event()
        config = {
            "application.id": "app", "bootstrap.servers": "embedded:", "processing.exception.handler": self.go_on
        }  # fmt: skip
        self.task = Task(
            part, TaskId(0, 0), partitions=[("a", 0), ("b", 0)], collector=self, config=StreamsConfig.parse(config),
            clock=ManualClock(), sensor=Counters(), wake=self.wake.set,
        )  # fmt: skip
        for place, offset in committed.items():
            self.task.restore_time(place, offset.metadata)
        memory = StateMemory(8 << 20)
        self.task.initialize(TaskState.open((), directory=None, memory=memory, timestamp=self.task.timestamp))

    def go_on(self, context: ErrorContext, record: Any, error: Exception) -> Response:
        assert (context.timestamp, str(error)) == (record.value, "no")
        self.failed.append(record.value)
        return Response.resume()

    def send(
        self, topic: str, key: Any, value: Any, timestamp: int, headers: Any, partition: Any, node: str, /
    ) -> None:
        assert value is not None
        metadata = self.task.record_metadata()
        assert metadata is not None
        number = serdes.int64.deserialize(value)
        assert timestamp == number
        self.sent.append(number)

    direct = None  # as a collector: there is no client

    def partition_count(self, topic: str, /) -> int:
        return 1

    def add(self, records: list[In]) -> None:
        for one in records:
            key = None if one.key is None else one.key.encode()
            value = serdes.int64.serialize(one.number)
            message = TestMessage(one.topic, key, value, one.number, (), 0, one.offset)
            self.task.add_records(one.topic, 0, [message])

    def run(self, sent: set[int], failed: set[int]) -> None:
        """Work until what is done is what is wanted, and no more."""
        end = monotonic() + DEADLINE
        self.task.process(1000)
        while len(self.sent) < len(sent) or len(self.failed) < len(failed):
            assert monotonic() < end, (self.sent, sent, self.failed, failed)
            self.wake.wait(0.05)
            self.wake.clear()
            self.task.process(1000)
        assert (set(self.sent), set(self.failed)) == (sent, failed)
        assert (len(self.sent), len(self.failed)) == (len(sent), len(failed))

    def clear(self) -> None:
        self.sent.clear()
        self.failed.clear()


@define
class Model:
    """What a sequential reader of the same records would say."""

    ordering: str
    most: int
    waiting: list[In]
    taken: list[In]
    sent: set[int]
    failed: set[int]

    def run(self, answered: dict[int, bool]) -> None:
        """Take and send on whatever may be; `answered` tells whether a number's call succeeded."""
        moved = True
        while moved:
            moved = False
            while self.waiting and len(self.taken) < self.most:
                self.taken.append(self.waiting.pop(0))
                moved = True
            for index, one in enumerate(self.taken):
                if one.number in answered and not any(self.holds_up(other, one) for other in self.taken[:index]):
                    self.taken.remove(one)
                    (self.sent if answered[one.number] else self.failed).add(one.number)
                    moved = True
                    break

    def holds_up(self, earlier: In, later: In) -> bool:
        if self.ordering == "partition":
            return earlier.topic == later.topic
        return self.ordering == "key" and earlier.key is not None and earlier.key == later.key


STEPS = st.one_of(
    st.tuples(st.just("add"), st.sampled_from("ab"), st.sampled_from(["x", "y", "z", None])),
    st.tuples(st.just("add"), st.sampled_from("ab"), st.sampled_from(["x", "y", "z", None])),
    st.tuples(st.just("answer"), st.integers(0, 30), st.just(True)),
    st.tuples(st.just("answer"), st.integers(0, 30), st.sampled_from([True, False])),
    st.tuples(st.just("commit")),
    st.tuples(st.just("rewind")),
    st.tuples(st.just("crash")),
)


@pytest.mark.parametrize("ordering", ["partition", "key", "none"])
@given(
    steps=st.lists(STEPS, max_size=40),
    most=st.integers(1, 5),
    kind=st.sampled_from(["thread", "coroutine"]),
)
def test_every_result_is_committed_once_in_order(ordering: Any, steps: list[Any], most: int, kind: str) -> None:
    calls = Calls(kind)
    records: list[In] = []
    committed: dict[tuple[str, int], Any] = {}
    out: list[int] = []  # committed
    settled: set[int] = set()  # committed as done, with a result or without
    answered: dict[int, bool] = {}
    bench = Bench(calls, ordering, most, committed)
    model = Model(ordering, most, [], [], set(), set())

    def again() -> None:
        nonlocal model
        bench.clear()
        model = Model(ordering, most, [one for one in records if one.number not in settled], [], set(), set())
        bench.add(
            [one for one in records if (one.topic, 0) not in committed or one.offset >= committed[one.topic, 0].offset]
        )

    def commit() -> None:
        committed.update(bench.task.consumed())
        bench.task.committed()
        out.extend(bench.sent)
        bench.clear()
        settled.update(model.sent, model.failed)
        model.sent.clear()
        model.failed.clear()
        for place, at in committed.items():
            assert at.offset <= min(
                (one.offset for one in records if one.topic == place[0] and one.number not in settled),
                default=len(records),
            ), "what is committed never passes a record that is not done"

    try:
        for step in [*steps, ("end",)]:
            match step:
                case ("add", topic, key):
                    number = len(records)
                    offset = sum(one.topic == topic for one in records)
                    records.append(In(topic, offset, key, number))
                    model.waiting.append(records[-1])
                    bench.add(records[-1:])
                case ("answer", index, good) if len(answered) < len(records):
                    open_ = [one.number for one in records if one.number not in answered]
                    number = open_[index % len(open_)]
                    answered[number] = good
                    calls.say(number, good)
                case ("end",):
                    for number in set(range(len(records))) - set(answered):
                        answered[number] = True
                        calls.say(number, True)
                case ("commit",):
                    commit()
                case ("rewind",):
                    bench.task.rewind()
                    calls.new_life()
                    again()
                case ("crash",):
                    bench.task.close()
                    calls.new_life()
                    bench = Bench(calls, ordering, most, committed)
                    again()
            model.run(answered)
            bench.run(model.sent, model.failed)
            assert bench.task.waits is bool(model.taken)
        commit()
    finally:
        bench.task.close()
        calls.new_life()

    assert sorted(out) == [number for number, good in sorted(answered.items()) if good], "each once"
    by_number = {one.number: one for one in records}
    for lane in {"partition": ("a", "b"), "key": ("x", "y", "z"), "none": ()}[ordering]:
        of_lane = [n for n in out if lane in (by_number[n].topic if ordering == "partition" else by_number[n].key,)]
        assert of_lane == sorted(of_lane)
    if not any(step[0] in ("rewind", "crash") for step in steps):  # what a thread is at then runs to its end
        assert calls.most <= most
        assert ordering != "key" or calls.most_of_a_key <= 1


@given(st.sets(st.integers(0, 2**62), max_size=MOST_IN_FLIGHT), st.integers(0, 2**62), st.integers(-1, 2**62))
def test_what_is_open_is_read_back_from_the_metadata(open_: set[int], more: int, time: int) -> None:
    reached = Reached(max(open_, default=0) + more + 1, frozenset(open_))
    metadata = encode_times(time, {}) + reached.encode()
    assert Reached.decode(metadata) == (reached if open_ else None)
    assert decode_times(metadata) == (time, {}), "the times are there as before"
    assert without_in_flight(metadata) == encode_times(time, {})
    assert reached.offset == min(open_, default=reached.upto)


def test_the_most_records_in_flight_fit_into_the_metadata() -> None:
    apart = 1 << 20
    offsets = frozenset(2**40 + apart * n for n in range(MOST_IN_FLIGHT))
    assert len(encode_times(2**62, {b"12345678": 1}) + Reached(2**41, offsets).encode()) < 4096


@pytest.mark.parametrize("text", ["", ".", "AQ==", "AQ==.!", "AQ==.gA==", "AQ==.AQ=="])
def test_metadata_of_others_names_nothing(text: str) -> None:
    assert Reached.decode(text) is None
    assert Reached.decode(None) is None
