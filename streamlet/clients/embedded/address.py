"""The address of an embedded log, as it stands in ``bootstrap.servers``."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl

from attrs import frozen

from streamlet.errors import ConfigError

SCHEME = "embedded:"
_OPTIONS = ("cache.bytes", "partitions", "synchronous")


@frozen
class Address:
    """Where a log is and how it is opened.

    Attributes:
        path: Its file, or None for a log in memory.
        name: The file's path, or the name of a log in memory ("" is the anonymous one).
        synchronous: ``normal`` or ``full``.
        partitions: How many partitions a topic gets that is made on first use.
        cache_bytes: How much of what this process appends stays in memory for its consumers.
    """

    path: Path | None
    name: str
    synchronous: str = "normal"
    partitions: int = 1
    cache_bytes: int = 64 << 20


def is_embedded(bootstrap_servers: str) -> bool:
    """Whether ``bootstrap.servers`` names an embedded log."""
    return bootstrap_servers.startswith(SCHEME)


def parse(bootstrap_servers: str) -> Address:
    """Read an address: ``embedded:FILE``, ``embedded:`` or ``embedded:mem:NAME``, then ``?option=value&…``.

    Options: ``synchronous=full`` (or ``normal``), ``partitions=N``, ``cache.bytes=N``.

    Raises:
        ConfigError: An unknown option, or a value that does not fit.
    """
    place, _, query = bootstrap_servers.removeprefix(SCHEME).partition("?")
    try:
        options = dict(parse_qsl(query, strict_parsing=True, keep_blank_values=True)) if query else {}
    except ValueError:
        raise ConfigError(f"bootstrap.servers: {query!r} is not option=value&option=value") from None
    for name in options:
        if name not in _OPTIONS:
            raise ConfigError(f"bootstrap.servers: an embedded log has no option {name!r}, only {', '.join(_OPTIONS)}")
    synchronous = options.get("synchronous", "normal")
    if synchronous not in ("normal", "full"):
        raise ConfigError(f"bootstrap.servers: synchronous must be normal or full, not {synchronous!r}")
    in_memory = not place or place.startswith("mem:")
    return Address(
        path=None if in_memory else Path(place).expanduser().resolve(),
        name=place.removeprefix("mem:") if in_memory else place,
        synchronous=synchronous,
        partitions=_whole(options, "partitions", 1, least=1),
        cache_bytes=_whole(options, "cache.bytes", 64 << 20, least=0),
    )


def _whole(options: dict[str, str], name: str, default: int, *, least: int) -> int:
    text = options.get(name, str(default))
    if not text.isdigit() or int(text) < least:
        raise ConfigError(f"bootstrap.servers: {name} must be a whole number of at least {least}, not {text!r}")
    return int(text)
