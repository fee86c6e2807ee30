"""Minutes of load and random kills on three brokers: ``python -m tests.soak --minutes 10 --seed 7``."""

from __future__ import annotations

import argparse
import random
import shutil
import sys

from tests.kafka.cluster import Cluster
from tests.soak.soak import Soak, SoakError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--guarantee", choices=("exactly_once_v2", "at_least_once"), default="exactly_once_v2")
    parser.add_argument("--seed", type=int, help="decides what is killed when (default: a new one)")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--instances", type=int, default=3)
    parser.add_argument("--rate", type=float, default=200.0, help="records a second")
    arguments = parser.parse_args()
    seed = random.randrange(1_000_000) if arguments.seed is None else arguments.seed
    print(f"seed {seed}, {arguments.guarantee}", flush=True)
    with Cluster(3) as cluster:
        soak = Soak(
            cluster,
            seed=seed,
            guarantee=arguments.guarantee,
            seconds=arguments.minutes * 60,
            kills=arguments.kills,
            instances=arguments.instances,
            rate=arguments.rate,
            say=lambda text: print(text, flush=True),
        )
        try:
            report = soak.run()
        except SoakError as error:
            print(f"seed {seed}, {arguments.guarantee}: FAILED: {error}")
            return 1
    shutil.rmtree(soak.directory, ignore_errors=True)
    print(
        f"seed {seed}, {arguments.guarantee}: {report.written} records, {report.instance_kills} kills of instances, "
        f"{report.broker_kills} of brokers; drained after {report.drained:.1f} s; results {report.outputs}: right"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
