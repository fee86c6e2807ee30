"""9. Own words in plans: a directive, a resolver and a reducer.

`race` runs its children at once and succeeds with the first that does; `shop/discount` computes inside an expression;
`shop/sum` adds up what a loop yields.
"""

from typing import Any

from spigot_topologies import get, run, serial, serialize, task
from spigot_topologies.plan import Arity, Shape
from spigot_topologies.workflow import DEFAULT, Directive, Progress, Verdict


def first_wins(group: Progress) -> Verdict:
    """What the ends of the children mean for the group: told from counts alone."""
    if group.succeeded:
        return Verdict.SUCCESS
    return Verdict.FAILURE if group.failed == group.total else Verdict.GOES_ON


WORDS = DEFAULT.extend(
    directives={
        "shop/race": Directive(
            shape=Shape(Arity(1, None), frozenset()), admissible=lambda group: group.total, verdict=first_wins
        )
    },
    resolvers={"shop/discount": lambda lookup, price, percent: price * (100 - percent) // 100},
    reducers={"shop/sum": sum},
)

SALE = serial(
    ["shop/race", task("ask", in_={"shop": "broken"}), task("ask", in_={"shop": "open"})],
    serialize(
        "?price",
        get("?prices"),
        into={"?total": ("shop/sum", get("?paid"))},
        do=task("pay", in_={"amount": ("shop/discount", get("?price"), 10)}, out={"?paid": get("paid")}),
    ),
)


def ask(params: dict[str, Any]) -> None:
    """Fails for one of the shops."""
    if params["shop"] == "broken":
        raise ConnectionError("no answer")


def pay(params: dict[str, Any]) -> dict[str, Any]:
    """Pays what the plan computed."""
    return {"paid": params["amount"]}


def main() -> None:
    """Run with the registry that knows the words."""
    workflow = run(SALE, {"ask": ask, "pay": pay}, scope={"?prices": [100, 50, 30]}, registry=WORDS)
    print(workflow.status + ":", workflow.result()["?total"])


if __name__ == "__main__":
    main()
