"""What rocksdict 0.3.29 does that nobody would expect; if it changes, `streamlet/state/rocksdb.py` may change too."""

from __future__ import annotations

import gc
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from rocksdict import Options, Rdict, ReadOptions, WriteBatch

from streamlet.errors import InvalidStateStoreError, StateStoreError
from streamlet.state import StateMemory
from streamlet.state.backend import Changes
from streamlet.state.rocksdb import BATCH, RocksDatabase

KEYS = [b"", b"a", b"a\x00", b"a\xff", b"a\xff\xff", b"b", b"c", b"\xff", b"\xff\xff"]


@pytest.fixture
def raw(tmp_path: Path) -> Any:
    db = Rdict(str(tmp_path / "raw"), Options(raw_mode=True))
    for key in KEYS:
        db[key] = key
    yield db
    db.close()


@pytest.fixture
def memory() -> StateMemory:
    return StateMemory(32 << 20)


@pytest.fixture
def database(tmp_path: Path, memory: StateMemory) -> Any:
    database = RocksDatabase(tmp_path / "db", ["one", "two"], memory.rocksdb)
    yield database
    database.close()


# -- the traps -------------------------------------------------------------------------------------
def test_lower_bound_sets_the_upper_bound(raw: Any) -> None:
    options = ReadOptions()
    options.set_iterate_lower_bound(b"b")
    assert list(raw.keys(read_opt=options)) == [key for key in KEYS if key < b"b"]


def test_upper_bound_holds_in_both_directions(raw: Any) -> None:
    options = ReadOptions()
    options.set_iterate_upper_bound(b"b")
    assert list(raw.keys(from_key=b"a", read_opt=options)) == KEYS[1:5]
    assert list(raw.keys(backwards=True, read_opt=options)) == KEYS[4::-1]


def test_an_empty_upper_bound_is_none(raw: Any) -> None:
    options = ReadOptions()
    options.set_iterate_upper_bound(b"")
    assert list(raw.keys(read_opt=options)) in ([], sorted(KEYS))  # scans do not rely on either


def test_snapshots_iterate_over_live_data(raw: Any) -> None:
    snapshot = raw.snapshot()
    raw[b"new"] = b""
    assert b"new" in list(snapshot.keys())
    del snapshot


def test_plain_iterators_are_isolated(raw: Any) -> None:
    items = raw.items()
    raw[b"new"] = b""
    del raw[b"a"]
    assert [key for key, _ in items] == sorted(KEYS)


def test_a_view_that_outlives_close_goes_on_and_keeps_the_lock(tmp_path: Path) -> None:
    path = str(tmp_path / "locked")
    options = Options(raw_mode=True)
    options.create_missing_column_families(True)
    db = Rdict(path, options, column_families={"one": Options(raw_mode=True)})
    view = db.get_column_family("one")
    view[b"a"] = b"1"
    get = view.get
    del view
    db.close()
    assert get(b"a") == b"1"  # as if nothing had happened
    with pytest.raises(Exception, match="lock hold by current process"):
        Rdict(path, options, column_families={"one": Options(raw_mode=True)})
    del get
    gc.collect()
    Rdict(path, options, column_families={"one": Options(raw_mode=True)}).close()


def test_naming_only_some_families_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "families")
    options = Options(raw_mode=True)
    options.create_missing_column_families(True)
    Rdict(path, options, column_families={name: Options(raw_mode=True) for name in ("one", "two")}).close()
    with pytest.raises(Exception, match="not opened"):
        Rdict(path, Options(raw_mode=True), column_families={"one": Options(raw_mode=True)})
    assert sorted(Rdict.list_cf(path)) == ["default", "one", "two"]


def test_a_batch_spans_families_and_applies_in_order(tmp_path: Path) -> None:
    options = Options(raw_mode=True)
    options.create_missing_column_families(True)
    db = Rdict(str(tmp_path / "batch"), options, column_families={"one": Options(raw_mode=True)})
    handle = db.get_column_family_handle("one")
    batch = WriteBatch(raw_mode=True)
    batch.put(b"a", b"0", handle)
    batch.delete_range(b"a", b"b", handle)
    batch.put(b"aa", b"1", handle)
    batch.put(b"m", b"2")
    db.write(batch)
    view = db.get_column_family("one")
    assert list(view.items()) == [(b"aa", b"1")]
    assert db[b"m"] == b"2"
    del view, handle, batch
    db.close()


# -- what is built on them -------------------------------------------------------------------------
def fill(database: RocksDatabase) -> None:
    database.write([Changes("one", [(key, key) for key in KEYS]), Changes("two", [(b"x", b"y")])], {b"m": b"1"})


def test_scans(database: RocksDatabase) -> None:
    fill(database)
    one = database.family("one")
    bounds = [None, *KEYS, b"bb", b"\xff\xff\xff"]
    for lower in bounds:
        for upper in bounds:
            expected = [
                (key, key) for key in sorted(KEYS) if (lower is None or key >= lower) and (upper is None or key < upper)
            ]
            assert list(one.scan(lower, upper)) == expected
            assert list(one.scan(lower, upper, reverse=True)) == expected[::-1]


def test_the_bound_of_a_scan_lives_as_long_as_the_scan(database: RocksDatabase) -> None:
    """Without it, RocksDB compares with freed memory from the second entry on."""
    fill(database)
    one = database.family("one")
    scans = [one.scan(b"a", b"b") for _ in range(50)]
    assert all(next(scan) == (b"a", b"a") for scan in scans)
    for _ in range(500):
        one.scan(b"\x00", b"\x00\x00\x00").close()
    assert [list(scan) for scan in scans] == [[(key, key) for key in KEYS[2:5]]] * 50


def test_everything_is_let_go_at_close(database: RocksDatabase, tmp_path: Path, memory: StateMemory) -> None:
    fill(database)
    one = database.family("one")
    scan, other = one.scan(None, None), one.scan(None, b"b", reverse=True)
    next(scan)
    database.close()
    database.close()
    for call in (
        lambda: one.get(b"a"), lambda: one.scan(None, None), lambda: next(scan), lambda: next(other),
        lambda: one.approximate_count(),
    ):  # fmt: skip
        with pytest.raises(InvalidStateStoreError, match="'one' is closed"):
            call()
    with pytest.raises(InvalidStateStoreError, match="is closed"):
        database.metadata(b"m")
    again = RocksDatabase(tmp_path / "db", ["one"], memory.rocksdb)
    assert again.family("one").get(b"a") == b"a"
    assert again.metadata(b"m") == b"1"
    again.close()


def test_a_database_in_use_says_so(database: RocksDatabase, tmp_path: Path, memory: StateMemory) -> None:
    with pytest.raises(StateStoreError, match=r"could not be opened.*If another process uses it"):
        RocksDatabase(tmp_path / "db", ["one"], memory.rocksdb)


def test_clearing_a_family(database: RocksDatabase) -> None:
    fill(database)
    one = database.family("one")
    scan = one.scan(None, None)
    database.clear("one")
    with pytest.raises(InvalidStateStoreError):
        next(scan)
    assert list(one.scan(None, None)) == []
    assert one.get(b"a") is None
    database.write([Changes("one", [(b"n", b"1")])], {})
    assert one.get(b"n") == b"1"
    assert database.family("two").get(b"x") == b"y"


def test_families_not_named_are_kept(database: RocksDatabase, tmp_path: Path, memory: StateMemory) -> None:
    fill(database)
    database.close()
    RocksDatabase(tmp_path / "db", ["three"], memory.rocksdb).close()
    again = RocksDatabase(tmp_path / "db", ["two"], memory.rocksdb)
    assert again.family("two").get(b"x") == b"y"
    again.close()


@pytest.mark.parametrize("count", [0, 1, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH])
def test_large_commits_go_in_batches_with_the_metadata_last(
    database: RocksDatabase, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    batches: list[int] = []

    class Spy:
        def __init__(self, db: Any) -> None:
            self.db = db

        def write(self, batch: Any) -> None:
            batches.append(len(batch))
            assert (b"position" in metadata_seen()) is False
            self.db.write(batch)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.db, name)

    def metadata_seen() -> set[bytes]:
        return {b"position"} if database.metadata(b"position") else set()

    monkeypatch.setattr(database, "_db", Spy(database._db))
    half = count // 2
    entries = [(b"%06d" % number, b"v") for number in range(count)]
    database.write([Changes("one", entries[:half]), Changes("two", entries[half:])], {b"position": b"1"})
    assert sum(batches) == count + 1
    assert max(batches) <= BATCH + 1
    assert database.metadata(b"position") == b"1"
    assert [*database.family("one").scan(None, None), *database.family("two").scan(None, None)] == entries
    monkeypatch.undo()


def test_ranges_are_dropped_after_entries_were_written(database: RocksDatabase) -> None:
    fill(database)
    database.write([Changes("one", [(b"a", b"new"), (b"d", b"new")], dropped=[(b"", b"b")])], {})
    assert [key for key, _ in database.family("one").scan(None, None)] == [b"b", b"c", b"d", b"\xff", b"\xff\xff"]


def test_reads_from_another_thread_while_it_is_written(database: RocksDatabase) -> None:
    fill(database)
    one, failures = database.family("one"), []

    def read() -> None:
        try:
            for _ in range(300):
                assert one.get(b"a") is not None
                assert len([key for key, _ in one.scan(b"a", b"b")]) == 4
        except BaseException as error:
            failures.append(error)

    thread = Thread(target=read)
    thread.start()
    for number in range(300):
        database.write([Changes("one", [(b"a", b"%d" % number), (b"z%d" % number, b"")])], {})
    thread.join()
    assert not failures


def test_memory_is_bounded_over_all_databases(tmp_path: Path) -> None:
    """Six databases take in thirty times the budget; blocks and write buffers stay within it."""
    memory = StateMemory(8 << 20)
    shared = memory.rocksdb
    databases = [RocksDatabase(tmp_path / f"db{number}", ["s"], shared) for number in range(6)]
    highest, value = 0, bytes(1000)
    for round_ in range(8):
        for database in databases:
            database.write([Changes("s", [(b"%d-%06d" % (round_, n), value) for n in range(BATCH)])], {})
            sum(1 for _ in database.family("s").scan(None, None))
            highest = max(highest, shared.used_bytes)
    for database in databases:
        database.close()
    assert 1 << 20 < highest < 10 << 20  # a write buffer is flushed when it is full, so a little above
