"""The logs on which the contestants meet: the embedded one, and a broker."""

from __future__ import annotations

import shutil
import subprocess
import sys
from itertools import count as numbers
from pathlib import Path
from typing import Protocol, Self

from benchmarks.work import Job, Work, changelogs
from tests.kafka.cluster import Cluster


class LogForContests(Protocol):
    """A log with the input on it."""

    name: str

    def prepare(self, work: Work, records: int) -> None:
        """Write an input, if it is not there yet."""

    def job(self, work: Work, *, exactly_once: bool, records: int, directory: Path) -> Job:
        """Return a job with an application and topics of its own."""

    def done(self, job: Job) -> None:
        """Drop what a job has written."""

    def empty(self, directory: Path) -> str:
        """Return the address of a log for something else."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...


def _load(servers: str, topic: str, records: int, work: Work) -> None:
    """In a process of its own, so that nothing of it stays in this one."""
    subprocess.run(
        [sys.executable, "-c", "import sys; from benchmarks.records import load; a = sys.argv; "
         "load(a[1], a[2], int(a[3]), int(a[4]), a[5])", servers, topic, str(records), str(work.keys), work.input],
        check=True,
    )  # fmt: skip


def _input(work: Work, records: int) -> str:
    return f"input-{work.input}-{work.keys}-{records}"


class EmbeddedLog:
    """Each job gets a copy of the file with the input.

    Args:
        directory: For the files.
    """

    name = "embedded"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._prepared: set[str] = set()
        self._serial = numbers()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def prepare(self, work: Work, records: int) -> None:
        """Write an input, if it is not there yet."""
        name = _input(work, records)
        if name not in self._prepared:
            (self._directory / name).mkdir()
            _load(f"embedded:{self._directory / name / 'log.db'}", "input", records, work)
            self._prepared.add(name)

    def job(self, work: Work, *, exactly_once: bool, records: int, directory: Path) -> Job:
        """Return a job with a log of its own."""
        log = directory / "log"
        shutil.copytree(self._directory / _input(work, records), log)
        return work.job(
            f"embedded:{log / 'log.db'}",
            application=f"app-{next(self._serial)}",
            input="input",
            output="output",
            exactly_once=exactly_once,
            records=records,
        )

    def done(self, job: Job) -> None:
        """The file goes with the job's directory."""

    def empty(self, directory: Path) -> str:
        """Return the address of a log for something else."""
        return f"embedded:{directory / 'log.db'}"


class KafkaLog:
    """One broker; all jobs read the same topics."""

    name = "kafka"

    def __init__(self) -> None:
        self._cluster = Cluster(jvm_args=("-Xmx1g",))
        self._prepared: set[str] = set()

    def __enter__(self) -> Self:
        self._cluster.launch()
        return self

    def __exit__(self, *error: object) -> None:
        self._cluster.close()

    def prepare(self, work: Work, records: int) -> None:
        """Write an input, if it is not there yet."""
        name = _input(work, records)
        if name not in self._prepared:
            _load(self._cluster.bootstrap_servers, self._cluster.create_topic(name), records, work)
            self._prepared.add(name)

    def job(self, work: Work, *, exactly_once: bool, records: int, directory: Path) -> Job:
        """Return a job with an application and an output topic of its own."""
        name = self._cluster.unique(work.kind)
        for changelog in changelogs(work.kind, name):
            self._cluster.create_topic(changelog, configs={"cleanup.policy": "compact"})
        return work.job(
            self._cluster.bootstrap_servers,
            application=name,
            input=_input(work, records),
            output=self._cluster.create_topic(f"{name}-output"),
            exactly_once=exactly_once,
            records=records,
        )

    def done(self, job: Job) -> None:
        """Delete the job's topics."""
        admin = self._cluster.admin()
        mine = [name for name in admin.list_topics(timeout=10).topics if name.startswith(job.application)]
        for future in admin.delete_topics(mine).values():
            future.result(30)

    def empty(self, directory: Path) -> str:
        """Return the address of a log for something else."""
        return self._cluster.bootstrap_servers
