"""The stored form of a batch of records: one blob, in columns.

Layout, little-endian: one byte format version (1), one byte flags, two bytes reserved, the record count as uint32;
then for each record its timestamp (int64), key length and value length (int32, -1 for None); where flag 1 is set,
each record's offset (int64), for compaction leaves holes; where flag 2 is set, the length of
each record's headers (int32, 0 for none); then all keys, all values and all headers, each without separators.

Columns make both directions a handful of passes in C: about 0.3 µs a record, against ten times that for a loop of
`struct` calls over Kafka's own format.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise, repeat

from streamlet.clients.embedded.message import Headers, Message
from streamlet.errors import StreamsError

FORMAT = 1
_HEAD = struct.Struct("<BBHI")
_SPARSE, _HEADERS = 1, 2
_SWAP = sys.byteorder == "big"


class Records:
    """Records in columns, as a batch holds them: plain bytes and numbers, which cost the garbage collector nothing.

    Attributes:
        offsets: Ascending; a range unless compaction left holes.
        keys: Bytes or None.
        values: Bytes or None.
        timestamps: ms since 1970.
        headers: The headers of each record, or None where no record has any.
    """

    __slots__ = ("headers", "keys", "offsets", "timestamps", "values")

    def __init__(
        self,
        offsets: Sequence[int],
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        timestamps: Sequence[int],
        headers: Sequence[Headers | None] | None,
    ) -> None:
        self.offsets = offsets
        self.keys = keys
        self.values = values
        self.timestamps = timestamps
        self.headers = headers

    def __len__(self) -> int:
        return len(self.keys)

    def part(self, start: int, stop: int) -> Records:
        """Some of them."""
        headers = None if self.headers is None else self.headers[start:stop]
        return Records(
            self.offsets[start:stop],
            self.keys[start:stop],
            self.values[start:stop],
            self.timestamps[start:stop],
            headers,
        )

    def messages(
        self, start: int, stop: int, topic: str, partition: int, stamp: int, epoch: int | None
    ) -> Iterator[Message]:
        """Some of them as messages of a partition."""
        return map(
            Message,
            repeat(topic),
            repeat(partition),
            self.offsets[start:stop],
            self.keys[start:stop],
            self.values[start:stop],
            self.timestamps[start:stop],
            repeat(None) if self.headers is None else self.headers[start:stop],
            repeat(stamp),
            repeat(epoch),
        )


NO_RECORDS = Records((), (), (), (), None)


def encode(records: Records) -> bytes:
    """The records' blob; their offsets matter only where they have holes."""
    keys, values = records.keys, records.values
    flags = 0
    offsets = headers_lengths = headers = b""
    if not isinstance(records.offsets, range):
        flags |= _SPARSE
        offsets = _column("q", records.offsets)
    if records.headers is not None:
        flags |= _HEADERS
        encoded = [_encode_headers(h) if h else b"" for h in records.headers]
        headers_lengths = _column("i", map(len, encoded))
        headers = b"".join(encoded)
    return b"".join(
        (
            _HEAD.pack(FORMAT, flags, 0, len(keys)),
            _column("q", records.timestamps),
            _lengths(keys),
            _lengths(values),
            offsets,
            headers_lengths,
            _joined(keys),
            _joined(values),
            headers,
        )
    )


def decode(blob: bytes, base: int, where: str) -> Records:
    """The records of a blob that begins at offset `base`; `where` names their place in errors.

    Raises:
        StreamsError: The blob is damaged, or of a format this version does not know.
    """
    try:
        version, flags, _, count = _HEAD.unpack_from(blob)
        if version != FORMAT:
            raise StreamsError(f"{where}: batch format {version} is not known; use a newer streamlet")
        at = _HEAD.size
        timestamps, at = _read("q", blob, at, count)
        key_lengths, at = _read("i", blob, at, count)
        value_lengths, at = _read("i", blob, at, count)
        offsets: Sequence[int] = range(base, base + count)
        if flags & _SPARSE:
            offsets, at = _read("q", blob, at, count)
        header_lengths: list[int] | None = None
        if flags & _HEADERS:
            header_lengths, at = _read("i", blob, at, count)
        keys, at = _slices(blob, at, key_lengths)
        values, at = _slices(blob, at, value_lengths)
        headers: list[Headers | None] | None = None
        if header_lengths is not None:
            blobs, at = _slices(blob, at, header_lengths)
            headers = [_decode_headers(b) if b else None for b in blobs]
        if at != len(blob):
            raise ValueError("length")
    except (ValueError, struct.error, IndexError) as error:
        raise StreamsError(f"{where}: the stored batch is damaged ({error})") from error
    return Records(offsets, keys, values, timestamps, headers)


def _column(kind: str, values: Iterable[int]) -> bytes:
    column = array(kind, values)
    if _SWAP:
        column.byteswap()
    return column.tobytes()


def _lengths(parts: Sequence[bytes | None]) -> bytes:
    try:
        return _column("i", map(len, parts))  # type: ignore[arg-type]  # None is the rare case, and len refuses it
    except TypeError:
        return _column("i", [-1 if part is None else len(part) for part in parts])


def _read(kind: str, blob: bytes, at: int, count: int) -> tuple[list[int], int]:
    column: array[int] = array(kind)
    end = at + column.itemsize * count
    if end > len(blob):
        raise ValueError("too short")
    column.frombytes(blob[at:end])
    if _SWAP:
        column.byteswap()
    return column.tolist(), end


def _joined(parts: Sequence[bytes | None]) -> bytes:
    try:
        return b"".join(parts)  # type: ignore[arg-type]  # None is the rare case, and join refuses it
    except TypeError:
        return b"".join([p for p in parts if p is not None])


def _slices(blob: bytes, at: int, lengths: list[int]) -> tuple[list[bytes | None], int]:
    if not lengths:
        return [], at
    if min(lengths) >= 0:
        ends = list(accumulate(lengths, initial=at))
        return [blob[a:b] for a, b in pairwise(ends)], ends[-1]
    ends = list(accumulate([max(length, 0) for length in lengths], initial=at))
    return [None if n < 0 else blob[a:b] for (a, b), n in zip(pairwise(ends), lengths)], ends[-1]


def _encode_headers(headers: Headers) -> bytes:
    parts = [struct.pack("<I", len(headers))]
    for name, value in headers:
        raw = name.encode()
        parts.append(struct.pack("<Ii", len(raw), -1 if value is None else len(value)))
        parts.append(raw)
        if value is not None:
            parts.append(value)
    return b"".join(parts)


def _decode_headers(blob: bytes) -> Headers:
    (count,) = struct.unpack_from("<I", blob)
    at = 4
    headers: Headers = []
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
