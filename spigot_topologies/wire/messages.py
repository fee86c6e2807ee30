"""The messages, and the plain data they are on the wire: exactly the original's, and one of our own for failures.

| message | topic | on the wire |
|---|---|---|
| `Create` | workflow | `[:spigot.controllers.kafka.topologies/create! params ctx]` |
| `Result` | workflow | `[:spigot.controllers.kafka.topologies/result {:spigot/id id, :spigot/result map-or-nil}]` |
| `Failure` | workflow | `[:spigot.controllers.kafka.topologies/failure {:spigot/id id, :spigot/error map}]` |
| `TaskMessage` | task | `{:ctx ctx, :task [tag params], :workflow wf, :workflow-id id}` |
| `Event` | event | the value a handler returned |

In JSON the same, with strings for the keywords, and without `:workflow`. The original sends the whole workflow with
each task, though its worker does no more than hand it to the error handler. Here `:workflow` is this one task in the
form of a workflow of the original: whatever a Clojure error handler asks of it (the status, which is running) has an
answer, and its size does not grow. Python's workers read the message without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from attrs import field, frozen

from spigot_topologies.errors import show
from spigot_topologies.values import Keyword
from spigot_topologies.values.tagged import build_map, build_set
from spigot_topologies.wire.naming import keyword, named_plan

__all__ = [
    "Command",
    "Create",
    "Event",
    "Failure",
    "Message",
    "Rejected",
    "Result",
    "TaskMessage",
    "from_data",
    "to_clojure",
    "to_data",
]

_NAMESPACE = "spigot.controllers.kafka.topologies"
_CREATE = Keyword(f"{_NAMESPACE}/create!")
_RESULT = Keyword(f"{_NAMESPACE}/result")
_FAILURE = Keyword(f"{_NAMESPACE}/failure")
_ID = Keyword("spigot/id")
_FORM = "workflows/form"
_SCOPE = "workflows/ctx"


@frozen
class Create:
    """Starts a workflow, whose id is the record's key.

    Attributes:
        params: `{"workflows/form": plan, "workflows/ctx": scope, ...}`.
        ctx: The caller's own data, which every callback and every task gets.
    """

    params: Mapping[Any, Any]
    ctx: Any = None

    @property
    def plan(self) -> Any:
        """The plan, None if there is none; not checked."""
        return self.params.get(_FORM)

    @property
    def scope(self) -> Any:
        """The first scope; None is the empty one."""
        return self.params.get(_SCOPE)

    @property
    def extra(self) -> dict[Any, Any]:
        """The further params, which are kept on the workflow."""
        return {key: value for key, value in self.params.items() if key not in (_FORM, _SCOPE)}


@frozen
class Result:
    """A task has succeeded. `result` should be a map or None; that is for the engine to judge."""

    task_id: Any
    result: Any = None


@frozen
class Failure:
    """A task has failed. `error` should be a map with a `message`; that is for the engine to judge."""

    task_id: Any
    error: Any = None


@frozen
class TaskMessage:
    """A task to do.

    Attributes:
        ctx: The workflow's ctx.
        tag: The task's tag.
        params: Its parameters; under `spigot/id` its id, which is the record's key too.
        workflow_id: The workflow's id: the key for the result.
    """

    ctx: Any
    tag: str
    params: Mapping[Any, Any]
    workflow_id: Any

    @property
    def task_id(self) -> Any:
        """The task's id."""
        return self.params.get(_ID)

    @property
    def task(self) -> list[Any]:
        """The task as `process_task` gets it: `[tag, params]`."""
        return [self.tag, self.params]


@frozen
class Event:
    """What a handler returned, for the event topic: any value, None as well."""

    value: Any = None


@frozen
class Rejected:
    """Why bytes are no message.

    Attributes:
        reason: `"unreadable"`: not of the codec; or `"unknown-message"`: no message of this topic.
        detail: What is wrong.
    """

    reason: str
    detail: str = field(eq=False)


Command: TypeAlias = Create | Result | Failure
Message: TypeAlias = Command | TaskMessage


def to_data(message: Any) -> Any:
    """The message as plain data, for Python to read; what is no message is returned as it is."""
    match message:
        case Create(params, ctx):
            return [str(_CREATE), params, ctx]
        case Result(task_id, result):
            return [str(_RESULT), {"spigot/id": task_id, "spigot/result": result}]
        case Failure(task_id, error):
            return [str(_FAILURE), {"spigot/id": task_id, "spigot/error": error}]
        case TaskMessage(ctx, tag, params, workflow_id):
            return {"ctx": ctx, "task": [tag, params], "workflow-id": workflow_id}
        case Event(value):
            return value
    return message


def to_clojure(message: Any) -> Any:
    """The message as data for Clojure to read, to be written by `edn.dumps_named`.

    Raises:
        WireError: `unwritable`: a plan that is nested without end.
    """
    match message:
        case Create(params, ctx):
            return [_CREATE, {k: named_plan(v) if k == _FORM else v for k, v in params.items()}, ctx]
        case Result(task_id, result):
            return [_RESULT, {_ID: task_id, "spigot/result": result}]
        case Failure(task_id, error):
            return [_FAILURE, {_ID: task_id, "spigot/error": error}]
        case TaskMessage(ctx, tag, params, workflow_id):
            tag = keyword(tag)
            return {
                "ctx": ctx,
                "task": [tag, params],
                "workflow": _lone_task(tag, params.get(_ID)),
                "workflow-id": workflow_id,
            }
        case Event(value):
            return value
    return message


def _lone_task(tag: str, task_id: Any) -> dict[str, Any]:
    task = [tag, {_ID: task_id, "spigot/realized?": True}]
    return {
        "root-id": task_id,
        "scope": {},
        "sub-scope": {},
        "tasks": build_map([task_id, task]),
        "running": build_set([task_id]),
        "results": {},
    }


def from_data(data: Any) -> Message | Rejected:
    """The message this data is, or why it is none (`unknown-message`). Never an exception."""
    if isinstance(data, Mapping):
        return _task_message(data)
    if not isinstance(data, list | tuple) or not data:
        return _unknown(f"a message is a list with its name first, or a task's map, not {show(data)}")
    name, *arguments = data
    if name == _CREATE:
        if len(arguments) not in (1, 2) or not isinstance(arguments[0], Mapping):
            return _unknown(f"create! takes a map of params and a ctx, not {show(arguments)}")
        return Create(*arguments)
    if name in (_RESULT, _FAILURE):
        if len(arguments) != 1 or not isinstance(arguments[0], Mapping) or _ID not in arguments[0]:
            return _unknown(f"{name} takes a map with spigot/id, not {show(arguments)}")
        if name == _RESULT:
            return Result(arguments[0][_ID], arguments[0].get("spigot/result"))
        return Failure(arguments[0][_ID], arguments[0].get("spigot/error"))
    return _unknown(f"no message has the name {show(name)}")


def _task_message(data: Mapping[Any, Any]) -> TaskMessage | Rejected:
    task = data.get("task")
    if not isinstance(task, list | tuple) or len(task) != 2 or not isinstance(task[0], str) or not task[0]:
        return _unknown(f"a task message needs task, a list of tag and params, not {show(task)}")
    tag, params = task
    if not isinstance(params, Mapping) or params.get(_ID) is None:
        return _unknown(f"a task's params are a map with spigot/id, not {show(params)}")
    if data.get("workflow-id") is None:
        return _unknown("a task message needs workflow-id: the key for the result")
    return TaskMessage(data.get("ctx"), tag, params, data["workflow-id"])


def _unknown(detail: str) -> Rejected:
    return Rejected("unknown-message", detail)
