"""The recorded plans and results through the manager, over EDN: the same outcomes as the engine alone, step by step."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid5

import pytest

from tests.replay_golden import DEFAULT_FILE, decode
from tests.spigot.topologies.harness import Bench
from tests.spigot.topologies.model import Pair, Seen

CASES = json.loads(DEFAULT_FILE.read_text())


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_golden(case: dict[str, Any]) -> None:
    seen = Seen()
    with Bench(codec="edn", handler=seen) as bench:
        pair = Pair(bench, seen, "w", decode(case["plan"]), decode(case["init_scope"]))
        for step in case["steps"]:
            if step["op"] in ("succeed", "fail"):
                id = uuid5(pair.run_id, step["task"])
                pair.deliver(id, decode(step.get("details")), failed=step["op"] == "fail")
