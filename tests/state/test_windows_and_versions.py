"""Window, session, versioned and outer-join stores: bytes, expiry, recordings of Kafka Streams."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from streamlet import serdes
from streamlet.config import StreamsConfig
from streamlet.errors import InvalidStateStoreError, SerializationError, StateStoreError, TopologyError
from streamlet.records import Window, Windowed
from streamlet.state import (
    NOT_PUT,
    VALID_TO_UNDEFINED,
    ChangelogRecord,
    StateMemory,
    StoreBuilder,
    Stores,
    TaskState,
    Unmatched,
    ValueAndTimestamp,
)  # fmt: skip
from streamlet.state.time_index import TimeIndex
from tests.state.support import Harness, Opener, mutable, position, recorded

MINUTE = timedelta(minutes=1)
WINDOWS = Stores.timestamped_window(
    "w", serdes.string, serdes.int64, retention=4 * MINUTE, window_size=timedelta(seconds=10)
)
SESSIONS = Stores.session("s", serdes.string, serdes.int64, retention=4 * MINUTE)
VERSIONS = Stores.versioned_key_value("v", serdes.string, serdes.int64, history_retention=4 * MINUTE)
ROWS = Stores.outer_join("o", serdes.string, serdes.string, serdes.int64)
JOIN = Stores.window(
    "j", serdes.string, serdes.string, retention=4 * MINUTE, window_size=MINUTE, retain_duplicates=True
)


def vectors(kind: str) -> list[tuple[str, dict[str, str], bytes]]:
    found = []
    for vector in recorded("bytes.json")["vectors"]:
        if vector["kind"] == kind:
            key, *fields = vector["input"].split("|")
            found.append((key, dict(field.split("=") for field in fields), bytes.fromhex(vector["output"])))
    assert found
    return found


# -- bytes -----------------------------------------------------------------------------------------
def test_changelog_keys_of_windows_are_kafka_streams() -> None:
    for duplicates in (False, True):
        for key, fields, expected in vectors("window_key"):
            if (fields["seq"] == "0") is duplicates:
                continue
            builder = Stores.window(
                "w", serdes.string, serdes.int64, retention=MINUTE, window_size=MINUTE, retain_duplicates=duplicates
            )
            state = TaskState.open([builder], directory=None, memory=StateMemory(1 << 20), timestamp=lambda: 9)
            for value in range(max(1, int(fields["seq"]))):
                state.store("w").put(key, value, int(fields["start"]))
            ((_, records),) = state.changes()
            assert records[-1].key == expected
            assert records[-1].timestamp == 9
            state.close()


def test_changelog_keys_of_sessions_are_kafka_streams() -> None:
    for key, fields, expected in vectors("session_key"):
        harness = Harness([SESSIONS], None)
        harness.store().put(Windowed(key, Window(int(fields["start"]), int(fields["end"]))), 1)
        ((_, records),) = harness.state.changes()
        assert [record.key for record in records] == [expected]
        harness.close()


def test_keys_of_outer_joins_are_kafka_streams(open_state: Opener) -> None:
    harness = open_state(ROWS)
    for key, fields, expected in vectors("outer_join_store_key"):
        left = fields["left"] == "true"
        harness.store().put(int(fields["ts"]), left, key, "x" if left else 1)
        assert [record.key for record in harness.commit()["o"]] == [expected]


def test_a_window_s_timestamp_is_the_record_s(open_state: Opener) -> None:
    harness = open_state(WINDOWS)
    harness.store().put("a", ValueAndTimestamp(5, 17), 10)
    harness.store().fast_put("b", 10, 6, 18)
    (a, b) = harness.commit()["w"]
    assert (a.value, a.timestamp) == (serdes.int64.serialize(5), 17)
    assert (b.value, b.timestamp) == (serdes.int64.serialize(6), 18)
    harness.crash()
    assert harness.store().fetch("a", 10) == ValueAndTimestamp(5, 17)
    assert harness.store().fast_get("b", 10) == (6, 18)
    assert list(harness.store().fetch("a", 0, 100)) == [(10, ValueAndTimestamp(5, 17))]
    assert harness.state.read_only("w").fetch("b", 10) == ValueAndTimestamp(6, 18)


# -- time ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("builder", [WINDOWS, SESSIONS], ids=["windows", "sessions"])
def test_expired_puts_are_reported_and_expired_segments_deleted(open_state: Opener, builder: Any) -> None:
    harness = open_state(builder)

    def put(minute: int) -> bool:
        if builder is WINDOWS:
            return bool(harness.store().fast_put("a", minute * 60_000, 1, 0))
        return bool(harness.store().fast_put("a", minute * 60_000, minute * 60_000, 1, 0))

    backend = harness.state._backends[builder.name]
    assert put(1)
    harness.commit()
    assert put(4)
    assert not put(0)
    harness.commit()
    assert len(list(backend.scan(None, None))) == 2
    assert put(5)
    assert not put(1)
    harness.commit()
    assert len(list(backend.scan(None, None))) == 3  # its segment, minutes 0 and 1, still has a readable time
    if builder is WINDOWS:
        assert harness.store().fetch("a", 60_000) is None
        assert [key.window.start for key, _ in harness.store().all()] == [240_000, 300_000]
    put(6)
    put(20)
    harness.commit()
    harness.commit()
    assert len(list(backend.scan(None, None))) == 1  # 6 went as soon as it was written, with its segment
    assert put(30)
    harness.commit()
    assert len(list(backend.scan(None, None))) == 1
    harness.crash()
    assert not put(26)
    assert put(27)


def test_stream_time_survives_a_restart_without_restoring(tmp_path: Path) -> None:
    harness = Harness([WINDOWS], tmp_path)
    harness.store().fast_put("a", 600_000, 1, 0)
    harness.commit()
    harness.close()
    harness.state = harness.opened()  # nothing to be restored
    assert harness.store().fast_put("a", 360_000, 1, 0) is False
    harness.state.rollback()
    assert harness.store().expiry.observed == 600_000
    harness.close()


def test_rollback_takes_the_time_back(open_state: Opener) -> None:
    harness = open_state(WINDOWS)
    harness.store().fast_put("a", 0, 1, 0)
    harness.commit()
    harness.store().fast_put("a", 600_000, 1, 0)
    assert harness.store().fetch("a", 0) is None
    harness.state.rollback()
    assert harness.store().fetch("a", 0) == (1, 0)
    assert list(harness.store().fetch("a", 0, 10**9)) == [(0, (1, 0))]


def test_restoring_skips_expired_windows(open_state: Opener) -> None:
    harness = open_state(WINDOWS)
    one = serdes.int64.serialize(1)
    keys = [b"a" + bytes(8 - len(start)) + start + bytes(4) for start in (b"", b"\x09\x27\xc0", b"\x10")]
    harness.state.restore("w", [ChangelogRecord(key, one, 0) for key in keys], position(3))
    assert [key.window.start for key, _ in harness.store().all()] == [600_000]
    assert len(list(harness.state._backends["w"].scan(None, None))) <= 2


def test_another_retention_rebuilds_the_segments(tmp_path: Path) -> None:
    harness = Harness([WINDOWS], tmp_path)
    harness.store().fast_put("a", 60_000, 1, 0)
    harness.commit()
    harness.close()
    harness.builders = [
        Stores.timestamped_window("w", serdes.string, serdes.int64, retention=60 * MINUTE, window_size=MINUTE)
    ]
    harness.state = harness.opened()
    assert harness.state.position("w") is None
    harness.restore()
    assert harness.store().fetch("a", 60_000) == (1, 0)
    harness.close()


def test_impossible_times_are_refused(open_state: Opener) -> None:
    harness = open_state(WINDOWS, SESSIONS, VERSIONS, ROWS, JOIN)
    with pytest.raises(StateStoreError, match=r"'w': a window cannot start before 0, but -1"):
        harness.store("w").fast_put("a", -1, 1, 0)
    assert harness.store("w").fetch("a", -1) is None
    assert harness.store("w").fetch("a", 2**70) is None
    assert list(harness.store("w").fetch("a", -(2**70), 2**70)) == []
    with pytest.raises(StateStoreError, match=r"'s': a session from 5 to 4 is not possible"):
        harness.store("s").fast_put("a", 5, 4, 1, 0)
    with pytest.raises(StateStoreError, match=r"'v': the timestamp of key b'a'"):
        harness.store("v").put("a", 1, -1)
    with pytest.raises(StateStoreError, match=r"'o': the time of a row cannot be -1"):
        harness.store("o").put(-1, True, "a", "x")
    with pytest.raises(StateStoreError, match=r"'j' keeps duplicates"):
        harness.store("j").fetch("a", 1)
    with pytest.raises(TypeError, match="fetch takes"):
        harness.store("w").fetch("a", "b", 1, 2, 3)
    for name in ("w", "s", "v"):
        with pytest.raises(StateStoreError, match=f"'{name}': a key must not be None"):
            {"w": lambda s: s.fetch(None, 1), "s": lambda s: s.fetch_session(None, 1, 1), "v": lambda s: s.get(None)}[
                name
            ](harness.store(name))


def test_duplicates_are_kept_in_order_over_a_restart(open_state: Opener) -> None:
    harness = open_state(JOIN)
    for value in ("b", "a"):
        harness.store().put("k", value, 7)
    harness.commit()
    harness.crash()
    harness.store().put("k", "c", 7)
    assert list(harness.store().fetch("k", 7, 7)) == [(7, "b"), (7, "a"), (7, "c")]
    harness.commit()
    assert list(harness.state.read_only("j").fetch("k", 0, 99)) == [(7, "b"), (7, "a"), (7, "c")]


def test_recent_windows_of_a_key_are_found_without_a_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness([JOIN], tmp_path)
    store = harness.store()
    assert store.fast_fetch("k", 0, 10) == []
    for start in range(0, 200_000, 1_000):
        store.put("k", str(start), start)
        if start % 50_000 == 0:
            harness.commit()

    def scan(*_: object, **__: object) -> None:
        raise AssertionError("a scan of RocksDB")

    monkeypatch.setattr(type(harness.state._backends["j"]), "scan", scan)
    assert [start for start, _, _ in store.fast_fetch("k", 100_000, 103_000)] == [100_000, 101_000, 102_000, 103_000]
    assert [start for start, _ in store.backward_fetch("k", 0, 2_000)] == [2_000, 1_000, 0]
    monkeypatch.undo()
    harness.close()


@pytest.mark.parametrize("value_serde", [serdes.string, mutable], ids=["objects", "as bytes"])
def test_what_is_too_old_to_be_read_leaves_memory(open_state: Opener, value_serde: Any) -> None:
    """Memory holds two to three retentions, however long the join runs and however much it may hold."""
    builder = Stores.window(
        "j", serdes.bytes_, value_serde, retention=MINUTE / 6, window_size=MINUTE / 6, retain_duplicates=True
    )
    harness = open_state(builder)
    store, buffer = harness.store(), harness.state._buffers["j"]
    every, retention = 100, 10_000
    for start in range(0, 30 * retention, every):
        assert store.fast_put(b"k", start, "v", start)
        if start % 1_000 == 0:
            harness.commit()
            kept = buffer.recent.keys() | buffer.old.keys()
            assert len(kept) <= 3 * retention // every + 2
            found = [time for time, _, _ in store.fast_fetch(b"k", 0, start)]
            assert found == list(range(max(0, start - retention + every), start + 1, every))


def test_the_index_drops_its_oldest_when_it_is_full() -> None:
    index = TimeIndex(bucket_ms=10, floor=5, limit=4)

    def between(first: int, last: int) -> list[int]:
        found = index.between(b"k", first, last)
        assert all(local == bytes((time,)) for time, local in found)
        return [time for time, _ in found]

    for time in (4, 5, 12, 25, 21):
        index.add(time, b"k", bytes((time,)))
        index.add(time, b"k", bytes((time,)))
    assert between(0, 99) == [5, 12, 21, 25]
    index.add(31, b"k", b"\x1f")
    assert index.floor == 10
    assert between(10, 99) == [12, 21, 25, 31]
    assert between(12, 25) == [12, 21, 25]
    assert between(13, 24) == [21]
    index.discard(21, b"k", b"\x15")
    index.discard(21, b"k", b"\x15")
    index.drop_before(20)
    assert index.floor == 20
    assert between(20, 99) == [25, 31]


def test_what_cannot_be_serialised_names_the_store(open_state: Opener) -> None:
    harness = open_state(WINDOWS, SESSIONS, VERSIONS)
    windows = harness.store("w")
    for call in (lambda key: windows.fast_get(key, 1), lambda key: windows.fast_put(key, 1, 1, 1)):
        with pytest.raises(SerializationError, match="'w': the key 5 cannot be serialised"):
            call(5)
        with pytest.raises(StateStoreError, match="'w': a key must not be None"):
            call(None)
    harness.state.careful = True
    for name, call in (
        ("w", lambda: windows.fast_put("a", 1, "no number", 1)),
        ("s", lambda: harness.store("s").fast_put("a", 1, 2, "no number", 1)),
        ("v", lambda: harness.store("v").put("a", "no number", 1)),
    ):
        with pytest.raises(SerializationError, match=f"'{name}': the value of key"):
            call()
    harness.state.careful = False
    harness.state.rollback()
    windows.fast_put("a", 1, 1, 1.5)
    with pytest.raises(SerializationError, match=r"'w': the timestamp of key .* must be an int, not 1.5"):
        list(harness.state.changes())
    harness.state.rollback()
    harness.state.restore("w", [ChangelogRecord(b"\xff" + bytes(12), bytes(8), 0)], position(1))
    with pytest.raises(SerializationError, match=r"'w': the key .* cannot be deserialised"):
        list(windows.all())


def test_many_starts_and_deletions(open_state: Opener) -> None:
    harness = open_state(WINDOWS)
    store = harness.store()
    for start in range(600):
        store.put("a", ValueAndTimestamp(start, start), start)
        store.put("a", None, start - start % 2)
    assert [start for start, _ in store.fetch("a", 0, 600)] == list(range(1, 600, 2))
    harness.commit()
    assert [start for start, _ in store.backward_fetch("a", 0, 600)] == list(range(599, 0, -2))
    assert [key.window.start for key, _ in store.backward_fetch_all(590, 595)] == [595, 593, 591]
    assert [key.window.start for key, _ in store.fetch_all(590, 595)] == [591, 593, 595]


def test_unmatched_rows_cannot_be_queried(open_state: Opener) -> None:
    with pytest.raises(InvalidStateStoreError, match="'o' holds what a join has not matched yet"):
        open_state(ROWS).state.read_only("o")


# -- versions --------------------------------------------------------------------------------------
def test_versioned_store_does_what_kafka_streams_did() -> None:
    """The recorded operations of its own tests, replayed."""
    cases = recorded("versioned_store.json")["cases"]
    assert len(cases) >= 25
    replayed = 0
    for case in cases:
        harness = Harness([VERSIONS], None)
        for step, operation in enumerate(case["ops"]):
            if operation["op"] == "open":
                harness.close()
                given = dict(field.split("=") for field in operation["result"].split())
                retention = timedelta(milliseconds=int(given["historyRetention"]))
                builder = Stores.versioned_key_value("v", serdes.string, serdes.string, history_retention=retention)
                harness = Harness([builder], None)
                continue
            store = harness.store()
            where = f"{case['case']}, operation {step}: {operation}"
            key, ts, expected = operation["key"], operation.get("ts"), operation["result"]
            match operation["op"]:
                case "put":
                    returned = store.put(key, operation["value"], ts)
                    assert {NOT_PUT: "NOT_PUT", VALID_TO_UNDEFINED: -1}.get(returned, returned) == expected, where
                case "restore":
                    value = operation["value"]
                    record = ChangelogRecord(key.encode(), None if value is None else value.encode(), ts)
                    harness.state.restore("v", [record], position(step))
                case "get" | "get_as_of" | "delete" as name:
                    found = store.delete(key, ts) if name == "delete" else store.get(key, ts)
                    shown = found and {"value": found.value, "ts": found.timestamp, "valid_to": found.valid_to}
                    assert shown == expected, where
                case other:
                    raise AssertionError(f"unknown operation {other}")
            replayed += 1
            if operation["op"] != "restore" and step % 2:
                harness.commit()
        harness.close()
    assert replayed > 250


def test_every_version_is_logged_once_with_its_time(open_state: Opener) -> None:
    for builder in (VERSIONS, Stores.versioned_key_value("v", serdes.string, mutable, history_retention=MINUTE)):
        harness = open_state(builder) if builder is VERSIONS else Harness([builder], None)
        store = harness.store()
        first, second = (1, 2) if builder is VERSIONS else ("", "2")
        serialize = builder.value_serde.serialize
        store.put("a", first, 10)
        store.put("a", None, 20)
        store.put("a", second, 15)
        store.put("a", first, 15)
        assert harness.commit() == {
            "v": [
                ChangelogRecord(b"a", serialize(first), 10),
                ChangelogRecord(b"a", None, 20),
                ChangelogRecord(b"a", serialize(first), 15),
            ]
        }
        assert harness.commit() == {}
        store.put("a", second, 30)
        harness.state.rollback()
        assert store.get("a") is None
        assert store.get("a", 10).valid_to == 15
        assert store.get("a", 19) == (first, 15, 20)
        if builder is not VERSIONS:
            harness.close()


def test_earlier_versions_are_deleted_with_their_segments(open_state: Opener) -> None:
    harness = open_state(VERSIONS)
    for minute in range(40):
        harness.store().put("a", minute, minute * 60_000)
        harness.commit()
    assert len(list(harness.state._backends["v"].scan(None, None))) <= 1 + 4 + 2
    assert harness.store().get("a") == (39, 39 * 60_000, None)


# -- outer joins -----------------------------------------------------------------------------------
@pytest.mark.parametrize("left_serde", [serdes.string, mutable], ids=["objects", "as bytes"])
def test_unmatched_rows_come_in_the_order_of_time_and_side(open_state: Opener, left_serde: Any) -> None:
    harness = open_state(Stores.outer_join("o", serdes.string, left_serde, serdes.int64))
    store = harness.store()
    store.put(300, True, "a", "later")
    store.put(5, True, "b", "x")
    harness.commit()
    store.put(5, True, "b", "y")
    store.put(5, False, "z", 7)
    expected = [
        Unmatched(5, False, "z", (7,)),
        Unmatched(5, True, "b", ("x", "y")),
        Unmatched(300, True, "a", ("later",)),
    ]
    for _ in range(2):
        assert list(store.all()) == expected
        assert list(store.all(5)) == expected
        assert list(store.all(6)) == expected[2:]
        harness.commit()
    harness.crash()
    assert list(harness.store().all()) == expected
    for row in harness.store().all():
        if row.timestamp < 100:
            assert harness.store().delete(row.timestamp, row.left, row.key)
    assert not harness.store().delete(5, True, "b")
    assert list(harness.store().all()) == expected[2:]
    harness.state.rollback()
    assert list(harness.store().all()) == expected


@pytest.mark.parametrize("how", ["crash", "restore", "rollback", "wipe"])
def test_a_row_joins_those_of_its_time_whatever_has_happened_to_the_store(open_state: Opener, how: str) -> None:
    """Rows later than all others are put without a look at the database: which those are must not be mistaken."""
    harness = open_state(ROWS)
    harness.store().put(5, True, "b", "x")
    harness.commit()
    harness.store().put(7, True, "b", "y")
    if how == "crash":
        harness.crash()
    elif how == "rollback":
        harness.state.rollback()
    elif how == "wipe":
        harness.state.rollback()
        harness.state.wipe("o")
        harness.restore()
    else:  # somebody else's record comes in behind what this store had
        harness.state.rollback()
        (first,) = harness.logs["o"]
        harness.logs["o"].append(first._replace(key=(9).to_bytes(8, "big") + first.key[8:]))
        harness.restore()
        harness.store().put(9, True, "b", "z")
        assert harness.store().delete(9, True, "b")
    harness.store().put(5, True, "b", "z")
    assert list(harness.store().all()) == [Unmatched(5, True, "b", ("x", "z"))]
    harness.store().put(6, True, "b", "w")
    harness.store().put(6, True, "b", "w")
    assert list(harness.store().all(6)) == [Unmatched(6, True, "b", ("w", "w"))]


def test_later_rows_are_put_without_a_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness([ROWS], tmp_path)
    harness.store().put(1, True, "a", "x")
    harness.commit()

    def get(*_: object) -> None:
        raise AssertionError("a read of RocksDB")

    monkeypatch.setattr(type(harness.state._backends["o"]), "get", get)
    for time in range(2, 20):
        harness.store().put(time, time % 2 == 0, "a", "x" if time % 2 == 0 else time)
        harness.commit()
    assert len(list(harness.store().all())) == 19
    harness.close()


def test_rows_that_are_cut_off_are_an_error(open_state: Opener) -> None:
    harness = open_state(ROWS)
    harness.store().put(1, True, "a", "long enough")
    ((_, (record,)),) = harness.state.changes()
    harness.state.rollback()
    harness.state.restore("o", [record._replace(value=record.value[:-1])], position(1))
    with pytest.raises(SerializationError, match=r"'o'.*cannot be deserialised.*cut off"):
        list(harness.store().all())


# -- declarations ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("builder", "expected"),
    [
        (WINDOWS, {"cleanup.policy": "compact,delete", "retention.ms": "86640000"}),
        (SESSIONS, {"cleanup.policy": "compact,delete", "retention.ms": "86640000"}),
        (VERSIONS, {"cleanup.policy": "compact", "min.compaction.lag.ms": "86640000"}),
        (ROWS, {"cleanup.policy": "compact"}),
    ],
)
def test_changelog_configs(builder: StoreBuilder[Any], expected: dict[str, str]) -> None:
    config = StreamsConfig.parse({"application.id": "a", "bootstrap.servers": "x", "topic.segment.bytes": 5})
    assert builder.changelog_config(config) == {
        **expected, "message.timestamp.type": "CreateTime", "segment.bytes": "5"
    }  # fmt: skip


def test_durations_are_checked() -> None:
    with pytest.raises(TopologyError, match="store 'w': the retention, 0:01:00, must not be shorter than the windows"):
        Stores.window("w", serdes.string, serdes.string, retention=MINUTE, window_size=2 * MINUTE)
    with pytest.raises(TopologyError, match="must be a timedelta from 0 on"):
        Stores.session("w", serdes.string, serdes.string, retention=-MINUTE)
    with pytest.raises(TopologyError, match="must be a timedelta from 0 on"):
        Stores.session("w", serdes.string, serdes.string, retention=5)  # type: ignore[arg-type]  # that is the point
