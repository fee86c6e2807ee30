"""Arguments that commands share, and what they become."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import orjson

from streamlet import serdes
from streamlet.clients import supplier_for
from streamlet.clients.supplier import ClientSupplier
from streamlet.config import ALIASES, StreamsConfig
from streamlet.dsl import StreamsBuilder
from streamlet.serdes import Serde
from streamlet.topology import Topology

BOOTSTRAP_VARIABLE = "STREAMLET_BOOTSTRAP_SERVERS"


class UsageError(Exception):
    """The command line is wrong; the message says what to write instead."""


class Commands(Protocol):
    """What argparse returns from add_subparsers."""

    def add_parser(self, name: str, **kwargs: Any) -> argparse.ArgumentParser:
        """Add a command."""


def add_log(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which log."""
    parser.add_argument(
        "-b",
        "--bootstrap-servers",
        metavar="SERVERS",
        default=os.environ.get(BOOTSTRAP_VARIABLE),
        help=f"host:port,... of a cluster, or embedded:FILE (default: ${BOOTSTRAP_VARIABLE})",
    )
    parser.add_argument(
        "-X",
        "--config",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a setting, as in streamlet's configuration (may be repeated)",
    )
    parser.add_argument(
        "-F",
        "--config-file",
        metavar="FILE",
        type=Path,
        help="a file of settings, KEY=VALUE on each line: passwords belong here, -X is seen in the list of processes",
    )


def add_serdes(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say how keys and values are written."""
    names = ", ".join(FORMATS)
    parser.add_argument("--key", metavar="FORMAT", choices=FORMATS, default="string", help=f"of keys: {names}")
    parser.add_argument("--value", metavar="FORMAT", choices=FORMATS, default="string", help="of values, the same")


def settings(options: argparse.Namespace) -> dict[str, str]:
    """Return what the file and -X gave; -X wins.

    Raises:
        UsageError: It is not of the form KEY=VALUE, or the file cannot be read.
    """
    found: dict[str, str] = {}
    given = [(f"--config number {number}", text) for number, text in enumerate(options.config, 1)]
    for where, text in (*_lines(options.config_file), *given):
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"{where} is not of the form KEY=VALUE")  # not repeated: it may be a password
        found[ALIASES.get(key.strip(), key.strip())] = value
    return found


def _lines(file: Path | None) -> list[tuple[str, str]]:
    """Return the lines of a file of settings with their places; empty ones and comments (#) are left out."""
    if file is None:
        return []
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--config-file {file} cannot be read: {error}") from error
    numbered = [(f"line {number} of {file}", line.strip()) for number, line in enumerate(lines, 1)]
    return [(where, line) for where, line in numbered if line and not line.startswith("#")]


def servers(options: argparse.Namespace, given: Mapping[str, str]) -> str:
    """Return the log's address.

    Raises:
        UsageError: None was given.
    """
    address = options.bootstrap_servers or given.get("bootstrap.servers")
    if not address:
        raise UsageError(f"which log? Give --bootstrap-servers host:port or embedded:FILE, or set {BOOTSTRAP_VARIABLE}")
    return str(address)


class Log:
    """The log a command works on, with the settings for its clients.

    Raises:
        UsageError: No address was given.
        ConfigError: A setting is wrong.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        given = settings(options)
        self.servers = servers(options, given)
        self.config = StreamsConfig.parse(
            {"application.id": "streamlet-cli", **given, "bootstrap.servers": self.servers}
        )
        self.supplier: ClientSupplier = supplier_for(self.servers)

    def client(self, *kinds: str) -> dict[str, Any]:
        """Return settings for a client of these kinds. librdkafka's own log lines are left out: errors are raised."""
        quiet = {} if self.config.embedded else {"log_level": 0}
        return {**quiet, **self.config.client(*kinds)}


def application_id(options: argparse.Namespace, given: Mapping[str, str]) -> str | None:
    """Return the application's id: given, or the name of the module of MODULE:TOPOLOGY; None if neither is there."""
    named = options.application_id or given.get("application.id")
    if named or not options.topology:
        return named or None
    module = str(options.topology).rpartition(":")[0].removesuffix(".py").rpartition("/")[2]
    return module.replace(".", "-").replace("_", "-")


def topology(name: str) -> Topology:
    """Return what MODULE:TOPOLOGY names: a `Topology`, a `StreamsBuilder`, or a function that returns one of them.

    MODULE is a module's dotted name, looked for in the current directory too, or the path of a file.

    Raises:
        UsageError: There is no such thing.
    """
    module_name, colon, attribute = name.rpartition(":")
    if not colon or not module_name or not attribute:
        raise UsageError(f"{name!r} is not of the form MODULE:TOPOLOGY, such as examples.word_count:topology")
    module = _module(module_name)
    found: Any = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            near = ", ".join(n for n, v in vars(module).items() if isinstance(v, Topology | StreamsBuilder)) or "none"
            raise UsageError(
                f"module {module_name} has no {attribute!r}; topologies and builders in it: {near}"
            ) from None
    if callable(found) and not isinstance(found, Topology | StreamsBuilder):
        found = found()
    if isinstance(found, StreamsBuilder):
        found = found.build()
    if not isinstance(found, Topology):
        raise UsageError(f"{name} is no Topology, no StreamsBuilder, and no function that returns one, but {found!r}")
    return found


def _module(name: str) -> Any:
    path = Path(name)
    if path.suffix == ".py":
        if not path.is_file():
            raise UsageError(f"there is no file {name}")
        sys.path.insert(0, str(path.parent.resolve()))
        name = path.stem
    else:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise UsageError(f"module {name} cannot be imported: {error}") from error
        raise UsageError(f"there is no module {name!r}: run the command from the directory that holds it") from None
    finally:
        with suppress(IndexError):
            sys.path.append(sys.path.pop(0))  # behind everything else: it must not shadow other modules


# --- keys and values as text ----------------------------------------------------------------------------------------


def _from_json(text: str) -> Any:
    return orjson.loads(text)


class Format:
    """Keys or values as text on the terminal."""

    def __init__(self, serde: Serde[Any], parse: Any) -> None:
        self._serde = serde
        self._parse = parse

    def encode(self, text: str) -> bytes:
        """Return the bytes of a text.

        Raises:
            ValueError: It is not of the format.
        """
        return self._serde.serialize(self._parse(text))

    def decode(self, data: bytes | None) -> str:
        """Return the text of bytes; what is not of the format is shown as Python writes bytes."""
        if data is None:
            return "null"
        try:
            value = self._serde.deserialize(data)
        except Exception:
            return repr(data)
        if isinstance(value, str):
            return value
        if isinstance(value, bytes):
            return value.hex()
        if isinstance(value, UUID):
            return str(value)
        return orjson.dumps(value).decode()


FORMATS: Mapping[str, Format] = {
    "string": Format(serdes.string, str),
    "json": Format(serdes.json, _from_json),
    "int32": Format(serdes.int32, int),
    "int64": Format(serdes.int64, int),
    "float64": Format(serdes.float64, float),
    "uuid": Format(serdes.uuid, UUID),
    "hex": Format(serdes.bytes_, bytes.fromhex),
}
