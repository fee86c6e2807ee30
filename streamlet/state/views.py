"""What all views of stores have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

_WRITES = frozenset({"put", "put_if_absent", "put_all", "delete", "remove"})


class ReadOnly:
    """Says why there is no way to write, if somebody looks for one."""

    if not TYPE_CHECKING:  # for type checkers there is no such method at all

        def __getattr__(self, name: str) -> Any:
            hint = (
                ": this is a view for reading; a global store is written by the processor that fills it, others by the "
                "processors that are connected with them"
            )
            raise AttributeError(
                f"{type(self).__name__} has no attribute {name!r}{hint if name in _WRITES else ''}", name=name, obj=self
            )
