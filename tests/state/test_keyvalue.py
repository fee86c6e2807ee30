"""Key-value stores, over both backends."""

from __future__ import annotations

from threading import Event, Thread
from typing import Any

import pytest

from streamlet import serdes
from streamlet.errors import InvalidStateStoreError, SerializationError, StateStoreError
from streamlet.serdes import Serde
from streamlet.state import ChangelogRecord, Position, Stores, ValueAndTimestamp
from tests.state.support import Opener, mutable, position

COUNTS = Stores.timestamped_key_value("counts", serdes.string, serdes.int64)


@pytest.fixture(params=[serdes.string, mutable, serdes.bytes_], ids=["objects", "as bytes", "bytes"])
def text(request: pytest.FixtureRequest) -> Any:
    """A store of texts, kept in each of the ways."""
    return Stores.key_value("texts", serdes.string, request.param)


def value(store: Any, text: str) -> Any:
    return text.encode() if store.value_serde is serdes.bytes_ else text


def test_put_get_and_delete(open_state: Opener, text: Any) -> None:
    harness = open_state(text)
    store = harness.store()
    a, b = value(text, "1"), value(text, "2")
    assert store.get("a") is None
    store.put("a", a)
    assert store.get("a") == a
    assert store.put_if_absent("a", b) == a
    assert store.put_if_absent("b", b) is None
    store.put_all([("c", a), ("d", b), ("a", None)])
    assert [key for key, _ in store.all()] == ["b", "c", "d"]
    harness.commit()
    assert store.delete("c") == a
    assert store.delete("c") is None
    store.put("d", None)
    assert list(store.all()) == [("b", b)]
    harness.commit()
    assert store.get("d") is None
    assert list(store.all()) == [("b", b)]


def test_scans_merge_what_is_committed_with_what_is_not(open_state: Opener, text: Any) -> None:
    harness = open_state(text)
    store = harness.store()
    one, two = value(text, "1"), value(text, "2")
    store.put_all([(key, one) for key in ("b", "d", "f", "h")])
    harness.commit()
    store.put_all([("a", two), ("d", two), ("e", two), ("f", None), ("z", two)])
    everything = [("a", two), ("b", one), ("d", two), ("e", two), ("h", one), ("z", two)]
    assert list(store.all()) == everything
    assert list(store.reverse_all()) == everything[::-1]
    assert list(store.range("b", "e")) == everything[1:4]
    assert list(store.reverse_range("b", "e")) == everything[3:0:-1]
    assert list(store.range(None, "d")) == everything[:3]
    assert list(store.range("e", None)) == everything[3:]
    assert list(store.range("x", "b")) == []
    assert list(store.reverse_range("x", "b")) == []
    harness.commit()
    assert list(store.all()) == everything
    assert list(store.reverse_all()) == everything[::-1]


def test_prefix_scan(open_state: Opener) -> None:
    harness = open_state(Stores.key_value("s", serdes.bytes_, serdes.int64))
    store = harness.store()
    keys = [b"", b"a", b"a\x00", b"a\xff", b"a\xff\xff", b"b", b"\xff", b"\xff\xff", b"\xff\xff\x01"]
    for number, key in enumerate(keys):
        store.put(key, number)
        if number == 4:
            harness.commit()
    for prefix in (b"", b"a", b"a\xff", b"\xff", b"\xff\xff", b"c"):
        expected = sorted(key for key in keys if key.startswith(prefix))
        assert [key for key, _ in store.prefix_scan(prefix)] == expected
    assert [key for key, _ in store.prefix_scan("a", serdes.string)] == [b"a", b"a\x00", b"a\xff", b"a\xff\xff"]
    assert [key for key, _ in harness.state.read_only("s").prefix_scan("a", serdes.string)] == keys[1:5]


def test_order_is_that_of_the_bytes(open_state: Opener) -> None:
    store = open_state(Stores.key_value("s", serdes.int64, serdes.int64)).store()
    for number in (-1, 3, 256, 0):
        store.put(number, number)
    assert [key for key, _ in store.all()] == [0, 3, 256, -1]


def test_null_keys_are_refused(open_state: Opener, text: Any) -> None:
    store = open_state(text).store()
    for call in (
        lambda: store.get(None),
        lambda: store.put(None, value(text, "1")),
        lambda: store.put_if_absent(None, value(text, "1")),
        lambda: store.put_all([(None, value(text, "1"))]),
        lambda: store.delete(None),
        lambda: store.prefix_scan(None),
        lambda: store.fast_get(None),
    ):
        with pytest.raises(StateStoreError, match="'texts': a key must not be None"):
            call()


def test_what_cannot_be_serialised_names_the_store(open_state: Opener) -> None:
    harness = open_state(
        Stores.key_value("objects", serdes.string, serdes.int64), Stores.key_value("bytes", serdes.string, serdes.json)
    )
    objects, as_bytes = harness.store("objects"), harness.store("bytes")
    with pytest.raises(SerializationError, match="'objects': the key 5"):
        objects.get(5)
    with pytest.raises(SerializationError, match="'bytes': the key 5"):
        as_bytes.put(5, 1)
    with pytest.raises(SerializationError, match="'bytes': the value of key b'k'"):
        as_bytes.put("k", float("nan"))
    assert as_bytes.get("k") is None
    objects.put("k", "no number")
    with pytest.raises(SerializationError, match="'objects': the value of key b'k'"):
        list(harness.state.changes())
    harness.state.rollback()
    harness.state.careful = True
    with pytest.raises(SerializationError, match="'objects': the value of key b'k'"):
        objects.put("k", "no number")
    objects.put("k", 1)
    harness.state.careful = False
    objects.put("l", "no number")
    objects.put("l", 2)  # found at the commit only, and replaced before
    assert harness.commit()["objects"] == [
        ChangelogRecord(b"k", serdes.int64.serialize(1), 0), ChangelogRecord(b"l", serdes.int64.serialize(2), 0)
    ]  # fmt: skip


def test_bytes_that_are_no_value_name_the_store(open_state: Opener) -> None:
    harness = open_state(COUNTS, Stores.key_value("json", serdes.string, serdes.json))
    harness.state.restore("counts", [ChangelogRecord(b"a", b"123", 5)], position(1))
    harness.state.restore("json", [ChangelogRecord(b"a", b"{", 5)], position(1))
    for name in ("counts", "json"):
        with pytest.raises(SerializationError, match=f"'{name}'.*cannot be deserialised"):
            harness.store(name).get("a")
        with pytest.raises(SerializationError, match=f"'{name}'.*cannot be deserialised"):
            harness.state.read_only(name).get("a")


def test_values_changed_in_place_do_not_change_the_store(open_state: Opener) -> None:
    harness = open_state(Stores.key_value("s", serdes.string, serdes.json))
    store = harness.store()
    document = {"n": [1]}
    store.put("a", document)
    document["n"].append(2)
    assert store.get("a") == {"n": [1]}
    store.get("a")["n"].append(3)
    next(store.all())[1]["n"].append(3)
    harness.commit()
    store.get("a")["n"].append(3)
    assert store.get("a") == {"n": [1]}


@pytest.mark.parametrize("committed", [False, True])
def test_broken_promise_of_immutable_values_is_found(open_state: Opener, committed: bool) -> None:
    harness = open_state(Stores.key_value("s", serdes.string, serdes.json, immutable_values=True))
    harness.state.watch_values()
    store = harness.store()
    store.put("a", {"n": 1})
    if committed:
        harness.commit()
        harness.state.verify_values()
    store.get("a")["n"] = 2
    with pytest.raises(StateStoreError, match="'s': the value of key b'a' was changed in place"):
        harness.state.verify_values()


def test_watching_costs_the_same_however_large_the_store_is(open_state: Opener) -> None:
    calls: list[int] = []

    def encode(value: Any) -> bytes:
        calls.append(1)
        return serdes.json.serialize(value)

    serde = serdes.FunctionSerde("counted", encode, serdes.json.deserialize)
    harness = open_state(Stores.key_value("s", serdes.int64, serde, immutable_values=True))
    harness.state.watch_values()
    store = harness.store()
    for key in range(3_000):
        store.put(key, [key])
    harness.state.verify_values()
    calls.clear()
    harness.state.verify_values()
    assert len(calls) <= 256
    early = store.get(7)
    harness.state.verify_values()
    early.append(8)
    with pytest.raises(StateStoreError, match="changed in place"):
        harness.state.verify_values()


def test_an_object_changed_in_place_and_put_back_is_found(open_state: Opener) -> None:
    harness = open_state(Stores.key_value("s", serdes.string, serdes.json, immutable_values=True))
    harness.state.watch_values()
    harness.store().put("a", {"n": 1})
    harness.commit()
    value = harness.store().get("a")
    value["n"] = 2
    harness.store().put("a", value)
    with pytest.raises(StateStoreError, match="changed in place"):
        harness.state.verify_values()


def test_promise_of_immutable_values_is_checked_after_reading_from_the_backend(open_state: Opener) -> None:
    harness = open_state(Stores.key_value("s", serdes.string, serdes.json, immutable_values=True))
    harness.state.restore("s", [ChangelogRecord(b"a", b'{"n":1}', 1)], position(1))
    harness.state.watch_values()
    store = harness.store()
    assert store.get("a") == {"n": 1}
    harness.state.verify_values()
    store.get("a")["n"] = 2
    with pytest.raises(StateStoreError, match="changed in place"):
        harness.state.verify_values()


@pytest.mark.parametrize("value_serde", [serdes.int64, serdes.json], ids=["objects", "as bytes"])
def test_timestamped_values(open_state: Opener, value_serde: Serde[Any]) -> None:
    harness = open_state(Stores.timestamped_key_value("s", serdes.string, value_serde))
    store = harness.store()
    store.put("a", ValueAndTimestamp(1, 10))
    store.fast_put("b", 2, 20)
    for _ in range(2):
        assert store.get("a") == ValueAndTimestamp(1, 10)
        assert store.get("b").timestamp == 20
        assert store.fast_get("b") == (2, 20)
        assert store.fast_get("c") is None
        assert [(key, v.value, v.timestamp) for key, v in store.all()] == [("a", 1, 10), ("b", 2, 20)]
        harness.commit()
    assert list(harness.state.read_only("s").all()) == [("a", ValueAndTimestamp(1, 10)), ("b", (2, 20))]
    harness.crash()
    assert harness.store().get("a") == ValueAndTimestamp(1, 10)
    assert type(harness.store().get("a")) is ValueAndTimestamp
    harness.now = 33
    assert harness.store().delete("a") == (1, 10)
    harness.store().put("b", None)
    assert harness.commit() == {"s": [ChangelogRecord(b"a", None, 33), ChangelogRecord(b"b", None, 33)]}


def test_each_changed_key_is_logged_once_with_its_last_value(open_state: Opener) -> None:
    unlogged = Stores.key_value("unlogged", serdes.string, serdes.int64, logging=False)
    harness = open_state(COUNTS, Stores.key_value("plain", serdes.string, serdes.json), unlogged)
    counts, plain = harness.store("counts"), harness.store("plain")
    harness.store("unlogged").put("x", 1)
    for count in range(1, 4):
        harness.now = count * 100
        counts.put("a", ValueAndTimestamp(count, count))
        plain.put("p", count)
        plain.put("q", count)
    plain.delete("p")
    assert harness.state.dirty
    assert harness.commit() == {
        "counts": [ChangelogRecord(b"a", serdes.int64.serialize(3), 3)],
        "plain": [ChangelogRecord(b"p", None, 300), ChangelogRecord(b"q", b"3", 300)],
    }
    assert not harness.state.dirty
    assert harness.commit() == {}
    assert harness.store("unlogged").get("x") == 1


def test_a_value_is_serialised_once_per_commit(open_state: Opener) -> None:
    calls: list[int] = []

    def encode(number: int) -> bytes:
        calls.append(number)
        return serdes.int64.serialize(number)

    serde = serdes.FunctionSerde("counted", encode, serdes.int64.deserialize, immutable=True)
    harness = open_state(Stores.timestamped_key_value("s", serdes.string, serde))
    for count in range(100):
        harness.store().fast_put("a", count, 1)
    harness.commit()
    assert calls == [99]


def test_what_is_put_between_changes_and_commit_stays_dirty(open_state: Opener) -> None:
    harness = open_state(COUNTS)
    store, state = harness.store(), harness.state
    store.fast_put("a", 1, 1)
    store.fast_put("b", 1, 1)
    list(state.changes())
    store.fast_put("a", 2, 2)
    store.fast_put("c", 2, 2)
    state.commit({"counts": position(2)})
    assert state.dirty
    assert dict(state.read_only("counts").all()) == {"a": (1, 1), "b": (1, 1)}
    assert dict(store.all()) == {"a": (2, 2), "b": (1, 1), "c": (2, 2)}
    state.rollback()
    assert dict(store.all()) == {"a": (1, 1), "b": (1, 1)}
    assert store.get("a") == (1, 1)
    store.fast_put("a", 3, 3)
    assert [record.key for record in dict(state.changes())["counts"]] == [b"a"]


def test_rollback_shows_committed_state(open_state: Opener, text: Any) -> None:
    harness = open_state(text)
    store = harness.store()
    one, two = value(text, "1"), value(text, "2")
    store.put("a", one)
    store.put("b", one)
    harness.commit()
    store.put("a", two)
    store.delete("b")
    store.put("c", two)
    list(harness.state.changes())
    harness.state.rollback()
    assert not harness.state.dirty
    assert harness.state.buffered_bytes == 0
    assert (store.get("a"), store.get("b"), store.get("c")) == (one, one, None)
    assert list(store.all()) == [("a", one), ("b", one)]
    assert harness.commit() == {}


def test_position_travels_with_the_data(open_state: Opener) -> None:
    harness = open_state(COUNTS)
    state = harness.state
    assert state.position("counts") is None
    there = Position(7, leader_epoch=None, topic_id="x", committed_at=123)
    state.commit({"counts": there})
    assert state.position("counts") == there
    state.restore("counts", [ChangelogRecord(b"a", serdes.int64.serialize(5), 50)], position(8))
    assert state.position("counts") == position(8)
    assert harness.store().get("a") == (5, 50)
    state.restore("counts", [ChangelogRecord(b"a", None, 60)], position(9))
    assert harness.store().get("a") is None
    state.wipe("counts")
    assert state.position("counts") is None
    assert list(harness.store().all()) == []


def test_restore_needs_a_clean_store(open_state: Opener) -> None:
    harness = open_state(COUNTS)
    harness.store().fast_put("a", 1, 1)
    with pytest.raises(StateStoreError, match="'counts' has uncommitted changes"):
        harness.state.restore("counts", [], position(1))


def test_wipe_leaves_the_other_stores_alone(open_state: Opener) -> None:
    harness = open_state(COUNTS, Stores.key_value("other", serdes.string, serdes.int64))
    for name in ("counts", "other"):
        harness.store(name).fast_put("a", 1, 1)
    harness.commit()
    with harness.store("counts").all() as iterator:
        harness.state.wipe("counts")
        iterator.close()
    assert harness.store("counts").get("a") is None
    assert harness.store("other").get("a") == 1
    harness.store("counts").fast_put("b", 1, 1)
    harness.commit()
    assert dict(harness.store("counts").all()) == {"b": (1, 1)}


def test_iterators_go_on_while_the_store_is_written(open_state: Opener) -> None:
    harness = open_state(COUNTS)
    store = harness.store()
    for number in range(300):
        store.fast_put(f"{number:03}", number, 1)
        if number == 150:
            harness.commit()
    seen = []
    for key, (number, _) in store.all():
        seen.append(number)
        store.fast_put(f"{number + 1000}", number, 1)
        store.fast_put(key, None, 2)
        if number % 50 == 0:
            harness.commit()
    assert seen == list(range(300))
    assert [number for _, (number, _) in store.all()] == list(range(300))


def test_a_closed_iterator_shows_nothing_more(open_state: Opener) -> None:
    harness = open_state(COUNTS)
    store = harness.store()
    for key in "abc":
        store.fast_put(key, 1, 1)
    harness.commit()
    with store.all() as iterator:
        assert next(iterator)[0] == "a"
    assert next(iterator, None) is None
    iterator.close()
    view = harness.state.read_only("counts").all()
    next(view)
    view.close()
    assert list(view) == []


def test_approximate_num_entries(open_state: Opener) -> None:
    harness = open_state(COUNTS)
    store = harness.store()
    for key in "abc":
        store.fast_put(key, 1, 1)
    assert store.approximate_num_entries() == 3
    harness.commit()
    store.delete("a")
    assert store.approximate_num_entries() == 2
    assert harness.state.read_only("counts").approximate_num_entries() == 3


def test_queries_see_committed_state_from_another_thread(open_state: Opener) -> None:
    harness = open_state(COUNTS)
    store = harness.store()
    for number in range(200):
        store.fast_put(f"{number:03}", 1, 1)
    harness.commit()
    view = harness.state.read_only("counts")
    store.fast_put("000", 2, 2)
    store.fast_put("new", 2, 2)
    results: list[Any] = []

    def query() -> None:
        iterator = view.all()
        results.append(next(iterator))
        results.append(view.get("000"))
        harness.commit()  # as the stream thread would, in the midst of the query
        results.append({value for _, value in iterator})
        results.append(sum(1 for _ in view.range("100", "149")))
        results.append([key for key, _ in view.reverse_range(None, "001")])

    thread = Thread(target=query)
    thread.start()
    thread.join()
    assert results == [("000", (1, 1)), (1, 1), {(1, 1)}, 50, ["001", "000"]]
    assert view.get("000") == (2, 2)


def test_a_query_sees_one_commit_while_others_follow(open_state: Opener) -> None:
    """Every commit sets all keys to one number; an iterator in another thread never shows two."""
    harness = open_state(COUNTS)
    store, keys = harness.store(), [f"{number:03}" for number in range(300)]
    view, mixed, scans, done = harness.state.read_only("counts"), [], [], Event()

    def query() -> None:
        try:
            while not done.is_set():
                for iterate in (view.all, view.reverse_all):
                    seen = {pair.value for _, pair in iterate()}
                    scans.append(seen)
                    if len(seen) > 1:
                        mixed.append(seen)
        except BaseException as error:
            mixed.append(error)

    thread = Thread(target=query)
    thread.start()
    for number in range(200):
        for key in keys:
            store.fast_put(key, number, 1)
        harness.commit()
    done.set()
    thread.join()
    assert not mixed
    assert len(scans) > 2


def test_everything_fails_clearly_after_close(open_state: Opener) -> None:
    harness = open_state(COUNTS)
    store = harness.store()
    store.fast_put("a", 1, 1)
    store.fast_put("b", 1, 1)
    harness.commit()
    view = harness.state.read_only("counts")
    iterator = view.all()
    next(iterator)
    harness.close()
    for call in (
        lambda: view.get("a"), lambda: view.all(), lambda: view.approximate_num_entries(),
        lambda: store.get("a"), lambda: store.all(),
        lambda: harness.state.store("counts"), lambda: harness.state.read_only("counts"),
    ):  # fmt: skip
        with pytest.raises(InvalidStateStoreError, match="'counts' is closed"):
            call()
    if harness.directory is not None:
        with pytest.raises(InvalidStateStoreError, match="'counts' is closed"):
            next(iterator)
    harness.close()


def test_unknown_store(open_state: Opener) -> None:
    with pytest.raises(InvalidStateStoreError, match="no store 'count'; its stores are: counts"):
        open_state(COUNTS).state.store("count")


def test_buffered_bytes_follow_the_changes(open_state: Opener) -> None:
    harness = open_state(
        Stores.key_value("o", serdes.int64, serdes.string), Stores.key_value("b", serdes.int64, mutable)
    )
    for name in ("o", "b"):
        store = harness.store(name)
        for number in range(2000):
            store.put(number, "x" * 10 if number % 2 else "x" * 3990)
            if number % 100 == 0:
                store.put(1, "x" * 10)
        size = harness.state.buffered_bytes
        assert 3_000_000 < size < 20_000_000, name
        for number in range(2000):
            store.put(number, "y")
        for _ in range(200):  # earlier samples are taken again in turn
            size = harness.state.buffered_bytes
        assert 2000 < size < 1_200_000, name
        harness.commit()
        assert harness.state.buffered_bytes == 0
