"""The stored form of a batch of records: one blob, in columns.

Layout, little-endian: one byte format version (1), one byte flags, two bytes reserved, the record count as uint32;
then for each record its timestamp (int64), key length and value length (int32, -1 for None); where flag 1 is set, the
distance of each offset from the first (uint32), which compaction leaves irregular; where flag 2 is set, the length of
each record's headers (int32, 0 for none); then all keys, all values and all headers, each without separators.

Columns make both directions a handful of passes in C: about 0.3 µs a record, against ten times that for a loop of
`struct` calls over Kafka's own format.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise

from streamlet.clients.embedded.message import Message
from streamlet.errors import StreamsError

FORMAT = 1
_HEAD = struct.Struct("<BBHI")
_SPARSE, _HEADERS = 1, 2
_SWAP = sys.byteorder == "big"


def encode(messages: Sequence[Message], *, first_offset: int | None = None) -> bytes:
    """The batch's blob.

    Args:
        messages: The records, in order.
        first_offset: Given where the offsets have holes: the offset that the distances count from.
    """
    keys = [m._key for m in messages]
    values = [m._value for m in messages]
    flags = 0
    offsets = headers_lengths = headers = b""
    if first_offset is not None:
        flags |= _SPARSE
        offsets = _column("I", [(m._offset or 0) - first_offset for m in messages])
    if any([m._headers for m in messages]):  # noqa: C419 - a list is measurably faster than a generator here
        flags |= _HEADERS
        encoded = [_encode_headers(m._headers) if m._headers else b"" for m in messages]
        headers_lengths = _column("i", map(len, encoded))
        headers = b"".join(encoded)
    return b"".join(
        (
            _HEAD.pack(FORMAT, flags, 0, len(messages)),
            _column("q", [m._timestamp[1] for m in messages]),
            _column("i", [-1 if k is None else len(k) for k in keys]),
            _column("i", [-1 if v is None else len(v) for v in values]),
            offsets,
            headers_lengths,
            _joined(keys),
            _joined(values),
            headers,
        )
    )


def decode(blob: bytes, topic: str, partition: int, base: int, epoch: int, timestamp_type: int) -> list[Message]:
    """The messages of a blob that begins at offset `base`.

    Raises:
        StreamsError: The blob is damaged, or of a format this version does not know.
    """
    try:
        version, flags, _, count = _HEAD.unpack_from(blob)
        if version != FORMAT:
            raise StreamsError(
                f"{topic}[{partition}] offset {base}: batch format {version} is not known; use a newer streamlet"
            )
        at = _HEAD.size
        timestamps, at = _read("q", blob, at, count)
        key_lengths, at = _read("i", blob, at, count)
        value_lengths, at = _read("i", blob, at, count)
        offsets: Iterable[int] = range(base, base + count)
        if flags & _SPARSE:
            distances, at = _read("I", blob, at, count)
            offsets = [base + d for d in distances]
        headers: list[list[tuple[str, bytes | None]] | None] = [None] * count
        header_lengths: array[int] | None = None
        if flags & _HEADERS:
            header_lengths, at = _read("i", blob, at, count)
        keys, at = _slices(blob, at, key_lengths)
        values, at = _slices(blob, at, value_lengths)
        if header_lengths is not None:
            blobs, at = _slices(blob, at, header_lengths)
            headers = [_decode_headers(b) if b else None for b in blobs]
        if at != len(blob):
            raise ValueError("length")
    except (ValueError, struct.error, IndexError, UnicodeDecodeError) as error:
        raise StreamsError(f"{topic}[{partition}] offset {base}: the stored batch is damaged ({error})") from error
    return [
        Message(topic, partition, offset, key, value, (timestamp_type, timestamp), header, epoch)
        for offset, key, value, timestamp, header in zip(offsets, keys, values, timestamps, headers)
    ]


def _column(kind: str, values: Iterable[int]) -> bytes:
    column = array(kind, values)
    if _SWAP:
        column.byteswap()
    return column.tobytes()


def _read(kind: str, blob: bytes, at: int, count: int) -> tuple[array[int], int]:
    column: array[int] = array(kind)
    end = at + column.itemsize * count
    if end > len(blob):
        raise ValueError("too short")
    column.frombytes(blob[at:end])
    if _SWAP:
        column.byteswap()
    return column, end


def _joined(parts: list[bytes | None]) -> bytes:
    try:
        return b"".join(parts)  # type: ignore[arg-type]  # None is the rare case, and join refuses it
    except TypeError:
        return b"".join([p for p in parts if p is not None])


def _slices(blob: bytes, at: int, lengths: array[int]) -> tuple[list[bytes | None], int]:
    if not lengths:
        return [], at
    if min(lengths) >= 0:
        ends = list(accumulate(lengths, initial=at))
        return [blob[a:b] for a, b in pairwise(ends)], ends[-1]
    ends = list(accumulate([max(length, 0) for length in lengths], initial=at))
    return [None if n < 0 else blob[a:b] for (a, b), n in zip(pairwise(ends), lengths)], ends[-1]


def _encode_headers(headers: list[tuple[str, bytes | None]]) -> bytes:
    parts = [struct.pack("<I", len(headers))]
    for name, value in headers:
        raw = name.encode()
        parts.append(struct.pack("<Ii", len(raw), -1 if value is None else len(value)))
        parts.append(raw)
        if value is not None:
            parts.append(value)
    return b"".join(parts)


def _decode_headers(blob: bytes) -> list[tuple[str, bytes | None]]:
    (count,) = struct.unpack_from("<I", blob)
    at = 4
    headers: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        name_length, value_length = struct.unpack_from("<Ii", blob, at)
        at += 8
        name = blob[at : at + name_length].decode()
        at += name_length
        if value_length < 0:
            headers.append((name, None))
        else:
            headers.append((name, blob[at : at + value_length]))
            at += value_length
    return headers
