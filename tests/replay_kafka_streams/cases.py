"""One case of a file, whatever its kind, becomes a verdict; nothing a case holds makes the replay itself fail."""

from __future__ import annotations

import json
import re
import tempfile
import traceback
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from streamlet.errors import StreamsError
from tests.replay_kafka_streams import by_hand, bytes_vectors, drive, processor_cases, versioned_cases
from tests.replay_kafka_streams.describe_text import parse
from tests.replay_kafka_streams.functions import Functions, functions_of
from tests.replay_kafka_streams.natural import NaturalSerde
from tests.replay_kafka_streams.plan import Plan
from tests.replay_kafka_streams.rebuild import is_built_twice, is_dsl, rebuild
from tests.replay_kafka_streams.verdict import DIFFERENT, EQUAL, OUT_OF_SCOPE, DifferentError, OutOfScopeError, Verdict
from tests.replay_kafka_streams.words import ops

_SKIPPED = (
    (re.compile("OldApi|FixDisabled"), "skipped by REFERENCE.md: the eager outer joins from before 3.1"),
    (
        re.compile(r"KTableKTableForeignKeyJoinMaterializationIntegrationTest.*\[true, true\]"),
        "skipped by REFERENCE.md: depends on Java's record cache",
    ),
    (
        re.compile(r"KTableKTableForeignKeyJoinScenarioTest\.shouldUseExpectedTopicsWithSerde"),
        "skipped by REFERENCE.md: about pseudo topics of serdes",
    ),
    (
        re.compile(r"KTableAggregateTest\.testNoEquals"),
        "refused by name: keys without equality, told apart by their addresses in Java",
    ),
    (
        re.compile(r"KTableAggregateTest\.testShouldSendTransientStateWhenUpgrading"),
        "refused by name: upgrade.from, for wire formats that streamlet never wrote",
    ),
)


_EXTRACTOR = re.compile(r"extractor class: .*")  # names a class of Java, with its address


def replay_file(path: Path, *, on_disk: bool = False) -> Iterator[Verdict]:
    """Replay all cases of a file.

    Args:
        path: The file.
        on_disk: Keep the stores of cases with data in RocksDB, not in memory.

    Raises:
        ValueError: If the file is of no known form.
    """
    data = json.loads(path.read_text())
    if isinstance(data, list):
        for number, item in enumerate(data):
            yield judge(_described_name(item, number), _replay_description, item)
        return
    if "vectors" in data:
        for number, vector in enumerate(data["vectors"]):
            yield judge(f"{number} {vector.get('kind')} {vector.get('input')}", bytes_vectors.replay, vector)
        return
    if "cases" not in data:
        raise ValueError(f"{path}: neither a list of descriptions, nor an object with 'cases' or 'vectors'")
    for number, case in enumerate(data["cases"]):
        name = str(case.get("case", number))
        if "ops" in case:
            yield judge(name, versioned_cases.replay, case)
        elif "inputs" in case:
            yield judge(name, partial(_replay_case, on_disk=on_disk), case)
        else:
            yield judge(name, _replay_description, case)


def _described_name(item: dict[str, Any], number: int) -> str:
    names = item.get("from") or [str(number)]
    return names[0] + (f" (+{len(names) - 1})" if len(names) > 1 else "")


def judge(name: str, replay: Any, case: dict[str, Any]) -> Verdict:
    """Replay one case and say what came of it."""
    for pattern, reason in _SKIPPED:
        if pattern.search(name) and replay is not _replay_description:
            return Verdict(name, OUT_OF_SCOPE, reason)
    try:
        replay(case)
    except OutOfScopeError as reason:
        return Verdict(name, OUT_OF_SCOPE, str(reason))
    except DifferentError as told:
        return Verdict(name, DIFFERENT, str(told))
    except StreamsError as refused:
        return Verdict(name, DIFFERENT, f"{type(refused).__name__}: {refused}")
    except Exception as broken:
        last = traceback.extract_tb(broken.__traceback__)[-1]
        told = f"{type(broken).__name__} in {Path(last.filename).name}:{last.lineno}: {broken}"
        if Path(last.filename).parent.name == Path(__file__).parent.name:  # the replay's own limits are not streamlet's
            return Verdict(name, OUT_OF_SCOPE, f"unknown topology: {told}")
        return Verdict(name, DIFFERENT, told)
    return Verdict(name, EQUAL)


# --- descriptions ---------------------------------------------------------------------------------------------------


def _replay_description(item: dict[str, Any]) -> None:
    text = item["describe"]
    names = item.get("from") or [str(item.get("case", ""))]
    if all(re.search("OldApi|FixDisabled", name) for name in names):
        raise OutOfScopeError(_SKIPPED[0][1])
    graph = parse(text)
    if not list(graph):
        topology = by_hand.empty()
    elif is_built_twice(graph):
        raise OutOfScopeError("refused: one builder built twice, with other options")
    elif is_dsl(graph):
        functions = functions_of(names[0], "", [], describes_only=True)
        topology, _plan = rebuild(text, functions, (), _optimised(text))
        compare_text(text, _renamed(str(topology.describe()), functions))
        return
    else:
        topology = by_hand.build(graph)
    compare_text(text, str(topology.describe()))


def _optimised(text: str) -> dict[str, str]:
    """A join with one store can only come from an optimised build."""
    single = re.search(r"KSTREAM-MERGE-\d{10} \(stores: \[KSTREAM-JOINTHIS", text)
    return {"topology.optimization": "all"} if single else {}


def compare_text(expected: str, actual: str) -> None:
    """Compare two descriptions.

    Raises:
        DifferentError: Naming the first line that differs.
    """
    wanted, got = ([_EXTRACTOR.sub("extractor", line) for line in text.split("\n")] for text in (expected, actual))
    for number, (left, right) in enumerate(zip(wanted, got), 1):
        if left != right:
            raise DifferentError(f"description, line {number}: expected {left.strip()!r}, got {right.strip()!r}")
    if len(wanted) != len(got):
        raise DifferentError(f"description: expected {len(wanted)} lines, got {len(got)}")


# --- cases with data ------------------------------------------------------------------------------------------------


def _replay_case(case: dict[str, Any], *, on_disk: bool = False) -> None:
    words, name = case.get("topology") or "", case["case"]
    functions = functions_of(name, words, case.get("variants") or [])
    if any(step.get("topic") == "(processor input)" for step in case["inputs"]):
        processor_cases.replay(case, functions, ops(words))
        return
    text = case.get("describe") or ""
    if not text:
        raise OutOfScopeError("unknown topology: no description")
    config = dict(case.get("config") or {})
    if is_dsl(parse(text)):
        topology, plan = rebuild(text, functions, ops(words), config)
    elif functions.test_class.startswith("TopologyTestDriver"):
        plan = Plan(parse(text), functions, (), None, NaturalSerde())
        topology = by_hand.build(plan.graph, plan)
    else:
        raise OutOfScopeError("unknown topology: wired by hand, its processors are not told")
    if not is_built_twice(parse(text)):  # then only its second build is replayed
        compare_text(text, _renamed(str(topology.describe()), functions))
    with tempfile.TemporaryDirectory() as directory:
        where = {"state.dir": directory} if on_disk else {}
        drive.run(case, topology, plan, {**drive_config(functions), **where})


def _renamed(text: str, functions: Functions) -> str:
    """The removed `transform` is replayed as `process`, whose nodes are called otherwise."""
    if not functions.test_class.startswith("KStreamTransform"):
        return text
    text = text.replace("KSTREAM-PROCESSVALUES-0000000001", "KSTREAM-TRANSFORMVALUES-0000000001")
    return text.replace("KSTREAM-PROCESSOR-0000000001", "KSTREAM-TRANSFORM-0000000001")


def drive_config(functions: Functions) -> dict[str, Any]:
    """Return the configuration of the test driver."""
    return processor_cases.exception_config(functions) if functions.flags.get("exceptions") else {}
