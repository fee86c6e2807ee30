"""The recordings of the original, and the judge that reads them."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tests.replay_golden import DEFAULT_FILE, Replay, explanation, main, replay

CASES = json.loads(DEFAULT_FILE.read_text())
BY_NAME = {case["name"]: case for case in CASES}


@pytest.mark.parametrize("stored", [False, True], ids=["kept", "loaded-at-each-step"])
@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_recording(case: dict[str, Any], stored: bool) -> None:
    verdict, line = replay(case, stored=stored)
    assert verdict == "equal" if not case["tags"] else verdict in ("equal", "repaired"), line


def test_an_unexplained_difference_is_told_with_its_step(tmp_path: Any, capsys: Any) -> None:
    case = copy.deepcopy(BY_NAME["serial-data-flow"])
    case["steps"][3]["scope"]["'?a"] = 2
    file = tmp_path / "traces.json"
    file.write_text(json.dumps([case, BY_NAME["single-task"]]))
    assert main([str(file)]) == 1
    printed = capsys.readouterr().out
    assert "different serial-data-flow: at step 3 (succeed): scope" in printed
    assert "equal     single-task" in printed
    assert "1 equal, 0 repaired, 1 different" in printed


def test_only_the_rows_of_the_cases_tags_explain() -> None:
    case = copy.deepcopy(BY_NAME["parallel-two-failures"])
    difference = Replay(case).first_difference()
    assert difference is not None
    assert explanation(case, difference) == 7
    case["tags"] = ["error-on-success"]
    assert replay(case)[0] == "different"


def test_a_tag_does_not_excuse_a_difference_its_row_cannot_make() -> None:
    case = copy.deepcopy(BY_NAME["parallel-two-failures"])
    case["steps"][0]["tasks"] = []
    assert replay(case)[0] == "different"


def test_kinds_and_types_count() -> None:
    case = copy.deepcopy(BY_NAME["single-task-literals"])
    case["steps"][0]["tasks"][0]["params"][":k"] = "kw"
    assert replay(case)[0] == "different"
    case = copy.deepcopy(BY_NAME["serial-data-flow"])
    case["init_scope"]["'?seed"] = 7.0
    assert replay(case)[0] == "different"
