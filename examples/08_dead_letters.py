"""8. Dead letters: what cannot be read or processed goes to a topic of its own, and the application goes on.

Without a handler the application stops at the first such record: nothing is lost in silence.
"""

import sys

from examples.support import create_topics, read, write
from streamlet import StreamsBuilder, Topic, Topology, log_and_continue, serdes, start

RAW = Topic("temperatures", serdes.string, serdes.bytes_)
TEMPERATURES = Topic("temperatures", serdes.string, serdes.json)
FAHRENHEIT = Topic("fahrenheit", serdes.string, serdes.json)
DEAD = Topic("dead-letters", serdes.string, serdes.bytes_)


def fahrenheit() -> Topology:
    """Celsius in, Fahrenheit out."""
    builder = StreamsBuilder()
    builder.stream(TEMPERATURES).map_values(lambda celsius: celsius * 1.8 + 32, name="convert").to(FAHRENHEIT)
    return builder.build()


def main(address: str = "embedded:") -> None:
    """One record cannot be read, one cannot be converted."""
    create_topics(address, [topic.name for topic in (TEMPERATURES, FAHRENHEIT, DEAD)])
    write(address, RAW, [("jfk", b"-5"), ("lga", b"?"), ("ewr", b'{"celsius": -4}'), ("jfk", b"-10")])
    config = {
        "application.id": "fahrenheit",
        "bootstrap.servers": address,
        "deserialization.exception.handler": log_and_continue,
        "processing.exception.handler": log_and_continue,
        "errors.dead.letter.queue.topic.name": DEAD.name,
    }
    with start(fahrenheit(), config):
        for record in read(address, FAHRENHEIT, count=2):
            print(f"{record.key}: {record.value:.0f} °F")
        for record in read(address, DEAD, count=2):
            headers = {
                name.removeprefix("__streams.errors."): value.decode() for name, value in record.headers if value
            }
            where = f"offset {headers['offset']} of {headers['topic']}"
            print(f"dead: {record.value.decode()}, {where}: {headers['exception']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
