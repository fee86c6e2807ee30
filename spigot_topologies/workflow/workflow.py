"""A workflow: created from a plan, driven by `next` and by results, kept in memory or in parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Literal
from uuid import UUID, uuid4
from zlib import compress, decompress

from spigot_topologies.errors import PlanError, WorkflowFailed
from spigot_topologies.plan import check
from spigot_topologies.values import codec
from spigot_topologies.workflow.compiled import PlanNode, cached, compile_plan, plan_hash
from spigot_topologies.workflow.engine import Agenda, Engine
from spigot_topologies.workflow.nodes import FAILURE, LIVE, SUCCESS, Node
from spigot_topologies.workflow.parts import Parts
from spigot_topologies.workflow.registry import DEFAULT, Registry
from spigot_topologies.workflow.state import MISSING, State
from spigot_topologies.workflow.tasks import APPLIED, Outcome, Reason, RunningTask, Task
from streamlet.errors import StateStoreError

__all__ = ["Scope", "Status", "Workflow", "create"]

Status = Literal["init", "running", "success", "failure"]

_META, _PLAN, _NAMES, _HEADER, _ERROR = b"m", b"p", b"N", b"h", b"e"
_VERSION = b"\x01"


def create(
    plan: Any,
    scope: Mapping[Any, Any] | None = None,
    *,
    id: UUID | None = None,
    registry: Registry = DEFAULT,
    parts: Parts | None = None,
    task_size: Callable[[Task], int] | None = None,
    max_task_bytes: int | None = None,
) -> Workflow:
    """A new workflow, of which nothing has started.

    Args:
        plan: The plan; keep it unchanged from here on.
        scope: The root scope; None is the empty one.
        id: The run id, from which task ids follow; by default a random one.
        registry: The words the plan may use.
        parts: Where the state goes, empty so far; `flush` writes it. Without, it stays in memory.
        task_size: Gives a task's size in bytes, as it would be sent.
        max_task_bytes: A task larger than this fails instead of being handed out.

    Raises:
        PlanError: the plan has faults; all of them are listed.
        TypeError: the scope is no map, or holds a value that state cannot hold.
    """
    if scope is not None and not isinstance(scope, Mapping):
        raise TypeError(f"the scope must be a map or None, not a {type(scope).__name__}")
    run_id = uuid4() if id is None else id
    if parts is None:
        _refuse_faults(plan, registry)
        state = State(run_id, compile_plan(plan, registry), None)
    else:
        address, encoded, compiled = _compile_encoded(plan, registry)
        state = State(run_id, compiled, parts)
        state.put_bytes(_META, _VERSION + run_id.bytes + address)
        state.put_bytes(_PLAN, _compressed(encoded))
        if scope:
            state.set_entry(_NAMES, [*scope])
    state.write(None, dict(scope or {}))
    workflow = Workflow(run_id, state, Agenda(), task_size, max_task_bytes)
    workflow._header = b""
    return workflow


class Workflow:
    """A running or ended workflow. Not safe for use by several threads at once."""

    def __init__(
        self,
        id: UUID,
        state: State,
        agenda: Agenda,
        task_size: Callable[[Task], int] | None,
        max_task_bytes: int | None,
    ) -> None:
        """Made by `create` and `load`."""
        self._id = id
        self._state = state
        self._agenda = agenda
        self._engine = Engine(state, agenda, task_size, max_task_bytes)
        self._header = b""

    @classmethod
    def load(
        cls,
        parts: Parts,
        *,
        registry: Registry = DEFAULT,
        task_size: Callable[[Task], int] | None = None,
        max_task_bytes: int | None = None,
    ) -> Workflow | None:
        """The workflow kept in `parts`, None where there is none. Arguments as for `create`.

        Reads three entries at most (two where the plan is known already); the rest follows as it is needed.
        """
        meta = parts.get(_META)
        if meta is None:
            return None
        if meta[:1] != _VERSION:
            raise ValueError(f"state of unknown format {meta[:1]!r}: written by a newer version of spigot_topologies?")
        run_id, address = UUID(bytes=meta[1:17]), meta[17:33]
        plan = cached(address, registry)
        if plan is None:
            source = State(run_id, _NOTHING, parts).bytes_of(_PLAN)
            plan = cached(address, registry, compile_plan(codec.decode(decompress(source)), registry))
            assert plan is not None
        state = State(run_id, plan, parts)
        header = parts.get(_HEADER)
        agenda = Agenda() if header is None else _read_header(header, state)
        workflow = cls(run_id, state, agenda, task_size, max_task_bytes)
        workflow._header = header or b""
        if agenda.status == FAILURE:
            workflow._engine.error = state.entry(_ERROR)
        return workflow

    def flush(self) -> int:
        """Writes what has changed since the last flush to the parts; gives the number of entries written or deleted.

        Without parts it does nothing.
        """
        if self._state.parts is not None:
            header = _write_header(self._agenda)
            if header != self._header:
                self._state.put_bytes(_HEADER, header)
                self._header = header
        return self._state.flush()

    # --- commands ---------------------------------------------------------------------------------------------------

    def next(self, limit: int | None = None) -> list[Task]:
        """The tasks that can start now, each handed out once.

        Args:
            limit: Start at most so many; `has_more` tells whether another call has something left to do.
        """
        if limit is not None and limit < 0:
            raise ValueError(f"limit must be at least 0, not {limit}")
        return self._engine.next(limit)

    def succeed(self, task_id: UUID | str, result: Any = None) -> Outcome:
        """Applies a task's result, a map or None; or tells why it is not applied. Another value fails the task."""
        node, reason = self._running_task(task_id, SUCCESS)
        if node is None:
            return Outcome(reason)
        self._engine.succeed(node, result)
        return APPLIED

    def fail(self, task_id: UUID | str, error: Any = None) -> Outcome:
        """Applies a task's failure, or tells why it is not applied.

        Args:
            task_id: The task.
            error: A map; an exception or another value becomes `{"message": ...}`, None the empty map.
        """
        node, reason = self._running_task(task_id, FAILURE)
        if node is None:
            return Outcome(reason)
        self._engine.fail(node, self._error_map(error))
        return APPLIED

    def rerun(self) -> list[Task]:
        """Every running task again, with the same id, its parameters resolved against the scope of now.

        A task whose parameters can no longer be resolved fails, as it would have at its start.
        """
        tasks = []
        for node in self._running_nodes():
            try:
                params = self._engine.params(node)
            except Exception as fault:
                self._engine.fail(node, self._engine.fault(node, fault))
                continue
            id = UUID(bytes=node.id)
            params[self._state.word("spigot/id")] = id
            tasks.append(Task(id, node.plan.tag, params, node.name))
        return tasks

    # --- what can be seen -------------------------------------------------------------------------------------------

    @property
    def id(self) -> UUID:
        """The run id."""
        return self._id

    @property
    def status(self) -> Status:
        """`init` until something has started; `success` and `failure` are ends.

        An end stands only after the `next` that follows the result: what `into` and `commit` evaluate then can fail.
        """
        if self._agenda.status == SUCCESS:
            return "success"
        if self._agenda.status == FAILURE:
            return "failure"
        return "running" if self._agenda.begun else "init"

    @property
    def error(self) -> dict[Any, Any] | None:
        """The first failure that nothing handled; None where there is none."""
        return self._engine.error

    @property
    def scope(self) -> Scope:
        """The root scope: a key is one read, iterating reads all."""
        return Scope(self._state)

    @property
    def running(self) -> list[RunningTask]:
        """The tasks that were handed out and have no result, in tree order; walks the whole tree."""
        return [RunningTask(UUID(bytes=node.id), node.plan.tag, node.name) for node in self._running_nodes()]

    @property
    def running_count(self) -> int:
        """How many tasks are running; costs nothing."""
        return self._agenda.running

    @property
    def has_more(self) -> bool:
        """Whether another `next` has something to do, without any further result."""
        return self._engine.has_more()

    def result(self) -> dict[Any, Any]:
        """The root scope of a workflow that has succeeded.

        Raises:
            WorkflowFailed: it has failed.
            RuntimeError: it has not ended.
        """
        if self.status == "failure":
            raise WorkflowFailed(self.error, self._id)
        if self.status != "success":
            raise RuntimeError(f"workflow {self._id} has not ended: {self._agenda.running} tasks are running")
        return dict(self.scope)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _running_task(self, task_id: UUID | str, status: int) -> tuple[Node | None, Reason | None]:
        id = _as_id(task_id)
        if id is None:
            return None, "unknown-task"
        node, is_group = self._state.find(id)
        if node is None:
            return None, "not-a-task" if is_group else "unknown-task"
        if node.status != LIVE:
            return None, "duplicate" if node.status == status else "already-finished"
        if self._agenda.status != LIVE:
            return None, "workflow-ended"
        return node, None

    def _running_nodes(self) -> list[Node]:
        found: list[Node] = []
        root = self._state.at(())
        todo = [root] if root is not None else []
        while todo and len(found) < self._agenda.running:
            node = todo.pop()
            if node.plan.directive is None:
                if node.status == LIVE:
                    found.append(node)
                continue
            for index in reversed(range(node.admitted)):
                child = self._state.child(node, index)
                if child is not None:
                    todo.append(child)
        return found

    def _error_map(self, error: Any) -> dict[Any, Any]:
        word = self._state.word
        if error is None:
            return {}
        if isinstance(error, BaseException):
            kind = type(error).__name__
            return {word("message"): str(error) or kind, word("type"): kind}
        if not isinstance(error, Mapping):
            return {word("message"): str(error)}
        if self._state.parts is not None:
            try:
                codec.encode(dict(error))
            except TypeError:
                return {word("message"): f"an error that state cannot hold: {error!r:.2000}"}
        return dict(error)


class Scope(Mapping[str, Any]):
    """The root scope of a workflow, read as it is needed."""

    def __init__(self, state: State) -> None:
        self._state = state

    def __getitem__(self, key: str) -> Any:
        value = self._state.read(None, key)
        if value is MISSING:
            raise KeyError(key)
        return value

    def __iter__(self) -> Iterator[str]:
        state = self._state
        if state.parts is None:
            return iter([*state.root_scope])
        names = dict.fromkeys([*(state.entry(_NAMES) or ()), *sorted(state.plan.writes)])
        return iter([name for name in names if state.read(None, name) is not MISSING])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"Scope({dict(self)!r})"


_NOTHING = PlanNode("", None, {})


def _refuse_faults(plan: Any, registry: Registry) -> None:
    faults = [fault for fault in check(plan, registry.vocabulary) if fault.severity == "error"]
    if faults:
        raise PlanError(faults)


def _compile_encoded(plan: Any, registry: Registry) -> tuple[bytes, bytes, PlanNode]:
    """A plan's address, its bytes, and the compiled plan; one that was seen before is neither checked nor compiled."""
    try:
        encoded = codec.encode(plan)
    except TypeError:
        _refuse_faults(plan, registry)
        raise
    address = plan_hash(encoded)
    compiled = cached(address, registry)
    if compiled is None:
        _refuse_faults(plan, registry)
        compiled = cached(address, registry, compile_plan(plan, registry))
    assert compiled is not None
    return address, encoded, compiled


@lru_cache(maxsize=256)
def _compressed(plan: bytes) -> bytes:
    """A plan's bytes, compressed once: zlib lets go of the interpreter, and waits for it as long as others use it."""
    return compress(plan)


def _as_id(task_id: UUID | str) -> bytes | None:
    if isinstance(task_id, UUID):
        return task_id.bytes
    try:
        return UUID(task_id).bytes
    except (ValueError, TypeError, AttributeError):
        return None


def _write_header(agenda: Agenda) -> bytes:
    return codec.encode(
        [
            agenda.status | (4 if agenda.entered else 0) | (8 if agenda.begun else 0),
            agenda.running,
            [node.name for node in agenda.admit],
            [node.name for node in agenda.finalise],
            [[node.name, start] for node, start in agenda.forget.items()],
        ]
    )


def _read_header(header: bytes, state: State) -> Agenda:
    flags, running, admit, finalise, forget = codec.decode(header)

    def node(name: str) -> Node:
        found = state.at(tuple(map(int, name.split(".")[1:])))
        if found is None:
            raise StateStoreError(f"the workflow's state lacks the node {name}; was it only partly restored?")
        return found

    return Agenda(
        entered=bool(flags & 4),
        begun=bool(flags & 8),
        status=flags & 3,
        running=running,
        admit={node(name): None for name in admit},
        finalise={node(name): None for name in finalise},
        forget={node(name): start for name, start in forget},
    )
