"""The local runner."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from spigot_topologies.errors import WorkflowFailed
from spigot_topologies.plan import catch, each, get, parallel, parallelize, serial, task, try_
from spigot_topologies.workflow import run


def test_sync_and_async_handlers() -> None:
    async def double(params: dict[Any, Any]) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"n": 2 * params["n"]}

    def add(params: dict[Any, Any]) -> dict[str, Any]:
        return {"sum": sum(params["ns"])}

    plan = serial(
        parallelize(
            "?n",
            get("?ns"),
            throttle=3,
            do=task("double", in_={"n": get("?n")}, out={"?d": get("n")}),
            into={"?ds": each(get("?d"))},
        ),
        task("add", in_={"ns": get("?ds")}, out={"?sum": get("sum")}),
    )
    workflow = run(plan, {"double": double, "add": add}, {"?ns": list(range(50))})
    assert workflow.result()["?sum"] == 2450


def test_no_barrier_between_branches() -> None:
    """The second branch gets to its end while the first task of the first one still runs."""
    last_ran = threading.Event()
    plan = parallel(["waits"], serial(["a"], ["b"], ["last"]))
    handlers = {
        "waits": lambda _: None if last_ran.wait(30) else 1 / 0,
        "a": lambda _: None,
        "b": lambda _: None,
        "last": lambda _: last_ran.set(),
    }
    assert run(plan, handlers).status == "success"


def test_bounded_concurrency() -> None:
    lock, running, most = threading.Lock(), 0, 0
    full = threading.Barrier(4)

    def handler(_: dict[Any, Any]) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        full.wait(30)  # passes only when four run at once
        with lock:
            running -= 1

    run(parallelize("?i", list(range(16)), do=["t"]), {"t": handler}, max_in_flight=4).result()
    assert most == 4


class Boom(Exception):  # noqa: N818 - a name to look for
    pass


@pytest.mark.parametrize("asynchronous", [False, True])
def test_exceptions_fail_the_task_and_can_be_caught(asynchronous: bool) -> None:
    def raises(_: dict[Any, Any]) -> None:
        raise Boom("no seat")

    async def raises_later(_: dict[Any, Any]) -> None:
        await asyncio.sleep(0)
        raise Boom("no seat")

    handlers = {"a": raises_later if asynchronous else raises, "h": lambda params: {"why": params["e"]["message"]}}
    handled = try_(["a"], catch("?e", task("h", in_={"e": get("?e")}, out={"?why": get("why")})))
    assert run(handled, handlers).result() == {"?why": "no seat"}
    failed = run(["a"], handlers)
    with pytest.raises(WorkflowFailed, match="no seat"):
        failed.result()
    assert failed.error == {"message": "no seat", "type": "Boom"}


def test_a_cancelled_coroutine_fails_its_task() -> None:
    async def cancelled(_: dict[Any, Any]) -> None:
        raise asyncio.CancelledError

    workflow = run(["a"], {"a": cancelled})
    assert workflow.status == "failure"


def test_nothing_starts_after_a_failure() -> None:
    started = []

    def fails(_: dict[Any, Any]) -> None:
        raise Boom

    plan = parallel(["fails"], *[["other"]] * 5)
    workflow = run(plan, {"fails": fails, "other": lambda _: started.append(1)}, max_in_flight=1)
    assert workflow.status == "failure"
    assert started == []


def test_it_runs_inside_a_running_event_loop() -> None:
    async def handler(_: dict[Any, Any]) -> dict[str, Any]:
        return {"x": 1}

    async def main() -> dict[str, Any]:
        return run(task("a", out={"?x": get("x")}), {"a": handler}).result()

    assert asyncio.run(main()) == {"?x": 1}


def test_missing_handlers_are_named_before_anything_starts() -> None:
    with pytest.raises(KeyError, match="no handler for a, b"):
        run(serial(["a"], try_(["b"], ["c"])), {"c": lambda _: pytest.fail("started")})
    with pytest.raises(ValueError, match="at least 1"):
        run(["a"], {"a": lambda _: None}, max_in_flight=0)
