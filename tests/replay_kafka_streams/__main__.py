"""``python -m tests.replay_kafka_streams FILE...``: a line for each case, then totals; exit 1 on any difference."""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from pathlib import Path

from tests.replay_kafka_streams.cases import replay_file
from tests.replay_kafka_streams.verdict import DIFFERENT, EQUAL, OUT_OF_SCOPE


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.replay_kafka_streams", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("-q", "--quiet", action="store_true", help="leave out cases that are equal")
    parser.add_argument("-k", "--case", default="", help="only cases whose name holds this text")
    parser.add_argument("--on-disk", action="store_true", help="keep stores in RocksDB instead of in memory")
    options = parser.parse_args(arguments)
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # dropped records and refused ones are what these recordings are about
    try:
        return _replay(options)
    finally:
        logging.disable(before)


def _replay(options: argparse.Namespace) -> int:
    totals: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for path in options.files:
        counts: Counter[str] = Counter()
        for verdict in replay_file(path, on_disk=options.on_disk):
            if options.case not in verdict.case:
                continue
            counts[verdict.outcome] += 1
            if verdict.outcome == OUT_OF_SCOPE:
                reasons[verdict.reason] += 1
            if not (options.quiet and verdict.outcome == EQUAL):
                print(verdict)
        print(f"{path.name}: {_summary(counts)}\n")
        totals.update(counts)
    for reason, count in reasons.most_common():
        print(f"{count:5} out of scope: {reason}")
    print(f"total: {_summary(totals)}")
    return 1 if totals[DIFFERENT] else 0


def _summary(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in (EQUAL, DIFFERENT, OUT_OF_SCOPE))


if __name__ == "__main__":
    sys.exit(main())
