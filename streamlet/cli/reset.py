"""``streamlet reset``: an application begins again, as with Kafka's application reset tool."""

from __future__ import annotations

import argparse
import re
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

from streamlet.cli.arguments import Commands, UsageError, add_log, application_id, servers, settings, topology
from streamlet.clients import supplier_for
from streamlet.config import EMBEDDED_PREFIX, StreamsConfig
from streamlet.runtime.reset import (
    Position,
    Reset,
    ResetPlan,
    ToEarliest,
    ToLatest,
    ToOffset,
    ToTime,
    clean_local_state,
)
from streamlet.runtime.state_root import state_root
from streamlet.state import StateDirectory

_DURATION = re.compile(r"P?(?:(\d+)D)?T?(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?", re.IGNORECASE)


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "reset",
        help="let an application begin again",
        description=(
            "Sets the committed offsets of an application's input topics, to the beginning unless said otherwise, and "
            "deletes its internal topics (changelogs, repartition topics, the tasks topic). All instances must be "
            "stopped. Output topics are left alone: what is computed again is written again."
        ),
    )
    parser.add_argument(
        "topology",
        metavar="MODULE:TOPOLOGY",
        nargs="?",
        help="says what the input topics are; without it they are those with committed offsets",
    )
    parser.add_argument("-a", "--application-id", metavar="ID", help="default: the module's name")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--to-earliest", action="store_true", help="read from the beginning (this is the default)")
    where.add_argument("--to-latest", action="store_true", help="read only what comes from now on")
    where.add_argument("--to-offset", metavar="N", type=int, help="read from this offset on, in every partition")
    where.add_argument(
        "--to-datetime", metavar="TIME", help="read from a time on: 2013-02-08T06:00:00, UTC unless it has a zone"
    )
    where.add_argument("--by-duration", metavar="TIME", help="read from so long ago on: 1d12h, 30m, PT15M")
    parser.add_argument(
        "--input-topics", metavar="TOPIC,...", default="", help="set the offsets of these input topics only"
    )
    parser.add_argument("--internal-topics", metavar="TOPIC,...", default="", help="delete these internal topics only")
    parser.add_argument(
        "--clean-local-state", action="store_true", help="delete the state that lies on this machine, too (state.dir)"
    )
    parser.add_argument("-n", "--dry-run", action="store_true", help="say what would be done, and do nothing")
    add_log(parser)
    parser.set_defaults(action=_reset)


def _reset(options: argparse.Namespace) -> int:
    to = _position(options)
    given = settings(options)
    name = application_id(options, given)
    if name is None:
        raise UsageError("which application? Give MODULE:TOPOLOGY or --application-id")
    address = servers(options, given)
    quiet = {} if address.startswith(EMBEDDED_PREFIX) else {"admin.log_level": 0}  # errors are raised
    config = StreamsConfig.parse({**quiet, **given, "application.id": name, "bootstrap.servers": address})
    built = None if options.topology is None else topology(options.topology)
    reset = Reset(supplier_for(config.bootstrap_servers), config)
    plan = reset.plan(
        built, to, input_topics=_names(options.input_topics), internal_topics=_names(options.internal_topics)
    )
    with ExitStack() as stack:
        directory = None
        root = state_root(config)
        if options.clean_local_state and root is not None and (root / name).exists():
            # before anything is changed: an instance that uses it is running, whatever the group says
            directory = StateDirectory(root, name)
            stack.callback(directory.close)
        if not options.dry_run:
            reset.carry_out(plan)
        _say(plan, options.dry_run)
        if directory is not None:
            if options.dry_run:
                for task in directory.existing_tasks():
                    print(f"would delete the state of task {task} in {directory.path}")
            else:
                clean_local_state(
                    directory, lambda task: print(f"deleted the state of task {task} in {directory.path}")
                )
        elif root is not None and _has_state(root / name):
            print(f"left alone: the state in {root / name}, which is rebuilt; --clean-local-state deletes it")
    return 0


def _say(plan: ResetPlan, dry_run: bool) -> None:
    set_, deleted = ("would set", "would delete") if dry_run else ("set", "deleted")
    for change in plan.offsets:
        before = "none" if change.before is None else change.before
        print(f"{set_} the offset of {change.topic}[{change.partition}]: {before} -> {change.after}")
    for topic in plan.topics:
        print(f"{deleted} topic {topic}")
    for topic in plan.missing:
        print(f"left alone: input topic {topic}, which does not exist")
    for topic in plan.spared:
        print(f"left alone: topic {topic}, which belongs to another application")
    if not plan.offsets and not plan.topics:
        print(f"application {plan.application_id} has nothing to reset")


def _has_state(path: Path) -> bool:
    tasks = path / "tasks"
    return tasks.is_dir() and any(tasks.iterdir())


def _position(options: argparse.Namespace) -> Position:
    if options.to_latest:
        return ToLatest()
    if options.to_offset is not None:
        if options.to_offset < 0:
            raise UsageError(f"--to-offset must be from 0 on, not {options.to_offset}")
        return ToOffset(options.to_offset)
    if options.to_datetime is not None:
        return ToTime.at(_datetime(options.to_datetime))
    if options.by_duration is not None:
        return ToTime.ago(_duration(options.by_duration))
    return ToEarliest()


def _datetime(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"--to-datetime {text!r} is no time: write 2013-02-08T06:00:00, or add a zone: +01:00"
        ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _duration(text: str) -> timedelta:
    found = _DURATION.fullmatch(text)
    if found is None or not any(found.groups()):
        raise UsageError(f"--by-duration {text!r} is no duration: write 1d12h, 30m or PT15M")
    days, hours, minutes, seconds = (int(group or 0) for group in found.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
