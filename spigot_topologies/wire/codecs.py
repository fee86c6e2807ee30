"""The two codecs, and the serdes of the topics made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from attrs import fields, frozen, has

from spigot_topologies.errors import WireError, show
from spigot_topologies.wire import edn, json
from spigot_topologies.wire.messages import (
    Command,
    Create,
    Failure,
    Rejected,
    Result,
    TaskMessage,
    from_data,
    to_clojure,
    to_data,
)
from streamlet.serdes import Serde

__all__ = [
    "EDN",
    "JSON",
    "MAX_MESSAGE_BYTES",
    "Codec",
    "Serdes",
    "create_wf_msg",
    "decode_command",
    "decode_task",
    "encode",
    "serdes",
]

MAX_MESSAGE_BYTES: Final = 1_000_000
"""Bytes a message may have: Kafka's default limit for a record is 1,048,588, with key, headers and overhead."""

_DEEPEST_PLACE: Final = 16


@frozen
class Codec:
    """How values are written.

    Attributes:
        name: `"json"` or `"edn"`.
        write: A value as bytes, exactly.
        write_message: A message, or an event's value, as bytes for the other side to read.
        read: Bytes as the value.
    """

    name: str
    write: Callable[[Any], bytes]
    write_message: Callable[[Any], bytes]
    read: Callable[[bytes], Any]


JSON: Final = Codec("json", json.dumps, lambda message: json.dumps(to_data(message)), json.loads)
EDN: Final = Codec("edn", edn.dumps, lambda message: edn.dumps_named(to_clojure(message)), edn.loads)
_CODECS: Final = {codec.name: codec for codec in (JSON, EDN)}


def encode(message: Any, codec: Codec, *, max_bytes: int = MAX_MESSAGE_BYTES) -> bytes:
    """The bytes of a message, or of an event's value.

    Raises:
        WireError: `unwritable`: something inside has no form in this codec; `oversize`: more than `max_bytes`.
    """
    try:
        data = codec.write_message(message)
    except WireError as error:
        place = _place_of_fault(message, codec)
        if not place:
            raise
        raise WireError(error.reason, f"{error.detail}; it is at {place}", error.position) from error
    if len(data) > max_bytes:
        what = type(message).__name__
        raise WireError("oversize", f"a {what} of {len(data):,} bytes; at most {max_bytes:,} can be sent")
    return data


def _place_of_fault(message: Any, codec: Codec) -> str:
    """Where in a message the part is that cannot be written, like `['x'][3]`; empty where that cannot be told."""
    place, part = "", message
    for _ in range(_DEEPEST_PLACE):
        inner = next(((name, value) for name, value in _parts_of(part) if not _is_writable(value, codec)), None)
        if inner is None:
            return place
        name, part = inner
        place += str(name) if not place and has(type(message)) else f"[{show(name)}]"
    return ""  # nested without end, or too deep to be of use


def _parts_of(value: Any) -> Iterator[tuple[Any, Any]]:
    if has(type(value)):
        yield from ((field.name, getattr(value, field.name)) for field in fields(type(value)))
    elif isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list | tuple):
        yield from enumerate(value)


def _is_writable(value: Any, codec: Codec) -> bool:
    try:
        codec.write(value)
    except WireError:
        return False
    return True


def decode_command(data: bytes | None, codec: Codec) -> Command | Rejected:
    """The command in a record of the workflow topic, or why it is none. Never an exception, whatever the bytes."""
    message = _decode(data, codec)
    if isinstance(message, TaskMessage):
        return Rejected("unknown-message", "a task's message on the workflow topic")
    return message


def decode_task(data: bytes | None, codec: Codec) -> TaskMessage | Rejected:
    """The task in a record of the task topic, or why it is none. Never an exception, whatever the bytes."""
    message = _decode(data, codec)
    if isinstance(message, Create | Result | Failure):
        return Rejected("unknown-message", f"a {type(message).__name__} on the task topic")
    return message


def _decode(data: bytes | None, codec: Codec) -> Command | TaskMessage | Rejected:
    if data is None:
        return Rejected("unknown-message", "a record without a value")
    try:
        return from_data(codec.read(data))
    except WireError as error:
        return Rejected("unreadable", str(error))


class _KeySerde(Serde[Any]):
    """Keys: workflow ids and task ids, any value that the codec has a form for. Equal bytes are the same workflow."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def serialize(self, value: Any, /) -> bytes:
        """The key's bytes.

        Raises:
            WireError: `unwritable`.
        """
        return self._codec.write(value)

    def deserialize(self, data: bytes, /) -> Any:
        """The key.

        Raises:
            WireError: `unreadable`.
        """
        return self._codec.read(data)

    def __repr__(self) -> str:
        return f"<{self._codec.name} keys>"


class _ValueSerde(Serde[Any]):
    """Values of the workflow, task and event topics: messages as messages, anything else as data."""

    def __init__(self, codec: Codec, max_bytes: int) -> None:
        self._codec = codec
        self._max_bytes = max_bytes

    def serialize(self, value: Any, /) -> bytes:
        """The bytes of a message or of an event's value.

        Raises:
            WireError: `unwritable` or `oversize`.
        """
        return encode(value, self._codec, max_bytes=self._max_bytes)

    def deserialize(self, data: bytes, /) -> Any:
        """The message in the bytes, or the value where they are no message.

        Raises:
            WireError: `unreadable`.
        """
        value = self._codec.read(data)
        message = from_data(value)
        return value if isinstance(message, Rejected) else message

    def __repr__(self) -> str:
        return f"<{self._codec.name} messages>"


@frozen
class Serdes:
    """The serdes of a topic.

    Attributes:
        codec: What they are made of.
        key: For workflow ids and task ids.
        value: For messages, and for events.
    """

    codec: Codec
    key: Serde[Any]
    value: Serde[Any]


def serdes(codec: str = "json", *, max_bytes: int = MAX_MESSAGE_BYTES) -> Serdes:
    """The serdes for a topic in the given codec, `"json"` or `"edn"`.

    Args:
        codec: `"json"` between Python processes, `"edn"` with a Clojure program on the other side.
        max_bytes: The largest value that is sent.

    Raises:
        ValueError: there is no such codec.
    """
    if codec not in _CODECS:
        raise ValueError(f"no codec {codec!r}; there are {' and '.join(map(repr, _CODECS))}")
    chosen = _CODECS[codec]
    return Serdes(chosen, _KeySerde(chosen), _ValueSerde(chosen, max_bytes))


def create_wf_msg(params: Mapping[Any, Any], ctx: Any = None) -> Create:
    """The message that starts a workflow: to be sent to the workflow topic, with the workflow's id as key.

    Whether the plan is a right one, the manager decides, which knows the directives there are; a refused one is
    recorded as a failed workflow. `plan.check` tells beforehand.

    Args:
        params: `{"workflows/form": plan, "workflows/ctx": scope}`, and what else is to be kept on the workflow.
        ctx: Data of your own, handed to every callback and task.

    Raises:
        WireError: `unwritable`: params is no map, has no plan or a scope that is no map, or holds what cannot be
            sent; `oversize`: the message has more than `MAX_MESSAGE_BYTES`.
    """
    if not isinstance(params, Mapping):
        raise WireError("unwritable", f"params must be a map with workflows/form, not {show(params)}")
    message = Create(params, ctx)
    plan = message.plan
    if not isinstance(plan, list | tuple) or not plan or not isinstance(plan[0], str):
        raise WireError("unwritable", f"workflows/form must be a plan, like ['spigot/serial', ...], not {show(plan)}")
    if message.scope is not None and not isinstance(message.scope, Mapping):
        raise WireError("unwritable", f"workflows/ctx must be a map, or nothing, not {show(message.scope)}")
    encode(message, EDN)  # which has a form for all that JSON has, and more
    return message
