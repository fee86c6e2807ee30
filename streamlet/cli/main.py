"""Parses the command line and calls the commands; errors are one line on standard error, without a traceback."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaException

from streamlet.cli import check, consume, describe, produce, reset, run, topics
from streamlet.cli.arguments import UsageError
from streamlet.errors import StreamsError

_COMMANDS = (run, describe, produce, consume, topics, reset, check)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status: 0, 1 after an error, 2 if the command line is wrong, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="streamlet",
        description="Kafka Streams for Python: run topologies, look at topics, on a cluster or an embedded log.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_to(commands)
    options = parser.parse_args(arguments)
    action: Callable[[argparse.Namespace], int] = options.action
    try:
        status = action(options)
        sys.stdout.flush()
        return status
    except UsageError as error:
        return _fail(str(error), 2)
    except (StreamsError, KafkaException) as error:
        return _fail(_text(error), 1)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # whoever read our output has had enough; what is still buffered must not fail again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _fail(text: str, status: int) -> int:
    print(f"streamlet: {text}", file=sys.stderr)
    return status


def _text(error: Exception) -> str:
    if isinstance(error, KafkaException):
        return str(error.args[0].str())
    return str(error)
