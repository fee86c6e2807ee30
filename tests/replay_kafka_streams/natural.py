"""A serde for whatever a recording holds: Java's bytes for each type, and back to the value that was written."""

from __future__ import annotations

import struct
from typing import Any

from streamlet import serdes
from streamlet.records import Windowed


class NaturalSerde(serdes.Serde[Any]):
    """Writes strings, integers (32 bits as far as they fit), floats and windowed keys as Java's serdes do.

    The bytes do not tell their type, so it remembers what it wrote; strange bytes are read as text. One for a case.
    """

    immutable = True

    def __init__(self) -> None:
        self._written: dict[bytes, Any] = {}

    def serialize(self, value: Any, /) -> bytes:
        """Return the bytes of a value; None for None."""
        if value is None:
            return None  # type: ignore[return-value]  # null-safe as the library's own
        data = _encode(value)
        known = self._written.setdefault(data, value)
        if known != value or type(known) is not type(value):
            raise ValueError(f"{value!r} and {known!r} have the same bytes {data!r}")
        return data

    def deserialize(self, data: bytes, /) -> Any:
        """Return the value that was written as these bytes; None for None."""
        if data is None:
            return None
        if data in self._written:
            return self._written[data]
        return data.decode()


def _encode(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bool):
        return b"\x01" if value else b"\x00"
    if isinstance(value, int):
        return struct.pack(">i" if -(2**31) <= value < 2**31 else ">q", value)
    if isinstance(value, float):
        return struct.pack(">d", value)
    if isinstance(value, Windowed):
        return _encode(value.key) + struct.pack(">qq", value.window.end, value.window.start)
    if isinstance(value, tuple):  # kept apart from text by its first byte
        parts = [b"\xff\xff\xff\xff" if item is None else _sized(_encode(item)) for item in value]
        return b"\x00" + b"".join(parts)
    raise TypeError(f"no bytes for {value!r}")


def _sized(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data
