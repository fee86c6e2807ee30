"""``streamlet produce``: lines of standard input become records."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import Any

from confluent_kafka import KafkaException

from streamlet.cli.arguments import FORMATS, Commands, Log, UsageError, add_log, add_serdes

_FLUSH_SECONDS = 30.0


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "produce",
        help="write lines of standard input to a topic",
        description="Writes each line of standard input to a topic as a value; with --separator, as key and value.",
    )
    parser.add_argument("topic", metavar="TOPIC")
    parser.add_argument("-s", "--separator", metavar="TEXT", help="what stands between key and value (\\t for a tab)")
    parser.add_argument("--null", metavar="TEXT", help="a value that is written as null (a tombstone)")
    add_serdes(parser)
    add_log(parser)
    parser.set_defaults(action=_produce)


def _produce(options: argparse.Namespace) -> int:
    log = Log(options)
    refused: list[Any] = []
    producer = log.supplier.producer(
        log.client("producer") | {"on_delivery": lambda error, _: refused.append(error) if error is not None else None}
    )
    if not log.config.embedded:
        _check_topic(producer, options.topic)
    count = 0
    interactive = sys.stdin.isatty()
    for key, value in _records(sys.stdin, options):
        while True:
            try:
                producer.produce(options.topic, value, key)
                break
            except BufferError:
                producer.poll(1.0)
        producer.poll(0)
        count += 1
        if interactive:
            producer.flush(_FLUSH_SECONDS)
        if refused:
            break
    left = producer.flush(_FLUSH_SECONDS)
    if refused:
        raise KafkaException(refused[0])
    if left:
        print(f"streamlet: {left} of {count} records were not written within {_FLUSH_SECONDS:.0f} s", file=sys.stderr)
        return 1
    return 0


def _check_topic(producer: Any, topic: str) -> None:
    found = producer.list_topics(topic, timeout=10).topics[topic]
    if found.error is not None:
        raise UsageError(f"topic {topic!r} cannot be written: {found.error.str()}")


def _records(lines: Iterable[str], options: argparse.Namespace) -> Iterable[tuple[bytes | None, bytes | None]]:
    encode_key, encode_value = FORMATS[options.key].encode, FORMATS[options.value].encode
    separator = None if options.separator is None else options.separator.replace("\\t", "\t")
    for number, line in enumerate(lines, 1):
        text = line.rstrip("\r\n")
        key: str | None = None
        if separator is not None:
            key, found, text = text.partition(separator)
            if not found:
                raise UsageError(f"line {number} has no separator {options.separator!r}: {line.rstrip()!r}")
        try:
            encoded = None if key is None else encode_key(key)
            yield encoded, None if text == options.null else encode_value(text)
        except Exception as error:
            raise UsageError(
                f"line {number} is not of the format asked for ({options.key}, {options.value}): {error}"
            ) from error
