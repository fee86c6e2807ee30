"""The transitions: a result walks from its leaf towards the root, and what may start then starts in tree order.

Nothing here recurses, reads a clock or does input and output; a step costs the depth of the tree plus what it starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from heapq import heapify, heappop, heappush
from typing import Any, Final
from uuid import UUID

from attrs import define, field

from spigot_topologies.values import Char, Keyword, Symbol
from spigot_topologies.workflow.nodes import FAILURE, LIVE, SUCCESS, Node, node_id
from spigot_topologies.workflow.scopes import scope_owner, sees_path, sees_result, sees_root
from spigot_topologies.workflow.state import State
from spigot_topologies.workflow.tasks import Task

__all__ = ["Agenda", "DirectiveError", "Engine", "ExpressionError", "TaskTooLargeError"]

_LAST: Final = float("inf")  # after any index: sorts a node behind its children
_NODES_PER_TASK = 16  # with a limit, how many nodes may be entered for each task it allows


class ExpressionError(ValueError):
    """An expression gave a value that has no meaning where it stands."""


class DirectiveError(ValueError):
    """An own directive leaves its group hanging."""


class TaskTooLargeError(ValueError):
    """A task is larger than what may be sent."""


@define
class Agenda:
    """What the next `next` has to do. Kept between steps, and small: it names groups, never tasks.

    Attributes:
        entered: The root was admitted.
        begun: Something has started or ended, so the workflow is no longer `init`.
        status: Of the workflow.
        running: How many tasks are running.
        admit: Groups that may admit children.
        finalise: Loops and isolates that ended and still have to write `into` or `commit` and drop scopes.
        forget: Loops and isolates whose children's scopes are being deleted, and from which child on.
    """

    entered: bool = False
    begun: bool = False
    status: int = LIVE
    running: int = 0
    admit: dict[Node, None] = field(factory=dict)
    finalise: dict[Node, None] = field(factory=dict)
    forget: dict[Node, int] = field(factory=dict)


class Engine:
    """Applies results and starts tasks, over a state and an agenda."""

    def __init__(
        self, state: State, agenda: Agenda, task_size: Callable[[Task], int] | None, max_task_bytes: int | None
    ) -> None:
        self.state = state
        self.agenda = agenda
        self.error: dict[Any, Any] | None = None
        self._task_size = task_size
        self._max_task_bytes = max_task_bytes
        self._starting = False
        self._heap: list[tuple[tuple[int, ...], int, Node]] = []

    # --- results ----------------------------------------------------------------------------------------------------

    def succeed(self, node: Node, result: Any) -> None:
        """Applies the result of a running task."""
        self.agenda.running -= 1
        try:
            if result is None:
                result = {}
            elif not isinstance(result, Mapping):
                raise ExpressionError(f"the task's result must be a map or None, not a {type(result).__name__}")
            self._write(node, node.plan.out, sees_result(self.state, node, result))
        except Exception as fault:
            self._end(node, FAILURE, self.fault(node, fault))
        else:
            self._end(node, SUCCESS, None)

    def fail(self, node: Node, error: dict[Any, Any]) -> None:
        """Applies the failure of a running task."""
        self.agenda.running -= 1
        self._end(node, FAILURE, error)

    # --- next -------------------------------------------------------------------------------------------------------

    def next(self, limit: int | None) -> list[Task]:
        """Finalises what has ended, then starts what may start, then deletes what is no longer needed."""
        self._finalise_ended()
        self._starting = True
        try:
            tasks = self._start(limit)
        finally:
            self._starting = False
        self._forget(limit)
        return tasks

    def has_more(self) -> bool:
        """Whether another `next` has something to do."""
        agenda = self.agenda
        if agenda.finalise or agenda.forget:
            return True
        return agenda.status == LIVE and (bool(agenda.admit) or not agenda.entered)

    def params(self, node: Node) -> dict[Any, Any]:
        """The parameters of a task, resolved now."""
        evaluate = node.plan.params
        if evaluate is None:
            return {}
        params = evaluate(sees_root(self.state, node))
        if not isinstance(params, Mapping):
            raise ExpressionError(f"spigot/in must give a map, not a {type(params).__name__}")
        return dict(params)

    def _finalise_ended(self) -> None:
        heap = [((*node.path, _LAST), node.id, node) for node in self.agenda.finalise]
        heapify(heap)
        while heap:
            node = heappop(heap)[2]
            self.agenda.finalise.pop(node, None)
            if node.status == LIVE or node.dropped:
                continue
            fault = self._finalise(node)
            if fault is not None:
                self._change(node, FAILURE, fault, node)
                for ended in self.agenda.finalise:  # ancestors that this has ended: they come later in this order
                    heappush(heap, ((*ended.path, _LAST), ended.id, ended))
                self.agenda.finalise.clear()

    def _start(self, limit: int | None) -> list[Task]:
        agenda = self.agenda
        tasks: list[Task] = []
        heap = self._heap = [((*node.path, node.admitted), node.index, node) for node in agenda.admit]
        heapify(heap)
        budget = None if limit is None else _NODES_PER_TASK * (limit + 16)
        if not agenda.entered and limit != 0:
            agenda.entered = True
            self._enter(None, 0, tasks)
        while heap:
            if limit is not None and budget is not None and (len(tasks) >= limit or budget <= 0):
                break
            node = heappop(heap)[2]
            del agenda.admit[node]
            if not _may_start_below(node) or not _may_admit(node):
                continue
            index = node.admitted
            node.admitted += 1
            self.state.touch(node)
            if _may_admit(node):
                self._queue(node)
            self._enter(node, index, tasks)
            if budget is not None:
                budget -= 1
        self._heap = []
        if agenda.status != LIVE:
            agenda.admit.clear()
        return tasks

    def _enter(self, parent: Node | None, index: int, tasks: list[Task]) -> None:
        node = self.state.add(parent, index)
        plan = node.plan
        try:
            if plan.directive is None:
                tasks.append(self._make_task(node))
                self.agenda.running += 1
                self.agenda.begun = True
                return
            if plan.items is not None:
                self.state.set_items(node, _as_items(plan.items(sees_root(self.state, node))))
            else:
                node.total = len(plan.children)
            if plan.bindings:
                lookup = sees_root(self.state, node)
                self.state.set_values(node, {"bindings": {name: value(lookup) for name, value in plan.bindings}})
            verdict = _verdict(node)
        except Exception as fault:
            self._end(node, FAILURE, self.fault(node, fault))
            return
        if verdict != LIVE:
            self._end(node, verdict, None)
        elif _may_admit(node):
            self._queue(node)

    def _make_task(self, node: Node) -> Task:
        id = UUID(bytes=node.id)
        params = self.params(node)
        params[self.state.word("spigot/id")] = id
        task = Task(id, node.plan.tag, params, node.name)
        if self._task_size is not None and self._max_task_bytes is not None:
            size = self._task_size(task)
            if size > self._max_task_bytes:
                raise TaskTooLargeError(f"the task {task.tag} has {size} bytes, and {self._max_task_bytes} may be sent")
        return task

    def _queue(self, node: Node) -> None:
        if node not in self.agenda.admit:
            self.agenda.admit[node] = None
            if self._starting:
                heappush(self._heap, ((*node.path, node.admitted), node.index, node))

    # --- ends -------------------------------------------------------------------------------------------------------

    def _end(self, node: Node, status: int, error: dict[Any, Any] | None) -> None:
        self.agenda.begun = True
        if error is None and status == FAILURE:
            error = self._failed(node)
        self._change(node, status, error, node)

    def _change(self, node: Node, status: int, error: dict[Any, Any] | None, origin: Node) -> None:
        """Gives `node` another status, and its ancestors the ones that follow from it."""
        state = self.state
        while True:
            before = node.status
            node.status = status
            state.touch(node)
            if node.plan.is_scope and status != LIVE and not node.dropped:
                if self._starting:
                    fault = self._finalise(node)
                    if fault is not None:
                        node.status = status = FAILURE
                        error, origin = fault, node
                else:
                    self.agenda.finalise[node] = None
            parent = node.parent
            if parent is None:
                self.agenda.status = status
                self._set_error(error if status == FAILURE else None)
                return
            if before != LIVE:
                parent.succeeded -= before == SUCCESS
                parent.failed -= before == FAILURE
            parent.succeeded += status == SUCCESS
            parent.failed += status == FAILURE
            state.touch(parent)
            try:
                verdict = _verdict(parent)
            except Exception as raised:
                verdict, error, origin = FAILURE, self.fault(parent, raised), parent
            if verdict == LIVE:
                if status == FAILURE and error is not None:
                    self._keep(parent, node, error, origin)
                if _may_admit(parent):
                    self._queue(parent)
            if verdict == parent.status:
                return
            if verdict == FAILURE and error is None:
                error = self._failed(parent)
                origin = parent
            node, status = parent, verdict

    def fault(self, node: Node, fault: Exception) -> dict[Any, Any]:
        """The error map of a node that failed inside the engine.

        Raises:
            Exception: `fault` itself, where the state could not be read: then no node has failed, but the step.
        """
        if self.state.failure is not None:
            raise fault
        kind = type(fault).__name__
        word = self.state.word
        return {word("message"): str(fault) or kind, word("type"): kind, word("path"): node.name}

    def _failed(self, node: Node) -> dict[Any, Any]:
        return self.fault(node, DirectiveError(f"{node.plan.tag} failed"))

    def _keep(self, node: Node, child: Node, error: dict[Any, Any], origin: Node) -> None:
        """Remembers the first failure that did not end the group, for a `catch`."""
        values = self.state.values(node)
        if "failure" not in values:
            error = {**error, self.state.word("spigot/id"): UUID(bytes=origin.id)}
            self.state.set_values(node, {**values, "failure": {"error": error, "child": child.index}})

    def _set_error(self, error: dict[Any, Any] | None) -> None:
        if error is not self.error:
            self.error = error
            self.state.set_entry(b"e", error)

    def _finalise(self, node: Node) -> dict[Any, Any] | None:
        """Writes `into` and `commit` where the node has succeeded, and drops its children's scopes."""
        state = self.state
        fault = None
        if node.status == SUCCESS:
            try:
                if node.plan.gathered:
                    self._write_gathered(node)
                if node.plan.commit:
                    self._write(node, node.plan.commit, sees_path(state, self.state.admitted_child(node, 0)))
            except Exception as error:
                fault = self.fault(node, error)
        node.dropped = True
        state.touch(node)
        if state.parts is not None and node.admitted and _stored_names(node):
            self.agenda.forget[node] = 0
        return fault

    def _write_gathered(self, node: Node) -> None:
        gathered = node.plan.gathered
        columns: list[list[list[Any]]] = [[[] for _ in arguments] for _, _, arguments in gathered]
        for index in range(node.admitted):
            lookup = sees_path(self.state, self.state.admitted_child(node, index))
            for (_, _, arguments), lists in zip(gathered, columns, strict=True):
                for evaluate, values_so_far in zip(arguments, lists, strict=True):
                    values_so_far.append(evaluate(lookup))
        values = {symbol: reducer(*lists) for (symbol, reducer, _), lists in zip(gathered, columns, strict=True)}
        owner, exists = scope_owner(node)
        if exists:
            self.state.write(owner, values)

    def _write(self, node: Node, pairs: tuple[tuple[str, Any], ...], lookup: Any) -> None:
        if pairs:
            values = {symbol: evaluate(lookup) for symbol, evaluate in pairs}
            owner, exists = scope_owner(node)
            if exists:
                self.state.write(owner, values)

    def _forget(self, limit: int | None) -> None:
        """Deletes dropped sub-scopes, as many as the limit allows."""
        left = limit
        for node, start in [*self.agenda.forget.items()]:
            names = _stored_names(node)
            end = node.admitted if left is None else min(node.admitted, start + left)
            for index in range(start, end):
                self.state.forget(node_id(self.state.run, f"{node.name}.{index}"), names)
            if end == node.admitted:
                del self.agenda.forget[node]
            else:
                self.agenda.forget[node] = end
            if left is not None:
                left -= end - start
                if left <= 0:
                    return


def _verdict(node: Node) -> int:
    """The directive's verdict.

    Raises:
        DirectiveError: the group can neither go on nor end. An own directive may raise what it likes.
    """
    directive = node.plan.directive
    assert directive is not None, f"{node.name} is a task"
    verdict = directive.verdict(node)
    if verdict == LIVE and node.admitted == node.succeeded + node.failed and not _may_admit(node):
        raise DirectiveError(
            f"{node.plan.tag} neither ends nor admits a child: {node.admitted} of {node.total} children were admitted, "
            f"{node.succeeded} have succeeded, {node.failed} failed"
        )
    return verdict


def _may_admit(node: Node) -> bool:
    directive = node.plan.directive
    admitted = node.admitted
    return admitted < node.total and directive is not None and admitted < directive.admissible(node)


def _may_start_below(node: Node | None) -> bool:
    while node is not None:
        if node.status != LIVE:
            return False
        node = node.parent
    return True


def _stored_names(node: Node) -> frozenset[str]:
    """The symbols that the sub-scopes of the children can hold in entries of their own."""
    child = node.plan.children[0]
    return frozenset() if child.directive is None else child.writes


def _as_items(value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, str) and not isinstance(value, Keyword | Symbol | Char):
        return [Char(character) for character in value]
    raise ExpressionError(f"spigot/for takes a list or a string, not a {type(value).__name__}")
