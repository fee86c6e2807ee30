"""A worker as a process of its own: `python -m examples.blizzard.worker --dir DIR [--brokers ADDRESS]`.

On a cluster there may be several, each with its own `--instance`.
"""

import argparse

from examples.blizzard.apps import Setting, add_arguments, start_worker
from examples.blizzard.ledger import Ledger


def main() -> None:
    """Run until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m examples.blizzard.worker", description="does the tasks")
    add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.dir is None:
        parser.error("--dir is needed: the directory that all processes of the demo share")
    setting = Setting.of(arguments)
    with Ledger(setting.ledger) as ledger, start_worker(setting, ledger) as app:
        print("the worker runs", flush=True)
        app.wait()


if __name__ == "__main__":
    main()
