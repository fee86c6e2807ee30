"""streamlet against the hand-written loop, on the same log, in turn, each time in a new process."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import attrs
import orjson
from attrs import frozen

from benchmarks.logs import LogForContests
from benchmarks.meter import Used
from benchmarks.work import Work

CONTESTANTS = ("hand-written", "streamlet")
_PATIENCE_SECONDS = 300


@frozen
class Outcome:
    """What several rounds of one contest have shown."""

    log: str
    work: Work
    exactly_once: bool
    rounds: Sequence[tuple[Used, Used]]

    @property
    def rates(self) -> tuple[float, float]:
        """Records a second, medians: by hand, streamlet."""
        by_hand, ours = zip(*self.rounds)
        return median(used.rate for used in by_hand), median(used.rate for used in ours)

    @property
    def cpu(self) -> tuple[float, float]:
        """CPU seconds for 100,000 records, medians: by hand, streamlet."""
        by_hand, ours = zip(*self.rounds)
        return median(used.cpu_per_100k for used in by_hand), median(used.cpu_per_100k for used in ours)

    @property
    def ratio(self) -> float:
        """streamlet's rate by that of the hand-written loop: the median over the rounds."""
        return median(ours.rate / by_hand.rate for by_hand, ours in self.rounds)

    @property
    def cpu_ratio(self) -> float:
        """The hand-written loop's CPU seconds by streamlet's, in the same way; noise moves it less."""
        return median(by_hand.cpu_per_100k / ours.cpu_per_100k for by_hand, ours in self.rounds)


def hold(log: LogForContests, work: Work, *, exactly_once: bool, records: int, rounds: int) -> Outcome:
    """Have both do the work `rounds` times, taking turns in who begins."""
    records *= work.longer
    log.prepare(work, records)
    seen: list[tuple[Used, Used]] = []
    for number in range(rounds):
        used: dict[str, Used] = {}
        for contestant in CONTESTANTS if number % 2 else reversed(CONTESTANTS):
            used[contestant] = _measure(log, work, contestant, exactly_once, records)
        seen.append((used["hand-written"], used["streamlet"]))
    return Outcome(log.name, work, exactly_once, seen)


def _measure(log: LogForContests, work: Work, contestant: str, exactly_once: bool, records: int) -> Used:
    directory = Path(tempfile.mkdtemp(prefix="streamlet-bench-"))
    try:
        job = log.job(work, exactly_once=exactly_once, records=records, directory=directory)
        text = orjson.dumps(attrs.asdict(job)).decode()
        command = [sys.executable, "-m", "benchmarks.contestant", contestant, str(directory), text]
        finished = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=_PATIENCE_SECONDS)
        log.done(job)
        return Used(**orjson.loads(finished.stdout.splitlines()[-1]))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


HEADER = (
    f"{'log':9} {'guarantee':14} {'work':34} {'by hand':>16} {'streamlet':>16} "
    f"{'ratio':>6} {'CPU ratio':>9} {'goal':>5}"
)


def row(outcome: Outcome) -> str:
    """One line of the table: records/s, with CPU seconds per 100 k records in brackets."""
    (by_hand, ours), (cpu_by_hand, cpu) = outcome.rates, outcome.cpu
    goal = outcome.work.target
    return (
        f"{outcome.log:9} {'exactly once' if outcome.exactly_once else 'at least once':14} {outcome.work.name:34} "
        f"{f'{by_hand / 1000:.0f} k ({cpu_by_hand:.2f})':>16} {f'{ours / 1000:.0f} k ({cpu:.2f})':>16} "
        f"{outcome.ratio:6.2f} {outcome.cpu_ratio:9.2f} {'' if goal is None else f'{goal:.2f}':>5}"
    )
