"""Random workflows, interleaved, with duplicated and repeated messages: the manager against the engine in memory."""

from __future__ import annotations

from random import Random
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spigot_topologies import create_wf_msg
from spigot_topologies.workflow import DEFAULT
from tests.spigot.engine.plans import random_plan
from tests.spigot.topologies.harness import Bench
from tests.spigot.topologies.model import Pair, Seen


def boom(lookup: Any) -> Any:
    raise ValueError("boom")


REGISTRY = DEFAULT.extend(resolvers={"my/boom": boom})
SCOPES: list[Any] = [None, {}, {"?a": [1, 2, 3], "?b": "xy"}, {"?c": [[1], [2]], "r": {"k": 1}}]
RESULTS: list[Any] = [None, {}, {"r": 1}, {"r": [1, 2]}, {"r": None, "?a": 9}, 5]
ERRORS: list[Any] = [{"why": 1}, {}, "text", None]


def paths(chance: Random) -> str:
    return "r" + "".join(f".{chance.randrange(3)}" for _ in range(chance.randrange(4)))


def play(seed: int, codec: str, *, max_starts: int, workflows: int = 4, steps: int = 60) -> None:
    chance = Random(seed)
    seen = Seen()
    with Bench(codec=codec, handler=seen, registry=REGISTRY, max_starts=max_starts) as bench:
        pairs: list[Pair] = []
        running: list[tuple[Pair, UUID]] = []
        done: list[tuple[Pair, UUID]] = []
        for _ in range(steps):
            roll = chance.random()
            if len(pairs) < workflows and (not pairs or roll < 0.15):
                plan, scope = random_plan(chance, 3), chance.choice(SCOPES)
                pair = Pair(bench, seen, f"w{len(pairs)}", plan, scope, REGISTRY, exact=max_starts > 100)
                pairs.append(pair)
            elif roll < 0.2:
                bench.create(chance.choice(pairs).id, random_plan(chance, 2))
                assert bench.rejections() == ["already-exists"]
                assert bench.tasks() == []
            elif roll < 0.3:
                pair = chance.choice(pairs)
                id = uuid5(pair.run_id, paths(chance))  # of a group, of a task that has not started, or of anything
                pair.deliver(id, chance.choice(RESULTS), failed=False)
            elif done and roll < 0.45:
                pair, id = chance.choice(done)
                pair.deliver(id, chance.choice(RESULTS), failed=chance.random() < 0.5)
            elif running:
                pair, id = running.pop(chance.randrange(len(running)))
                if chance.random() < 0.15:
                    pair.deliver(id, chance.choice(ERRORS), failed=True)
                else:
                    pair.deliver(id, chance.choice(RESULTS), failed=False)
                done.append((pair, id))
            running = [(pair, task.id) for pair in pairs if pair.twin is not None for task in pair.twin.running]
        bench.create("last", ["t"])
        assert len(bench.tasks()) == 1


@pytest.mark.parametrize("codec", ["json", "edn"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32))
def test_the_manager_is_the_engine(codec: str, seed: int) -> None:
    play(seed, codec, max_starts=1000)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), max_starts=st.integers(1, 3))
def test_in_portions_the_same_tasks_are_sent(seed: int, max_starts: int) -> None:
    play(seed, "json", max_starts=max_starts)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), choices=st.lists(st.integers(0, 1000), max_size=80))
def test_whatever_the_order_and_the_repetitions_each_task_is_sent_once_and_all_workflows_end(
    seed: int, choices: list[int]
) -> None:
    """A log that delivers late, in another order between workflows, and twice."""
    chance = Random(seed)
    plans = [random_plan(chance, 3) for _ in range(3)]
    with Bench(registry=REGISTRY) as bench:
        queue: list[Any] = []
        for number, plan in enumerate(plans):
            queue.append((f"w{number}", create_wf_msg({"workflows/form": plan, "workflows/ctx": {"?a": [1, 2]}})))
        everything = [*queue]
        sent: set[UUID] = set()
        ended: list[Any] = []
        from spigot_topologies.wire import Result

        while queue:
            pick = choices.pop() if choices else 0
            if pick % 7 == 1:
                bench.send(*everything[pick % len(everything)])
            else:
                bench.send(*queue.pop(pick % len(queue)))
            for one in bench.tasks():
                assert one.id not in sent
                sent.add(one.id)
                queue.append((one.message.workflow_id, Result(one.id, {"r": [1, 2]})))
                everything.append(queue[-1])
            ended += [event.key for event in bench.events() if event.status != "running"]
        assert sorted(ended) == [bench.key(f"w{number}") for number in range(3)]
