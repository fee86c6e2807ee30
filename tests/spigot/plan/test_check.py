from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from spigot_topologies.plan import (
    MAX_DEPTH,
    Arity,
    Shape,
    Vocabulary,
    catch,
    check,
    each,
    get,
    isolate,
    parallel,
    parallelize,
    quote,
    serial,
    task,
    try_,
)
from spigot_topologies.values import Keyword, Symbol
from tests.spigot.engine.plans import plans

CLOJURE = [
    Keyword("spigot/serialize"),
    {Keyword("spigot/for"): [Symbol("?i"), (Symbol("spigot/get"), Symbol("?is"))]},
    [Keyword("t"), {Keyword("spigot/in"): {Keyword("i"): (Symbol("spigot/get"), Symbol("?i"))}}],
]

GOOD: list[Any] = [
    ["a"],
    ("a",),
    ["a", {}],
    ["a", {"spigot/in": None, "spigot/out": None}],
    ["a", {"note": "user options are kept"}],
    task("a", in_=get("?params")),
    task("a", in_={"x": [{"y": get(get("?p"))}], "z": quote(["spigot/get", 1]), "e": ()}),
    task("a", in_={"s": {get("?x"), 1}}),
    serial(),
    parallel(),
    try_(["a"], ["b"]),
    try_(["a"], catch(["b"])),
    parallelize("?i", "ab", do=["a"]),
    isolate(["a"]),
    CLOJURE,
]

BAD: list[tuple[Any, str, str]] = [
    (None, "r", "a node is a list"),
    ("a", "r", "a node is a list"),
    ({}, "r", "a node is a list"),
    ([], "r", "empty"),
    ([1], "r", "begins with its tag"),
    (serial(None), "r.0", "a node is a list"),
    (serial([["a"], ["b"]]), "r.0", "Write serial(*nodes)"),
    (["spigot/serail", ["a"]], "r", "did you mean spigot/serial?"),
    (["parallel", ["a"], ["b"]], "r", "did you mean spigot/parallel?"),
    (["a", {"spigot/in_": {}}], "r", "did you mean spigot/in?"),
    (["spigot/serialize", {"spigot/for": ["?x", []], "spigot/intto": {}}, ["a"]], "r", "did you mean spigot/into?"),
    (serial(["a"], ["b", ["c"]]), "r.1", "b has 1 child"),
    (serial(["a", None]), "r.0", "a has 1 child"),
    (["spigot/try", ["a"]], "r", "exactly 2 children"),
    (["spigot/catch"], "r", "exactly 1 child, not 0"),
    (["spigot/isolate", ["a"], ["b"]], "r", "exactly 1 child, not 2"),
    (["spigot/parallelize", ["a"]], "r", "needs the option spigot/for"),
    (["spigot/parallelize", {"spigot/for": ["?x"]}, ["a"]], "r.for", "a pair"),
    (["spigot/serialize", {"spigot/for": [1, [2]]}, ["a"]], "r.for", "a symbol is expected"),
    (parallel(["a"], throttle=0), "r.throttle", "at least 1"),
    (parallel(["a"], throttle=True), "r.throttle", "at least 1"),
    (["a", {"spigot/id": 1}], "r", "reserved"),
    (["a", {"spigot/for": ["?x", []]}], "r", "takes no spigot/for"),
    (["spigot/isolate", {"spigot/binding": ["?x"]}, ["a"]], "r.binding", "odd number"),
    (["spigot/isolate", {"spigot/binding": {"?x": 1}}, ["a"]], "r.binding", "flat list"),
    (parallelize("?i", [], do=["a"], into={"?r": get("?x")}), "r.into.?r", "needs a reducer"),
    (parallelize("?i", [], do=["a"], into={"?r": 1}), "r.into.?r", "needs a reducer"),
    (parallelize("?i", [], do=["a"], into={"?r": ["spigot/each", 1]}), "r.into.?r", "lost its tuple"),
    (task("a", in_={"x": ("my/what", 1)}), "r.in.x", "no resolver"),
    (task("a", in_={"x": (1, 2)}), "r.in.x", "no resolver"),
    (task("a", in_={"x": each(1)}), "r.in.x", "reducers stand in into only"),
    (task("a", in_={"x": [{"y": ["spigot/get", "?x"]}]}), "r.in.x.0.y", "lost its tuple"),
    (task("a", in_=["spigot/get", "?x"]), "r.in", "lost its tuple"),
    (task("a", in_=5), "r.in", "a map or one expression"),
    (task("a", in_={"x": ("spigot/get",)}), "r.in.x", "exactly 1 argument, not 0"),
    (task("a", in_={"x": ("spigot/get", "?a", "?b")}), "r.in.x", "exactly 1 argument, not 2"),
    (task("a", in_={"x": ("spigot/quote",)}), "r.in.x", "exactly 1 argument, not 0"),
    (task("a", out={"my.ns/?x": 1}), "r.out", "has a namespace"),
    (task("a", out={1: 1}), "r.out", "a symbol is expected"),  # type: ignore[dict-item]  # the fault under test
    (["a", {"spigot/out": [1]}], "r.out", "a map of symbols"),
    (["spigot/catch", {"spigot/error": 5}, ["a"]], "r.error", "a symbol is expected"),
]


@pytest.mark.parametrize("plan", GOOD, ids=[f"plan-{number}" for number in range(len(GOOD))])
def test_legal_plans(plan: Any) -> None:
    assert check(plan) == []


@pytest.mark.parametrize(("plan", "path", "message"), BAD, ids=[f"{path}-{message}" for _, path, message in BAD])
def test_faults_name_their_path(plan: Any, path: str, message: str) -> None:
    (fault,) = check(plan)
    assert fault.severity == "error"
    assert fault.path == path
    assert message in fault.message
    assert str(fault).startswith(f"{path}: ")


@given(plans)
def test_builders_make_legal_plans(plan: Any) -> None:
    faults = [fault for fault in check(plan) if "my/boom" not in fault.message]
    assert [fault for fault in faults if fault.severity == "error"] == []


def test_all_faults_are_listed_in_tree_order() -> None:
    plan = serial(task("a", in_={"x": (1,)}), parallel(["b", ["c"]], None), ["spigot/try"])
    assert [fault.path for fault in check(plan)] == ["r.0.in.x", "r.1.0", "r.1.1", "r.2"]


def test_what_the_original_ignores_is_a_warning() -> None:
    ignored = [
        ["spigot/serialize", {"spigot/for": ["?i", []], "spigot/throttle": 2}, ["a"]],
        ["spigot/serial", {"spigot/in": {}, "spigot/out": {}}, ["a"]],
        ["a", {"in": {}}],
        ["spigot/paralel"],
    ]
    for plan in ignored:
        faults = check(plan)
        assert faults
        assert {fault.severity for fault in faults} == {"warning"}
    assert "did you mean 'spigot/in'" in check(ignored[2])[0].message
    assert "did you mean spigot/parallel?" in check(ignored[3])[0].message


@pytest.mark.parametrize(
    ("plan", "path", "message"),
    [
        (task("a", in_={"x": {"y": ["?x"]}}), "r.in.x.y.0", "write get('?x')"),
        (task("a", out={"?x": "?y"}), "r.out.?x", "write get('?y')"),
        (parallelize("?i", "?items", do=["a"]), "r.for.?i", "write get('?items')"),
        (parallelize("?i", [], do=["a"], into={"?all": each("?end")}), "r.into.?all", "write get('?end')"),
        (parallelize("?i", 3, do=["a"]), "r.for.?i", "this loop will fail"),
        (parallelize("?i", {"a": 1}, do=["a"]), "r.for.?i", "this loop will fail"),
    ],
)
def test_what_is_legal_and_looks_like_a_slip_is_a_warning(plan: Any, path: str, message: str) -> None:
    (fault,) = check(plan)
    assert (fault.path, fault.severity) == (path, "warning")
    assert message in fault.message


@pytest.mark.parametrize("data", [get("?x"), quote("?x"), Symbol("?x"), "?", "what?", ("my/upper", "?x")])
def test_symbols_that_are_read_quoted_or_meant_are_no_slips(data: Any) -> None:
    vocabulary = Vocabulary(resolvers={"spigot/get": Arity(1, 1), "spigot/quote": Arity(1, 1), "my/upper": Arity(1, 1)})
    assert check(task("a", in_={"x": data}), vocabulary) == []


def nested(depth: int) -> Any:
    plan: Any = ["a"]
    for _ in range(depth - 1):
        plan = serial(plan)
    return plan


def test_depth_is_limited_for_nodes_and_for_values() -> None:
    assert check(nested(MAX_DEPTH)) == []
    (fault,) = check(nested(MAX_DEPTH + 1))
    assert "nested more than 256 nodes deep" in fault.message
    assert len(check(nested(100_000))) == 1
    value: Any = 1
    for _ in range(MAX_DEPTH - 2):
        value = [value]
    assert check(task("a", in_={"x": value})) == []
    for _ in range(3):
        value = [value]
    assert "levels deep" in check(task("a", in_={"x": value}))[0].message


def test_own_words() -> None:
    vocabulary = Vocabulary(
        directives={"my/race": Shape(Arity(2, None))},
        resolvers={"my/upper": Arity(1, 1)},
    )
    assert check(["my/race", ["a", {"spigot/in": {"x": ("my/upper", "b")}}], ["b"]], vocabulary) == []
    assert "at least 2 children" in check(["my/race", ["a"]], vocabulary)[0].message
    with pytest.raises(ValueError, match="exactly one child"):
        Shape(options=frozenset({"for"}))
