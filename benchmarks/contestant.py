"""One measurement in a process of its own: `python -m benchmarks.contestant CONTESTANT DIRECTORY JOB-AS-JSON`."""

from __future__ import annotations

import sys
from pathlib import Path

import attrs
import orjson

from benchmarks import applications, handwritten, handwritten_joins, tasks
from benchmarks.meter import Used
from benchmarks.work import Job


def measure(contestant: str, job: Job, directory: Path) -> Used:
    """Run one of the contestants."""
    if contestant == "streamlet":
        makers = {
            "stateless": applications.stateless,
            "count": applications.count,
            "windows": applications.windows,
            "streams": applications.streams,
            "tables": applications.tables,
            "threads": applications.threads,
            "coroutines": applications.coroutines,
            "tasks": tasks.application,
        }
        return applications.run(makers[job.kind], job, directory)
    loops = {
        "stateless": handwritten.stateless,
        "count": handwritten.count,
        "windows": handwritten.count,
        "streams": handwritten_joins.streams,
        "tables": handwritten_joins.tables,
        "threads": handwritten.values,
        "coroutines": handwritten.values,
        "tasks": tasks.loop,
    }
    return loops[job.kind](job, directory)


def main() -> None:
    contestant, directory, job = sys.argv[1:]
    used = measure(contestant, Job(**orjson.loads(job)), Path(directory))
    print(orjson.dumps(attrs.asdict(used)).decode())


if __name__ == "__main__":
    main()
