"""Runs a workflow in this process: no log, no topics, the same engine."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Thread
from typing import Any
from uuid import UUID

from spigot_topologies.plan import split
from spigot_topologies.workflow.registry import DEFAULT, Registry
from spigot_topologies.workflow.tasks import Task
from spigot_topologies.workflow.workflow import Workflow, create

__all__ = ["Handler", "run"]

Handler = Callable[[dict[Any, Any]], Any]
"""Takes a task's parameters and gives its result, a map or None; a function or a coroutine function."""


def run(
    plan: Any,
    handlers: Mapping[str, Handler],
    scope: Mapping[Any, Any] | None = None,
    *,
    max_in_flight: int = 32,
    id: UUID | None = None,
    registry: Registry = DEFAULT,
) -> Workflow:
    """Runs a plan to its end and returns the workflow; its `result()` raises for one that failed.

    Functions run in threads, coroutine functions on an event loop of their own, and a task starts as soon as what it
    depends on is there. An exception in a handler fails its task. After a failure nothing new starts, and tasks that
    still run are waited for.

    Args:
        plan: The plan.
        handlers: A handler for each tag.
        scope: The root scope.
        max_in_flight: So many tasks run at once.
        id: The run id; by default a random one.
        registry: The words the plan may use.

    Raises:
        PlanError: the plan has faults.
        KeyError: a task has no handler.
    """
    if max_in_flight < 1:
        raise ValueError(f"max_in_flight must be at least 1, not {max_in_flight}")
    workflow = create(plan, scope, id=id, registry=registry)
    missing = sorted(_task_tags(plan, registry) - handlers.keys())
    if missing:
        raise KeyError(f"no handler for {', '.join(missing)}; add it to handlers")
    with _Runner(handlers, max_in_flight) as runner:
        waiting = deque(workflow.next())
        in_flight = 0
        while waiting or in_flight:
            while waiting and in_flight < max_in_flight and workflow.status == "running":
                runner.start(waiting.popleft())
                in_flight += 1
            if not in_flight:
                break
            task, result, error = runner.wait()
            in_flight -= 1
            if error is None:
                workflow.succeed(task.id, result)
            else:
                workflow.fail(task.id, error)
            waiting.extend(workflow.next())
    return workflow


def _task_tags(plan: Any, registry: Registry) -> set[str]:
    tags = set()
    todo = [plan]
    while todo:
        tag, _, children = split(todo.pop())
        if tag not in registry.directives:
            tags.add(tag)
        todo.extend(children)
    return tags


class _Runner:
    """Starts handlers, and gives what they return in the order in which they end."""

    def __init__(self, handlers: Mapping[str, Handler], threads: int) -> None:
        self._handlers = handlers
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="spigot-task")
        self._ended: SimpleQueue[tuple[Task, Any, BaseException | None]] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread: Thread | None = None

    def __enter__(self) -> _Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()
        if self._loop is not None and self._loop_thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop_thread.join()
            self._loop.close()

    def start(self, task: Task) -> None:
        handler = self._handlers[task.tag]
        if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__):
            future: Future[Any] = asyncio.run_coroutine_threadsafe(_await(handler, task.params), self._event_loop())
        else:
            future = self._threads.submit(handler, task.params)
        future.add_done_callback(lambda done: self._ended.put((task, *_outcome(done))))

    def wait(self) -> tuple[Task, Any, BaseException | None]:
        task, result, error = self._ended.get()
        if error is not None and not isinstance(
            error, Exception | asyncio.CancelledError | concurrent.futures.CancelledError
        ):
            raise error  # KeyboardInterrupt and SystemExit are not a task's failure
        return task, result, error

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._loop_thread = Thread(target=self._loop.run_forever, name="spigot-async", daemon=True)
            self._loop_thread.start()
        return self._loop


async def _await(handler: Handler, params: dict[Any, Any]) -> Any:
    awaitable: Coroutine[Any, Any, Any] = handler(params)
    return await awaitable


def _outcome(future: Future[Any]) -> tuple[Any, BaseException | None]:
    try:
        return future.result(), None
    except BaseException as error:  # also a cancelled coroutine's: nothing may keep `wait` waiting
        return None, error
