"""5. A first workflow, in one process: the plan is data, the handlers are functions.

Breakfast: coffee and toast at the same time, and only then the tray. The same plan runs over topics, with workers on
other machines, in example 6.
"""

from typing import Any

from spigot_topologies import get, parallel, run, serial, task

BREAKFAST = serial(
    parallel(
        task("brew", in_={"cups": get("?guests")}, out={"?coffee": get("coffee")}),
        task("toast", in_={"slices": get("?slices")}, out={"?toast": get("toast")}),
    ),
    task("serve", in_={"tray": [get("?coffee"), get("?toast")]}, out={"?served": get("served")}),
)


def brew(params: dict[str, Any]) -> dict[str, Any]:
    """Takes the parameters of `in_`, returns what `out` reads from."""
    return {"coffee": f"{params['cups']} cups of coffee"}


async def toast(params: dict[str, Any]) -> dict[str, Any]:
    """Coroutines are handlers too."""
    return {"toast": f"{params['slices']} slices of toast"}


def serve(params: dict[str, Any]) -> dict[str, Any]:
    """Runs when both are there."""
    return {"served": " and ".join(params["tray"])}


def main() -> None:
    """Run it, and read its scope."""
    print(BREAKFAST)
    workflow = run(BREAKFAST, {"brew": brew, "toast": toast, "serve": serve}, scope={"?guests": 2, "?slices": 4})
    print(workflow.status + ":", workflow.result()["?served"])


if __name__ == "__main__":
    main()
