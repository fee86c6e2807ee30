"""Times in the metadata of committed offsets: they survive restarts, so that late records stay late.

The text is base64 of a version byte and the partition's time (8 bytes), as Kafka Streams writes it; behind that come
the numbers that nodes remember, 16 bytes each: 8 that stand for the name, 8 of the number. Brokers take 4,096
characters of metadata by default, which is enough for 190 numbers. Records in flight may follow: see `in_flight`.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from hashlib import blake2b

from streamlet.runtime.in_flight import without_in_flight

_TIME = struct.Struct(">bq")
_NUMBER = struct.Struct(">8sq")
_PLAIN = 1
_WITH_NUMBERS = 2


def number_id(name: str) -> bytes:
    """Return the eight bytes that stand for a name."""
    return blake2b(name.encode(), digest_size=8).digest()


def encode_times(partition_time: int, numbers: Mapping[bytes, int]) -> str:
    """Return the metadata that carries a partition's time (ms) and the numbers of nodes, by `number_id`."""
    head = _TIME.pack(_WITH_NUMBERS if numbers else _PLAIN, partition_time)
    return base64.b64encode(head + b"".join(_NUMBER.pack(*number) for number in numbers.items())).decode()


def decode_times(metadata: str | None) -> tuple[int, dict[bytes, int]]:
    """Return the partition's time, -1 if the text carries none, and the numbers of nodes."""
    if not metadata:
        return -1, {}
    try:
        data = base64.b64decode(without_in_flight(metadata), validate=True)
        version, partition_time = _TIME.unpack_from(data)
        numbers = dict(_NUMBER.iter_unpack(data[_TIME.size :])) if version == _WITH_NUMBERS else {}
    except (ValueError, struct.error):
        return -1, {}
    return (int(partition_time), numbers) if version >= _PLAIN else (-1, {})
