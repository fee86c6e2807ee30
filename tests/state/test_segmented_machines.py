"""Random lives of window, session and versioned stores against models that look at everything."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from streamlet import serdes
from streamlet.records import Window, Windowed
from streamlet.state import NOT_PUT, VALID_TO_UNDEFINED, StateMemory, StoreBuilder, Stores, VersionedRecord
from tests.state.support import Harness, mutable

RETENTION = 100_000  # segments of a minute
SECOND = timedelta(seconds=1)
KEYS = st.sampled_from(["", "a", "a\x00", "aa", "b", "\x00" * 9])
# Times that move on, mostly; within a run all segments come into use.
STEPS = st.integers(-130_000, 40_000) | st.integers(-3, 3)


class SegmentedMachine(RuleBasedStateMachine):
    """What the machines have in common: a store, its log, and a model that is copied at every commit."""

    in_memory = False
    builder: ClassVar[StoreBuilder[Any]]

    @initialize()
    def start(self) -> None:
        self.directory = None if self.in_memory else tempfile.TemporaryDirectory()
        self.harness = Harness([self.builder], Path(self.directory.name) / "task" if self.directory else None)
        self.harness.memory = StateMemory(16 << 10)
        self.harness.state.close()
        self.harness.state = self.harness.opened()
        self.model: dict[Any, Any] = {}
        self.observed = -1
        self.clock = 50_000
        self.committed: tuple[dict[Any, Any], int] = ({}, -1)

    @property
    def store(self) -> Any:
        return self.harness.store()

    def time(self, step: int) -> int:
        time = max(0, self.clock + step)
        self.clock = max(self.clock, time)
        return time

    def back(self) -> None:
        model, self.observed = self.committed
        self.model = dict(model)

    def mark(self) -> None:
        self.committed = (dict(self.model), self.observed)

    @rule()
    def commit(self) -> None:
        self.harness.commit()
        self.mark()

    @rule()
    def rollback(self) -> None:
        self.harness.state.rollback()
        self.back()

    @rule()
    def crash(self) -> None:
        self.harness.crash()
        self.back()

    @rule()
    def crash_between_log_and_store(self) -> None:
        for name, records in self.harness.state.changes():
            self.harness.logs[name].extend(records)
        self.mark()
        self.harness.crash()

    @rule(written=st.integers(1, 9))
    def crash_between_batches(self, written: int) -> None:
        self.mark()
        self.harness.crash_within_a_write(written)

    @rule()
    def wipe_and_restore(self) -> None:
        self.rollback()
        self.harness.state.wipe(self.builder.name)
        self.harness.restore()

    def teardown(self) -> None:
        if hasattr(self, "harness"):
            self.harness.close()
            if self.directory:
                self.directory.cleanup()


def segment_order(key: str, time: int) -> tuple[int, bytes]:
    return time // 60_000, key.encode() + time.to_bytes(8, "big")


class WindowMachine(SegmentedMachine):
    builder = Stores.window(
        "w", serdes.string, serdes.string, retention=RETENTION / 1000 * SECOND, window_size=10 * SECOND
    )

    @rule(key=KEYS, step=STEPS, value=st.text(max_size=2) | st.none())
    def put(self, key: str, step: int, value: str | None) -> None:
        start = self.time(step)
        self.observed = max(self.observed, start)
        written = self.store.put(key, value, start)
        assert written is (start > self.observed - RETENTION)
        if not written:
            return
        if value is None:
            self.model.pop((key, start), None)
        else:
            self.model[key, start] = value

    def visible(self, model: dict[Any, Any], observed: int, first: int, last: int) -> list[tuple[Any, int, str]]:
        first = max(first, observed - RETENTION + 1)
        found = [(key, start, value) for (key, start), value in model.items() if first <= start <= last]
        return sorted(found, key=lambda row: segment_order(row[0], row[1]))

    @rule(key=KEYS, step=STEPS)
    def fetch_one(self, key: str, step: int) -> None:
        start = max(0, self.clock + step)
        expected = self.model.get((key, start)) if start > self.observed - RETENTION else None
        assert self.store.fetch(key, start) == expected

    @rule(key=KEYS, step=STEPS, length=st.integers(0, 150_000))
    def fetch_key(self, key: str, step: int, length: int) -> None:
        first = self.clock + step
        rows = self.visible(self.model, self.observed, first, first + length)
        expected = sorted((start, value) for k, start, value in rows if k == key)
        assert list(self.store.fetch(key, first, first + length)) == expected
        assert list(self.store.backward_fetch(key, first, first + length)) == expected[::-1]
        assert [(start, value) for start, value, _ in self.store.fast_fetch(key, first, first + length)] == expected

    @rule(low=KEYS | st.none(), high=KEYS | st.none(), step=STEPS, length=st.integers(0, 150_000))
    def fetch_range(self, low: str | None, high: str | None, step: int, length: int) -> None:
        first = self.clock + step
        expected = [
            (Windowed(key, Window(start, start + 10_000)), value)
            for key, start, value in self.visible(self.model, self.observed, first, first + length)
            if (low is None or key.encode() >= low.encode()) and (high is None or key.encode() <= high.encode())
        ]
        assert list(self.store.fetch(low, high, first, first + length)) == expected
        assert list(self.store.backward_fetch(low, high, first, first + length)) == expected[::-1]

    @invariant()
    def everything_is_there(self) -> None:
        if not hasattr(self, "harness"):
            return
        for store, (model, observed) in (
            (self.store, (self.model, self.observed)),
            (self.harness.state.read_only("w"), self.committed),
        ):
            expected = [
                (Windowed(key, Window(start, start + 10_000)), value)
                for key, start, value in self.visible(model, observed, 0, 10**12)
            ]
            assert list(store.all()) == expected
            assert list(store.backward_all()) == expected[::-1]


class JoinWindowMachine(SegmentedMachine):
    """Windows that keep duplicates; values as bytes."""

    builder = Stores.window(
        "w", serdes.string, mutable, retention=RETENTION / 1000 * SECOND, window_size=SECOND, retain_duplicates=True
    )

    @rule(key=KEYS, step=STEPS, value=st.text(max_size=2) | st.none())
    def put(self, key: str, step: int, value: str | None) -> None:
        start = self.time(step)
        if value is not None:
            self.observed = max(self.observed, start)
        written = self.store.put(key, value, start)
        if value is not None:
            assert written is (start > self.observed - RETENTION)
            if written:
                self.model[key, start] = (*self.model.get((key, start), ()), value)

    @rule(key=KEYS, step=STEPS, length=st.integers(0, 150_000))
    def fetch_key(self, key: str, step: int, length: int) -> None:
        first = self.clock + step
        low = max(first, self.observed - RETENTION + 1)
        expected = [
            (start, value)
            for (k, start), values in sorted(self.model.items())
            if k == key and low <= start <= first + length
            for value in values
        ]
        assert list(self.store.fetch(key, first, first + length)) == expected
        assert [(start, value) for start, value, _ in self.store.fast_fetch(key, first, first + length)] == expected


class SessionMachine(SegmentedMachine):
    builder = Stores.session("s", serdes.string, serdes.string, retention=RETENTION / 1000 * SECOND)

    @rule(key=KEYS, step=STEPS, length=st.integers(0, 70_000), value=st.text(max_size=2) | st.none())
    def put(self, key: str, step: int, length: int, value: str | None) -> None:
        end = self.time(step)
        start = max(0, end - length)
        self.observed = max(self.observed, end)
        written = self.store.put(Windowed(key, Window(start, end)), value)
        assert written is (end > self.observed - RETENTION)
        if written:
            if value is None:
                self.model.pop((key, end, start), None)
            else:
                self.model[key, end, start] = value

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.model:
            key, end, start = data.draw(st.sampled_from(sorted(self.model)))
            self.store.remove(Windowed(key, Window(start, end)))
            if end > self.observed - RETENTION:
                del self.model[key, end, start]

    def visible(self, model: dict[Any, Any], observed: int, earliest_end: int, latest_start: int) -> list[Any]:
        earliest_end = max(earliest_end, observed - RETENTION + 1)
        found = [
            (Windowed(key, Window(start, end)), value)
            for (key, end, start), value in model.items()
            if end >= earliest_end and start <= latest_start
        ]
        return sorted(found, key=lambda row: (segment_order(row[0].key, row[0].window.end), row[0].window.start))

    @rule(key=KEYS, step=STEPS, length=st.integers(-10, 150_000))
    def find(self, key: str, step: int, length: int) -> None:
        earliest_end = self.clock + step
        rows = self.visible(self.model, self.observed, earliest_end, earliest_end + length)
        expected = [row for row in rows if row[0].key == key]
        assert list(self.store.find_sessions(key, earliest_end, earliest_end + length)) == expected
        assert list(self.store.backward_find_sessions(key, earliest_end, earliest_end + length)) == expected[::-1]
        assert self.store.fast_find(key, earliest_end, earliest_end + length) == [
            (windowed.window.start, windowed.window.end, value) for windowed, value in expected
        ]

    @rule(low=KEYS, high=KEYS, step=STEPS)
    def find_range(self, low: str, high: str, step: int) -> None:
        earliest_end = self.clock + step
        rows = self.visible(self.model, self.observed, earliest_end, 10**12)
        expected = [row for row in rows if low.encode() <= row[0].key.encode() <= high.encode()]
        assert list(self.store.find_sessions(low, high, earliest_end, 10**12)) == expected
        assert list(self.store.backward_find_sessions(low, high, earliest_end, 10**12)) == expected[::-1]
        assert list(self.store.find_sessions(None, None, earliest_end, 10**12)) == rows

    @invariant()
    def everything_is_there(self) -> None:
        if not hasattr(self, "harness"):
            return
        for store, (model, observed) in (
            (self.store, (self.model, self.observed)),
            (self.harness.state.read_only("s"), self.committed),
        ):
            for key in ("", "a", "aa"):
                expected = [row for row in self.visible(model, observed, 0, 10**12) if row[0].key == key]
                assert list(store.fetch(key)) == expected
                assert list(store.backward_fetch(key)) == expected[::-1]
            for (key, end, start), value in model.items():
                shown = value if end > observed - RETENTION else None
                assert store.fetch_session(key, start, end) == shown


class VersionedMachine(SegmentedMachine):
    """The model is the list of all puts by key and time: the version of a time is the last one before it."""

    builder = Stores.versioned_key_value("v", serdes.string, serdes.string, history_retention=RETENTION / 1000 * SECOND)

    @rule(key=KEYS, step=STEPS, value=st.text(max_size=2) | st.none())
    def put(self, key: str, step: int, value: str | None) -> None:
        timestamp = self.time(step)
        expired = timestamp < self.observed - RETENTION
        valid_to = self.store.put(key, value, timestamp)
        if expired:
            assert valid_to == NOT_PUT
            return
        self.observed = max(self.observed, timestamp)
        later = [time for k, time in self.model if k == key and time > timestamp]
        assert valid_to == (min(later) if later else VALID_TO_UNDEFINED)
        self.model[key, timestamp] = value

    @rule(key=KEYS, step=STEPS)
    def delete(self, key: str, step: int) -> None:
        timestamp = max(0, self.clock + step)
        if timestamp < self.observed - RETENTION:
            return
        assert self.store.delete(key, timestamp) == self.as_of(self.model, self.observed, key, timestamp)
        self.clock = max(self.clock, timestamp)
        self.observed = max(self.observed, timestamp)
        self.model[key, timestamp] = None

    @staticmethod
    def as_of(model: dict[Any, Any], observed: int, key: str, time: int | None) -> Any:
        times = sorted(t for k, t in model if k == key)
        before = [t for t in times if time is None or t <= time]
        if not before:
            return None
        timestamp = before[-1]
        later = [t for t in times if t > timestamp]
        if later and time is not None and time < observed - RETENTION:
            return None
        value = model[key, timestamp]
        return None if value is None else VersionedRecord(value, timestamp, later[0] if later else None)

    @rule(key=KEYS, step=STEPS)
    def get_as_of(self, key: str, step: int) -> None:
        time = self.clock + step
        assert self.store.get(key, time) == self.as_of(self.model, self.observed, key, time)

    @invariant()
    def every_version_is_there(self) -> None:
        if not hasattr(self, "harness"):
            return
        for store, (model, observed) in (
            (self.store, (self.model, self.observed)),
            (self.harness.state.read_only("v"), self.committed),
        ):
            for key in {key for key, _ in model}:
                assert store.get(key) == self.as_of(model, observed, key, None)
                for time in {t + d for k, t in model if k == key for d in (-1, 0)}:
                    assert store.get(key, time) == self.as_of(model, observed, key, time)


class VersionedBytesMachine(VersionedMachine):
    builder = Stores.versioned_key_value("v", serdes.string, mutable, history_retention=RETENTION / 1000 * SECOND)


class InMemoryWindowMachine(WindowMachine):
    in_memory = True


class InMemorySessionMachine(SessionMachine):
    in_memory = True


class InMemoryVersionedMachine(VersionedMachine):
    in_memory = True


TestWindow = WindowMachine.TestCase
TestJoinWindow = JoinWindowMachine.TestCase
TestSession = SessionMachine.TestCase
TestVersioned = VersionedMachine.TestCase
TestVersionedBytes = VersionedBytesMachine.TestCase
TestWindowInMemory = InMemoryWindowMachine.TestCase
TestSessionInMemory = InMemorySessionMachine.TestCase
TestVersionedInMemory = InMemoryVersionedMachine.TestCase
for _case in (
    TestWindow, TestJoinWindow, TestSession, TestVersioned, TestVersionedBytes,
    TestWindowInMemory, TestSessionInMemory, TestVersionedInMemory,
):  # fmt: skip
    _case.settings = settings(max_examples=20, stateful_step_count=35, deadline=None)
del _case
