"""3. The Processor API: where the fluent builder ends, an own class with a store of its own.

Sensors that send again what was not acknowledged send some readings twice. `Deduplicate` lets each id through once, and
forgets ids after an hour of the data's own time.
"""

import sys
from datetime import timedelta

from attrs import frozen

from examples.support import create_topics, read, write
from streamlet import (
    Processor,
    ProcessorContext,
    PunctuationType,
    Record,
    Stores,
    StreamsBuilder,
    Topic,
    Topology,
    serdes,
    start,
)


@frozen
class Reading:
    """A measurement."""

    id: str
    temperature: float


READINGS = Topic("readings", serdes.string, serdes.json_of(Reading))
UNIQUE = Topic("unique-readings", serdes.string, serdes.json_of(Reading))
SEEN = Stores.key_value("seen", serdes.string, serdes.int64)


class Deduplicate(Processor[str, Reading, str, Reading]):
    """Forwards the first record with each id."""

    stores = (SEEN,)

    def __init__(self, remember: timedelta) -> None:
        self.remember_ms = int(remember.total_seconds() * 1000)

    def init(self, context: ProcessorContext[str, Reading]) -> None:
        """The builder of the store is the handle to it, and gives it its types."""
        self.context = context
        self.seen = context.get_state_store(SEEN)
        context.schedule(timedelta(minutes=1), PunctuationType.STREAM_TIME, self.forget)

    def process(self, record: Record[str, Reading]) -> None:
        """Called for each record."""
        if self.seen.put_if_absent(record.value.id, record.timestamp) is None:
            self.context.forward(record)

    def forget(self, stream_time: int) -> None:
        """Called once for each minute of the records' time that has passed."""
        with self.seen.all() as entries:
            for id, seen_at in entries:
                if seen_at < stream_time - self.remember_ms:
                    self.seen.delete(id)


def unique_readings() -> Topology:
    """Readings without those that came before."""
    builder = StreamsBuilder()
    builder.stream(READINGS).process(lambda: Deduplicate(timedelta(hours=1))).to(UNIQUE)
    return builder.build()


def main(address: str = "embedded:") -> None:
    """Send five readings, two of them twice."""
    create_topics(address, [topic.name for topic in (READINGS, UNIQUE)])
    sent = [("a", -1.0), ("b", -2.5), ("a", -1.0), ("c", -3.0), ("b", -2.5), ("d", -4.5), ("e", -4.0)]
    write(address, READINGS, [("roof", Reading(id, temperature)) for id, temperature in sent])
    with start(unique_readings(), {"application.id": "deduplicate", "bootstrap.servers": address}):
        unique = read(address, UNIQUE, count=5)
    print(f"{len(sent)} readings came, {len(unique)} are unique:")
    for record in unique:
        print(f"{record.value.id}  {record.value.temperature:5.1f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
