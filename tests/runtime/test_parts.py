"""The parts of the runtime that need no log: plans, partition counts, pace, remedies."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError
from hypothesis import given
from hypothesis import strategies as st

from streamlet import Processor, Record, StreamsBuilder, StreamsConfig, Topic, serdes
from streamlet.errors import InvalidTopicError, MissingSourceTopicError, StreamsError, TopologyError
from streamlet.records import TaskId
from streamlet.runtime.assignment import GroupAssignment, minimal_moves, tasks_of
from streamlet.runtime.failures import Remedy, remedy_for
from streamlet.runtime.lifecycle import Lifecycle, State
from streamlet.runtime.pace import CommitClock, Slice
from streamlet.runtime.partitions import lay_out
from streamlet.runtime.plan import PLAN_KEY, TaskPlan, extended, fold

CONFIG = StreamsConfig.parse({"application.id": "app", "bootstrap.servers": "embedded:"})
A, B = Topic("a", serdes.string, serdes.string), Topic("b", serdes.string, serdes.string)

tasks = st.lists(st.builds(TaskId, st.integers(0, 3), st.integers(0, 5)), unique=True, max_size=12)


# --- the plan -----------------------------------------------------------------------------------


@given(st.lists(st.tuples(tasks, st.integers(0, 3)), max_size=12))
def test_members_that_write_at_once_agree_on_one_plan(proposals: list[tuple[list[TaskId], int]]) -> None:
    """Each writer bases its proposal on a plan that may be `lag` records old; only those in time are accepted."""
    log: list[tuple[int, bytes | None, bytes | None]] = []
    for wanted, lag in proposals:
        seen = fold(log[: max(0, len(log) - lag)])
        proposal = TaskPlan("f", tuple(wanted)) if seen is None else extended(seen, wanted)
        before = fold(log)
        log.append((len(log), PLAN_KEY + str(len(log)).encode(), proposal.encode()))
        after = fold(log)
        assert after is not None
        if before is not None:
            assert after.tasks[: len(before.tasks)] == before.tasks, "a task never changes its partition"
            if before != seen:
                assert after == before, "a proposal that was too late counts for nothing"
        assert len(set(after.tasks)) == len(after.tasks)


@given(tasks, tasks)
def test_extending_keeps_partitions(first: list[TaskId], second: list[TaskId]) -> None:
    plan = extended(TaskPlan("f", tuple(first)), second)
    assert plan.tasks[: len(first)] == tuple(first)
    assert set(plan.tasks) == set(first) | set(second)
    owned, unknown = tasks_of(plan, range(len(plan.tasks) + 2))
    assert tuple(owned.values()) == plan.tasks
    assert unknown == [len(plan.tasks), len(plan.tasks) + 1]


def test_a_plan_of_a_later_version_is_refused() -> None:
    with pytest.raises(StreamsError, match=r"format 2.*upgrade"):
        fold([(0, PLAN_KEY + b"x", b'{"format": 2}')])


# --- partitions ---------------------------------------------------------------------------------


def grouped(partitions: int | None = None) -> StreamsBuilder:
    builder = StreamsBuilder()
    stream = builder.stream([A, B])
    if partitions is not None:
        stream = stream.repartition(partitions=partitions, name="by")
    stream.group_by(lambda _, v: v, key_serde=serdes.string, value_serde=serdes.string).count(store="c")
    return builder


def test_a_repartition_topic_is_as_large_as_the_largest_topic_that_feeds_it() -> None:
    layout = lay_out(grouped().build().sub_topologies, "app", {"a": 2, "b": 5})
    assert layout.repartition == {"app-c-repartition": 5}
    assert {topic: count for topic, (_, count) in layout.changelogs.items()} == {"app-c-changelog": 5}
    assert layout.tasks == tuple(TaskId(part, p) for part in (0, 1) for p in range(5))
    assert layout.partitions_of(TaskId(0, 1)) == (("a", 1), ("b", 1))
    assert layout.partitions_of(TaskId(0, 4)) == (("b", 4),)


def test_a_number_that_was_given_wins_and_flows_on() -> None:
    layout = lay_out(grouped(7).build().sub_topologies, "app", {"a": 2, "b": 5})
    assert set(layout.repartition.values()) == {7}


def test_an_existing_repartition_topic_keeps_its_size() -> None:
    layout = lay_out(grouped().build().sub_topologies, "app", {"a": 2, "b": 9, "app-c-repartition": 5})
    assert layout.repartition == {"app-c-repartition": 5}


def test_every_missing_topic_is_named_with_its_reader() -> None:
    with pytest.raises(MissingSourceTopicError, match=r"'a' \(read by KSTREAM-SOURCE-0000000000\), 'b' \(read by"):
        lay_out(grouped().build().sub_topologies, "app", {})


def test_a_changelog_of_another_size_is_refused() -> None:
    with pytest.raises(InvalidTopicError, match="app-c-changelog has 3 partitions, but the topology needs 5"):
        lay_out(grouped().build().sub_topologies, "app", {"a": 2, "b": 5, "app-c-changelog": 3})


class _Nothing(Processor[str, str]):
    def process(self, record: Record[str, str]) -> None: ...


def test_copartitioned_topics_of_different_size_are_refused() -> None:
    builder = StreamsBuilder()
    builder.stream(A).foreach(lambda *_: None)
    topology = builder.build()
    topology.add_source("other", B).copartition(["KSTREAM-SOURCE-0000000000", "other"])
    topology.add_processor("both", _Nothing, "KSTREAM-SOURCE-0000000000", "other")
    with pytest.raises(TopologyError, match=r"equal numbers of partitions, but a has 2, b has 3"):
        lay_out(topology.sub_topologies, "app", {"a": 2, "b": 3})
    assert len(lay_out(topology.sub_topologies, "app", {"a": 3, "b": 3}).tasks) == 3


# --- the group ----------------------------------------------------------------------------------


def test_callbacks_never_raise() -> None:
    class Consumer:
        def __getattr__(self, name: str) -> object:
            raise RuntimeError(name)

    def fail(_: object) -> None:
        raise ValueError("in the callback")

    assignment = GroupAssignment("app-tasks", start=lambda _: None, release=fail, lose=fail)
    from confluent_kafka import TopicPartition

    for callback in (assignment.on_assign, assignment.on_revoke, assignment.on_lost):
        callback(Consumer(), [TopicPartition("app-tasks", 0)])
        with pytest.raises((RuntimeError, ValueError)):
            assignment.raise_recorded()
    assignment.raise_recorded()
    assert assignment.changes == 3


def test_minimal_moves() -> None:
    t = [TaskId(0, n) for n in range(6)]
    assert minimal_moves({"x": t}, {"x": t[:3], "y": t[3:]}) == (3, 3)
    assert minimal_moves({"x": t}, {"x": t[:2], "y": t[2:]}) == (4, 3)
    assert minimal_moves({"x": t[:3], "y": t[3:]}, {"x": t}) == (3, 3)
    assert minimal_moves({"x": t[:3], "y": t[3:]}, {"x": t[3:], "y": t[:3]}) == (6, 0)


# --- pace ---------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 5)), max_size=20))
def test_commits_of_drained_input_take_a_fifth_of_the_time_at_most(idle: list[tuple[float, float]]) -> None:
    clock = CommitClock(CONFIG, 0.0)
    now = busy = 0.0
    for pause, took in idle:
        now += pause + max(clock.until_drained(now + pause), 0.0) + 1e-9  # beyond what floats round off
        assert clock.is_due(now, drained=True)
        clock.committed(now, now + took)
        now, busy = now + took, busy + took
        if took > 1e-6:
            assert not clock.is_due(now + took, drained=True)
    last = idle[-1][1] if idle else 0.0
    assert busy - last <= max(now - last, 0.0) / 5 + 1e-6


def test_the_interval_counts_when_input_never_ends() -> None:
    clock = CommitClock(CONFIG, 0.0)
    assert not clock.is_due(29.9, drained=False)
    assert clock.is_due(30.0, drained=False)
    clock.postpone(40.0)
    assert not clock.is_due(39.0, drained=True)
    assert clock.is_due(40.0, drained=True)


def test_slices_grow_while_quick_and_shrink_to_one_record_when_slow() -> None:
    pace = Slice(CONFIG)
    for _ in range(20):
        pace.took(pace.limit, 0.001)
    assert pace.limit == 4_000
    pace.took(pace.limit, 40.0)
    assert 1 <= pace.limit <= 50
    for _ in range(10):
        pace.took(pace.limit, pace.limit * 10.0)
    assert pace.limit == 1


# --- remedies -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (KafkaError(KafkaError._FENCED, fatal=True), Remedy.RENEW),
        (KafkaError(KafkaError.INVALID_PRODUCER_EPOCH), Remedy.RENEW),
        (KafkaError(KafkaError.ILLEGAL_GENERATION, txn_requires_abort=True), Remedy.ABORT),
        (KafkaError(KafkaError.UNKNOWN_MEMBER_ID, txn_requires_abort=True), Remedy.ABORT),
        (KafkaError(KafkaError.REBALANCE_IN_PROGRESS), Remedy.LATER),
        (KafkaError(KafkaError.MSG_SIZE_TOO_LARGE, txn_requires_abort=True), Remedy.CAREFUL),
        (KafkaError(KafkaError._TIMED_OUT, retriable=True), Remedy.REPEAT),
        (KafkaError(KafkaError.COORDINATOR_NOT_AVAILABLE), Remedy.REPEAT),
        (KafkaError(KafkaError.UNKNOWN_PRODUCER_ID, txn_requires_abort=True), Remedy.ABORT),
        (KafkaError(KafkaError._MSG_TIMED_OUT, txn_requires_abort=True), Remedy.ABORT),
    ],
)
def test_what_a_refusal_asks_for(error: KafkaError, remedy: Remedy) -> None:
    assert remedy_for(error) is remedy


@given(st.lists(st.sampled_from(list(State)), max_size=30))
def test_the_states_an_application_can_pass_through(wanted: list[State]) -> None:
    seen: list[tuple[State, State]] = []
    life = Lifecycle(lambda new, old: seen.append((old, new)))
    for state in wanted:
        life.move(state)
    path = [State.CREATED, *(new for _, new in seen)]
    assert all(old is path[at] for at, (old, _) in enumerate(seen))
    assert path[-1] is life.state
    ends = [state for state in path if state.has_ended]
    assert len(ends) <= 1
    assert not ends or path[-1] is ends[0]
    if State.PENDING_SHUTDOWN in path:
        assert path[path.index(State.PENDING_SHUTDOWN) + 1 :] in ([], [State.NOT_RUNNING])
