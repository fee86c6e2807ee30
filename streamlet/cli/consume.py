"""``streamlet consume``: records of a topic as lines."""

from __future__ import annotations

import argparse
import signal
import threading
from types import FrameType

from confluent_kafka import OFFSET_END, KafkaError, KafkaException, TopicPartition

from streamlet.cli.arguments import FORMATS, Commands, Log, UsageError, add_log, add_serdes
from streamlet.clients.supplier import Consumer

_WAIT_SECONDS = 0.2


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "consume",
        help="print the records of a topic",
        description="Prints the records of a topic, from the beginning, a line each: key, tab, value. Joins no group.",
    )
    parser.add_argument("topic", metavar="TOPIC")
    parser.add_argument("-n", "--max-messages", metavar="N", type=int, help="end after so many")
    parser.add_argument("-e", "--exit", action="store_true", help="end at the end of the topic")
    parser.add_argument("--latest", action="store_true", help="only what comes from now on")
    parser.add_argument("--offsets", action="store_true", help="print partition, offset and timestamp in front")
    parser.add_argument("--uncommitted", action="store_true", help="also show open and aborted transactions")
    add_serdes(parser)
    add_log(parser)
    parser.set_defaults(action=_consume)


def _consume(options: argparse.Namespace) -> int:
    if options.max_messages is not None and options.max_messages < 1:
        raise UsageError("--max-messages must be at least 1")
    log = Log(options)
    consumer = log.supplier.consumer(
        log.client("consumer")
        | {
            "group.id": "streamlet-cli",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_uncommitted" if options.uncommitted else "read_committed",
        }
    )
    stop = threading.Event()

    def stopped(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    # An exception inside consume() would lose what it has fetched: the handlers only say that it is over.
    before = {number: signal.signal(number, stopped) for number in (signal.SIGINT, signal.SIGTERM)} if _main() else {}
    try:
        _print(consumer, options, stop)
    finally:
        consumer.close()
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    return 130 if stop.is_set() else 0


def _main() -> bool:
    return threading.current_thread() is threading.main_thread()


def _print(consumer: Consumer, options: argparse.Namespace, stop: threading.Event) -> None:
    found = consumer.list_topics(options.topic, timeout=10).topics[options.topic]
    if found.error is not None:
        raise UsageError(f"topic {options.topic!r} cannot be read: {found.error.str()}")
    partitions = [TopicPartition(options.topic, number) for number in sorted(found.partitions)]
    open_partitions = set(found.partitions)
    for partition in partitions:
        partition.offset = OFFSET_END if options.latest else 0
    if not options.latest:
        for partition in partitions:
            partition.offset = consumer.get_watermark_offsets(partition, timeout=10)[0]
    consumer.assign(partitions)
    key, value = FORMATS[options.key], FORMATS[options.value]
    left = options.max_messages
    while not stop.is_set():
        for message in consumer.consume(1 if left == 1 else 100, 0) or consumer.consume(1, _WAIT_SECONDS):
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    open_partitions.discard(message.partition() or 0)
                elif error.fatal() or not error.retriable():
                    raise KafkaException(error)
                continue
            front = f"{message.partition()}\t{message.offset()}\t{message.timestamp()[1]}\t" if options.offsets else ""
            print(f"{front}{key.decode(message.key())}\t{value.decode(message.value())}", flush=True)
            if left is not None:
                left -= 1
                if left == 0:
                    return
        if options.exit and not open_partitions:
            return
