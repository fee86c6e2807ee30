"""Run many schedules (``make simulate``), or repeat one (``python -m tests.simulation --seed 7``)."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.world import FAULTS, ScheduleError, run

GUARANTEES = ("exactly_once_v2", "at_least_once")


def attempt(task: tuple[int, str, argparse.Namespace]) -> tuple[Counter[str], str | None]:
    """Run a schedule; return the faults it had, and what went wrong."""
    seed, guarantee, how = task
    try:
        world = run(
            seed,
            exactly_once=guarantee == "exactly_once_v2",
            verbose=how.verbose,
            without=how.without,
            most_acts=how.most_acts,
        )
        return world.counts, None
    except ScheduleError as error:
        return Counter(), str(error)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--schedules", type=int, default=5000)
    parser.add_argument("--seed", type=int, help="run only this schedule")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--guarantee", choices=GUARANTEES, help="default: both in turn")
    parser.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, 4))
    parser.add_argument("--verbose", action="store_true", help="print every call")
    parser.add_argument("--without", action="append", choices=sorted(FAULTS), default=[], help="a fault to leave out")
    parser.add_argument("--most-acts", type=int, help="steps of a schedule at the most")
    arguments = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    logging.basicConfig(level=logging.INFO if arguments.verbose else logging.CRITICAL, stream=sys.stdout)
    guarantees = [arguments.guarantee] if arguments.guarantee else list(GUARANTEES)
    if arguments.seed is not None:
        tasks = [(arguments.seed, guarantee, arguments) for guarantee in guarantees]
    else:
        seeds = range(arguments.first, arguments.first + arguments.schedules)
        tasks = [(seed, guarantees[seed % len(guarantees)], arguments) for seed in seeds]
    began = time.monotonic()
    faults: Counter[str] = Counter()
    failed: list[str] = []
    if len(tasks) < 4 or arguments.workers < 2:
        outcomes: Iterable[tuple[Counter[str], str | None]] = map(attempt, tasks)
        pool = None
    else:
        pool = ProcessPoolExecutor(arguments.workers)
        outcomes = pool.map(attempt, tasks, chunksize=10)
    try:
        for counts, problem in outcomes:
            faults.update(counts)
            if problem is not None:
                failed.append(problem)
                print(problem, "\n", flush=True)
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)
    print(f"{len(tasks)} schedules in {time.monotonic() - began:.0f} s, {len(failed)} failed")
    print(", ".join(f"{name}: {count}" for name, count in sorted(faults.items())))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
