"""The workflow of a cancelled flight: its plan, its tasks, and what is told of it.

The plan is plain data. The manager follows the plan, workers do the tasks; they share nothing but topics.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid5

import attrs

from examples.blizzard import desk
from examples.blizzard.desk import Block, Booking, NoSeatLeftError
from examples.blizzard.flights import Flight
from examples.blizzard.ledger import Ledger, rebooked, stranded
from spigot_topologies import WorkflowView, catch, each, get, parallelize, serial, task, try_

PLAN = serial(
    task("find-alternatives", in_={"flight": get("?flight")}, out={"?alternatives": get("alternatives")}),
    parallelize(
        "?booking",
        get("?bookings"),
        throttle=20,
        into={"?rebooked": each(get("?seated"))},
        do=try_(
            task(
                "rebook",
                in_={"flight": get("?flight"), "booking": get("?booking"), "alternatives": get("?alternatives")},
                out={"?seated": get("seated")},
            ),
            catch(
                "?error",
                task(
                    "strand",
                    in_={"flight": get("?flight"), "booking": get("?booking"), "why": get("?error")},
                    out={"?seated": get("seated")},
                ),
            ),
        ),
    ),
)

_NAMESPACE = UUID("6f0b3a52-2013-4208-9e1a-0e0208ca9c31")


def workflow_id(flight: Flight) -> str:
    """The id of a flight's workflow: starting it twice is starting it once."""
    return str(uuid5(_NAMESPACE, flight.key))


def scope(flight: Flight) -> dict[str, Any]:
    """What the workflow knows when it starts."""
    return {"?flight": flight.key, "?bookings": [attrs.asdict(booking) for booking in desk.bookings(flight)]}


class Agent:
    """Does the tasks (a `TaskProcessor`). It may be given a task twice: the ledger takes it once."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def process_task(self, ctx: Any, task: list[Any]) -> Mapping[str, Any]:
        """Do a task: `[tag, params]`."""
        tag, params = task
        if tag == "find-alternatives":
            return {"alternatives": [attrs.asdict(block) for block in desk.allotments()[params["flight"]]]}
        booking = Booking(**params["booking"])
        if tag == "rebook":
            seats = desk.seats_for(booking, [Block(**block) for block in params["alternatives"]])
            self._ledger.write(str(params["spigot/id"]), params["flight"], rebooked(booking.first, seats))
            return {"seated": booking.size}
        if tag == "strand":
            if params["why"].get("type") != NoSeatLeftError.__name__:
                raise RuntimeError(f"not stranded for want of seats: {params['why']}")
            self._ledger.write(str(params["spigot/id"]), params["flight"], stranded(booking.first, booking.size))
            return {"seated": 0}
        raise LookupError(f"no such task: {tag}")


class Desk:
    """Told of each workflow's life (a `WorkflowHandler` and `ErrorHandler`); what it returns becomes an event."""

    def on_complete(self, ctx: Any, workflow: WorkflowView) -> dict[str, Any]:
        """All passengers have been dealt with."""
        return {"flight": workflow.scope["?flight"], "rebooked": sum(workflow.scope["?rebooked"])}

    def on_error(self, ctx: Any, error: BaseException, workflow: WorkflowView) -> dict[str, Any]:
        """The workflow has failed."""
        return {"flight": workflow.scope["?flight"], "failed": str(error)}
