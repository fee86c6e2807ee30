"""The replay itself: it must see what is wrong, say where, and never fall over what it does not know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.replay_kafka_streams.__main__ import main
from tests.replay_kafka_streams.cases import replay_file
from tests.replay_kafka_streams.verdict import DIFFERENT, EQUAL, OUT_OF_SCOPE

DESCRIPTION = """Topologies:
   Sub-topology: 0
    Source: KSTREAM-SOURCE-0000000000 (topics: [topic])
      --> KSTREAM-MAP-0000000001
    Processor: KSTREAM-MAP-0000000001 (stores: [])
      --> KSTREAM-PROCESSOR-0000000002
      <-- KSTREAM-SOURCE-0000000000
    Processor: KSTREAM-PROCESSOR-0000000002 (stores: [])
      --> none
      <-- KSTREAM-MAP-0000000001

"""


def swapping(**changes: Any) -> dict[str, Any]:
    """Return a case of a stream whose keys and values are swapped."""
    seen = {"key": "V0", "value": 0, "ts": 10, "node": "KSTREAM-PROCESSOR-0000000002"}
    return {
        "case": "KStreamMapTest.testMap",
        "topology": "",
        "inputs": [{"topic": "topic", "key": 0, "value": "V0", "ts": 10}],
        "expected": [[seen]],
        "describe": DESCRIPTION,
        **changes,
    }


def replayed(path: Path, data: Any) -> list[tuple[str, str]]:
    file = path / "recording.json"
    file.write_text(json.dumps(data))
    return [(verdict.outcome, verdict.reason) for verdict in replay_file(file)]


def test_an_equal_case(tmp_path: Path) -> None:
    assert replayed(tmp_path, {"cases": [swapping()]}) == [(EQUAL, "")]


@pytest.mark.parametrize(
    "seen",
    [
        {"key": "V1", "value": 0, "ts": 10, "node": "KSTREAM-PROCESSOR-0000000002"},
        {"key": "V0", "value": "0", "ts": 10, "node": "KSTREAM-PROCESSOR-0000000002"},
        {"key": "V0", "value": 0, "ts": 11, "node": "KSTREAM-PROCESSOR-0000000002"},
        {"key": "V0", "value": 0, "ts": 10, "node": "KSTREAM-PROCESSOR-0000000003"},
        {"key": "V0", "value": 0, "ts": 10, "topic": "KSTREAM-PROCESSOR-0000000002"},
    ],
)
def test_a_record_that_differs_is_told_with_its_input(tmp_path: Path, seen: dict[str, Any]) -> None:
    [(outcome, reason)] = replayed(tmp_path, {"cases": [swapping(expected=[[seen]])]})
    assert outcome == DIFFERENT
    assert reason.startswith("input 0 (0='V0'@10 on topic):")


def test_records_that_are_missing_or_too_many_are_told(tmp_path: Path) -> None:
    [record] = swapping()["expected"][0]
    cases = [swapping(expected=[[]]), swapping(expected=[[record, record]])]
    assert [outcome for outcome, _ in replayed(tmp_path, {"cases": cases})] == [DIFFERENT, DIFFERENT]


def test_a_description_that_differs_is_told_with_its_line(tmp_path: Path) -> None:
    other = DESCRIPTION.replace("PROCESSOR-0000000002", "PROCESSOR-0000000003")
    [(outcome, reason)] = replayed(tmp_path, [{"describe": other, "from": ["KStreamMapTest.testMap"]}])
    assert outcome == DIFFERENT
    assert reason.startswith("description, line 6: expected '--> KSTREAM-PROCESSOR-0000000003'")


@pytest.mark.parametrize(
    "case",
    [
        swapping(case="AnotherTest.testMap"),
        swapping(describe=DESCRIPTION.replace("KSTREAM-MAP", "KSTREAM-FUTURE")),
        swapping(describe=DESCRIPTION.replace("(stores: [])", "?")),
        swapping(describe=""),
        {"case": "AnotherTest.test"},
        {"case": "AnotherTest.test", "inputs": 3, "describe": DESCRIPTION},
        {"case": "AnotherTest.test", "ops": [{"op": "unheard of"}]},
    ],
)
def test_what_is_unknown_is_out_of_scope(tmp_path: Path, case: dict[str, Any]) -> None:
    assert [outcome for outcome, _ in replayed(tmp_path, {"cases": [case]})] == [OUT_OF_SCOPE]


def test_the_exit_status_tells_of_differences_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps({"cases": [swapping(), swapping(case="AnotherTest.testMap")]}))
    bad.write_text(json.dumps({"cases": [swapping(expected=[[]])]}))
    assert main([str(good)]) == 0
    assert main([str(good), str(bad)]) == 1
    assert capsys.readouterr().out.endswith("total: 1 equal, 1 different, 1 out of scope\n")
