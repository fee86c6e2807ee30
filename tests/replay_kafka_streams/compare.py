"""Values of a run in the form in which recordings write them, and where two lists of records differ."""

from __future__ import annotations

from typing import Any

from streamlet.records import Windowed

Record = dict[str, Any]


def as_recorded(value: Any) -> Any:
    """Return a value as a recording writes it: windowed keys and changes as objects."""
    if isinstance(value, Windowed):
        return {"key": as_recorded(value.key), "start": value.window.start, "end": value.window.end}
    if isinstance(value, tuple) and len(value) == 3 and isinstance(value[2], bool):  # a Change between tables
        return {"new": as_recorded(value[0]), "old": as_recorded(value[1]), "isLatest": value[2]}
    return value


def same(expected: Any, actual: Any) -> bool:
    """Tell whether two values are equal and of the same type."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        return expected.keys() == actual.keys() and all(same(expected[key], actual[key]) for key in expected)
    return type(expected) is type(actual) and bool(expected == actual)


def same_record(expected: Record, actual: Record) -> bool:
    """Tell whether two records are equal; a recorded node of None is any node."""
    for key in ("key", "value", "ts", "topic"):
        if not same(expected.get(key), actual.get(key)):
            return False
    return expected.get("node") is None or expected["node"] == actual.get("node")


def difference(expected: list[Record], actual: list[Record]) -> str | None:
    """Return in words where two lists differ, None if they do not."""
    for position, (wanted, got) in enumerate(zip(expected, actual)):
        if not same_record(wanted, got):
            return f"record {position}: expected {show(wanted)}, got {show(got)}"
    if len(expected) > len(actual):
        return f"expected also {show(expected[len(actual)])}"
    if len(expected) < len(actual):
        return f"got also {show(actual[len(expected)])}"
    return None


def as_cached(records: list[Record]) -> list[Record]:
    """Return what a record cache leaves of the records of one commit: the last one of each key."""
    last = {repr((record["key"], record.get("topic"), record.get("node"))): record for record in records}
    return [record for record in records if any(record is kept for kept in last.values())]


def started_from(records: list[Record], start: int) -> list[Record]:
    """Return the records of windows that start at a time or later."""
    return [record for record in records if not isinstance(record["key"], dict) or record["key"]["start"] >= start]


def in_any_order(records: list[Record]) -> list[Record]:
    """Return records in an order of their own."""
    return sorted(records, key=repr)


def show(record: Record) -> str:
    """Return a record in one line."""
    where = record.get("topic") or record.get("node")
    return f"{record['key']!r}={record['value']!r}@{record['ts']} to {where}"
