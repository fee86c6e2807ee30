"""``streamlet check``: can a new version of a program take up what the old one left?"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from streamlet.cli.arguments import Commands, UsageError, topology
from streamlet.topology import TopologyShape, compatibility


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "check",
        help="compare two versions of a topology",
        description=(
            "Says whether the new version of a topology finds again what the old one left: stores and changelogs, "
            "records in repartition topics, the numbering of tasks. Exit status 1 if not; what to do is said."
        ),
    )
    either = "MODULE:TOPOLOGY, or a file made by `streamlet describe --format json`"
    parser.add_argument("old", metavar="OLD", help=either)
    parser.add_argument("new", metavar="NEW", help="the same")
    parser.add_argument(
        "--accept",
        metavar="NAME",
        action="append",
        default=[],
        help="a store or repartition topic whose loss or change is intended (may be repeated)",
    )
    parser.set_defaults(action=_check)


def _check(options: argparse.Namespace) -> int:
    found = compatibility(_shape(options.old), _shape(options.new), accept=options.accept)
    for finding in found.findings:
        print(finding)
    if found.same_program:
        print("compatible: the same program, which may run beside the old one")
    elif found.is_compatible:
        print("compatible: stop all instances of the old version, then start the new one")
    else:
        print("incompatible")
    return 0 if found.is_compatible else 1


def _shape(name: str) -> TopologyShape:
    path = Path(name)
    if path.suffix == ".json":
        try:
            return TopologyShape.from_json(path.read_text())
        except OSError as error:
            raise UsageError(f"{name} cannot be read: {error.strerror}") from error
    before = set(sys.modules)
    shape = TopologyShape.of(topology(name))
    module = Path(name.rpartition(":")[0])
    if module.suffix == ".py":
        _forget(set(sys.modules) - before, module.parent.resolve())
    return shape


def _forget(modules: set[str], directory: Path) -> None:
    """Forget what was imported from a directory: the other version may have modules of the same names."""
    for name in modules:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and directory in Path(file).resolve().parents:
            del sys.modules[name]
