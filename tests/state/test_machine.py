"""Random lives of a store against dictionaries: what is committed, what is not, what the log has."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from streamlet import serdes
from streamlet.state import StateMemory, Stores
from tests.state.support import Harness, mutable, position

KEYS = st.text("ab\x00\U0010ffff", max_size=3)
VALUES = st.text(max_size=4)


class StoreMachine(RuleBasedStateMachine):
    """Two stores of one task: one with timestamps and objects, one with bytes."""

    in_memory = False

    @initialize()
    def start(self) -> None:
        self.directory = None if self.in_memory else tempfile.TemporaryDirectory()
        builders = [
            Stores.timestamped_key_value("objects", serdes.string, serdes.string),
            Stores.key_value("bytes", serdes.string, mutable),
        ]
        self.harness = Harness(builders, Path(self.directory.name) / "task" if self.directory else None)
        # A budget of a few entries, so that generations come and go.
        self.harness.memory = StateMemory(16 << 10)
        self.harness.state.close()
        self.harness.state = self.harness.opened()
        self.now: dict[str, dict[str, Any]] = {"objects": {}, "bytes": {}}
        self.committed: dict[str, dict[str, Any]] = {"objects": {}, "bytes": {}}

    def put_both(self, key: str, value: str | None) -> None:
        objects, in_bytes = self.harness.store("objects"), self.harness.store("bytes")
        timestamp = len(key)
        if value is None:
            assert objects.delete(key) == self.now["objects"].pop(key, None)
            assert in_bytes.delete(key) == self.now["bytes"].pop(key, None)
        else:
            objects.fast_put(key, value, timestamp)
            in_bytes.put(key, value)
            self.now["objects"][key] = (value, timestamp)
            self.now["bytes"][key] = value

    @rule(key=KEYS, value=VALUES)
    def put(self, key: str, value: str) -> None:
        self.put_both(key, value)

    @rule(entries=st.lists(st.tuples(KEYS, VALUES | st.none()), max_size=8))
    def put_several(self, entries: list[tuple[str, str | None]]) -> None:
        for key, value in entries:
            self.put_both(key, value)

    @rule(key=KEYS, value=VALUES)
    def put_if_absent(self, key: str, value: str) -> None:
        assert self.harness.store("bytes").put_if_absent(key, value) == self.now["bytes"].get(key)
        self.now["bytes"].setdefault(key, value)

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        self.put_both(key, None)

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        for name, model in self.now.items():
            assert self.harness.store(name).get(key) == model.get(key)

    @rule(start=KEYS | st.none(), end=KEYS | st.none())
    def ranges(self, start: str | None, end: str | None) -> None:
        low, high = (start or "").encode(), None if end is None else end.encode()
        for name, model in self.now.items():
            store = self.harness.store(name)
            expected = [
                (key, model[key])
                for key in sorted(model, key=str.encode)
                if low <= key.encode() and (high is None or key.encode() <= high)
            ]
            assert list(store.range(start, end)) == expected
            assert list(store.reverse_range(start, end)) == expected[::-1]

    @rule(prefix=KEYS)
    def prefixes(self, prefix: str) -> None:
        for name, model in self.now.items():
            expected = sorted((key for key in model if key.startswith(prefix)), key=str.encode)
            assert [key for key, _ in self.harness.store(name).prefix_scan(prefix)] == expected

    @rule()
    def commit(self) -> None:
        self.harness.commit()
        self.committed = {name: dict(model) for name, model in self.now.items()}

    @rule()
    def rollback(self) -> None:
        self.harness.state.rollback()
        self.now = {name: dict(model) for name, model in self.committed.items()}

    @rule()
    def abort_after_producing(self) -> None:
        list(self.harness.state.changes())
        self.rollback()

    @rule()
    def crash(self) -> None:
        self.harness.crash()
        self.now = {name: dict(model) for name, model in self.committed.items()}

    @rule()
    def crash_between_log_and_store(self) -> None:
        """The log has committed, and the process dies before RocksDB was written."""
        for name, records in self.harness.state.changes():
            self.harness.logs[name].extend(records)
        self.committed = {name: dict(model) for name, model in self.now.items()}
        self.harness.crash()

    @rule(written=st.integers(1, 9))
    def crash_between_batches(self, written: int) -> None:
        """The log has committed, and the process dies when a part is in RocksDB."""
        self.committed = {name: dict(model) for name, model in self.now.items()}
        self.harness.crash_within_a_write(written)

    @rule(name=st.sampled_from(["objects", "bytes"]))
    def wipe_and_restore(self, name: str) -> None:
        self.rollback()
        self.harness.state.wipe(name)
        assert list(self.harness.store(name).all()) == []
        self.harness.restore()

    @rule()
    def restore_again(self) -> None:
        """Replaying what is there already changes nothing."""
        self.rollback()
        for name, log in self.harness.logs.items():
            self.harness.state.restore(name, log, position(len(log)))

    @invariant()
    def queries_see_what_is_committed(self) -> None:
        if hasattr(self, "harness"):
            for name, model in self.committed.items():
                assert dict(self.harness.state.read_only(name).all()) == model

    @invariant()
    def iterating_shows_everything(self) -> None:
        if hasattr(self, "harness"):
            for name, model in self.now.items():
                assert list(self.harness.store(name).all()) == [
                    (key, model[key]) for key in sorted(model, key=str.encode)
                ]

    def teardown(self) -> None:
        if hasattr(self, "harness"):
            self.harness.close()
            assert self.harness.memory.entries_bytes == (16 << 10) // 4  # all stores gave their share back
            if self.directory:
                self.directory.cleanup()


class MemoryMachine(StoreMachine):
    in_memory = True


TestRocksDB = StoreMachine.TestCase
TestRocksDB.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestMemory = MemoryMachine.TestCase
TestMemory.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
