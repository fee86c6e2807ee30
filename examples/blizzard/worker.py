"""A worker as a process of its own: `python -m examples.blizzard.worker --dir DIR [--brokers ADDRESS]`.

On a cluster there may be several, each with its own `--instance`.
"""

import argparse
import os
import sys
import threading

from examples.blizzard.apps import Setting, add_arguments, make_topics, start_worker
from examples.blizzard.ledger import Ledger


def main() -> None:
    """Run until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m examples.blizzard.worker", description="does the tasks")
    add_arguments(parser)
    parser.add_argument("--child", action="store_true", help="end at once when standard input ends: the parent is gone")
    arguments = parser.parse_args()
    if arguments.dir is None:
        parser.error("--dir is needed: the directory that all processes of the demo share")
    if arguments.child:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    setting = Setting.of(arguments)
    make_topics(setting)
    with Ledger(setting.ledger) as ledger, start_worker(setting, ledger) as app:
        print("the worker runs", flush=True)
        app.wait()


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()
