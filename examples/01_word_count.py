"""1. Counting words: the smallest application with a state.

The application reads the topic `storm-lines`, and writes to `storm-words` how often each word has come so far. It runs
on an embedded log in memory; with another address it runs on a file (`embedded:words.db`) or on a cluster
(`localhost:9092`).
"""

import sys

from examples.support import create_topics, read, write
from streamlet import StreamsBuilder, Topic, Topology, serdes, start

LINES = Topic("storm-lines", serdes.string, serdes.string)
COUNTS = Topic("storm-words", serdes.string, serdes.int64)


def word_count() -> Topology:
    """Line in, counts out."""
    builder = StreamsBuilder()
    (
        builder.stream(LINES)
        .flat_map_values(lambda line: line.lower().split())
        .group_by(lambda _, word: word, key_serde=serdes.string, value_serde=serdes.string)
        .count(store="counts")
        .to_stream()
        .to(COUNTS)
    )
    return builder.build()


def main(address: str = "embedded:") -> None:
    """Count the words of three lines."""
    create_topics(address, [topic.name for topic in (LINES, COUNTS)])
    lines = ["snow and wind", "more snow", "and more wind and snow"]
    write(address, LINES, [("storm", line) for line in lines])
    with start(word_count(), {"application.id": "storm-words", "bootstrap.servers": address}):
        updates = read(address, COUNTS, count=sum(len(line.split()) for line in lines))
    latest = {update.key: update.value for update in updates}  # each update replaces the one before
    for word, count in sorted(latest.items(), key=lambda item: -item[1]):
        print(f"{word:8}{count}")


if __name__ == "__main__":
    main(*sys.argv[1:])
