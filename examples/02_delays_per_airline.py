"""2. Delays per airline: real data, records of an own class, an aggregate.

2,443 flights out of New York, of which a third never left. How late was each airline on average?
"""

import sys

from attrs import frozen

from examples.blizzard.flights import airlines, departures
from examples.support import create_topics, read, write
from streamlet import Materialized, StreamsBuilder, Topic, Topology, serdes, start


@frozen
class Departure:
    """A flight as it is written to the topic; `delay` in minutes, None if it never left."""

    airline: str
    delay: int | None


@frozen
class Delays:
    """How late an airline was."""

    flights: int = 0
    minutes: int = 0
    cancelled: int = 0

    def add(self, departure: Departure) -> "Delays":
        """With one more departure. A new object: the one in the store stays as it is."""
        if departure.delay is None:
            return Delays(self.flights, self.minutes, self.cancelled + 1)
        return Delays(self.flights + 1, self.minutes + departure.delay, self.cancelled)


DEPARTURES = Topic("departures", serdes.string, serdes.json_of(Departure))
DELAYS = Topic("delays", serdes.string, serdes.json_of(Delays))


def delays() -> Topology:
    """Add up the departures of each airline."""
    builder = StreamsBuilder()
    (
        builder.stream(DEPARTURES)
        .group_by(lambda _, departure: departure.airline, key_serde=serdes.string)
        .aggregate(
            Delays,
            lambda _, departure, so_far: so_far.add(departure),
            store=Materialized("delays", value_serde=serdes.json_of(Delays)),
        )
        .to_stream()
        .to(DELAYS)
    )
    return builder.build()


def main(address: str = "embedded:") -> None:
    """Run over three days of departures."""
    create_topics(address, [topic.name for topic in (DEPARTURES, DELAYS)])
    records = [(key, Departure(airline, delay)) for key, airline, delay in departures()]
    write(address, DEPARTURES, records)
    with start(delays(), {"application.id": "delays", "bootstrap.servers": address}):
        updates = read(address, DELAYS, count=len(records))
    names = airlines()
    print(f"{'airline':28}{'left':>6}{'cancelled':>11}{'minutes late':>14}")
    for airline, total in sorted({update.key: update.value for update in updates}.items()):
        late = f"{total.minutes / total.flights:14.1f}" if total.flights else f"{'-':>14}"
        print(f"{names[airline]:28}{total.flights:6}{total.cancelled:11}{late}")


if __name__ == "__main__":
    main(*sys.argv[1:])
