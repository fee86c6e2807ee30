"""The flights of 8, 9 and 10 February 2013, and the seats of their aircraft.

The data says nothing of passengers, so they are assumed: four fifths of the seats are sold, the last fifth is free.
"""

from __future__ import annotations

import csv
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from attrs import frozen

DATA = Path(__file__).parent.parent / "data"

# Some tail numbers of airliners are listed with 2 to 9 seats: they were matched with a small aircraft's registration.
SMALLEST_AIRLINER = 20
SEATS_IF_NOTHING_IS_KNOWN = 150


@frozen
class Flight:
    """A scheduled departure.

    Attributes:
        key: Carrier, flight number and day, which no other flight has.
        airline: Code of the carrier.
        day: Date of the departure, like `2013-02-08`.
        departs: When it should depart: day and local time, so that sorting by it is sorting by time.
        destination: Code of the airport.
        cancelled: Whether it never left.
        seats: How many its aircraft has.
    """

    key: str
    airline: str
    day: str
    departs: str
    destination: str
    cancelled: bool
    seats: int

    @property
    def passengers(self) -> int:
        """How many people are booked on it; they are numbered from 0 and sit on the seats of the same number."""
        return self.seats * 4 // 5

    @property
    def free_seats(self) -> range:
        """The seats that were not sold."""
        return range(self.passengers, self.seats)


@cache
def load() -> Mapping[str, Flight]:
    """All flights by key, in order of departure."""
    rows = list(_rows("flights-2013-02-08_10.csv"))
    listed = {row["tailnum"]: int(row["seats"]) for row in _rows("planes.csv")}
    known = {plane: seats for plane, seats in listed.items() if seats >= SMALLEST_AIRLINER}
    fleets: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for row in rows:
        if row["tailnum"] in known:
            fleets[row["carrier"]][row["tailnum"]] = known[row["tailnum"]]
    usual = {airline: statistics.median_low(fleet.values()) for airline, fleet in fleets.items()}
    flights = [
        _flight(row, known.get(row["tailnum"]) or usual.get(row["carrier"], SEATS_IF_NOTHING_IS_KNOWN)) for row in rows
    ]
    return {flight.key: flight for flight in sorted(flights, key=lambda flight: (flight.departs, flight.key))}


def departures() -> Iterator[tuple[str, str, int | None]]:
    """Key, airline and delay (minutes) of each flight as it happened; the delay is None if it never left."""
    for row in _rows("flights-2013-02-08_10.csv"):
        yield _key(row), row["carrier"], None if row["dep_delay"] == "NA" else int(row["dep_delay"])


@cache
def airlines() -> Mapping[str, str]:
    """Names of the airlines by code."""
    return {row["carrier"]: row["name"] for row in _rows("airlines.csv")}


def _day(row: dict[str, str]) -> str:
    return f"{row['year']}-{int(row['month']):02}-{int(row['day']):02}"


def _key(row: dict[str, str]) -> str:
    return f"{row['carrier']}-{row['flight']}-{_day(row)}"


def _flight(row: dict[str, str], seats: int) -> Flight:
    day = _day(row)
    return Flight(
        key=_key(row),
        airline=row["carrier"],
        day=day,
        departs=f"{day} {int(row['hour']):02}:{int(row['minute']):02}",
        destination=row["dest"],
        cancelled=row["dep_time"] == "NA",
        seats=seats,
    )


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (DATA / name).open(newline="") as file:
        yield from csv.DictReader(file)
