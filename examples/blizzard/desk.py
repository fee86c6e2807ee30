"""The rebooking desk: which free seats each cancelled flight may use, and who travels together.

Everything follows from the data alone. So it does not matter in which order the workflows run, on how many machines, or
whether a task is run twice: the same people get the same seats.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from attrs import frozen

from examples.blizzard import flights
from examples.blizzard.flights import Flight

# How many of twenty parties have 1, 2, 3 ... members: 2.65 on average.
_SIZES = (1,) * 5 + (2,) * 6 + (3,) * 3 + (4,) * 4 + (5,) + (6,)


class NoSeatLeftError(Exception):
    """The later flights to the destination have no seats left for this party."""


@frozen
class Booking:
    """A party: the passengers of a flight from number `first` on.

    Attributes:
        first: Number of its first passenger.
        size: How many they are.
    """

    first: int
    size: int


@frozen
class Block:
    """Seats that lie together on one flight.

    Attributes:
        flight: Key of the flight.
        first: Number of the first seat.
        count: How many there are.
    """

    flight: str
    first: int
    count: int

    @property
    def seats(self) -> Iterator[tuple[str, int]]:
        """Flight and number of each seat."""
        return ((self.flight, self.first + index) for index in range(self.count))


def bookings(flight: Flight) -> list[Booking]:
    """The parties on a flight, of 1 to 6 members; the sizes look random, and are the same each time."""
    parties: list[Booking] = []
    first = 0
    while first < flight.passengers:
        size = _SIZES[zlib.crc32(f"{flight.key}/{first}".encode()) % len(_SIZES)]
        parties.append(Booking(first, min(size, flight.passengers - first)))
        first += size
    return parties


def allot(schedule: Mapping[str, Flight]) -> dict[str, tuple[Block, ...]]:
    """The seats that each cancelled flight may use, by its key; at most one for each passenger.

    The flight that should have left first chooses first: it takes the free seats of the next flights to its
    destination.
    """
    in_order = sorted(schedule.values(), key=lambda flight: (flight.departs, flight.key))
    operating: defaultdict[str, list[Flight]] = defaultdict(list)
    for flight in in_order:
        if not flight.cancelled:
            operating[flight.destination].append(flight)
    free = {flight.key: flight.free_seats for flight in in_order if not flight.cancelled}
    allotted: dict[str, tuple[Block, ...]] = {}
    for flight in in_order:
        if flight.cancelled:
            later = (other for other in operating[flight.destination] if other.departs > flight.departs)
            allotted[flight.key] = tuple(_take(flight.passengers, later, free))
    return allotted


def _take(wanted: int, later: Iterator[Flight], free: dict[str, range]) -> Iterator[Block]:
    for flight in later:
        taken, free[flight.key] = free[flight.key][:wanted], free[flight.key][wanted:]
        wanted -= len(taken)
        if taken:
            yield Block(flight.key, taken.start, len(taken))
        if not wanted:
            return


@cache
def allotments() -> Mapping[str, tuple[Block, ...]]:
    """`allot` for the flights of the blizzard."""
    return allot(flights.load())


def seats_for(booking: Booking, alternatives: Sequence[Block]) -> list[tuple[str, int]]:
    """The seats of a party: passenger n of a flight takes the nth of the seats that the flight was allotted.

    A party may so be spread over two flights.

    Raises:
        NoSeatLeftError: There are too few seats for the party; it stays together, and takes none.
    """
    seats = [seat for block in alternatives for seat in block.seats]
    found = seats[booking.first : booking.first + booking.size]
    if len(found) < booking.size:
        raise NoSeatLeftError(f"no seat left for a party of {booking.size}: {len(found)} of their seats are there")
    return found
