"""Random plans, and random scripts of operations for them."""

from __future__ import annotations

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
scripts = st.lists(steps, max_size=40)
