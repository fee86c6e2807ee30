"""Murmur3, as Kafka Streams computes it for the values of foreign-key joins."""

from __future__ import annotations

_SEED = 104729
_M32 = 0xFFFFFFFF
_M64 = 0xFFFFFFFFFFFFFFFF
_C1 = 0x87C37B91114253D5
_C2 = 0x4CF5AD432745937F


def _mix(k: int) -> int:
    k ^= k >> 33
    k = k * 0xFF51AFD7ED558CCD & _M64
    k ^= k >> 33
    k = k * 0xC4CEB9FE1A85EC53 & _M64
    return k ^ k >> 33


def _left(number: int, bits: int) -> int:
    return (number << bits | number >> 64 - bits) & _M64


def murmur3_128(data: bytes) -> bytes:
    """Return the 16 bytes of the 128-bit hash."""
    h1 = h2 = _SEED
    size = len(data)
    whole = size - size % 16
    for place in range(0, whole, 16):
        k1 = int.from_bytes(data[place : place + 8], "little")
        k2 = int.from_bytes(data[place + 8 : place + 16], "little")
        h1 ^= _left(k1 * _C1 & _M64, 31) * _C2 & _M64
        h1 = ((_left(h1, 27) + h2) * 5 + 0x52DCE729) & _M64
        h2 ^= _left(k2 * _C2 & _M64, 33) * _C1 & _M64
        h2 = ((_left(h2, 31) + h1) * 5 + 0x38495AB5) & _M64
    k1 = int.from_bytes(data[whole : whole + 8], "little")
    k2 = int.from_bytes(data[whole + 8 :], "little")
    h2 ^= _left(k2 * _C2 & _M64, 33) * _C1 & _M64
    h1 ^= _left(k1 * _C1 & _M64, 31) * _C2 & _M64
    h1 ^= size
    h2 ^= size
    h1 = (h1 + h2) & _M64
    h2 = (h2 + h1) & _M64
    h1, h2 = _mix(h1), _mix(h2)
    h1 = (h1 + h2) & _M64
    h2 = (h2 + h1) & _M64
    return h1.to_bytes(8, "big") + h2.to_bytes(8, "big")
