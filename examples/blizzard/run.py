"""The demo: `python -m examples.demo`, or `make demo`.

Starts a workflow for each cancelled flight, shows how far the rebooking has come, and prints the report when all have
ended. Killed at any moment and started again with `--resume` and the same `--dir`, it comes to the same report.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

from examples.blizzard import desk, flights, report, workflow
from examples.blizzard.apps import Setting, add_arguments, make_topics, start_manager, start_report
from examples.blizzard.flights import Flight
from examples.blizzard.ledger import Ledger
from examples.blizzard.progress import Progress
from examples.blizzard.report import Report
from spigot_topologies import WorkflowClient
from streamlet import InvalidStateStoreError, KafkaStreams

LONGEST_STANDSTILL = timedelta(minutes=2)

ON_A_CLUSTER = """\
The same on a cluster: give its address. Three brokers for a try, in another terminal (needs Java and Maven):
    make kafka && .venv/bin/python -m tests.kafka.cluster --brokers 3
    .venv/bin/python -m examples.demo --brokers localhost:PORT
With processes of their own, all with the same --dir and --brokers:
    .venv/bin/python -m examples.blizzard.manager --dir DIR --brokers ADDRESS
    .venv/bin/python -m examples.blizzard.worker --dir DIR --brokers ADDRESS
    .venv/bin/python -m examples.demo --elsewhere --dir DIR --brokers ADDRESS"""


class StandstillError(Exception):
    """Nothing happens any more."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description="the blizzard of February 2013")
    add_arguments(parser)
    parser.add_argument("--flights", type=int, metavar="N", help="only so many of the cancelled flights")
    parser.add_argument("--resume", action="store_true", help="go on with what an earlier run has left in DIR")
    parser.add_argument("--elsewhere", action="store_true", help="manager and workers run as processes of their own")
    given = parser.parse_args(arguments)
    if given.flights is not None and given.flights < 1:
        parser.error("--flights must be at least 1")
    if given.dir is None and (given.resume or given.elsewhere):
        parser.error("--dir is needed: the directory of the earlier run, or that the other processes share")
    with contextlib.ExitStack() as stack:
        keeps = given.dir is not None
        if not keeps:
            given.dir = stack.enter_context(tempfile.TemporaryDirectory(prefix="blizzard-"))
        elif Path(given.dir, "ledger.db").exists() and not (given.resume or given.elsewhere):
            parser.error(f"{given.dir} holds an earlier run: go on with it (--resume), or choose another directory")
        cancelled = cancelled_flights(given.flights)
        began = time.monotonic()
        setting = Setting.of(given)
        print(f"{len(cancelled)} cancelled flights, {sum(map(_parties, cancelled)):,} bookings, on {setting.brokers}")
        with Ledger(setting.ledger) as ledger:
            try:
                result = rebook(setting, cancelled, ledger, elsewhere=given.elsewhere)
            except KeyboardInterrupt:
                print(f"interrupted; to go on: --resume --dir {setting.directory}" if keeps else "interrupted")
                return 130
            seconds = time.monotonic() - began
            report.check(cancelled, ledger.entries(), result)
            tasks = len(cancelled) + sum(map(_parties, cancelled)) + ledger.stranding_tasks()
        print(report.text(result))
        print()
        print("Checked against the ledger: every passenger once, no seat twice.")
        if not given.resume:
            print(f"{tasks:,} tasks in {seconds:.1f} s: {tasks / seconds:,.0f} a second.")
        if given.brokers is None:
            print(f"\n{ON_A_CLUSTER}")
        else:
            print(f"The topics {setting.name}-* are still on the cluster.")
    return 0


def cancelled_flights(count: int | None = None) -> list[Flight]:
    """The cancelled flights, or some of them from all over the three days."""
    cancelled = [flight for flight in flights.load().values() if flight.cancelled]
    if count is None or count >= len(cancelled):
        return cancelled
    return [cancelled[index * len(cancelled) // count] for index in range(count)]


def rebook(setting: Setting, cancelled: Sequence[Flight], ledger: Ledger, *, elsewhere: bool = False) -> Report:
    """Run a workflow for each flight, and return the report when all have ended.

    Raises:
        StandstillError: Nothing has happened for minutes.
    """
    make_topics(setting)
    with contextlib.ExitStack() as stack:
        reporter = stack.enter_context(start_report(setting))
        apps = [reporter]
        worker = None
        if not elsewhere:
            worker = stack.enter_context(_worker(setting))
            apps.append(stack.enter_context(start_manager(setting)))
        with WorkflowClient(
            {"brokers": setting.brokers}, workflow_topic_cfg=setting.workflows, event_topic_cfg=setting.events
        ) as client:
            for flight in cancelled:
                client.start(
                    workflow.PLAN, scope=workflow.scope(flight), workflow_id=workflow.workflow_id(flight), confirm=False
                )
            client.flush()
        return _wait(cancelled, ledger, reporter, apps, worker)


@contextlib.contextmanager
def _worker(setting: Setting) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in a process of its own: the second core has something to do too. It ends when this one does."""
    arguments = ["--brokers", setting.brokers, "--dir", str(setting.directory), "--name", setting.name]
    command = [sys.executable, "-m", "examples.blizzard.worker", "--child", "--instance", setting.instance, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()


def _wait(
    cancelled: Sequence[Flight],
    ledger: Ledger,
    reporter: KafkaStreams,
    apps: Sequence[KafkaStreams],
    worker: subprocess.Popen[bytes] | None,
) -> Report:
    progress = Progress("passengers", sum(flight.passengers for flight in cancelled))
    groups = {(flight.day, flight.airline) for flight in cancelled}
    before, since = (-1, -1), time.monotonic()
    try:
        while True:
            for app in apps:
                if app.state.has_ended:
                    app.wait()  # raises what ended it
            if worker is not None and worker.poll() is not None:
                raise StandstillError(f"the worker has ended with exit code {worker.returncode}")
            result = _so_far(reporter, groups)
            ended, dealt_with = sum(totals.flights for totals in result.values()), ledger.size()
            progress.show(dealt_with)
            if ended >= len(cancelled):
                return result
            if (ended, dealt_with) != before:
                before, since = (ended, dealt_with), time.monotonic()
            elif time.monotonic() - since > LONGEST_STANDSTILL.total_seconds():
                raise StandstillError(f"{ended} of {len(cancelled)} workflows have ended, and nothing happens any more")
            time.sleep(0.2)
    finally:
        progress.close()


def _so_far(reporter: KafkaStreams, groups: set[tuple[str, str]]) -> Report:
    store = reporter.store(report.STORE)
    try:
        rows = {group: store.get(group) for group in groups}
    except InvalidStateStoreError:  # its tasks are being restored
        return {}
    return {group: row for group, row in rows.items() if row is not None}


def _parties(flight: Flight) -> int:
    return len(desk.bookings(flight))


if __name__ == "__main__":
    sys.exit(main())
