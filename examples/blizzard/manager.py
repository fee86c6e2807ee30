"""The manager as a process of its own: `python -m examples.blizzard.manager --dir DIR [--brokers ADDRESS]`."""

import argparse

from examples.blizzard.apps import Setting, add_arguments, make_topics, start_manager


def main() -> None:
    """Run until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m examples.blizzard.manager", description="follows the plans")
    add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.dir is None:
        parser.error("--dir is needed: the directory that all processes of the demo share")
    setting = Setting.of(arguments)
    make_topics(setting)
    with start_manager(setting) as app:
        print("the manager runs", flush=True)
        app.wait()


if __name__ == "__main__":
    main()
