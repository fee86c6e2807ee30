"""The workflow manager: applies commands to workflows, and sends the tasks that may start.

For each command, in one transaction: decode, load, fence, apply, `next`, callback; then the writes, the event, the
tasks. Every command is applied or rejected with a reason; what was decided takes effect whole or not at all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cached_property
from hashlib import sha1
from typing import Any, Final
from uuid import UUID

import orjson
from attrs import field, frozen

from spigot_topologies.errors import PlanError, WireError, text_of
from spigot_topologies.topologies.callbacks import NOTHING, Callbacks, error_event
from spigot_topologies.topologies.continuation import CONTINUATIONS, asked_for, continuation
from spigot_topologies.topologies.refusals import Refusals
from spigot_topologies.topologies.retention import note_end, sweep
from spigot_topologies.topologies.store import Store, WorkflowParts
from spigot_topologies.topologies.topics import ENVELOPE_BYTES, MAX_KEY_BYTES, WorkflowTopic
from spigot_topologies.wire import (
    Create,
    Event,
    EventHeaders,
    Extensions,
    Failure,
    Headers,
    Rejected,
    Result,
    TaskMessage,
    decode_command,
    encode,
    event_headers,
    extension_headers,
)
from spigot_topologies.workflow import Registry, Task, Workflow, create
from streamlet import (
    Cancellable,
    ControlError,
    Processor,
    ProcessorContext,
    PunctuationType,
    Record,
    RecordMetadata,
    StateStoreError,
    StoreBuilder,
    TaskError,
)

__all__ = ["ERROR_HEADER", "EVENTS", "TASKS", "ManagerSupplier", "WorkflowManager", "run_id_of"]

TASKS: Final = "workflow-tasks"
EVENTS: Final = "workflow-events"
ERROR_HEADER: Final = "sp-error"
"""On the event of a workflow's failure: its error, as JSON."""

MAX_STARTS: Final = 1_000
"""So many tasks start in one transition at most; the rest follows in the next ones."""

SWEEP_ENTRIES: Final = 5_000
"""So many entries of ended workflows are deleted in one transaction at most."""

_SHORTEST_SWEEP, _LONGEST_SWEEP = timedelta(seconds=5), timedelta(minutes=1)
_HURRIED_SWEEP = timedelta(milliseconds=100)

_NAMESPACE = UUID("5f0f1d04-6f0a-5c3b-9d0e-6e0f2c7f7c11")
_MAX_ERROR_HEADER = 8 * 1024
_MAX_FAULTS = 100


@frozen
class ManagerSupplier:
    """Makes the managers of the partitions; what `with_wf_topology` was given.

    Attributes:
        callbacks: The handler's methods.
        workflows: The workflow topic.
        tasks: The task topic.
        events: The event topic, if events are wanted.
        rejections: The topic for rejections, if they are to be published.
        dead_letter_topic: The topic for unreadable records; None: what the configuration says.
        retention: How long an ended workflow is kept; None: for ever.
        registry: The words of plans.
        store: The workflows' store.
        max_starts: How many tasks a transition may start.
    """

    callbacks: Callbacks
    workflows: WorkflowTopic
    tasks: WorkflowTopic
    events: WorkflowTopic | None
    rejections: WorkflowTopic | None
    dead_letter_topic: str | None
    retention: timedelta | None
    registry: Registry
    store: StoreBuilder[Store]
    max_starts: int = MAX_STARTS

    def __call__(self) -> WorkflowManager:
        """A manager for one partition."""
        return WorkflowManager(self)


@frozen
class _Outcome:
    """What a command comes to, decided but not yet done."""

    parts: WorkflowParts
    event: Record[bytes, bytes] | None = None
    tasks: list[Record[bytes, bytes]] = field(factory=list)
    more: UUID | None = None
    has_ended: bool = False


@frozen
class _Refused:
    reason: str
    detail: str


class WorkflowManager(Processor[bytes, bytes, Any, Any]):
    """Manages the workflows of one partition of the workflow topic."""

    def __init__(self, settings: ManagerSupplier) -> None:
        self._settings = settings

    def init(self, context: ProcessorContext[Any, Any]) -> None:
        """Opens the store and schedules the sweep."""
        settings = self._settings
        self.context = context
        self._store = context.get_state_store(settings.store)
        self._refusals = Refusals(context, settings.rejections, settings.dead_letter_topic, "workflow")
        self._hurry: Cancellable | None = None
        if settings.retention is not None:
            interval = min(max(settings.retention / 10, _SHORTEST_SWEEP), _LONGEST_SWEEP)
            context.schedule(interval, PunctuationType.WALL_CLOCK_TIME, self._sweep)

    def process(self, record: Record[bytes, bytes]) -> None:
        """Applies a command, or rejects it."""
        try:
            outcome = self._decide(record)
        except StateStoreError as error:  # no fault of the command: no handler may have it skipped
            raise TaskError(f"the workflow manager cannot go on: {error}", task=str(self.context.task_id)) from error
        except (ControlError, MemoryError):
            raise
        except Exception as error:
            self._refusals.refuse(record, "internal-error", f"{type(error).__name__}: {text_of(error)}", error)
            return
        if isinstance(outcome, _Refused):
            self._refusals.refuse(record, outcome.reason, outcome.detail)
        elif outcome is not None:
            self._perform(outcome, record)

    # --- deciding -----------------------------------------------------------------------------------------------------

    def _decide(self, record: Record[bytes, bytes]) -> _Outcome | _Refused | None:
        if record.key is None:
            return _Refused("unknown-message", "a record without a key: the key is the workflow's id")
        asked = asked_for(record.headers)
        if asked is not None:
            return self._continue(record, *asked)
        command = decode_command(record.value, self._settings.workflows.codec)
        if isinstance(command, Rejected):
            return _Refused(command.reason, command.detail)
        if isinstance(command, Create):
            return self._create(record, command)
        return self._deliver(record, command)

    def _create(self, record: Record[bytes, bytes], command: Create) -> _Outcome | _Refused:
        key = record.key
        if len(key) > MAX_KEY_BYTES:
            return _Refused("oversize", f"a key of {len(key):,} bytes; a workflow's may have {MAX_KEY_BYTES:,}")
        parts = WorkflowParts(self._store, key)
        if parts.exists:
            return _Refused("already-exists", "there is a workflow with this id")
        step = _Step(self._settings, parts, record.timestamp)
        try:
            step.id  # noqa: B018  # a key that cannot be read is no workflow's
        except WireError as error:
            return _Refused("unreadable", f"the key: {error}")
        origin = self.context.record_metadata()
        if origin is None:
            raise StateStoreError("a workflow can only be created from a record of the workflow topic")
        step.run_id = run_id_of(key, origin)
        faults: list[dict[str, Any]]
        try:
            parts.set_context(command.ctx, command.extra)
            _check_scope(command.scope)
            workflow = create(
                command.plan,
                command.scope,
                id=step.run_id,
                registry=self._settings.registry,
                parts=parts,
                task_size=step.task_size,
                max_task_bytes=step.room_for_task,
            )
            return step.go_on(workflow, "on_create")
        except (StateStoreError, ControlError, MemoryError):
            raise
        except PlanError as error:
            faults = [_fault(fault.path, fault.message) for fault in error.faults[:_MAX_FAULTS]]
        except Exception as error:  # what no check foresaw is no reason to leave whoever waits for it waiting
            faults = [_fault("r", f"{type(error).__name__}: {text_of(error)}")]
        return step.refuse_plan(command, faults)

    def _deliver(self, record: Record[bytes, bytes], command: Result | Failure) -> _Outcome | _Refused:
        parts = WorkflowParts(self._store, record.key)
        if not parts.exists or parts.deleting:
            return _Refused("unknown-workflow", "there is no workflow with this id, or no longer")
        if parts.refused:
            return _Refused("unknown-task", "the workflow's plan was refused: it has no tasks")
        step = _Step(self._settings, parts, record.timestamp)
        workflow = self._load(parts, step)
        if isinstance(command, Result):
            outcome = workflow.succeed(command.task_id, command.result)
        else:
            outcome = workflow.fail(command.task_id, command.error)
        if outcome.reason is not None:
            return _Refused(outcome.reason, f"task {command.task_id!s:.100}")
        return step.go_on(workflow, "on_update")

    def _continue(self, record: Record[bytes, bytes], run_id: UUID, sequence: int) -> _Outcome | _Refused | None:
        parts = WorkflowParts(self._store, record.key)
        if not parts.exists or parts.deleting or parts.refused:
            return _Refused("unknown-workflow", "a continuation of a workflow that is not there, or no longer")
        if not parts.continuation or parts.continuation != sequence:
            return None  # a copy, or what it was for has been done by now
        step = _Step(self._settings, parts, record.timestamp)
        workflow = self._load(parts, step)
        if workflow.id != run_id:
            return None
        parts.continuation = 0
        return step.go_on(workflow, None)

    def _load(self, parts: WorkflowParts, step: _Step) -> Workflow:
        try:
            workflow = Workflow.load(
                parts,
                registry=self._settings.registry,
                task_size=step.task_size,
                max_task_bytes=step.room_for_task,
            )
        except StateStoreError:
            raise
        except Exception as error:
            raise StateStoreError(
                f"workflow {parts.key!r} cannot be loaded: {type(error).__name__}: {error}. A manager needs the "
                "registry with which its workflows were created, and a version no older than the one that wrote them"
            ) from error
        if workflow is None:
            raise StateStoreError(f"workflow {parts.key!r} has lost its entries; was its state only partly restored?")
        step.run_id = workflow.id
        return workflow

    # --- doing --------------------------------------------------------------------------------------------------------

    def _perform(self, outcome: _Outcome, record: Record[bytes, bytes]) -> None:
        parts, forward = outcome.parts, self.context.forward
        parts.write()
        if outcome.has_ended and self._settings.retention is not None:
            note_end(self._store, parts, self.context.current_system_time())
        if outcome.event is not None:
            forward(outcome.event, EVENTS)
        for task in outcome.tasks:
            forward(task, TASKS)
        if outcome.more is not None:
            origin = self.context.record_metadata()
            partition = 0 if origin is None else origin.partition
            codec = self._settings.workflows.codec
            forward(
                continuation(parts.key, outcome.more, parts.continuation, codec, partition, record.timestamp),
                CONTINUATIONS,
            )
            self.context.commit()

    def _sweep(self, now_ms: int) -> None:
        """Deletes what may go, a portion now and the rest soon."""
        retention = self._settings.retention
        assert retention is not None  # it is scheduled only where there is one
        deleted = sweep(self._store, now_ms - retention // timedelta(milliseconds=1), SWEEP_ENTRIES)
        if deleted >= SWEEP_ENTRIES and self._hurry is None:
            self._hurry = self.context.schedule(_HURRIED_SWEEP, PunctuationType.WALL_CLOCK_TIME, self._sweep)
        elif deleted < SWEEP_ENTRIES and self._hurry is not None:
            self._hurry.cancel()
            self._hurry = None


class _Step:
    """One transition of one workflow: what it needs to know, read when it is asked for."""

    run_id: UUID

    def __init__(self, settings: ManagerSupplier, parts: WorkflowParts, timestamp: int) -> None:
        self._settings = settings
        self._parts = parts
        self._timestamp = timestamp
        self._written: dict[UUID, bytes] = {}
        self._store_failed: StateStoreError | None = None

    @cached_property
    def id(self) -> Any:
        """The workflow's id."""
        return self._settings.workflows.key_serde.deserialize(self._parts.key)

    @cached_property
    def _ctx(self) -> Any:
        try:
            return self._parts.context()[0]
        except StateStoreError as error:
            self._store_failed = error  # within a step of the engine, to which this looks like the task's own fault
            raise

    # --- tasks --------------------------------------------------------------------------------------------------------

    @property
    def room_for_task(self) -> int:
        """How many bytes a task may have: beside it there are its id, twice, and the workflow's key."""
        topic = self._settings.tasks
        return topic.max_bytes - len(self._parts.key) - 2 * ENVELOPE_BYTES

    def task_size(self, task: Task) -> int:
        """Writes a task, and gives the number of its bytes."""
        message = TaskMessage(self._ctx, task.tag, task.params, self.id)
        data = self._written[task.id] = encode(message, self._settings.tasks.codec, max_bytes=sys.maxsize)
        return len(data)

    def _task_records(self, tasks: list[Task]) -> list[Record[bytes, bytes]]:
        if not tasks:
            return []
        write_key = self._settings.tasks.codec.write
        common = self._event_headers("running")
        records = []
        for task in tasks:
            key = write_key(task.id)
            headers = extension_headers(key, Extensions(self.run_id, task.attempt)) + common
            records.append(Record(key, self._written[task.id], self._timestamp, headers))
        return records

    # --- the transition -----------------------------------------------------------------------------------------------

    def go_on(self, workflow: Workflow, callback: str | None) -> _Outcome:
        """After the command was applied: starts what may start, and has the callback called."""
        parts = self._parts
        parts.sequence += 1
        # While a continuation is under way, the starting is left to it: else each result would start as many again,
        # and one transaction could still hold all of them.
        under_way = parts.continuation != 0
        tasks = workflow.next(0 if under_way else self._settings.max_starts)
        if self._store_failed is not None:
            raise self._store_failed
        more = workflow.has_more
        if not more:
            parts.continuation = 0
        elif not under_way:
            parts.continuation = parts.sequence
        status = workflow.status
        has_ended = status in ("success", "failure") and not parts.ended
        if has_ended:
            parts.ended = True
            callback = "on_complete" if status == "success" else "on_error"
        records = self._task_records(tasks)
        workflow.flush()
        event = None if callback is None else self._event(callback, workflow, workflow.error, has_ended=has_ended)
        return _Outcome(parts, event, records, self.run_id if more and not under_way else None, has_ended)

    def refuse_plan(self, command: Create, faults: list[dict[str, Any]]) -> _Outcome:
        """The workflow has failed before it began."""
        parts = self._parts
        parts.forget_changes()
        try:
            parts.set_context(command.ctx, command.extra)
        except TypeError:
            parts.set_context(None, {})
        count = len(faults)
        first = f"{faults[0]['path']}: {faults[0]['message']}"
        more = f", and {count - 1} more" if count > 1 else ""
        message = f"plan-refused: {first}{more}"
        error = {"message": message, "type": "plan-refused", "faults": faults}
        parts.set_error(error)
        parts.refused = parts.ended = True
        parts.sequence = 1
        parts.continuation = 0
        return _Outcome(parts, self._event("on_error", None, error, has_ended=True), has_ended=True)

    # --- events -------------------------------------------------------------------------------------------------------

    def _event(
        self, callback: str, workflow: Workflow | None, error: dict[Any, Any] | None, *, has_ended: bool
    ) -> Record[bytes, bytes] | None:
        settings = self._settings
        value = settings.callbacks.run(callback, self._parts, self._get_id, self.run_id, workflow, error)
        topic = settings.events
        if topic is None or (value is NOTHING and not has_ended):
            return None
        status = "failure" if workflow is None else workflow.status
        headers = self._event_headers("running" if status == "init" else status)
        if status == "failure":
            headers.append((ERROR_HEADER, _error_header(error or {})))
        room = topic.room_for_value(self._parts.key, headers)
        try:
            if value is NOTHING:
                data = self._default_event(workflow, error, topic, room)
            else:
                data = encode(Event(value), topic.codec, max_bytes=room)
        except Exception as unwritable:  # a value of the handler's own classes may raise anything
            data = encode(Event(error_event(unwritable)), topic.codec)
        return Record(self._parts.key, data, self._timestamp, headers)

    @staticmethod
    def _default_event(
        workflow: Workflow | None, error: dict[Any, Any] | None, topic: WorkflowTopic, room: int
    ) -> bytes:
        """Where no callback says what the end's event is: the scope or the error, if that can be sent, else nothing."""
        failed = workflow is None or workflow.status == "failure"
        try:
            return encode(
                Event(error if failed or workflow is None else dict(workflow.scope)), topic.codec, max_bytes=room
            )
        except WireError:
            return encode(Event(None), topic.codec)

    def _event_headers(self, status: str) -> Headers:
        return event_headers(EventHeaders(self._parts.key, self.run_id, status, self._parts.sequence))

    @property
    def _get_id(self) -> Callable[[], Any]:
        return lambda: self.id


def run_id_of(key: bytes, origin: RecordMetadata) -> UUID:
    """The id of the run that the create! at `origin` begins: the same however often it is processed."""
    place = f"{origin.topic}/{origin.partition}/{origin.offset}".encode()
    name = _NAMESPACE.bytes + len(key).to_bytes(4, "big") + key + place
    return UUID(bytes=sha1(name, usedforsecurity=False).digest()[:16], version=5)


def _check_scope(scope: Any) -> None:
    if scope is None:
        return
    if not isinstance(scope, Mapping):
        raise TypeError(f"workflows/ctx must be a map, not a {type(scope).__name__}")
    for name in scope:
        if not isinstance(name, str):
            raise TypeError(f"the keys of workflows/ctx are symbols, not {name!r:.100}")


def _fault(path: str, message: str) -> dict[str, Any]:
    return {"path": path[:500], "message": message[:500]}


def _error_header(error: Mapping[Any, Any]) -> bytes:
    """The error as JSON, cut down to its message where it is large or holds what JSON has no form for."""
    for form in (dict(error), {name: str(error[name])[:1000] for name in ("message", "type") if name in error}):
        try:
            data = orjson.dumps(form, default=str, option=orjson.OPT_NON_STR_KEYS)
        except (TypeError, ValueError):
            continue
        if len(data) <= _MAX_ERROR_HEADER:
            return data
    return b"{}"
