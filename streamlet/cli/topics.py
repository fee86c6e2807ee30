"""``streamlet topics``: what is there, with partitions and records."""

from __future__ import annotations

import argparse

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import NewTopic, OffsetSpec

from streamlet.cli.arguments import Commands, Log, UsageError, add_log

_SECONDS = 30.0


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "topics",
        help="list topics, create or delete one",
        description="Lists the topics with their partitions and offsets; creates or deletes one.",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--create", metavar="TOPIC", help="create a topic")
    what.add_argument("--delete", metavar="TOPIC", help="delete a topic with its records")
    parser.add_argument("-p", "--partitions", metavar="N", type=int, default=1, help="for --create (default: 1)")
    parser.add_argument("--all", action="store_true", help="list the brokers' own topics too")
    add_log(parser)
    parser.set_defaults(action=_topics)


def _topics(options: argparse.Namespace) -> int:
    log = Log(options)
    admin = log.supplier.admin(log.client("admin"))
    if options.create is not None:
        if options.partitions < 1:
            raise UsageError("--partitions must be at least 1")
        new = NewTopic(options.create, options.partitions, log.config.replication_factor)
        _result(options.create, "created", admin.create_topics([new])[options.create])
        return 0
    if options.delete is not None:
        _result(options.delete, "deleted", admin.delete_topics([options.delete])[options.delete])
        return 0
    try:
        found = admin.list_topics(timeout=_SECONDS).topics
    except KafkaException as error:
        raise UsageError(f"{log.servers} does not answer: {error.args[0].str()}") from error
    names = sorted(name for name in found if options.all or not name.startswith("__"))
    places = [TopicPartition(name, number) for name in names for number in sorted(found[name].partitions)]
    begins = admin.list_offsets({place: OffsetSpec.earliest() for place in places}) if places else {}  # type: ignore[no-untyped-call]  # confluent-kafka's
    ends = admin.list_offsets({place: OffsetSpec.latest() for place in places}) if places else {}  # type: ignore[no-untyped-call]
    begin = {(p.topic, p.partition): future.result(_SECONDS).offset for p, future in begins.items()}
    end = {(p.topic, p.partition): future.result(_SECONDS).offset for p, future in ends.items()}
    width = max(map(len, names), default=5)
    print(f"{'TOPIC':{width}}  PARTITIONS  OFFSETS")
    for name in names:
        numbers = sorted(found[name].partitions)
        total = sum(end[name, n] - begin[name, n] for n in numbers)
        print(f"{name:{width}}  {len(numbers):10}  {total:7}")
    return 0


def _result(topic: str, done: str, future: object) -> None:
    try:
        future.result(_SECONDS)  # type: ignore[attr-defined]  # a Future of either supplier
    except KafkaException as error:
        raise UsageError(f"topic {topic!r} was not {done}: {error.args[0].str()}") from error
    print(f"{done} topic {topic}")
