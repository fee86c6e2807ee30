"""Plans as text: JSON that keeps tuples, keywords and all the rest, in the form of `values.tagged`."""

from __future__ import annotations

from typing import Any

from spigot_topologies.values import tagged

__all__ = ["dumps", "from_json", "loads", "to_json"]


def dumps(plan: Any) -> str:
    """The plan as JSON text; an expression is `{"$list": ["spigot/get", "?x"]}`.

    Raises:
        WireError: something in it has no form in JSON.
    """
    return tagged.dumps(plan).decode()


def loads(text: str | bytes) -> Any:
    """The plan `dumps` wrote.

    Raises:
        WireError: the text is not JSON, or has an unknown tag.
    """
    return tagged.loads(text.encode() if isinstance(text, str) else text)


def to_json(plan: Any) -> Any:
    """The plan as plain JSON data (dicts and lists), for YAML, msgpack or a document to embed it in.

    Raises:
        WireError: as for `dumps`.
    """
    return tagged.to_tagged(plan)


def from_json(data: Any) -> Any:
    """The plan `to_json` made this data from.

    Raises:
        WireError: as for `loads`.
    """
    return tagged.from_tagged(data)
