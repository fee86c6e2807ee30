"""7. Loops and failures: one copy of a task per item, at most two at a time, and a plan B.

Three parcels, one of which has no address. Where to catch is where the `try` stands: around the loop, the first failure
ends the loop; inside it, as here, only that parcel is treated otherwise.
"""

from typing import Any

from spigot_topologies import catch, each, get, parallelize, run, serial, task, try_

DELIVERY = serial(
    task("pack", in_={"order": get("?order")}, out={"?parcels": get("parcels")}),
    parallelize(
        "?parcel",
        get("?parcels"),
        throttle=2,
        into={"?fates": each(get("?fate"))},
        do=try_(
            task("deliver", in_={"parcel": get("?parcel")}, out={"?fate": get("fate")}),
            catch(
                "?error",
                task("keep", in_={"parcel": get("?parcel"), "why": get("?error")}, out={"?fate": get("fate")}),
            ),
        ),
    ),
)


def pack(params: dict[str, Any]) -> dict[str, Any]:
    """One parcel for each part of the order."""
    return {"parcels": [{"what": what, "to": to} for what, to in params["order"]]}


def deliver(params: dict[str, Any]) -> dict[str, Any]:
    """An exception fails the task; the nearest `try` above it catches it."""
    parcel = params["parcel"]
    if not parcel["to"]:
        raise ValueError("no address")
    return {"fate": f"{parcel['what']} went to {parcel['to']}"}


def keep(params: dict[str, Any]) -> dict[str, Any]:
    """The error is a map: what the exception said, its type, and the id of the task that failed."""
    return {"fate": f"{params['parcel']['what']} is kept: {params['why']['message']}"}


def main() -> None:
    """Run it once with a plan B, and see what a failure without one looks like."""
    handlers = {"pack": pack, "deliver": deliver, "keep": keep}
    order = [["a lamp", "Ann"], ["a chair", ""], ["a table", "Bob"]]
    for fate in run(DELIVERY, handlers, scope={"?order": order}).result()["?fates"]:
        print(fate)

    without = run(task("deliver", in_={"parcel": {"what": "a mirror", "to": ""}}), handlers)
    print(without.status + ":", without.error["message"] if without.error else None)


if __name__ == "__main__":
    main()
