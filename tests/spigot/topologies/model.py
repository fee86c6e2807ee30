"""What the manager has to come to, by the engine alone, in memory: for comparison."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from spigot_topologies.errors import PlanError
from spigot_topologies.wire import Failure, Result, create_wf_msg, from_data
from spigot_topologies.workflow import DEFAULT, Registry, Workflow, create
from tests.replay_golden import same
from tests.spigot.topologies.harness import Bench


class Seen:
    """A handler that shows everything of the workflow after each command."""

    def __init__(self) -> None:
        self.status = ""
        self.scope: Any = None
        self.running: frozenset[UUID] = frozenset()
        self.error: Any = None
        self.callbacks: list[str] = []

    def _look(self, name: str, workflow: Any) -> None:
        self.callbacks.append(name)
        self.status = workflow.status
        self.scope = same(dict(workflow.scope))
        self.running = frozenset(workflow.running)
        self.error = same(None if workflow.error is None else dict(workflow.error))

    def on_create(self, ctx: Any, workflow: Any) -> None:
        self._look("on_create", workflow)

    def on_update(self, ctx: Any, workflow: Any) -> None:
        self._look("on_update", workflow)

    def on_complete(self, ctx: Any, workflow: Any) -> None:
        self._look("on_complete", workflow)

    def on_error(self, ctx: Any, error: BaseException, workflow: Any) -> None:
        self._look("on_error", workflow)


class Pair:
    """A workflow on the manager and its twin in memory, given the same commands.

    Each command's outcome, the status, the scope, the tasks that run and those handed out must be the same.
    """

    def __init__(
        self,
        bench: Bench,
        seen: Seen,
        workflow_id: Any,
        plan: Any,
        scope: Any,
        registry: Registry = DEFAULT,
        *,
        exact: bool = True,
    ) -> None:
        self.exact = exact
        self.bench = bench
        self.seen = seen
        self.id = workflow_id
        self.twin: Workflow | None = None
        bench.create(workflow_id, plan, scope)
        sent = bench.tasks()
        self.run_id = self._run_id()
        try:
            read = self._as_read(create_wf_msg({"workflows/form": plan, "workflows/ctx": scope}))
            self.twin = create(read.plan, read.scope, id=self.run_id, registry=registry)
        except PlanError:
            assert seen.status == "failure"
            assert sent == []
            assert seen.callbacks == ["on_error"]
            return
        self._compare(sent, self.twin.next(), "on_create")

    def _run_id(self) -> UUID:
        event = self.bench.events()[-1]
        assert event.said is not None
        return event.said.run_id

    def deliver(self, task_id: UUID, result: Any, *, failed: bool) -> None:
        """A result or failure."""
        self.seen.callbacks.clear()
        if failed:
            self.bench.fail(self.id, task_id, result)
        else:
            self.bench.succeed(self.id, task_id, result)
        reasons = self.bench.rejections()
        if self.twin is None:
            assert reasons == ["unknown-task"]
            return
        if failed:
            outcome = self.twin.fail(task_id, self._as_read(Failure(task_id, result)).error)
        else:
            outcome = self.twin.succeed(task_id, self._as_read(Result(task_id, result)).result)
        assert reasons == ([] if outcome else [outcome.reason])
        sent = self.bench.tasks()
        if outcome:
            self._compare(sent, self.twin.next(), "on_update")
        else:
            assert sent == []
            assert self.seen.callbacks == []

    def _as_read(self, message: Any) -> Any:
        """What is on the wire is another's: a plain string where Clojure has keywords is read as a keyword."""
        codec = self.bench.codec
        return from_data(codec.read(codec.write_message(message)))

    def _compare(self, sent: list[Any], expected: list[Any], callback: str) -> None:
        twin = self.twin
        assert twin is not None
        assert {(one.id, same(one.tag), same(one.message.params)) for one in sent} == {
            (one.id, same(one.tag), same(one.params)) for one in expected
        }
        assert len(sent) == len(expected)
        status = twin.status
        if not self.exact:  # the rest followed after the callback
            return
        assert self.seen.status == ("running" if status == "init" else status)
        assert self.seen.scope == same(dict(twin.scope))
        assert self.seen.running == frozenset(task.id for task in twin.running)
        assert self.seen.error == same(twin.error)
        ends = {"success": "on_complete", "failure": "on_error"}
        assert self.seen.callbacks == [ends.get(status, callback)]
        self.seen.callbacks.clear()
