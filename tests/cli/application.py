"""The application of the command line's tests, and its standard input."""

from __future__ import annotations

import io
import sys

import pytest

APPLICATION = """
from streamlet import StreamsBuilder, Topic, serdes

lines = Topic("lines{suffix}", serdes.string, serdes.string)
counts = Topic("counts{suffix}", serdes.string, serdes.int64)
builder = StreamsBuilder()
(builder.stream(lines)
    .flat_map_values(lambda line: line.split())
    .group_by(lambda _, word: word, key_serde=serdes.string, value_serde=serdes.string)
    .count(store="counts").to_stream().to(counts))
topology = builder.build()
number = 7

def make():
    return topology
"""


def feed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
