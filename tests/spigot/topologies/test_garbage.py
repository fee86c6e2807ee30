"""Random bytes and mutated messages leave everything running: each is rejected with a reason, or is a message."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any
from uuid import uuid4

import pytest

from spigot_topologies import catch, each, get, parallelize, serial, task, try_
from spigot_topologies.wire import Create, Failure, Result
from tests.spigot.topologies.harness import DEAD, REJECTIONS, TASKS, WORKFLOWS, Bench, worker_bench

COUNT = 10_000


class Handler:
    """Of the manager and of the worker: does a bit of everything."""

    def on_create(self, ctx: Any, workflow: Any) -> Any:
        return [ctx, dict(workflow.scope), workflow.extra]

    def on_update(self, ctx: Any, workflow: Any) -> Any:
        return len(workflow.running)

    def on_complete(self, ctx: Any, workflow: Any) -> Any:
        return dict(workflow.scope)

    def on_error(self, ctx: Any, error: BaseException, workflow: Any) -> Any:
        return {"type": type(error).__name__}

    def process_task(self, ctx: Any, task: list[Any]) -> Any:
        return {"ctx": ctx, "tag": task[0], **task[1]}


def mutate(data: bytes, chance: random.Random) -> bytes:
    """One to three changes: a bit flipped, a piece cut out, doubled, or exchanged for a piece of syntax."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(changed) + 1)
        match chance.randrange(5):
            case 0 if changed:
                changed[at % len(changed)] ^= 1 << chance.randrange(8)
            case 1:
                del changed[at : at + chance.randint(1, 20)]
            case 2:
                changed[at:at] = changed[at : at + chance.randint(1, 20)]
            case 3:
                changed[at : at + chance.randint(0, 3)] = chance.choice(SYNTAX)
            case _:
                changed[at:at] = bytes([chance.randrange(256)])
    return bytes(changed)


SYNTAX = [b"[", b"]", b"{", b"}", b"(", b")", b'"', b"\\", b":", b"#", b"nil", b"null", b"1e999", b"NaN", b"-0", b"$"]
SYNTAX += [
    b'{"$list":[]}',
    b'{"$uuid":"x"}',
    b'#uuid "x"',
    b"#{1 1}",
    b"99999999999999999999",
    b"\x00",
    b"\xff",
    b"[" * 600,
]


def random_bytes(chance: random.Random) -> bytes:
    if chance.random() < 0.5:
        return chance.randbytes(chance.randint(0, 200))
    return b"".join(chance.choice([*SYNTAX, b" ", b"a", b",", b"7"]) for _ in range(chance.randint(0, 30)))


@pytest.mark.parametrize("codec", ["json", "edn"])
def test_the_manager_survives_10_000_broken_records(codec: str) -> None:
    chance = random.Random(codec)
    with Bench(codec=codec, handler=Handler(), max_starts=20) as bench:
        write = bench.workflows.value_serde.serialize
        inner = task("t", in_={"i": get("?i"), "x": get("?x")}, out={"?r": get("r")})
        plan = serial(
            parallelize("?i", get("?items"), throttle=3, into={"?all": each(get("?r"))}, do=inner),
            try_(task("u"), catch("?e", task("v", in_={"e": get("?e")}))),
        )
        scope = {"?items": [1, 2, 3, 4], "?x": {"a": [1, 2.5, None, True]}}
        bench.create("w", plan, scope, {"c": 1})
        tasks = bench.tasks()
        seeds = [write(Create({"workflows/form": plan, "workflows/ctx": scope, "workflows/name": "n"}, {"c": 1}))]
        seeds += [write(Result(one.id, {"r": {"deep": [1, [2, [3]]]}})) for one in tasks]
        seeds += [write(Result(uuid4(), None)), write(Failure(tasks[0].id, {"message": "m", "more": [1]}))]
        for number in range(COUNT):
            value = random_bytes(chance) if number % 2 else mutate(chance.choice(seeds), chance)
            key: bytes | None = bench.key(chance.choice(["w", "w2", number]))
            if chance.random() < 0.2:
                key = chance.choice([None, mutate(key or b"", chance), random_bytes(chance)])
            bench.pipe(key, value if chance.random() > 0.01 else None)
        reasons = Counter(bench.rejections())
        assert sum(reasons.values()) > COUNT / 2
        assert reasons["internal-error"] == 0, bench.records(DEAD)[0]
        assert reasons["unreadable"] == len(bench.records(DEAD))
        assert set(reasons) <= {
            "unreadable", "unknown-message", "unknown-workflow", "already-exists", "unknown-task", "not-a-task",
            "duplicate", "already-finished", "workflow-ended", "oversize",
        }  # fmt: skip
        bench.events()
        bench.create("fresh", task("a"))
        (fresh,) = [one for one in bench.tasks() if one.message.workflow_id == "fresh"]
        bench.succeed("fresh", fresh)
        assert bench.events()[-1].status == "success"


@pytest.mark.parametrize("codec", ["json", "edn"])
def test_the_worker_survives_10_000_broken_records(codec: str) -> None:
    chance = random.Random(codec)
    with Bench(codec=codec) as manager:
        manager.create("w", task("t", in_={"x": get("?x")}), {"?x": {"a": [1, 2.5, None, True]}}, {"c": [1]})
        (record,) = manager.records(TASKS)
    with worker_bench(Handler(), codec=codec) as bench:
        for number in range(COUNT):
            value = random_bytes(chance) if number % 2 else mutate(record.value, chance)
            key = chance.choice([None, record.key, mutate(record.key, chance), random_bytes(chance)])
            headers = record.headers
            if chance.random() < 0.3:
                headers = [(name, mutate(data or b"", chance)) for name, data in record.headers]
            bench.pipe(key, value, TASKS, headers)
        refused = len(bench.records(REJECTIONS))
        answered = len(bench.records(WORKFLOWS))
        assert refused + answered == COUNT
        assert refused > COUNT / 2
        bench.pipe(record.key, record.value, TASKS, record.headers)
        assert len(bench.records(WORKFLOWS)) == 1


def test_records_as_large_as_the_log_takes_do_no_harm() -> None:
    with Bench(handler=Handler()) as bench:
        huge = "x" * 1_040_000
        for key, value in [
            (b"\xff" * 1_040_000, b"\x00"),
            (b'"w"', b"\xff" * 1_040_000),
            (f'"{huge}"'.encode(), bench.workflows.value_serde.serialize(Result(uuid4(), {}))),
            (None, huge.encode()),
        ]:
            bench.pipe(key, value)
        for topic in (REJECTIONS, DEAD):
            for record in bench.records(topic):
                assert len(record.key or b"") + len(record.value or b"") < 990_000
        assert bench.entries() == {}
