"""The user's functions of a case: from its words where they tell them, else known for its test class.

A function is asked for by what it is for (``map``, ``joiner``, ``adder`` ...) and the node that needs it. A case with
data must not be replayed with a made-up function; a case that only has a description may.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from attrs import define, field

from tests.replay_kafka_streams.user_processors import (
    ExclamationTransformer,
    FailOnErrorKeys,
    LengthOfValue,
    LengthTransformer,
    RunningCount,
    RunningTotal,
    RunningTotalPairs,
    RunningTotalWithKey,
    UpdatingValue,
)
from tests.replay_kafka_streams.verdict import OutOfScopeError

Table = dict[str, Any]

_DUMMIES: Table = {
    "map": lambda key, value: (key, value),
    "map_values": lambda value: value,
    "flat_map": lambda key, value: [(key, value)],
    "flat_map_values": lambda value: [value],
    "key_select": lambda key, value: key,
    "filter": lambda key, value: True,
    "joiner": lambda left, right: (left, right),
    "init": lambda: "",
    "adder": lambda key, value, aggregate: aggregate,
    "remover": lambda key, value, aggregate: aggregate,
    "merger": lambda key, first, second: first,
    "reducer": lambda first, second: first,
    "subtractor": lambda first, second: first,
    "table_group": lambda key, value: (key, value),
    "foreign_key": lambda value: value,
    "global_key": lambda key, value: value,
    "extractor": lambda key, value, context: "somewhere",
    "process": RunningTotalPairs,
    "process_values": RunningTotal,
    "transform_values": LengthTransformer,
}


@define
class Functions:
    """The functions of one case.

    Attributes:
        case: Name of the test, ``Class.method[variant]``.
        known: By purpose, or by ``purpose@node``.
        flags: Facts that are no functions: ``count``, ``left``, ...
        describes_only: Whether made-up functions will do.
    """

    case: str
    known: Table = field(factory=dict)
    flags: dict[str, Any] = field(factory=dict)
    describes_only: bool = False

    @property
    def test_class(self) -> str:
        """Name of the test class."""
        return self.case.split(".")[0]

    @property
    def method(self) -> str:
        """Name of the test method, without variants."""
        return re.split(r"[\[#(]", self.case.partition(".")[2])[0]

    def get(self, purpose: str, node: str = "") -> Any:
        """Return a function.

        Raises:
            OutOfScopeError: If nothing tells what it does, and the case has data.
        """
        for name in (f"{purpose}@{node}", purpose):
            if name in self.known:
                return self.known[name]
        if self.describes_only:
            return _DUMMIES[purpose]
        raise OutOfScopeError(f"unknown topology: nothing tells the function of {node or purpose} ({purpose})")

    def has(self, purpose: str, node: str = "") -> bool:
        """Tell whether the function is known."""
        return purpose in self.known or f"{purpose}@{node}" in self.known


def handler_fails(functions: Functions) -> bool:
    """Tell whether the exception handler of a case says FAIL, as its method's name tells."""
    return "ReturnsFail" in functions.method or "InFailProcessing" in functions.method


def java(value: Any) -> str:
    """Return a value as Java's string concatenation prints it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


# --- from the words -------------------------------------------------------------------------------------------------


def _from_words(words: str) -> Table:
    known: Table = {}
    if found := re.search(r"joiner = l \+ '(.*?)' \+ r", words):
        separator = found[1]
        known["joiner"] = lambda left, right: f"{java(left)}{separator}{java(right)}"
    if "joiner '(l,r)'" in words or "joiner prints (left, right)" in words:
        known["joiner"] = lambda left, right: f"({java(left)},{java(right)})"
    if found := re.search(r"init (?:'(.*?)'|(\d+))", words):
        start: Any = found[1] if found[2] is None else int(found[2])
        known["init"] = lambda: start
    if found := re.search(r"adder agg\+'(.*?)'\+v", words):
        plus = found[1]
        known["adder"] = lambda key, value, aggregate: f"{java(aggregate)}{plus}{java(value)}"
    if "aggregators agg+v" in words:
        known["adder"] = lambda key, value, aggregate: aggregate + value
    if found := re.search(r"(?:subtractor|remover) agg\+'(.*?)'\+v", words):
        minus = found[1]
        known["remover"] = lambda key, value, aggregate: f"{java(aggregate)}{minus}{java(value)}"
    if found := re.search(r"reduce:? a\+'(.*?)'\+b", words):
        between = found[1]
        known["reducer"] = lambda first, second: f"{java(first)}{between}{java(second)}"
    if found := re.search(r"merger a\+'(.*?)'\+b", words):
        joint = found[1]
        known["merger"] = lambda key, first, second: f"{java(first)}{joint}{java(second)}"
    if found := re.search(r"fk = value\.split\('(.)'\)\[(\d)\]", words):
        mark, place = found[1], int(found[2])
        known["foreign_key"] = lambda value: value.split(mark)[place]
    if "groupBy((k,v)->(v,k))" in words:
        known["table_group"] = lambda key, value: (value, key)
    if "groupBy((k,v)->(k,v))" in words or "groupBy identity" in words:
        known["table_group"] = lambda key, value: (key, value)
    if "groupBy (k,v)->(v,v)" in words:
        known["table_group"] = lambda key, value: (value, value)
    if "keyMapper = stream value" in words:
        known["global_key"] = lambda key, value: value
    if "keyMapper takes the 2nd comma token" in words:
        known["global_key"] = _second_token
    if "rendered by Windowed.toString" in words or "windows/ops" in words:
        known["map"] = lambda key, value: (java(key), value)
    return known


def _second_token(_key: Any, value: Any) -> Any:
    tokens = value.split(",") if value is not None else []
    return tokens[1] if len(tokens) > 1 else None


# --- by test class --------------------------------------------------------------------------------------------------


def _integration_join(_functions: Functions) -> Table:
    return {
        "map": lambda key, value: (key, value),
        "flat_map": lambda key, value: [(key, value)],
        "key_select": lambda key, value: key,
    }


def _relaxed(_functions: Functions) -> Table:
    return {"joiner": lambda left, right: f"{java(left)}|{java(right)}", "global_key": lambda key, value: None}


def _joiner_with_key(_functions: Functions) -> Table:
    return {
        "joiner_with_key": lambda key, left, right: f"{key}:{left + (right or 0)}",
        "global_key": lambda key, value: key,
    }


def _window_aggregate(functions: Functions) -> Table:
    known: Table = {
        "joiner": lambda first, second: f"{java(first)}%{java(second)}",
        "map": lambda key, value: (java(key), value),
    }
    if functions.method.startswith("testReduce"):
        known["reducer"] = lambda first, second: f"{first}+{second}"
    if functions.method.startswith("shouldLogAndMeter") and functions.test_class == "KStreamWindowAggregateTest":
        known["init"] = str
    if functions.method == "testAggregateRandomInput":
        known["init"] = str
        known["adder"] = lambda key, value, aggregate: "".join(sorted(aggregate + value))
    return known


def _grouped_stream(functions: Functions) -> Table:
    known: Table = {}
    if functions.method.startswith("shouldReduce") and "Session" in functions.method:
        known["reducer"] = lambda first, second: f"{first}:{second}"
    if functions.method.startswith("shouldAggregate") and "Session" in functions.method:
        known["init"] = int
        known["adder"] = lambda key, value, aggregate: aggregate + 1
        known["merger"] = lambda key, first, second: first + second
    return known


def _suppress_scenario(_functions: Functions) -> Table:
    return {
        "key_select": lambda key, value: key,
        "map": lambda key, value: (java(key), value),
        "joiner": lambda left, right: f"({java(left)},{java(right)})",
    }


def _foreign_key_null(functions: Functions) -> Table:
    if functions.method == "shouldEmitRecordOnNullForeignKeyForLeftJoins":
        return {"foreign_key": lambda value: None, **_rejoin()}
    if functions.method == "shouldEmitRecordWhenOldAndNewFkDiffer":
        return {"foreign_key": _null_word, **_rejoin()}
    return {"foreign_key": lambda value: value.split("|")[1], **_rejoin()}


def _null_word(value: str) -> Any:
    word = value.split("|")[1]
    return None if word == "returnNull" else word


def _rejoin() -> Table:
    return {"rejoiner": lambda left, right: f"rejoin({java(left)},{java(right)})"}


def _foreign_key_scenario(_functions: Functions) -> Table:
    joiner = lambda left, right: f"({java(left)},{java(right)})"  # noqa: E731  # one line among others
    return {"foreign_key": lambda value: int(re.split(r"[-|]", value)[0 if "-" in value else 1]), "joiner": joiner}


def _grouped_table(functions: Functions) -> Table:
    known: Table = {
        "reducer": lambda first, second: first + second,
        "subtractor": lambda first, second: first - second,
        "table_group": lambda key, value: (value, value),
    }
    if "Reduce" in functions.method:
        known["table_group"] = lambda key, value: (key, int(value))
    return known


def _table_aggregate(functions: Functions) -> Table:
    known: Table = {"table_group": lambda key, value: (key, value)}
    method = functions.method
    if method.startswith("testCount"):
        known["table_group"] = lambda key, value: (value, value)
    elif method in ("testAggRepartition", "testAggOfVersionedStore"):
        known["table_group"] = _agg_repartition
    elif method == "testRemoveOldBeforeAddNew":
        known["table_group"] = lambda key, value: (key[0], key[1])
        known["init"] = str
        known["adder"] = lambda key, value, aggregate: aggregate + value
        known["remover"] = lambda key, value, aggregate: aggregate.replace(value, "")
    return known


def _agg_repartition(key: Any, value: Any) -> Any:
    if key == "null":
        return None, value
    return None if key == "NULL" else (value, value)


def _table_filter(functions: Functions) -> Table:
    known: Table = {
        "table_group": lambda key, value: (key, value),
        "reducer": lambda first, second: f"{first}+{second}",
        "subtractor": lambda first, second: f"{first}-{second}",
        "filter": lambda key, value: value % 2 == 0,
    }
    if "Null" in functions.method:
        known["filter"] = lambda key, value: value.lower() == "accept"
    if functions.method.startswith("shouldPassThrough"):
        functions.flags["filter_not"] = {"KTABLE-FILTER-0000000004"}
    return known


def _table_map_values(_functions: Functions) -> Table:
    return {"map_values": int}


def _table_impl(_functions: Functions) -> Table:
    return {
        "map_values": int,
        "filter": lambda key, value: value % 2 == 0,
        "joiner": lambda first, second: f"{java(first)}{java(second)}",
        "table_group": lambda key, value: (key, value),
        "init": lambda: "0",
        "adder": lambda key, value, aggregate: f"{aggregate}+{value}",
        "remover": lambda key, value, aggregate: f"{aggregate}-{value}",
        "reducer": lambda first, second: f"{first}+{second}",
        "subtractor": lambda first, second: f"{first}-{second}",
    }


def _swap(_functions: Functions) -> Table:
    return {"map": lambda key, value: (value, key)}


def _numbers_in_words(functions: Functions) -> Table:
    words = {1: "ONE", 2: "TWO", 3: "THREE"}
    if functions.test_class == "KTableMapKeysTest":
        return {"key_select": lambda key, value: words[key]}
    return {"key_select": lambda key, value: words[value]}


def _cogrouped(functions: Functions) -> Table:
    known: Table = {"init": str, "adder": lambda key, value, aggregate: aggregate + value}
    method = functions.method
    if method in ("shouldAllowDifferentOutputTypeInCoGroup", "shouldCoGroupStreamsWithDifferentInputTypes"):
        known["init"] = int
        known["adder"] = lambda key, value, aggregate: aggregate + int(value)
    elif method == "testCogroupKeyMixedAggregators":
        known["init"] = lambda: "0"
        known["adder@0"] = lambda key, value, aggregate: f"{aggregate}-{value}"
        known["adder@1"] = lambda key, value, aggregate: f"{aggregate}+{value}"
    return known


def _windowed_cogrouped(functions: Functions) -> Table:
    return {
        "adder@0": lambda key, value, aggregate: f"{java(aggregate)}+{java(value)}",
        "adder@1": lambda key, value, aggregate: f"{java(aggregate)}-{java(value)}",
    }


def _stream_impl(functions: Functions) -> Table:
    separator = "," if "ForeignKey" in functions.method else "+"
    around = "()" if "ForeignKey" in functions.method else ("", "")
    known: Table = {
        "map_values": lambda value: ord(value[0]) - ord("a"),
        "map": lambda key, value: (ord(key[0]) - ord("A"), value),
        "extractor": lambda key, value, context: f"{context.topic}-{key}-{value[0]}",
        "table_group": lambda key, value: (value, value),
        "foreign_key": lambda value: value.split("|")[1],
        "joiner": lambda left, right: f"{around[0]}{java(left)}{separator}{java(right)}{around[1]}",
    }
    fixed = functions.method == "shouldProcessValues"
    known["process_values" if fixed else "process"] = LengthTransformer if fixed else LengthOfValue
    return known


def _stream_map(functions: Functions) -> Table:
    if functions.test_class == "KStreamMapTest":
        return {"map": lambda key, value: (value, key)}
    if functions.method == "testMapValuesWithKeys":
        return {"map_values_with_key": lambda key, value: len(value) + key}
    return {"map_values": len}


def _stream_flat_map(functions: Functions) -> Table:
    if functions.test_class == "KStreamFlatMapTest":
        return {"flat_map": lambda key, value: [(str(key * 10 + i), value) for i in range(key)]}
    if functions.method.endswith("WithKeys"):
        return {"flat_map_values_with_key": lambda key, value: [f"v{value}", f"k{key}"]}
    return {"flat_map_values": lambda value: [f"v{value}", f"V{value}"]}


def _stream_filter(functions: Functions) -> Table:
    if functions.method == "testFilterNot":
        functions.flags["filter_not"] = {"KSTREAM-FILTER-0000000001"}
    return {"filter": lambda key, value: key % 3 == 0}


def _split(functions: Functions) -> Table:
    even, three, five = (_multiple(number) for number in (2, 3, 5))
    if functions.method == "testResultingMap":
        predicates = [even, three, five, lambda key, value: key < 0, _multiple(7)]
        return {"branches": predicates, "branch_names": ["bar", None, None, None, None], "default_branch": True}
    return {"branches": [even, three, five] if functions.method == "testKStreamSplit" else [even, five]}


def _multiple(of: int) -> Callable[[Any, Any], bool]:
    return lambda key, value: key % of == 0


def _transform(functions: Functions) -> Table:
    if functions.test_class == "KStreamTransformTest":
        return {"process": RunningTotalPairs}
    with_key = functions.method.endswith("WithKey")
    return {"process_values": RunningTotalWithKey if with_key else RunningTotal}


def _new_processor_api(_functions: Functions) -> Table:
    return {"process_values": UpdatingValue, "process": UpdatingValue}


def _exception_handler(functions: Functions) -> Table:
    functions.flags["exceptions"] = True
    return {
        "map": lambda key, value: (key, value),
        "map_values": lambda value: value,
        "process": FailOnErrorKeys,
    }


def _table_transform(functions: Functions) -> Table:
    known: Table = {
        "transform_values": ExclamationTransformer,
        "table_group": lambda key, value: (key, value),
        "reducer": lambda first, second: first + second,
        "subtractor": lambda first, second: first - second,
        "map_values": java,
    }
    if "MaterializedEvenIfStateful" in functions.method:
        known["transform_values"] = RunningCount
    elif "NotStatefulEvenIfNotMaterialized" in functions.method:
        known["transform_values"] = LengthTransformer
    return known


def _self_join(_functions: Functions) -> Table:
    return {"joiner": lambda left, right: f"{java(left)}{java(right)}"}


def _stream_join(functions: Functions) -> Table:
    """Those that are about stores add numbers."""
    sums = functions.method.startswith(
        ("shouldJoinWithCustomStoreSuppliers", "shouldJoinWithDslStoreSuppliers", "shouldJoinWithNonTimestampedStore")
    )
    return {"joiner": lambda left, right: left + right} if sums else {}


_CLASSES: Mapping[str, Callable[[Functions], Table]] = {
    "StreamStreamJoinIntegrationTest": _integration_join,
    "RelaxedNullKeyRequirementJoinTest": _relaxed,
    "KStreamImplValueJoinerWithKeyTest": _joiner_with_key,
    "KStreamWindowAggregateTest": _window_aggregate,
    "KStreamSlidingWindowAggregateTest": _window_aggregate,
    "KGroupedStreamImplTest": _grouped_stream,
    "SuppressScenarioTest": _suppress_scenario,
    "KTableKTableForeignKeyJoinIntegrationTest": _foreign_key_null,
    "KTableKTableForeignKeyJoinScenarioTest": _foreign_key_scenario,
    "KGroupedTableImplTest": _grouped_table,
    "KTableAggregateTest": _table_aggregate,
    "KTableFilterTest": _table_filter,
    "KTableMapValuesTest": _table_map_values,
    "KTableImplTest": _table_impl,
    "KTableMapKeysTest": _numbers_in_words,
    "KStreamSelectKeyTest": _numbers_in_words,
    "CogroupedKStreamImplTest": _cogrouped,
    "TimeWindowedCogroupedKStreamImplTest": _windowed_cogrouped,
    "SlidingWindowedCogroupedKStreamImplTest": _windowed_cogrouped,
    "SessionWindowedCogroupedKStreamImplTest": _windowed_cogrouped,
    "KStreamImplTest": _stream_impl,
    "KStreamMapTest": _stream_map,
    "KStreamMapValuesTest": _stream_map,
    "KStreamFlatMapTest": _stream_flat_map,
    "KStreamFlatMapValuesTest": _stream_flat_map,
    "KStreamFilterTest": _stream_filter,
    "KStreamSplitTest": _split,
    "KStreamTransformTest": _transform,
    "KStreamTransformValuesTest": _transform,
    "KStreamNewProcessorApiTest": _new_processor_api,
    "ProcessingExceptionHandlerIntegrationTest": _exception_handler,
    "KTableTransformValuesTest": _table_transform,
    "TestTopicsTest": _swap,
    "KStreamKStreamSelfJoinTest": _self_join,
    "KStreamKStreamJoinTest": _stream_join,
}

_COUNTING = {"SuppressScenarioTest"}


def functions_of(case: str, words: str, variants: list[str], *, describes_only: bool = False) -> Functions:
    """Return the functions of a case."""
    functions = Functions(case, describes_only=describes_only)
    functions.known.update(_from_words(words))
    specific = _CLASSES.get(functions.test_class)
    if specific is not None:
        functions.known.update(specific(functions))
    method = functions.method
    functions.flags["count"] = (
        functions.test_class in _COUNTING
        or "Count" in method
        or method.startswith(("testNoEquals", "testShouldSendTransient"))
    )
    functions.flags["variants"] = _variants(case, variants)
    functions.flags["words"] = words
    # a store of the test's own, which cannot be walked backwards: sliding windows then come in another order
    functions.flags["walks_forward"] = "store=InOrder" in words
    return functions


def _variants(case: str, variants: list[str]) -> list[str]:
    """Return the parameters of a JUnit row: of the case's own name, or the first of the rows with equal data."""
    own = re.search(r"\[(.*)\]$", case)
    rows = [own[1]] if own and "," in own[1] else []
    for row in variants:
        found = re.match(r"\[\d+\] (.*)$", row)
        if found:
            rows.append(found[1])
    return rows
