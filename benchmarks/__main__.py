"""All benchmarks: `make bench`, or `make bench ARGS="--quick embedded count"`.

Words choose lines of the tables: all of them must occur in a line's log, guarantee or name. The ratios count: both
contestants run on the same log, in turn, so the machine's noise meets both; on a busy machine the CPU ratio is the
steadier one.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import contest, engine, workflows
from benchmarks.logs import EmbeddedLog, KafkaLog, LogForContests
from benchmarks.work import WORKS
from tests.kafka.jars import BrokerUnavailableError

_RECORDS, _QUICK_RECORDS = 200_000, 100_000
_ROUNDS, _QUICK_ROUNDS = 3, 1
_LOOPS, _QUICK_LOOPS = (100, 1_000, 100_000), (100, 1_000, 10_000)
_GUARANTEES = {False: "at least once", True: "exactly once"}
_SHAPES = ("row", "loop")
_WORKFLOWS = ((200, 0), (1, 5_000))
_QUICK_WORKFLOWS = ((50, 0), (1, 500))


def chosen(words: Sequence[str], *names: str) -> bool:
    """Tell whether a line was asked for."""
    text = " ".join(names).lower()
    return all(word.lower() in text for word in words)


def wants_contests(log: LogForContests, words: Sequence[str]) -> bool:
    """Tell whether any line of the contests on a log was asked for."""
    works = [work for work in WORKS if work.only in (None, log.name)]
    return any(chosen(words, log.name, guarantee, work.name) for guarantee in _GUARANTEES.values() for work in works)


def wants_workflows(log: LogForContests, words: Sequence[str]) -> bool:
    """Tell whether any line of the workflows on a log was asked for."""
    return any(chosen(words, log.name, "workflows", name) for name in _SHAPES)


def hold_contests(log: LogForContests, words: Sequence[str], *, quick: bool) -> None:
    """Print the contests' lines."""
    records, rounds = (_QUICK_RECORDS, _QUICK_ROUNDS) if quick else (_RECORDS, _ROUNDS)
    for exactly_once, guarantee in _GUARANTEES.items():
        for work in WORKS:
            if work.only in (None, log.name) and chosen(words, log.name, guarantee, work.name):
                outcome = contest.hold(log, work, exactly_once=exactly_once, records=records, rounds=rounds)
                print(contest.row(outcome), flush=True)


def run_workflows(log: LogForContests, words: Sequence[str], *, quick: bool) -> None:
    """Print the lines of workflows end to end."""
    for name, (count, items) in zip(_SHAPES, _QUICK_WORKFLOWS if quick else _WORKFLOWS):
        if chosen(words, log.name, "workflows", name):
            directory = Path(tempfile.mkdtemp(prefix="streamlet-bench-"))
            try:
                servers = log.empty(directory)
                used = workflows.measure(servers, directory, count, items, f"bench-{name}")
                print(workflows.row(log.name, count, items, used), flush=True)
            finally:
                shutil.rmtree(directory, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "words", nargs="*", help="only lines that have all of these: kafka, embedded, engine, count ..."
    )
    parser.add_argument("--quick", action="store_true", help="less of everything, each once: to see that it works")
    parser.add_argument("--no-kafka", action="store_true", help="only the embedded log")
    options = parser.parse_args()
    words, quick = options.words, options.quick
    if chosen(words, "engine", "chain loop"):
        print(engine.HEADER)
        for line in engine.measure(_QUICK_LOOPS if quick else _LOOPS, 1 if quick else _ROUNDS):
            print(line, flush=True)
    directory = Path(tempfile.mkdtemp(prefix="streamlet-bench-"))
    try:
        logs: list[LogForContests] = [EmbeddedLog(directory)]
        if not options.no_kafka:
            try:
                logs.append(KafkaLog())
            except BrokerUnavailableError as error:
                print(f"without a broker: {error}", file=sys.stderr)
        for log in logs:
            if wants_contests(log, words) or wants_workflows(log, words):
                with log:
                    if wants_contests(log, words):
                        print(f"\n{contest.HEADER}")
                        hold_contests(log, words, quick=quick)
                    if wants_workflows(log, words):
                        print(f"\n{workflows.HEADER}")
                        run_workflows(log, words, quick=quick)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
