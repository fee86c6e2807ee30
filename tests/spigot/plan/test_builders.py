from __future__ import annotations

import doctest

import pytest

from spigot_topologies import plan
from spigot_topologies.plan import (
    builders,
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


def test_builders_return_the_plain_data_one_would_write() -> None:
    assert serial() == ["spigot/serial"]
    assert parallel(["a"], throttle=2) == ["spigot/parallel", {"spigot/throttle": 2}, ["a"]]
    assert task("a", in_={"x": get("?x")}) == ["a", {"spigot/in": {"x": ("spigot/get", "?x")}}]
    assert parallelize("?i", [1], do=["a"], into={"?r": each(get("?x"))}, throttle=3) == [
        "spigot/parallelize",
        {
            "spigot/for": ["?i", [1]],
            "spigot/into": {"?r": ("spigot/each", ("spigot/get", "?x"))},
            "spigot/throttle": 3,
        },
        ["a"],
    ]
    assert serialize("?i", get("?is"), do=["a"]) == [
        "spigot/serialize",
        {"spigot/for": ["?i", ("spigot/get", "?is")]},
        ["a"],
    ]
    assert try_(["a"], catch("?e", ["b"])) == ["spigot/try", ["a"], ["spigot/catch", {"spigot/error": "?e"}, ["b"]]]
    assert catch(["b"]) == ["spigot/catch", ["b"]]
    assert isolate(["a"], binding={"?x": 1, "?y": get("?z")}, commit={"?o": get("?x")}) == [
        "spigot/isolate",
        {"spigot/binding": ["?x", 1, "?y", ("spigot/get", "?z")], "spigot/commit": {"?o": ("spigot/get", "?x")}},
        ["a"],
    ]
    assert quote([1]) == ("spigot/quote", [1])


def test_catch_tells_what_it_takes() -> None:
    with pytest.raises(TypeError, match="a node, or a symbol and a node; got 3"):
        catch("?e", ["a"], ["b"])


def test_the_documented_example_runs() -> None:
    assert doctest.testmod(builders, extraglobs=dict(vars(builders))).failed == 0


def test_text_keeps_tuples_and_refuses_unknown_tags() -> None:
    example = serial(task("a", in_={"x": get("?x"), "y": quote(["spigot/get", "?x"])}), parallel(["b"], throttle=1))
    text = plan.dumps(example)
    assert '{"$list":["spigot/get","?x"]}' in text
    for again in (plan.loads(text), plan.loads(text.encode()), plan.from_json(plan.to_json(example))):
        assert again == example
        assert type(again[1][1]["spigot/in"]["x"]) is tuple
    with pytest.raises(Exception, match=r"\$what"):
        plan.loads('{"$what": 1}')
