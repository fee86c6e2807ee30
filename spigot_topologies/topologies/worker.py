"""The task processor: has tasks done, and sends their results and failures to the workflow."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Final, TypeAlias

from attrs import frozen

from spigot_topologies.errors import WireError, show, text_of
from spigot_topologies.topologies.callbacks import error_event
from spigot_topologies.topologies.refusals import Refusals
from spigot_topologies.topologies.topics import WorkflowTopic
from spigot_topologies.wire import (
    Event,
    EventHeaders,
    Extensions,
    Failure,
    Headers,
    Rejected,
    Result,
    TaskMessage,
    decode_task,
    encode,
    event_headers,
    extension_headers,
    read_event,
    read_extensions,
)
from streamlet import ControlError, MapValuesAsync, Processor, ProcessorContext, Record, TopologyError

__all__ = [
    "MAX_IN_FLIGHT",
    "RESULTS",
    "WORKER_EVENTS",
    "TaskRunner",
    "TaskWorker",
    "WorkerSupplier",
    "check_task_handler",
]

_log = logging.getLogger(__name__)

RESULTS: Final = "task-results"
WORKER_EVENTS: Final = "task-events"
MAX_IN_FLIGHT: Final = 64
_MAX_ERROR_TEXT: Final = 10_000


@frozen
class WorkerSupplier:
    """Makes the workers of the partitions; what `with_task_topology` was given.

    Attributes:
        handler: The user's task processor.
        tasks: The task topic.
        workflows: The workflow topic.
        events: The event topic, if events of errors are wanted.
        rejections: The topic for rejections, if they are to be published.
        dead_letter_topic: The topic for unreadable records; None: what the configuration says.
        max_in_flight: How many tasks of a partition may be in work at a time.
        task_timeout: How long `process_task` may take; None: any time.
    """

    handler: Any
    tasks: WorkflowTopic
    workflows: WorkflowTopic
    events: WorkflowTopic | None
    rejections: WorkflowTopic | None
    dead_letter_topic: str | None
    max_in_flight: int = MAX_IN_FLIGHT
    task_timeout: timedelta | None = None

    def __call__(self) -> TaskWorker:
        """What sends for one partition."""
        return TaskWorker(self)

    def runner(self) -> MapValuesAsync:
        """What does the tasks: of each record it makes an outcome, which the worker behind it sends.

        Raises:
            TopologyError: `max_in_flight` or `task_timeout` is wrong.
        """
        runner = TaskRunner(self)
        return MapValuesAsync(
            runner.run_coroutine if inspect.iscoroutinefunction(self.handler.process_task) else runner.run,
            self.max_in_flight,
            ordering="none",
            timeout=self.task_timeout,
            takes="record",
            recover=runner.gave_up,
        )


def check_task_handler(handler: Any) -> None:
    """Raises `TopologyError` for what is no task processor."""
    if isinstance(handler, type):
        raise TopologyError(f"{handler!r} is a class: give it an object of it, {handler.__name__}(...)")
    if not callable(getattr(handler, "process_task", None)):
        raise TopologyError(f"{handler!r} is no task processor: give it a method process_task(ctx, task)")
    if inspect.iscoroutinefunction(getattr(handler, "on_error", None)):
        raise TopologyError(f"on_error of {handler!r} must be a plain function: what it returns is the event")


@frozen
class _Origin:
    """Where a task came from.

    Attributes:
        key: The workflow's key, for what is sent back.
        extensions: What the manager said beside the message; None: it is not of this library.
        told: What it said about the workflow.
    """

    key: bytes
    extensions: Extensions | None
    told: EventHeaders | None


@frozen
class _Refused:
    """A record that is no task, with why."""

    value: bytes | None
    reason: str
    detail: str


@frozen
class _Job:
    """A task that can be done.

    Attributes:
        task: The task.
        origin: Where it came from.
        value: The record's value, in case there is no way to send what comes of it.
    """

    task: TaskMessage
    origin: _Origin
    value: bytes | None


@frozen
class _Done:
    """A task that was done, with its result."""

    job: _Job
    result: Mapping[Any, Any] | None


@frozen
class _Failed:
    """A task that failed."""

    job: _Job
    error: BaseException


_Outcome: TypeAlias = _Refused | _Done | _Failed


class TaskRunner:
    """Does tasks, many at a time: in threads, or on the event loop if the handler is a coroutine function."""

    def __init__(self, settings: WorkerSupplier) -> None:
        self._settings = settings
        self._process_task: Callable[[Any, list[Any]], Any] = settings.handler.process_task

    def run(self, record: Record[bytes, bytes]) -> _Outcome | Awaitable[_Outcome]:
        """Do a record's task; called in a thread. What the handler returns may be awaitable."""
        job = self._job(record)
        if isinstance(job, _Refused):
            return job
        try:
            result = self._process_task(job.task.ctx, job.task.task)
            if inspect.isawaitable(result):
                return _finish(job, result)
            return _done(job, result)
        except (Exception, SystemExit) as error:  # who calls sys.exit in a task means the task, not all the others
            return _Failed(job, error)

    async def run_coroutine(self, record: Record[bytes, bytes]) -> _Outcome:
        """Do a record's task; called on the event loop."""
        job = self._job(record)
        if isinstance(job, _Refused):
            return job
        return await _finish(job, self._process_task(job.task.ctx, job.task.task))

    def gave_up(self, record: Record[bytes, bytes], error: Exception) -> _Outcome:
        """What becomes of a task whose time is up."""
        job = self._job(record)
        return job if isinstance(job, _Refused) else _Failed(job, error)

    def _job(self, record: Record[bytes, bytes]) -> _Job | _Refused:
        task = decode_task(record.value, self._settings.tasks.codec)
        if isinstance(task, Rejected):
            return _Refused(record.value, task.reason, task.detail)
        try:
            origin = self._origin(record, task)
        except WireError as error:
            return _Refused(record.value, "unknown-message", f"workflow-id has no form as a key: {error}")
        if len(origin.key) > self._settings.workflows.max_bytes // 4:
            return _Refused(record.value, "oversize", f"a workflow-id of {len(origin.key):,} bytes")
        return _Job(task, origin, record.value)

    def _origin(self, record: Record[bytes, bytes], task: TaskMessage) -> _Origin:
        """Where the task came from: from the headers of a manager of this library, else as good as it can be known."""
        extensions = read_extensions(record.key, record.headers)
        told = read_event(record.headers) if extensions is not None else None
        if extensions is None or told is None:
            return _Origin(self._settings.workflows.key_serde.serialize(task.workflow_id), None, None)
        return _Origin(told.workflow_id, extensions, told)


def _done(job: _Job, result: Any) -> _Done:
    if result is not None and not isinstance(result, Mapping):
        raise TypeError(
            f"process_task must return a map or None for task {job.task.tag}, not a {type(result).__name__}"
        )
    return _Done(job, result)


async def _finish(job: _Job, result: Awaitable[Any]) -> _Outcome:
    try:
        return _done(job, await result)
    except (Exception, SystemExit, asyncio.CancelledError) as error:  # cancelled by the runner: nobody looks at it
        return _Failed(job, error)


class TaskWorker(Processor[bytes, _Outcome, bytes, bytes]):
    """Sends what came of the tasks of one partition of the task topic."""

    def __init__(self, settings: WorkerSupplier) -> None:
        self._settings = settings
        self._on_error: Callable[..., Any] | None = getattr(settings.handler, "on_error", None)

    def init(self, context: ProcessorContext[bytes, bytes]) -> None:
        """Takes note of where to send."""
        self.context = context
        self._refusals = Refusals(context, self._settings.rejections, self._settings.dead_letter_topic, "task")

    def process(self, record: Record[bytes, _Outcome]) -> None:
        """Sends an outcome."""
        match record.value:
            case _Refused(value, reason, detail):
                self._refuse(record, value, reason, detail)
            case _Done(job, result):
                try:
                    self._send(job.origin, Result(job.task.task_id, result), record.timestamp)
                except ControlError:
                    raise
                except Exception as error:
                    self._fail(record, job, error)
            case _Failed(job, error):
                self._fail(record, job, error)

    def _fail(self, record: Record[bytes, _Outcome], job: _Job, error: BaseException) -> None:
        try:
            self._failed(job.origin, job.task, error, record.timestamp)
        except WireError as unsent:
            self._refuse(record, job.value, unsent.reason, f"its failure cannot be sent: {unsent}")

    def _refuse(self, record: Record[bytes, _Outcome], value: bytes | None, reason: str, detail: str) -> None:
        self._refusals.refuse(Record(record.key, value, record.timestamp, record.headers), reason, detail)

    # --- what is sent -------------------------------------------------------------------------------------------------

    def _send(self, origin: _Origin, message: Result | Failure, timestamp: int) -> None:
        topic = self._settings.workflows
        headers: Headers = [] if origin.extensions is None else extension_headers(origin.key, origin.extensions)
        data = encode(message, topic.codec, max_bytes=topic.room_for_value(origin.key, headers))
        self.context.forward(Record(origin.key, data, timestamp, headers), RESULTS)

    def _failed(self, origin: _Origin, task: TaskMessage, error: BaseException, timestamp: int) -> None:
        # the workflow decides whether this is a failure or the plan's ordinary course
        _log.info(
            "task %s (%s) failed: %s", task.tag, task.task_id, show(error), exc_info=_log.isEnabledFor(logging.DEBUG)
        )
        self._publish(origin, task, error, timestamp)
        if origin.extensions is None:
            return  # a manager that does not understand failure messages: it would die of one
        message = text_of(error, _MAX_ERROR_TEXT)
        failure = Failure(task.task_id, {"message": message, "type": type(error).__name__})
        self._send(origin, failure, timestamp)

    def _publish(self, origin: _Origin, task: TaskMessage, error: BaseException, timestamp: int) -> None:
        value: Any
        if self._on_error is None:
            return
        try:
            value = self._on_error(task.ctx, error, None)
        except ControlError:
            raise
        except Exception as second:
            _log.warning("on_error for task %s (%s) raised %s", task.tag, task.task_id, show(second), exc_info=second)
            value = error_event(second)
        topic = self._settings.events
        if topic is None:
            return
        headers: Headers = []
        if origin.told is not None:
            headers = event_headers(EventHeaders(origin.key, origin.told.run_id, "running", origin.told.sequence))
        try:
            data = encode(Event(value), topic.codec, max_bytes=topic.room_for_value(origin.key, headers))
        except Exception as unwritable:  # a value of the handler's own classes may raise anything
            data = encode(Event(error_event(unwritable)), topic.codec)
        self.context.forward(Record(origin.key, data, timestamp, headers), WORKER_EVENTS)
