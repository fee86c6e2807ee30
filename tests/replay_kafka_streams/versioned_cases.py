"""Operations on a versioned store, with their return codes."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from streamlet import serdes
from streamlet.state import StateMemory, Stores, TaskState
from streamlet.state.values import ChangelogRecord, Position
from tests.replay_kafka_streams.verdict import DifferentError, OutOfScopeError

_STORE = "versioned"
_NOT_PUT = -(2**63)
_KNOWN = {"open", "put", "get", "get_as_of", "delete", "restore"}


def replay(case: dict[str, Any]) -> None:
    """Replay a list of operations: in memory, in memory without a commit in between, and on disk.

    Raises:
        OutOfScopeError: If an operation is unknown.
        DifferentError: If one returns something else.
    """
    unknown = {step["op"] for step in case["ops"]} - _KNOWN
    if unknown:
        raise OutOfScopeError(f"unknown topology: operations {', '.join(sorted(unknown))}")
    for commits, on_disk in ((True, False), (False, False), (True, True)):
        told = _replay(case["ops"], commits=commits, on_disk=on_disk)
        if told is not None:
            how = f"{'on disk' if on_disk else 'in memory'}, {'with' if commits else 'without'} commits"
            raise DifferentError(f"{told} ({how})")


def _replay(steps: list[dict[str, Any]], *, commits: bool, on_disk: bool) -> str | None:
    retention = _retention(steps)
    with _opened(retention, on_disk=on_disk) as state:
        store = state.store(_STORE)
        restored: list[ChangelogRecord] = []
        for number, step in enumerate(steps):
            if step["op"] == "open":
                continue
            if step["op"] == "restore":
                restored.append(_changelog_record(step))
                continue
            if restored:
                state.restore(_STORE, restored, _position(number))
                restored = []
            got = _call(store, step)
            if commits:
                list(state.changes())
                state.commit({_STORE: _position(number)})
            if got != step["result"]:
                return f"operation {number} ({_shown(step)}): expected {step['result']!r}, got {got!r}"
    return None


def _retention(steps: list[dict[str, Any]]) -> int:
    """Return the history retention of the store that was opened last."""
    opened = [step["result"] for step in steps if step["op"] == "open"]
    found = re.search(r"historyRetention=(\d+)", opened[-1]) if opened else None
    if found is None:
        raise OutOfScopeError("unknown topology: nothing tells the history retention")
    return int(found[1])


@contextmanager
def _opened(retention_ms: int, *, on_disk: bool) -> Iterator[TaskState]:
    builder = Stores.versioned_key_value(
        _STORE, serdes.string, serdes.string, history_retention=timedelta(milliseconds=retention_ms)
    )
    with tempfile.TemporaryDirectory() as directory:
        where = Path(directory) / "0_0" if on_disk else None
        state = TaskState.open([builder], directory=where, memory=StateMemory(2**24), timestamp=lambda: 0)
        try:
            yield state
        finally:
            state.close()


def _position(offset: int) -> Position:
    return Position(offset, None, None, 0)


def _changelog_record(step: dict[str, Any]) -> ChangelogRecord:
    value = None if step["value"] is None else step["value"].encode()
    return ChangelogRecord(step["key"].encode(), value, step["ts"])


def _call(store: Any, step: dict[str, Any]) -> Any:
    if step["op"] == "put":
        result = store.put(step["key"], step["value"], step["ts"])
        return "NOT_PUT" if result == _NOT_PUT else result
    if step["op"] == "delete":
        found = store.delete(step["key"], step["ts"])
    elif step["op"] == "get":
        found = store.get(step["key"])
    else:
        found = store.get(step["key"], step["ts"])
    return None if found is None else {"value": found.value, "ts": found.timestamp, "valid_to": found.valid_to}


def _shown(step: dict[str, Any]) -> str:
    given = [repr(step[name]) for name in ("key", "value", "ts") if name in step]
    return f"{step['op']} {', '.join(given)}"
