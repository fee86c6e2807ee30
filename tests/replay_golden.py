"""Replays recorded traces of the original against the engine: `python -m tests.replay_golden FILE...`.

For each case it prints `equal`, `repaired` with the row of the specification's table that explains the first
difference (only rows that the case's tags name), or `different` with the step; then the totals. The exit code is 1
where any case is different. Without arguments it replays `tests/data/spigot/golden_traces.json`.

A case without tags must be equal to the letter. In a tagged case, the first difference must be one that a row of the
table explains; what follows it is not compared, but the script is still played to its end and must not raise.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from attrs import frozen

from spigot_topologies.errors import PlanError
from spigot_topologies.plan import split
from spigot_topologies.values import Char, Keyword, Symbol
from spigot_topologies.values.frozen import freeze
from spigot_topologies.workflow import DictParts, Workflow, create

DEFAULT_FILE = Path(__file__).parent / "data" / "spigot" / "golden_traces.json"
RUN = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")

ROWS: dict[str, tuple[int, ...]] = {
    "empty-expander": (1,),
    "stalled": (1, 2, 12),
    "binding-scope": (2,),
    "isolate-deferred-finalize": (3,),
    "stale-finalize-flags": (4,),
    "second-result": (5,),
    "delivery-throws": (5, 11),
    "error-on-success": (6,),
    "result-after-end": (7,),
    "each-ctx": (8,),
    "lazy-each": (8,),
    "commit-shadowed": (9,),
    "for-reevaluated": (10,),
    "out-false": (11,),
    "result-not-map": (11,),
    "throws": (12,),
    "tag-with-children": (12,),
    "refused-plan": (12,),
    "leftover-sub-scope": (12,),
    "result-before-start": (13,),
    "rerun-hides-running": (14,),
}
"""The rows of the table by tag. `debug-mode`, `internal-failures`, `error-not-map` and `nil-scope` have none there."""

SCOPES = frozenset({"scope", "tasks"})
"""What differs where only values do."""

NO_ROW = ("debug-mode", "internal-failures", "error-not-map", "nil-scope")


@frozen
class Difference:
    """Where a replay left the recording.

    Attributes:
        step: Number of the step, -1 for the creation.
        op: What the step did.
        kinds: What differed: `refused-plan`, `accepted`, `rejected:<reason>`, `tasks`, `status`, `running`, ...
        detail: Expected and found, for a person.
        empty: Whether a group without children, or a loop without items, had been entered by then.
    """

    step: int
    op: str
    kinds: frozenset[str]
    detail: str
    empty: bool = False


# --- the recordings' values --------------------------------------------------------------------------------------


def decode(value: Any) -> Any:
    """A value of a recording as the engine takes it."""
    if isinstance(value, str):
        return Keyword(value[1:]) if value[:1] == ":" else value
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((tag, content),) = value.items()
        if tag in _TAGS:
            return _TAGS[tag](content)
    return {_key(key): decode(item) for key, item in value.items()}


def _key(key: str) -> Any:
    if key[:1] == ":":
        return Keyword(key[1:])
    if key[:1] == "'":
        return Symbol(key[1:])
    raise ValueError(f"a map's key must be :keyword or 'symbol, not {key!r}")


_TAGS: dict[str, Any] = {
    "$sym": Symbol,
    "$list": lambda items: tuple(decode(item) for item in items),
    "$set": lambda items: frozenset(freeze(decode(item)) for item in items),
    "$map": lambda pairs: {freeze(decode(key)): decode(item) for key, item in pairs},
    "$str": str,
    "$uuid": UUID,
    "$id": lambda path: uuid5(RUN, path),
    "$char": Char,
    "$ratio": lambda pair: Fraction(*(int(part) for part in pair)),
    "$bigint": int,
    "$bigdec": Decimal,
    "$inst": datetime.fromisoformat,
    "$float": float,
}


def same(value: Any) -> Any:
    """A form in which values are equal exactly where Clojure's `=` says so."""
    if isinstance(value, Keyword | Symbol | Char):
        return (type(value).__name__, str(value))
    if isinstance(value, str):
        return ("str", value)
    if isinstance(value, dict) or hasattr(value, "keys"):
        return ("map", frozenset((same(key), same(item)) for key, item in dict(value).items()))
    if isinstance(value, list | tuple):
        return ("seq", tuple(same(item) for item in value))
    if isinstance(value, set | frozenset):
        return ("set", frozenset(same(item) for item in value))
    if isinstance(value, float):
        return ("float", repr(value))
    return (type(value).__name__, value)


# --- a replay ----------------------------------------------------------------------------------------------------


class Replay:
    """One case, step by step.

    Args:
        case: The recording.
        stored: Keep the workflow in parts, and load it again after every step instead of only at a `roundtrip`.
    """

    def __init__(self, case: dict[str, Any], *, stored: bool = False) -> None:
        self.case = case
        self.stored = stored
        self.parts = DictParts()
        self.workflow: Workflow | None = None

    def first_difference(self) -> Difference | None:
        """Plays the whole script and gives the first difference."""
        try:
            self.workflow = create(decode(self.case["plan"]), decode(self.case["init_scope"]), id=RUN, parts=self.parts)
        except PlanError as refusal:
            return Difference(-1, "create", frozenset({"refused-plan"}), str(refusal))
        first = None
        for number, step in enumerate(self.case["steps"]):
            found = self.play(step)
            if first is None:
                first = self.compare(number, step, found)
        return first

    def play(self, step: dict[str, Any]) -> dict[str, Any]:
        assert self.workflow is not None
        op = step["op"]
        found: dict[str, Any] = {}
        if op == "next":
            found["tasks"] = self.workflow.next()
        elif op == "rerun":
            found["tasks"] = self.workflow.rerun()
        elif op in ("succeed", "fail"):
            id = uuid5(RUN, step["task"])
            details = decode(step.get("details"))
            outcome = self.workflow.succeed(id, details) if op == "succeed" else self.workflow.fail(id, details)
            found["reason"] = outcome.reason
        elif op != "roundtrip":
            raise ValueError(f"unknown operation {op!r}")
        if self.stored or op == "roundtrip":
            self.workflow.flush()
            self.workflow = Workflow.load(self.parts)
        return found

    def compare(self, number: int, step: dict[str, Any], found: dict[str, Any]) -> Difference | None:
        assert self.workflow is not None
        workflow = self.workflow
        differences: dict[str, tuple[Any, Any]] = {}
        reason = found.get("reason")
        refused = reason is not None and reason != "duplicate"
        if "throws" in step:
            if not refused:
                differences["accepted"] = (step["throws"].get("message"), reason)
        else:
            if refused:
                differences[f"rejected:{reason}"] = ("applied", reason)
            for name, expected, actual in [
                ("status", step["status"], f":{workflow.status}"),
                ("running", sorted(step["running"]), sorted(task.path for task in workflow.running)),
                ("scope", same(decode(step["scope"])), same(dict(workflow.scope))),
                ("error", same(decode(step.get("error"))), same(workflow.error)),
            ]:
                if expected != actual:
                    differences[name] = (expected, actual)
            if "tasks" in found:
                expected = Counter(
                    (task["task"], same(decode(task["tag"])), same(decode(task["params"])))
                    for task in step.get("tasks") or ()
                )
                actual = Counter(
                    (
                        task.path,
                        same(task.tag),
                        same({key: value for key, value in task.params.items() if key != "spigot/id"}),
                    )
                    for task in found["tasks"]
                )
                ids = {task.path: task.params["spigot/id"] for task in found["tasks"]}
                if expected != actual or any(id != uuid5(RUN, path) for path, id in ids.items()):
                    differences["tasks"] = (dict(expected), dict(actual))
            if reason == "duplicate" and differences:
                differences["rejected:duplicate"] = ("applied", reason)
        if not differences:
            return None
        detail = "; ".join(f"{name}: expected {want}, found {have}" for name, (want, have) in differences.items())
        return Difference(number, step["op"], frozenset(differences), detail, self.has_empty_group())

    def has_empty_group(self) -> bool:
        """Walks the nodes that the engine has entered; looks inside it, for the engine has no use of the answer."""
        assert self.workflow is not None
        state = self.workflow._state
        todo = [state.at(())]
        while todo:
            node = todo.pop()
            if node is not None and node.plan.directive is not None:
                if node.total == 0:
                    return True
                todo.extend(state.child(node, index) for index in range(node.admitted))
        return False


def explanation(case: dict[str, Any], difference: Difference) -> int | str | None:
    """The row (or, for the tags without one, the tag) that explains the difference; None where nothing does."""
    tags = case["tags"]
    rows = sorted({row for tag in tags for row in ROWS.get(tag, ())})
    fitting = [row for row in rows if _explains(row, case, difference)]
    if fitting:
        return fitting[0]
    for tag in NO_ROW:
        if tag in tags and _explains_tag(tag, difference):
            return tag
    return None


def _explains(row: int, case: dict[str, Any], difference: Difference) -> bool:
    """Whether a difference is of the kind that this row of the table makes."""
    kinds = difference.kinds
    observed = kinds & {"status", "running", "scope", "error", "tasks"}
    step = case["steps"][difference.step] if difference.step >= 0 else {}
    refused = any(kind.startswith("rejected:") for kind in kinds)
    played = difference.step >= 0 and "accepted" not in kinds and not refused and bool(observed)
    if row == 1:
        return played and (difference.empty or not reads_bindings(decode(case["plan"])))
    if row == 2:
        return played and ("binding-scope" in case["tags"] or reads_bindings(decode(case["plan"])))
    if row in (3, 10):
        return played
    if row == 4:
        return bool(kinds & {"rejected:duplicate", "rejected:already-finished"}) or (played and observed <= SCOPES)
    if row == 5:
        return bool(kinds & {"rejected:duplicate", "rejected:already-finished", "accepted"})
    if row == 6:
        return played and "error" in observed and "tasks" not in observed
    if row == 7:
        return "rejected:workflow-ended" in kinds
    if row == 8:
        return played and observed <= SCOPES
    if row == 9:
        return played and difference.op == "next" and observed <= SCOPES
    if row == 11:
        not_a_map = difference.op == "succeed" and not isinstance(decode(step.get("details")), dict | None)
        return not_a_map or (played and difference.op == "succeed" and observed <= {"scope"})
    if row == 12:
        return difference.step == -1 or "accepted" in kinds
    if row == 13:
        return bool(kinds & {"rejected:unknown-task", "rejected:not-a-task", "rejected:not-started"})
    if row == 14:
        return played and difference.op == "rerun" and observed == {"tasks"}
    return False


def reads_bindings(plan: Any) -> bool:
    """Whether, below a node that binds a symbol, an option other than `in` reads it: what row 2 is about."""
    todo: list[tuple[Any, frozenset[Any]]] = [(plan, frozenset())]
    while todo:
        node, bound = todo.pop()
        tag, options, children = split(node)
        read = [value for key, value in options.items() if key != "spigot/in"]
        if bound & symbols_in(read):
            return True
        below = set(bound)
        for key, value in options.items():
            if key == "spigot/for":
                below.add(value[0])
            elif key == "spigot/error":
                below.add(value)
            elif key == "spigot/binding":
                below.update(value[::2])
        if tag.startswith("spigot/"):
            todo.extend((child, frozenset(below)) for child in children)
    return False


def symbols_in(value: Any) -> set[Any]:
    """The symbols that expressions inside the value read."""
    if type(value) is tuple and len(value) == 2 and value[0] == "spigot/get" and isinstance(value[1], str):
        return {value[1]}
    if isinstance(value, dict):
        return set().union(*(symbols_in(item) for item in value.values()))
    return set().union(*(symbols_in(item) for item in value)) if isinstance(value, list | tuple) else set()


def _explains_tag(tag: str, difference: Difference) -> bool:
    if tag == "debug-mode":
        return bool(difference.kinds & {"rejected:duplicate", "accepted"})
    if tag == "internal-failures":
        return bool(difference.kinds & {"tasks", "scope"})
    if tag == "error-not-map":
        return difference.op in ("fail", "next", "rerun") and bool(difference.kinds & {"error", "tasks", "accepted"})
    return difference.op != "roundtrip"  # nil-scope


def replay(case: dict[str, Any], *, stored: bool = False) -> tuple[str, str]:
    """The verdict on a case, and the line that says so."""
    name = case["name"]
    try:
        difference = Replay(case, stored=stored).first_difference()
    except Exception as error:
        return "different", f"different {name}: raised {type(error).__name__}: {error}"
    if difference is None:
        return "equal", f"equal     {name}"
    row = explanation(case, difference)
    where = "create" if difference.step < 0 else f"step {difference.step} ({difference.op})"
    if row is not None:
        label = f"row {row}" if isinstance(row, int) else str(row)
        return "repaired", f"repaired  {name}: {label}, at {where}: {', '.join(sorted(difference.kinds))}"
    return "different", f"different {name}: at {where}: {difference.detail}"


def main(arguments: Iterable[str]) -> int:
    totals: Counter[str] = Counter()
    for file in [Path(argument) for argument in arguments] or [DEFAULT_FILE]:
        for case in json.loads(file.read_text()):
            verdict, line = replay(case)
            totals[verdict] += 1
            print(line)
    print(f"{totals['equal']} equal, {totals['repaired']} repaired, {totals['different']} different")
    return 1 if totals["different"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
