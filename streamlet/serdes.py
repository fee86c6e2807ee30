"""Bytes to values and back: the base class, and the serdes for common types.

Numbers are big-endian as in Java's clients, so both sides of a topic may be in either language. None never reaches a
serde from the library (a null key or value stays null); the serdes here also return None for None when called directly.
"""

from __future__ import annotations

import datetime as dt
import enum
import math
import struct
import types
import typing
import uuid as _uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from typing import Any, Generic, TypeVar

import attrs
import orjson
from cattrs.preconf.orjson import make_converter

from streamlet.errors import SerializationError
from streamlet.records import Window, Windowed
from streamlet.time import milliseconds

FOREVER_MS = 2**63 - 1
"""Where a window ends that does not end (ms)."""

T = TypeVar("T")


class Serde(ABC, Generic[T]):
    """Turns values of one type into bytes and back.

    Attributes:
        immutable: True if no value it returns or takes can be changed in place (numbers, strings, frozen classes).
            Stores then keep the objects themselves in their buffer; otherwise they keep bytes, which is slower.
    """

    immutable: bool = False

    @abstractmethod
    def serialize(self, value: T, /) -> bytes:
        """Return the bytes of a value.

        Raises:
            SerializationError: If the value is not of this serde's type. (Any other exception is treated alike.)
        """

    @abstractmethod
    def deserialize(self, data: bytes, /) -> T:
        """Return the value of these bytes.

        Raises:
            SerializationError: If they are no value of this type. (Any other exception is treated alike.)
        """

    @property
    def encoder(self) -> Callable[[T], bytes]:
        """The quickest function that does what `serialize` does for a value that is not None; for the record path."""
        return self.serialize

    @property
    def decoder(self) -> Callable[[bytes], T]:
        """The quickest function that does what `deserialize` does for bytes that are not None; for the record path."""
        return self.deserialize


class FunctionSerde(Serde[T]):
    """A serde made of two functions.

    Args:
        name: Shown in errors and in `repr`.
        encode: Value to bytes; may raise anything.
        decode: Bytes to value; may raise anything.
        immutable: See `Serde`.
    """

    def __init__(
        self, name: str, encode: Callable[[T], bytes], decode: Callable[[bytes], T], *, immutable: bool = False
    ) -> None:
        self.name = name
        self.immutable = immutable
        self._encode = encode
        self._decode = decode

    def serialize(self, value: T, /) -> bytes:
        """Return the bytes of a value; None for None."""
        if value is None:
            return None  # type: ignore[return-value]  # null-safe at run time, see the module
        try:
            return self._encode(value)
        except SerializationError:
            raise
        except Exception as error:
            raise SerializationError(f"{self.name}: cannot serialise {_shorten(value)}: {error}") from error

    def deserialize(self, data: bytes, /) -> T:
        """Return the value of these bytes; None for None."""
        if data is None:
            return None
        try:
            return self._decode(data)
        except SerializationError:
            raise
        except Exception as error:
            raise SerializationError(f"{self.name}: cannot deserialise {_shorten(data)}: {error}") from error

    @property
    def encoder(self) -> Callable[[T], bytes]:
        """The bare function."""
        return self._encode

    @property
    def decoder(self) -> Callable[[bytes], T]:
        """The bare function."""
        return self._decode

    def __repr__(self) -> str:
        return f"serdes.{self.name}"


def _shorten(value: object) -> str:
    text = f"{type(value).__name__} {value!r}"
    return text if len(text) <= 120 else text[:117] + "..."


def _number(name: str, format: str, kind: type[T]) -> Serde[T]:
    packer = struct.Struct(format)
    pack, unpack = packer.pack, packer.unpack

    def decode(data: bytes) -> T:
        return unpack(data)[0]  # type: ignore[no-any-return]

    return FunctionSerde(name, typing.cast("Callable[[T], bytes]", pack), decode, immutable=True)


def _encode_bytes(value: bytes) -> bytes:
    if type(value) is not bytes:
        if not isinstance(value, bytes | bytearray | memoryview):
            raise SerializationError(f"bytes_: expected bytes, got {_shorten(value)}")
        return bytes(value)
    return value


def as_it_is(data: bytes) -> bytes:
    """The decoder of `bytes_`; the record path does without the call."""
    return data


def _encode_bool(value: bool) -> bytes:
    if value is True:
        return b"\x01"
    if value is False:
        return b"\x00"
    raise SerializationError(f"boolean: expected a bool, got {_shorten(value)}")


def _decode_bool(data: bytes) -> bool:
    if data == b"\x01":
        return True
    if data == b"\x00":
        return False
    raise SerializationError(f"boolean: expected the byte 0 or 1, got {_shorten(data)}")


def _encode_uuid(value: _uuid.UUID) -> bytes:
    if not isinstance(value, _uuid.UUID):
        raise SerializationError(f"uuid: expected a uuid.UUID, got {_shorten(value)}")
    return str(value).encode()


def _decode_uuid(data: bytes) -> _uuid.UUID:
    return _uuid.UUID(data.decode())


def _encode_json(value: Any) -> bytes:
    data = orjson.dumps(value)
    # Nothing to replace gives the same object back, at a third of what `in` costs for bytes.
    if data.replace(b"null", b"") is not data and _holds_no_number(value):
        raise SerializationError("json: NaN and infinities are not JSON; replace them before writing")
    return data


def _holds_no_number(value: Any) -> bool:
    """Tell whether a NaN or an infinity is in there, which orjson would turn into null in silence."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, float):
            if not math.isfinite(item):
                return True
        elif isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list | tuple):
            pending.extend(item)
        elif attrs.has(type(item)):
            pending.extend(attrs.astuple(item, recurse=False))
        elif hasattr(item, "__dataclass_fields__"):
            pending.extend(getattr(item, name) for name in item.__dataclass_fields__)
    return False


string: Serde[str] = FunctionSerde("string", str.encode, bytes.decode, immutable=True)
"""UTF-8 text."""
bytes_: Serde[bytes] = FunctionSerde("bytes_", _encode_bytes, as_it_is, immutable=True)
"""Bytes as they are."""
int16: Serde[int] = _number("int16", ">h", int)
"""Java's Short: two bytes, big-endian."""
int32: Serde[int] = _number("int32", ">i", int)
"""Java's Integer: four bytes, big-endian."""
int64: Serde[int] = _number("int64", ">q", int)
"""Java's Long: eight bytes, big-endian."""
float32: Serde[float] = _number("float32", ">f", float)
"""Java's Float: four bytes, big-endian."""
float64: Serde[float] = _number("float64", ">d", float)
"""Java's Double: eight bytes, big-endian."""
boolean: Serde[bool] = FunctionSerde("boolean", _encode_bool, _decode_bool, immutable=True)
"""One byte, 0 or 1."""
uuid: Serde[_uuid.UUID] = FunctionSerde("uuid", _encode_uuid, _decode_uuid, immutable=True)
"""The printed form, as Java's UUIDSerializer writes it."""
json: Serde[Any] = FunctionSerde("json", _encode_json, orjson.loads)
"""Any JSON value, by orjson; NaN and infinities are refused rather than turned into null."""

_converter = make_converter()
for _type, _write, _read in (
    (_uuid.UUID, str, lambda text, _: _uuid.UUID(text)),
    (Decimal, str, lambda text, _: Decimal(text)),
    (dt.time, dt.time.isoformat, lambda text, _: dt.time.fromisoformat(text)),
    (dt.timedelta, dt.timedelta.total_seconds, lambda seconds, _: dt.timedelta(seconds=seconds)),
):
    _converter.register_unstructure_hook(_type, _write)
    _converter.register_structure_hook(_type, _read)


def json_of(type_: type[T], /) -> Serde[T]:
    """Return the serde that writes an attrs class, a dataclass or another typed value as JSON.

    Fields are converted by cattrs (datetimes as ISO 8601, UUIDs and decimals as text, enums by value). The serde
    is `immutable` if the class is frozen and all its fields are of immutable types.

    Raises:
        SerializationError: Now, if the type cannot be converted; on use, if a value or its bytes do not fit (the
            message names the field).
    """
    return _json_of(typing.cast(Any, type_))


@cache  # here, not above: `cache` would hide the generic signature from type checkers
def _json_of(type_: Any) -> Serde[Any]:
    if type_ is typing.Any:
        return json
    name = f"json_of({getattr(type_, '__qualname__', type_)})"
    try:
        structure = _converter.get_structure_hook(type_)
        unstructure = _converter.get_unstructure_hook(type_)
    except Exception as error:
        raise SerializationError(f"{name}: {error}") from error
    exact = type_ if isinstance(type_, type) and (attrs.has(type_) or hasattr(type_, "__dataclass_fields__")) else None

    def encode(value: Any) -> bytes:
        if exact is not None and not isinstance(value, exact):
            raise SerializationError(f"{name}: expected a {exact.__qualname__}, got {_shorten(value)}")
        return _encode_json(unstructure(value))

    def decode(data: bytes) -> Any:
        raw = orjson.loads(data)
        try:
            return structure(raw, type_)
        except Exception as error:
            raise SerializationError(f"{name}: {_reasons(error)}") from error

    return FunctionSerde(name, encode, decode, immutable=is_immutable(type_))


def _reasons(error: BaseException) -> str:
    """Flatten cattrs' exception groups to one line that names the fields."""
    if isinstance(error, BaseExceptionGroup):
        notes = [
            f"{_reasons(inner)} ({'; '.join(map(str, getattr(inner, '__notes__', ())))})".replace(" ()", "")
            for inner in error.exceptions
        ]
        return ", ".join(notes)
    return f"{type(error).__name__}: {error}"


_IMMUTABLE: frozenset[Any] = frozenset(
    {
        str, bytes, int, float, bool, complex, type(None), Decimal, _uuid.UUID,
        dt.datetime, dt.date, dt.time, dt.timedelta, dt.timezone,
    }
)  # fmt: skip


def is_immutable(type_: Any) -> bool:
    """Tell whether no value of a type can be changed in place, looking into fields and type arguments."""
    return _is_immutable(type_, frozenset())


def _is_immutable(type_: Any, seen: frozenset[Any]) -> bool:
    if type_ in _IMMUTABLE or type_ is Ellipsis or type_ in seen:
        return True
    origin, arguments = typing.get_origin(type_), typing.get_args(type_)
    if origin is typing.Literal:
        return True
    if origin in (typing.Union, types.UnionType, tuple, frozenset, typing.Annotated):
        inner = arguments[:1] if origin is typing.Annotated else arguments
        return bool(inner) and all(_is_immutable(argument, seen) for argument in inner)
    if not isinstance(type_, type):
        return False
    if issubclass(type_, enum.Enum):
        return True
    frozen_attrs = attrs.has(type_) and type_.__setattr__ is not object.__setattr__ and _is_frozen_attrs(type_)
    parameters = getattr(type_, "__dataclass_params__", None)
    if not frozen_attrs and not (parameters is not None and parameters.frozen):
        return False
    try:
        hints = typing.get_type_hints(type_)
    except Exception:  # a name that cannot be resolved: keep bytes, the safe side
        return False
    names = [f.name for f in type_.__attrs_attrs__] if frozen_attrs else list(type_.__dataclass_fields__)  # type: ignore[attr-defined]
    return all(_is_immutable(hints.get(name), seen | {type_}) for name in names)


def _is_frozen_attrs(type_: type) -> bool:
    return "_frozen_setattrs" in getattr(type_.__setattr__, "__name__", "")


class _WindowedSerde(Serde[Windowed[T]]):
    """Writes a key, then times of its window (8 bytes each)."""

    def __init__(self, name: str, inner: Serde[T], times: struct.Struct) -> None:
        self._name = name
        self._inner = inner
        self._times = times
        self._bytes_of_inner, self._inner_of_bytes = inner.encoder, inner.decoder
        self.immutable = inner.immutable

    def serialize(self, value: Windowed[T], /) -> bytes:
        """Return the bytes of a key within a window; None for None."""
        if value is None:
            return None
        if not isinstance(value, Windowed):
            raise SerializationError(f"{self._name}: expected a Windowed key, got {_shorten(value)}")
        try:
            return self.encoder(value)
        except SerializationError:
            raise
        except Exception as error:
            raise SerializationError(f"{self._name}: cannot serialise {_shorten(value)}: {error}") from error

    def deserialize(self, data: bytes, /) -> Windowed[T]:
        """Return the key within a window of these bytes; None for None."""
        if data is None:
            return None
        try:
            return self.decoder(data)
        except SerializationError:
            raise
        except Exception as error:
            raise SerializationError(f"{self._name}: cannot deserialise {_shorten(data)}: {error}") from error

    def _split(self, data: bytes) -> tuple[T, tuple[int, ...]]:
        length = len(data) - self._times.size
        if length < 0:
            raise SerializationError(f"{self._name}: {_shorten(data)} is too short to hold the times of a window")
        return self._inner_of_bytes(data[:length]), self._times.unpack_from(data, length)

    def __repr__(self) -> str:
        return f"serdes.{self._name}"


class _TimeWindowedSerde(_WindowedSerde[T]):
    def __init__(self, inner: Serde[T], size_ms: int) -> None:
        super().__init__(f"time_windowed({inner!r}, {size_ms} ms)", inner, struct.Struct(">Q"))
        self._size_ms = size_ms

    @property
    def encoder(self) -> Callable[[Windowed[T]], bytes]:
        """The bare function."""
        inner, pack = self._bytes_of_inner, self._times.pack
        return lambda value: inner(value.key) + pack(value.window.start)

    @property
    def decoder(self) -> Callable[[bytes], Windowed[T]]:
        """The bare function."""
        size_ms, split = self._size_ms, self._split

        def decode(data: bytes) -> Windowed[T]:
            key, (start,) = split(data)
            return Windowed(key, Window(start, min(start + size_ms, FOREVER_MS)))

        return decode


class _SessionWindowedSerde(_WindowedSerde[T]):
    def __init__(self, inner: Serde[T]) -> None:
        super().__init__(f"session_windowed({inner!r})", inner, struct.Struct(">QQ"))

    @property
    def encoder(self) -> Callable[[Windowed[T]], bytes]:
        """The bare function."""
        inner, pack = self._bytes_of_inner, self._times.pack
        return lambda value: inner(value.key) + pack(value.window.end, value.window.start)

    @property
    def decoder(self) -> Callable[[bytes], Windowed[T]]:
        """The bare function."""
        split = self._split

        def decode(data: bytes) -> Windowed[T]:
            key, (end, start) = split(data)
            return Windowed(key, Window(start, end))

        return decode


def time_windowed(inner: Serde[T], size: dt.timedelta) -> Serde[Windowed[T]]:
    """Return the serde of keys within time windows: the key, then the window's start (8 bytes), as in Kafka Streams.

    Args:
        inner: Serde of the keys.
        size: Length of the windows (of sliding windows: the time difference): it is not written, and tells where a
            window ends.

    Raises:
        SerializationError: If the size is negative.
    """
    if not isinstance(size, dt.timedelta) or size < dt.timedelta(0):
        raise SerializationError(f"time_windowed: the size of the windows must be a timedelta from 0 on, not {size!r}")
    return _TimeWindowedSerde(inner, FOREVER_MS if size == dt.timedelta.max else milliseconds(size))


def session_windowed(inner: Serde[T]) -> Serde[Windowed[T]]:
    """Return the serde of keys within sessions: the key, the session's end, its start (8 bytes each), as in Kafka
    Streams."""
    return _SessionWindowedSerde(inner)
