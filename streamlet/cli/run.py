"""``streamlet run``: an instance of an application, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import logging
import sys
import time

from streamlet.cli.arguments import Commands, add_log, application_id, servers, settings, topology
from streamlet.runtime.lifecycle import State
from streamlet.runtime.streams import KafkaStreams


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "run",
        help="run a topology until Ctrl-C",
        description="Runs an instance of an application until Ctrl-C or SIGTERM; a line per change of its state.",
    )
    parser.add_argument(
        "topology", metavar="MODULE:TOPOLOGY", help="a Topology, a StreamsBuilder, or a function that returns one"
    )
    parser.add_argument("-a", "--application-id", metavar="ID", help="default: the module's name")
    parser.add_argument("-v", "--verbose", action="store_true", help="show what the library logs")
    add_log(parser)
    parser.set_defaults(action=_run)


def _run(options: argparse.Namespace) -> int:
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
    given = settings(options)
    built = topology(options.topology)
    config = {
        **given,
        "application.id": application_id(options, given),
        "bootstrap.servers": servers(options, given),
    }
    app = KafkaStreams(built, config)
    app.set_state_listener(_say)
    with app:
        app.start()
        app.wait()
    return 0


def _say(new: State, old: State) -> None:
    print(f"{time.strftime('%H:%M:%S')} {old.value} -> {new.value}", file=sys.stderr, flush=True)
