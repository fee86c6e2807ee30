"""The bytes of a `Change` in the topic between a regrouped table and its aggregation, as Kafka Streams writes them.

The last byte says what is before it: 0 an old value, 1 a new value, 2 both, behind the zig-zag varint of the new
value's length (KIP-904). What Kafka Streams' versions before 3.5 write knows 0 and 1 only, so it is read, too.
"""

from __future__ import annotations

from typing import Any

from streamlet.dsl.change import Change
from streamlet.errors import SerializationError
from streamlet.serdes import Serde

_OLD, _NEW, _BOTH = b"\x00", b"\x01", b"\x02"


class ChangeSerde(Serde[Change]):
    """Serde of changes.

    Args:
        value_serde: Serde of the values.
    """

    def __init__(self, value_serde: Serde[Any]) -> None:
        self.immutable = value_serde.immutable
        self._value_serde = value_serde
        self._encode = value_serde.encoder
        self._decode = value_serde.decoder

    def serialize(self, value: Change, /) -> bytes:
        """Return the bytes of a change.

        Raises:
            SerializationError: If there is neither a new nor an old value.
        """
        new, old, _ = value
        if new is None:
            if old is None:
                raise SerializationError("a change from nothing to nothing has no bytes")
            return self._encode(old) + _OLD
        data = self._encode(new)
        if old is None:
            return data + _NEW
        return b"%b%b%b%b" % (_varint(len(data)), data, self._encode(old), _BOTH)

    def deserialize(self, data: bytes, /) -> Change:
        """Return the change of these bytes.

        Raises:
            SerializationError: If they are cut off, or of a format that is not known.
        """
        kind = data[-1:]
        if kind == _NEW:
            return self._decode(data[:-1]), None, True
        if kind == _OLD:
            return None, self._decode(data[:-1]), True
        if kind != _BOTH:
            raise SerializationError(f"a change of the unknown format {kind.hex() or '(no bytes)'}")
        length, start = _read_varint(data)
        end = start + length
        if length < 0 or end > len(data) - 1:
            raise SerializationError(f"a change of {len(data)} bytes cannot hold a new value of {length}")
        return self._decode(data[start:end]), self._decode(data[end:-1]), True

    def __repr__(self) -> str:
        return f"changes of {self._value_serde!r}"


def _varint(number: int) -> bytes:
    """Return the zig-zag varint of a length."""
    number <<= 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(data: bytes) -> tuple[int, int]:
    """Return a zig-zag varint at the start, and where it ends."""
    number = shift = 0
    for place, byte in enumerate(data[:5]):
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), place + 1
        shift += 7
    raise SerializationError("a change whose length does not end")
