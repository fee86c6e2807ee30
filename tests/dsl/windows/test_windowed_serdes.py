"""Keys within windows as bytes: Kafka Streams' layout."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlet import SerializationError, Window, Windowed, serdes
from tests.dsl.windows.support import ms

TIMES = st.integers(0, 2**62)


@given(st.text(), TIMES, st.integers(0, 10**9))
def test_time_windows(key: str, start: int, size: int) -> None:
    serde = serdes.time_windowed(serdes.string, ms(size))
    windowed = Windowed(key, Window(start, start + size))
    assert serde.serialize(windowed) == key.encode() + start.to_bytes(8, "big")
    assert serde.deserialize(serde.serialize(windowed)) == windowed


@given(st.text(), TIMES, TIMES)
def test_sessions(key: str, start: int, length: int) -> None:
    serde = serdes.session_windowed(serdes.string)
    windowed = Windowed(key, Window(start, start + length))
    assert serde.serialize(windowed) == key.encode() + (start + length).to_bytes(8, "big") + start.to_bytes(8, "big")
    assert serde.deserialize(serde.serialize(windowed)) == windowed


def test_windows_without_end() -> None:
    serde = serdes.time_windowed(serdes.int64, timedelta.max)
    assert serde.deserialize(serde.serialize(Windowed(7, Window(5, 2**63 - 1)))) == Windowed(7, Window(5, 2**63 - 1))


def test_they_are_null_safe_and_say_what_is_wrong() -> None:
    serde = serdes.session_windowed(serdes.int64)
    assert serde.serialize(None) is None  # type: ignore[arg-type]  # null-safe at run time
    assert serde.deserialize(None) is None  # type: ignore[arg-type]  # null-safe at run time
    with pytest.raises(SerializationError, match=r"session_windowed\(serdes.int64\): expected a Windowed key, got str"):
        serde.serialize("a")  # type: ignore[arg-type]  # the error is tested
    with pytest.raises(SerializationError, match="cannot serialise"):
        serde.serialize(Windowed("a", Window(0, 1)))  # type: ignore[arg-type]  # the error is tested
    with pytest.raises(SerializationError, match="too short"):
        serde.deserialize(b"short")
    with pytest.raises(SerializationError, match="cannot deserialise"):
        serde.deserialize(b"x" * 17)
    with pytest.raises(SerializationError, match="must be a timedelta"):
        serdes.time_windowed(serdes.string, 5)  # type: ignore[arg-type]  # the error is tested


def test_they_are_as_immutable_as_their_keys() -> None:
    assert serdes.session_windowed(serdes.string).immutable
    assert not serdes.session_windowed(serdes.json).immutable
