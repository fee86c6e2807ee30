"""What is said about two versions of a program, and that it is so when they run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlet import Materialized, Processor, Record, StreamsBuilder, TimeWindows, Topic, TopologyTestDriver, serdes
from streamlet.errors import TopologyError
from streamlet.state import Stores
from streamlet.topology import Finding, Topology, TopologyShape, Verdict, compatibility
from tests.runtime.conftest import embedded_log
from tests.runtime.harness import LogUnderTest, running

S = serdes.string
LINES = Topic("lines", S, S)
OTHER = Topic("other", S, S)
COUNTS = Topic("counts", S, serdes.int64)

Program = Callable[[StreamsBuilder], Any]


def built(program: Program) -> Topology:
    builder = StreamsBuilder()
    program(builder)
    return builder.build()


def verdicts(old: Program, new: Program, what: str = "store", **more: Any) -> dict[str, Verdict]:
    found = compatibility(built(old), built(new), **more)
    return {finding.name: finding.verdict for finding in found.findings if finding.what == what}


def word(_: str, value: str) -> str:
    return value


def windows(seconds: int, **options: Any) -> Program:
    def program(builder: StreamsBuilder) -> None:
        size = TimeWindows.of_size(timedelta(seconds=seconds), grace=timedelta(0))
        store = Materialized("counts", **options)
        builder.stream(LINES).group_by_key().windowed_by(size).count(store=store)

    return program


def counting(store: Any = "counts", topic: Topic[str, str] = LINES, name: str | None = "by-word") -> Program:
    return lambda builder: builder.stream(topic).group_by(word, key_serde=S, name=name).count(store=store)


def after_a_filter(store: Any = "counts", name: str | None = "by-word") -> Program:
    return lambda builder: (
        builder.stream(LINES).filter(lambda _, __: True).group_by(word, key_serde=S, name=name).count(store=store)
    )


def both(*programs: Program) -> Program:
    return lambda builder: [program(builder) for program in programs]


# --- one by one -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "verdict", "said"),
    [
        (counting(), counting(), Verdict.SAME, ""),
        (counting(), after_a_filter(), Verdict.SAME, ""),
        (counting(), counting("tally"), Verdict.LOST, "no store of this name"),
        (
            counting(),
            counting(Materialized("counts", in_memory=True)),
            Verdict.RESTORED,
            "it is in memory now",
        ),
        (
            counting(),
            counting(Materialized("counts", value_serde=serdes.int32)),
            Verdict.CHANGED,
            "its values were written by serdes.int64, and are read by serdes.int32",
        ),
        (counting(), windows(60), Verdict.CHANGED, "it was a timestamped-key-value store, and is a timestamped-window"),
        (windows(60), windows(90), Verdict.CHANGED, "its windows were 60000 ms long, and are 90000 ms long"),
        (
            windows(60, retention=timedelta(days=1)),
            windows(60, retention=timedelta(days=2)),
            Verdict.ADJUST,
            "Raise retention.ms of the topic <application.id>-counts-changelog",
        ),
        (windows(60, retention=timedelta(days=2)), windows(60, retention=timedelta(days=1)), Verdict.SAME, ""),
        (counting(), counting(Materialized("counts", logging=False)), Verdict.CHANGED, "has no changelog any more"),
        (counting(Materialized("counts", logging=False)), counting(), Verdict.CHANGED, "has a changelog now"),
        (
            counting(),
            lambda b: b.stream(LINES).repartition(name="by-word", partitions=7).group_by_key().count(store="counts"),
            Verdict.ADJUST,
            "the number of its partitions follows from partitions:7, where it followed from lines",
        ),
        (
            lambda b: b.stream(LINES).repartition(name="by-word", partitions=5).group_by_key().count(store="counts"),
            lambda b: b.stream(LINES).repartition(name="by-word", partitions=7).group_by_key().count(store="counts"),
            Verdict.CHANGED,
            "it had 5 partitions, and is to have 7",
        ),
        (
            counting(),
            both(lambda b: b.stream(OTHER).foreach(word), counting()),
            Verdict.RESTORED,
            "its tasks were 1_N, and are 2_N",
        ),
        (
            counting(Materialized("counts", logging=False)),
            both(lambda b: b.stream(OTHER).foreach(word), counting(Materialized("counts", logging=False))),
            Verdict.CHANGED,
            "it has no changelog to be restored from",
        ),
    ],
)
def test_what_becomes_of_a_store(old: Program, new: Program, verdict: Verdict, said: str) -> None:
    found = compatibility(built(old), built(new))
    (finding,) = [each for each in found.findings if each.what == "store" and each.name == "counts"]
    assert finding.verdict is verdict, finding
    assert said in str(finding)
    if verdict is Verdict.SAME:
        assert finding == Finding("store", "counts", Verdict.SAME)
    if not verdict.is_compatible:
        assert not found.is_compatible
        assert finding.fix, "what to do is said"


def test_a_generated_name_that_has_changed_is_recognised() -> None:
    found = compatibility(built(counting(None, name=None)), built(after_a_filter(None, name=None)))
    assert not found.is_compatible
    store, topic = (each for each in found.findings if each.verdict is Verdict.RENAMED)
    assert store.name == "KSTREAM-AGGREGATE-STATE-STORE-0000000002"
    assert "it is called KSTREAM-AGGREGATE-STATE-STORE-0000000003 now" in store.reason
    assert "store='KSTREAM-AGGREGATE-STATE-STORE-0000000002'" in store.fix
    assert topic.name == "KSTREAM-AGGREGATE-STATE-STORE-0000000002-repartition"
    assert "name='KSTREAM-AGGREGATE-STATE-STORE-0000000002'" in topic.fix
    repaired = after_a_filter(store.name, name=store.name)
    assert compatibility(built(counting(None, name=None)), built(repaired)).is_compatible


def test_a_generated_name_that_went_over_to_another_topic_is_recognised() -> None:
    """Two countings change places: the names are all there, but each is that of the other."""
    first, second = counting(None, LINES, None), counting(None, OTHER, None)
    found = verdicts(both(first, second), both(second, first))
    assert set(found.values()) == {Verdict.CHANGED}
    first, second = counting("one", LINES), counting("two", OTHER, "by-other")
    assert set(verdicts(both(first, second), both(second, first)).values()) == {Verdict.RESTORED}


def test_repartition_topics() -> None:
    what = "repartition topic"
    assert verdicts(counting(), after_a_filter(), what) == {"by-word-repartition": Verdict.SAME}
    assert verdicts(counting(), lambda b: b.stream(LINES).group_by_key().count(store="counts"), what) == {
        "by-word-repartition": Verdict.LOST
    }

    def repartitioned(**options: Any) -> Program:
        return lambda b: b.stream(LINES).repartition(name="again", **options).foreach(word)

    assert verdicts(repartitioned(partitions=3), repartitioned(partitions=4), what) == {
        "again-repartition": Verdict.CHANGED
    }
    assert verdicts(repartitioned(), repartitioned(partitions=4), what) == {"again-repartition": Verdict.ADJUST}
    assert verdicts(repartitioned(), repartitioned(value_serde=serdes.json), what) == {
        "again-repartition": Verdict.CHANGED
    }


def test_what_is_intended_can_be_accepted() -> None:
    old, new = built(counting()), built(lambda b: b.stream(LINES).foreach(word))
    assert not compatibility(old, new).is_compatible
    found = compatibility(old, new, accept=["counts", "by-word-repartition"])
    assert found.is_compatible
    assert {f.verdict for f in found.findings if f.what != "sub-topology"} == {Verdict.ACCEPTED}
    with pytest.raises(TopologyError, match="accepted, but not there: tally; there are"):
        compatibility(old, new, accept=["tally"])


def test_what_a_serde_is_called_is_the_same_in_every_process() -> None:
    class Own(serdes.Serde[str]):
        def serialize(self, value: str, /) -> bytes:
            return value.encode()

        def deserialize(self, data: bytes, /) -> str:
            return data.decode()

    class Keep(Processor[str, str, str, str]):
        def process(self, record: Record[str, str]) -> None:
            raise AssertionError("it is not run")

    def program() -> Topology:
        topology = Topology()
        topology.add_source("in", LINES)
        topology.add_processor("keep", Keep, "in")
        return topology.add_state_store(Stores.key_value("kept", S, Own()), "keep")

    (store,) = TopologyShape.of(program()).stores
    assert store.value_serde.endswith("Own")
    assert " at 0x" not in store.value_serde
    assert compatibility(program(), program()).is_compatible


# --- in general -----------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c", "d"])


@st.composite
def programs(draw: st.DrawFn) -> TopologyShape:
    """Countings of several topics, some named, with steps before them and stores of several kinds."""
    builder = StreamsBuilder()
    for name in draw(st.lists(NAMES, unique=True, min_size=1, max_size=4)):
        stream = builder.stream(Topic(f"in-{name}", S, S))
        for _ in range(draw(st.integers(0, 2))):
            stream = stream.filter(lambda _, __: True)
        named = draw(st.booleans())
        options = Materialized(
            name if named else None, in_memory=draw(st.booleans()), logging=draw(st.integers(0, 4)) > 0
        )
        if draw(st.booleans()):
            stream = stream.repartition(
                name=f"{name}-again" if draw(st.booleans()) else None, partitions=draw(st.sampled_from([None, 2, 3]))
            )
        if draw(st.booleans()):
            stream.group_by_key().count(store=options)
        else:
            size = timedelta(seconds=draw(st.integers(1, 2)))
            stream.group_by_key().windowed_by(TimeWindows.of_size(size, grace=timedelta(0))).count(store=options)
    return TopologyShape.of(builder.build())


@given(programs())
def test_a_program_is_compatible_with_itself_and_with_what_was_saved_of_it(shape: TopologyShape) -> None:
    saved = TopologyShape.from_json(shape.to_json())
    assert saved == shape
    found = compatibility(saved, shape)
    assert found.is_compatible
    assert found.same_program
    assert {finding.verdict for finding in found.findings} <= {Verdict.SAME}


@given(programs(), programs())
def test_everything_is_said_once_and_nothing_is_taken_up_that_is_not_the_same(
    old: TopologyShape, new: TopologyShape
) -> None:
    """By a judgement of its own: a store is taken up only by one of its name that reads it alike."""
    found = compatibility(old, new)
    stores = [finding for finding in found.findings if finding.what == "store"]
    assert len({finding.name for finding in stores}) == len(stores)
    there = {store.name: store for store in new.stores}
    for store in old.stores:
        (finding,) = [each for each in stores if each.name == store.name]
        heir = there.get(store.name)
        if heir is None:
            assert finding.verdict in (Verdict.LOST, Verdict.RENAMED)
            assert finding.verdict is Verdict.LOST or store.generated
        elif finding.verdict.is_compatible:
            layout = ("changelog", "key_serde", "value_serde", "window_size_ms", "retain_duplicates", "logging")
            assert [getattr(store, name) for name in layout] == [getattr(heir, name) for name in layout]
            if not store.logging:
                assert attrs.evolve(heir, generated=store.generated) == store, "only the local data is there"
    named = {finding.name for finding in stores}
    # what is new is called so, unless it is what a numbered store has become
    for name in there.keys() - {store.name for store in old.stores}:
        assert name in named or any(f.verdict is Verdict.RENAMED and name in f.reason for f in stores)
    if found.same_program:
        assert attrs.evolve(old, fingerprint="") == attrs.evolve(new, fingerprint="")
    assert (not found.same_program) or found.is_compatible
    gone = {finding.name for finding in found.findings if not finding.verdict.is_compatible}
    assert compatibility(old, new, accept=gone).is_compatible


@given(programs(), programs())
def test_names_given_to_everything_survive_any_other_change(old: TopologyShape, new: TopologyShape) -> None:
    """Renaming happens to generated names only: no store with a name of its own is ever called RENAMED."""
    own = {store.name for store in old.stores if not store.generated}
    assert not [f for f in compatibility(old, new).findings if f.name in own and f.verdict is Verdict.RENAMED]


# --- as it is when they run -----------------------------------------------------------------------------------------


def finished(log: LogUnderTest, program: Program, counts: dict[str, int], records: int) -> None:
    def whole(builder: StreamsBuilder) -> None:
        program(builder).to_stream().to(COUNTS)

    with running(built(whole), log.config()):
        found = log.read("counts", lambda messages: len(messages) >= records)
    assert {m.key().decode(): int.from_bytes(m.value(), "big") for m in found} == counts


def test_state_is_taken_up_as_the_check_says(tmp_path: Path) -> None:
    log = embedded_log(tmp_path)
    log.create("lines")
    log.create("counts")
    first = counting(None, name=None)
    log.write("lines", [("k", "a"), ("k", "a")])
    finished(log, first, {"a": 2}, 2)

    (renamed,) = [name for name, verdict in verdicts(first, after_a_filter(None, name=None)).items()
                  if verdict is Verdict.RENAMED]  # fmt: skip
    repaired = after_a_filter(renamed, name=renamed)
    assert set(verdicts(first, repaired).values()) == {Verdict.SAME}
    log.write("lines", [("k", "a")])
    finished(log, repaired, {"a": 3}, 3)

    moved = both(lambda b: b.stream(OTHER).foreach(word), repaired)
    log.create("other")
    assert set(verdicts(repaired, moved).values()) == {Verdict.RESTORED}
    log.write("lines", [("k", "a")])
    finished(log, lambda builder: moved(builder)[-1], {"a": 4}, 4)

    unnamed = after_a_filter(None, name=None)
    assert Verdict.LOST in verdicts(moved, unnamed).values()
    log.write("lines", [("k", "a")])
    finished(log, unnamed, {"a": 1}, 5)


def test_the_driver_takes_what_the_check_compares() -> None:
    """The programs above are programs: they run."""
    for program in (counting(), after_a_filter(), windows(60)):
        TopologyTestDriver(built(program)).close()
