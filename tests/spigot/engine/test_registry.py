"""Own directives, resolvers and reducers."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

import pytest

from spigot_topologies.errors import PlanError
from spigot_topologies.plan import Arity, Shape, catch, get, parallelize, task
from spigot_topologies.workflow import DEFAULT, DictParts, Directive, Progress, Verdict, Workflow, create

RUN = UUID(int=1)


def first_wins(group: Progress) -> Verdict:
    if group.succeeded:
        return Verdict.SUCCESS
    return Verdict.FAILURE if group.failed == group.total else Verdict.GOES_ON


REGISTRY = DEFAULT.extend(
    directives={
        "my/race": Directive(Shape(), lambda group: group.total, first_wins),
        "my/fallback": Directive(Shape(Arity(1, None)), lambda group: group.failed + 1, first_wins),
        "my/any-of": Directive(
            Shape(Arity(1, 1), frozenset({"for", "into"})), lambda group: group.failed + 1, first_wins
        ),
        "my/stuck": Directive(Shape(), lambda _: 0, lambda _: Verdict.GOES_ON),
        "my/broken": Directive(Shape(), lambda group: 1 // group.succeeded, first_wins),
    },
    resolvers={"my/upper": lambda lookup, key: lookup(key).upper(), "my/concat": lambda _, *parts: "".join(parts)},
    reducers={"my/sum": sum, "my/zip": lambda *columns: [list(row) for row in zip(*columns, strict=True)]},
    arities={"my/upper": Arity(1, 1), "my/sum": Arity(1, 1)},
)


def paths(workflow: Workflow) -> list[str]:
    return [started.path for started in workflow.next()]


def test_race() -> None:
    workflow = create(["my/race", ["a"], ["b"], ["c"]], id=RUN, registry=REGISTRY)
    assert paths(workflow) == ["r.0", "r.1", "r.2"]
    workflow.fail(uuid5(RUN, "r.0"))
    assert workflow.status == "running"
    workflow.succeed(uuid5(RUN, "r.2"))
    assert workflow.status == "success"


def test_fallback_binds_the_first_error_and_fails_with_the_last() -> None:
    handler = task("h", in_={"e": get("?e")})
    plan = ["my/fallback", ["a"], catch("?e", handler), catch("?e", handler)]
    parts = DictParts()
    create(plan, id=RUN, registry=REGISTRY, parts=parts).flush()
    for number, expected in enumerate(["r.0", "r.1.0", "r.2.0"]):
        workflow = Workflow.load(parts, registry=REGISTRY)
        assert workflow is not None
        (started,) = workflow.next()
        assert started.path == expected
        if number:
            assert started.params["e"] == {"n": 0, "spigot/id": uuid5(RUN, "r.0")}
        workflow.fail(started.id, {"n": number})
        workflow.flush()
    assert (workflow.status, workflow.error) == ("failure", {"n": 2})


def test_own_loop() -> None:
    plan = ["my/any-of", {"spigot/for": ["?i", [1, 2, 3]], "spigot/into": {"?x": ("my/sum", get("?i"))}}, ["a"]]
    workflow = create(plan, id=RUN, registry=REGISTRY)
    assert paths(workflow) == ["r.0"]
    workflow.fail(uuid5(RUN, "r.0"))
    assert paths(workflow) == ["r.1"]
    workflow.succeed(uuid5(RUN, "r.1"))
    workflow.next()
    assert workflow.result() == {"?x": 3}  # of the items that were started


def test_resolvers_and_reducers() -> None:
    into = {"?sum": ("my/sum", get("?n")), "?pairs": ("my/zip", get("?i"), get("?n"))}
    do = task("a", in_={"x": ("my/concat", ("my/upper", "?name"), "-", get("?i"))}, out={"?n": get("n")})
    workflow = create(parallelize("?i", ["p", "q"], do=do, into=into), {"?name": "ann"}, id=RUN, registry=REGISTRY)
    assert [started.params["x"] for started in workflow.next()] == ["ANN-p", "ANN-q"]
    workflow.succeed(uuid5(RUN, "r.0"), {"n": 1})
    workflow.succeed(uuid5(RUN, "r.1"), {"n": 10})
    workflow.next()
    assert dict(workflow.scope) == {"?name": "ann", "?sum": 11, "?pairs": [["p", 1], ["q", 10]]}


@pytest.mark.parametrize(
    ("plan", "kind"), [(["my/stuck", ["a"]], "DirectiveError"), (["my/broken", ["a"]], "ZeroDivisionError")]
)
def test_a_directive_that_hangs_or_raises_fails_its_node(plan: Any, kind: str) -> None:
    workflow = create(plan, registry=REGISTRY)
    assert workflow.next() == []
    assert workflow.error is not None
    assert workflow.error["type"] == kind


def test_words_are_checked() -> None:
    with pytest.raises(PlanError, match="my/upper takes exactly 1 argument, not 2"):
        create(task("a", in_={"x": ("my/upper", 1, 2)}), registry=REGISTRY)
    with pytest.raises(PlanError, match="no resolver"):
        create(task("a", in_={"x": ("my/upper", 1)}))
    with pytest.raises(ValueError, match="spigot/get is built in"):
        DEFAULT.extend(resolvers={"spigot/get": lambda *_: None})
