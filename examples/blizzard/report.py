"""The report: what became of the passengers, by day and airline.

It is added up by a topology over the events of the workflows, and checked against the ledger, which neither the manager
nor this topology can see: both must tell the same story.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

from examples.blizzard import flights
from examples.blizzard.flights import Flight
from examples.blizzard.ledger import Entry
from streamlet import Materialized, StreamsBuilder, Topic, Topology, serdes

STORE = "report"


@frozen
class Totals:
    """Sums over cancelled flights.

    Attributes:
        flights: How many flights are in here.
        failed: How many of their workflows failed.
        passengers: How many people were booked on them.
        rebooked: How many of those got another seat.
    """

    flights: int = 0
    failed: int = 0
    passengers: int = 0
    rebooked: int = 0

    @property
    def stranded(self) -> int:
        """How many got none."""
        return self.passengers - self.rebooked

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            self.flights + other.flights,
            self.failed + other.failed,
            self.passengers + other.passengers,
            self.rebooked + other.rebooked,
        )


Report = Mapping[tuple[str, str], Totals]
"""Totals by day and airline."""


def topology(event_topic: Topic[Any, Any]) -> Topology:
    """Add up the events by day and airline, into the store `report`."""
    builder = StreamsBuilder()
    (
        builder.stream(event_topic)
        .filter(lambda _, event: event is not None)
        .group_by(lambda _, event: _group(event), key_serde=serdes.json_of(tuple[str, str]), value_serde=serdes.json)
        .aggregate(
            Totals,
            lambda _, event, totals: totals + _totals(event),
            store=Materialized(STORE, value_serde=serdes.json_of(Totals)),
        )
    )
    return builder.build()


def _group(event: dict[str, Any]) -> tuple[str, str]:
    flight = flights.load()[event["flight"]]
    return flight.day, flight.airline


def _totals(event: dict[str, Any]) -> Totals:
    flight = flights.load()[event["flight"]]
    return Totals(1, int("failed" in event), flight.passengers, event.get("rebooked", 0))


class ConservationError(Exception):
    """Passengers were lost or doubled, a seat was given away that was not free, or the report is wrong."""


def check(cancelled: Iterable[Flight], entries: Iterable[tuple[str, Entry]], report: Report) -> None:
    """Check that every passenger ended up somewhere, once, that every seat was free, and that the report says the same.

    Raises:
        ConservationError: With the first thing that is wrong.
    """
    schedule = flights.load()
    ends: defaultdict[str, list[Entry]] = defaultdict(list)
    for key, entry in entries:
        ends[key].append(entry)
    taken: set[tuple[str, int]] = set()
    totals: defaultdict[tuple[str, str], Totals] = defaultdict(Totals)
    for flight in cancelled:
        found = ends.pop(flight.key, [])
        if sorted(entry.passenger for entry in found) != list(range(flight.passengers)):
            raise ConservationError(f"{flight.key}: {len(found)} ends for {flight.passengers} passengers")
        for entry in found:
            if entry.flight is not None and entry.seat is not None:
                _check_seat(flight, schedule[entry.flight], entry.seat, taken)
        seated = sum(entry.flight is not None for entry in found)
        totals[flight.day, flight.airline] += Totals(1, 0, flight.passengers, seated)
    if ends:
        raise ConservationError(f"passengers of flights that were not cancelled: {', '.join(ends)}")
    for group in sorted({*totals, *report}):
        if totals.get(group) != report.get(group):
            raise ConservationError(f"{group}: the report says {report.get(group)}, the ledger {totals.get(group)}")


def _check_seat(cancelled: Flight, flight: Flight, seat: int, taken: set[tuple[str, int]]) -> None:
    if flight.cancelled or flight.destination != cancelled.destination or flight.departs <= cancelled.departs:
        raise ConservationError(f"{flight.key} is no alternative for {cancelled.key}")
    if seat not in flight.free_seats:
        raise ConservationError(f"seat {seat} of {flight.key} was sold already")
    if (flight.key, seat) in taken:
        raise ConservationError(f"seat {seat} of {flight.key} was given away twice")
    taken.add((flight.key, seat))


def text(report: Report) -> str:
    """The report as a table for people."""
    lines = [f"{'':12}{'airline':28}{'flights':>9}{'passengers':>12}{'rebooked':>10}{'stranded':>10}"]
    names = flights.airlines()
    for day in sorted({day for day, _ in report}):
        groups = sorted((names[airline], totals) for (other, airline), totals in report.items() if other == day)
        for index, (name, totals) in enumerate(groups):
            lines.append(_line("" if index else day, name, totals))
        lines.append(_line("", "all", sum((totals for _, totals in groups), Totals())))
        lines.append("")
    lines.append(_line("three days", "all", sum(report.values(), Totals())))
    return "\n".join(lines)


def _line(day: str, name: str, totals: Totals) -> str:
    return f"{day:12}{name:28}{totals.flights:9,}{totals.passengers:12,}{totals.rebooked:10,}{totals.stranded:10,}" + (
        f"   {totals.failed} failed!" if totals.failed else ""
    )
