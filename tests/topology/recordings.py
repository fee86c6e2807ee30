"""The recorded texts of `Topology.describe()`; they lie beside the repository."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parents[3] / "shared" / "kafka_streams" / "topologies.json"


@cache
def recordings() -> list[dict[str, Any]]:
    """Return all recorded texts with the names of the tests that made them."""
    if not FILE.exists():
        pytest.skip(f"the recordings are not at {FILE}")
    return list(json.loads(FILE.read_text()))


def recorded(test: str) -> list[str]:
    """Return the texts that a Java test made."""
    return [
        case["describe"]
        for case in recordings()
        if test in ([case["from"]] if isinstance(case["from"], str) else case["from"])
    ]
