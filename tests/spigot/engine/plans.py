"""Random plans, and random scripts of operations for them."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import strategies as st

from spigot_topologies.plan import (
    catch,
    each,
    get,
    isolate,
    parallel,
    parallelize,
    quote,
    serial,
    serialize,
    task,
    try_,
)

symbols = st.sampled_from(["?a", "?b", "?c"])
scalars = st.sampled_from([None, False, 0, 1, "x", "yz", [], [1, 2], [[1], [2, 3]], {"k": 1}])
gets = symbols.map(get)
rare_faults = st.integers(0, 19).flatmap(lambda n: st.just(("my/boom",)) if n == 0 else gets)
expressions: st.SearchStrategy[Any] = st.recursive(
    scalars | gets | rare_faults | scalars.map(quote) | st.just(get("r")),
    lambda inner: (
        st.lists(inner.filter(lambda x: type(x) is not str), max_size=2)
        | st.dictionaries(st.sampled_from("kl"), inner, max_size=2)
    ),
    max_leaves=3,
)
writes = st.dictionaries(symbols, expressions, max_size=2)
collections = st.sampled_from([[], [1], [1, 2], [1, 2, 3], "ab", [[4], [5, 6]]]) | gets | gets | expressions
params = st.dictionaries(st.sampled_from("pq"), expressions, max_size=2) | st.none() | gets
throttles = st.none() | st.integers(1, 3)
tasks = st.builds(task, st.sampled_from(["t", "u"]), in_=params, out=writes | st.none())


def groups(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    children = st.lists(inner, max_size=3)
    reducers = st.dictionaries(symbols, expressions.map(each), max_size=2) | st.none()
    return st.one_of(
        children.map(lambda nodes: serial(*nodes)),
        st.builds(lambda nodes, throttle: parallel(*nodes, throttle=throttle), children, throttles),
        st.builds(
            lambda variable, items, do, into, throttle: parallelize(
                variable, items, do=do, into=into, throttle=throttle
            ),
            symbols,
            collections,
            inner,
            reducers,
            throttles,
        ),
        st.builds(
            lambda variable, items, do, into: serialize(variable, items, do=do, into=into),
            symbols,
            collections,
            inner,
            reducers,
        ),
        st.builds(
            lambda body, symbol, handler: try_(body, catch(handler) if symbol is None else catch(symbol, handler)),
            inner,
            symbols | st.none(),
            inner,
        ),
        st.builds(try_, inner, inner),
        st.builds(
            lambda child, binding, commit: isolate(child, binding=binding, commit=commit),
            inner,
            writes | st.none(),
            writes | st.none(),
        ),
    )


plans: st.SearchStrategy[Any] = st.recursive(tasks, groups, max_leaves=8)
scopes = st.dictionaries(symbols, st.sampled_from([1, "s", [7, 8], [[1], [2]], None, {"r": 3}]), max_size=3)
results = st.sampled_from([None, {}, {"r": 1}, {"r": [1, 2]}, {"r": None, "?a": 9}, {"r": False}, {"r": 2}, 5])
errors = st.sampled_from([{"why": 1}, {}, {"why": {"deep": [1]}}])
steps = st.tuples(
    st.sampled_from(["next", "next", "next", "succeed", "succeed", "succeed", "fail", "again", "rerun"]),
    st.integers(0, 9),
    results,
    errors,
)
scripts = st.lists(steps, min_size=4, max_size=40)


# Hypothesis prefers small examples, which is what shrinking needs; these are larger ones, drawn from a seed.


def random_plan(rng: Random, depth: int = 4) -> Any:
    def child() -> Any:
        return random_plan(rng, depth - 1)

    def children() -> list[Any]:
        return [child() for _ in range(rng.choice([1, 2, 2, 3, 3, 3] if rng.random() < 0.95 else [0]))]

    def pairs(value: Any) -> dict[str, Any] | None:
        return {rng.choice(SYMBOLS): value() for _ in range(rng.choice([0, 1, 1, 2]))} or None

    def expression() -> Any:
        roll = rng.random()
        if roll < 0.01:
            return ("my/boom",)
        if roll < 0.7:
            return get(rng.choice([*SYMBOLS, "r"]))
        if roll < 0.9:
            return rng.choice([1, "xy", [1, 2], [[3], [4, 5]], None, False, []])
        return [expression(), {"k": expression()}]

    def items() -> Any:
        if rng.random() < 0.15:
            return rng.choice([[], "ab", expression()])
        return rng.choice([[1, 2], [1, 2, 3], [[4], [5, 6]], get(rng.choice(SYMBOLS))])

    throttle = rng.choice([None, 1, 2])
    kind = "task" if depth == 0 else rng.choice(GROUPS if depth > 2 else [*GROUPS, "task", "task", "task"])
    if kind == "serial":
        return serial(*children())
    if kind == "parallel":
        return parallel(*children(), throttle=throttle)
    into = pairs(lambda: each(expression()))
    if kind == "parallelize":
        return parallelize(rng.choice(SYMBOLS), items(), do=child(), into=into, throttle=throttle)
    if kind == "serialize":
        return serialize(rng.choice(SYMBOLS), items(), do=child(), into=into)
    if kind == "try":
        return try_(child(), rng.choice([catch(rng.choice(SYMBOLS), child()), catch(child()), child()]))
    if kind == "isolate":
        return isolate(child(), binding=pairs(expression), commit=pairs(expression))
    params = {"p": expression(), "q": [get(symbol) for symbol in SYMBOLS]}
    return task(rng.choice("tu"), in_=params, out=pairs(expression))


def random_script(rng: Random, length: int) -> list[Any]:
    fail = rng.choice([0.0, 0.1, 0.3])
    script = []
    for _ in range(length):
        script.append(("next", rng.randrange(10), None, {}) if rng.random() < 0.8 else ("rerun", 0, None, {}))
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            op = "fail" if rng.random() < fail else "again" if rng.random() < 0.1 else "succeed"
            result = rng.choice([{"r": rng.randrange(100)}, {"r": [1, 2]}, {"r": [[3]], "?a": 9}, None])
            script.append((op, rng.randrange(10), result, {"why": rng.randrange(100)}))
    return script


SYMBOLS = ["?a", "?b", "?c"]
GROUPS = ["serial", "serial", "parallel", "parallelize", "serialize", "try", "try", "isolate"]
