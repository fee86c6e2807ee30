"""Splitting a stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

from streamlet.dsl.given import KEY_AND_VALUE, check_function
from streamlet.dsl.plan import ProcessorStep
from streamlet.dsl.stateless import Branch, PassThrough
from streamlet.dsl.stream import KStream
from streamlet.errors import TopologyError
from streamlet.topic import check_name

K_co = TypeVar("K_co", covariant=True)
V_co = TypeVar("V_co", covariant=True)
S_co = TypeVar("S_co", covariant=True)
K2 = TypeVar("K2")
V2 = TypeVar("V2")


class BranchedKStream(Generic[K_co, V_co, S_co]):
    """A stream being split: each record goes to the first branch whose predicate holds. Made by `KStream.split`.

    Its third type is that of the streams in the final mapping: of the stream itself, and of what functions given as
    ``then`` return.

    ::

        branches = (stream.split(name="flight-")
            .branch(lambda _, flight: flight.dep_delay is None, name="cancelled")
            .branch(lambda _, flight: flight.dep_delay > 60, name="late")
            .default_branch(name="fine"))
        branches["flight-late"].to(late_flights)
    """

    def __init__(self, stream: KStream[K_co, V_co], name: str | None) -> None:
        self._stream = stream
        self._plan = stream.plan
        self._splitter = self._plan.suffixed_name(name, "", "KSTREAM-BRANCH-")
        self._branches: list[tuple[Callable[[Any, Any], object] | None, str]] = []
        self._streams: dict[str, Any] = {}
        self._ended = False
        self._step = ProcessorStep(self._splitter, [stream.step], lambda: Branch(tuple(self._branches)))
        self._plan.add(self._step)

    @overload
    def branch(
        self, predicate: Callable[[K_co, V_co], object], *, name: str | None = None, then: None = None
    ) -> BranchedKStream[K_co, V_co, S_co | KStream[K_co, V_co]]: ...

    @overload
    def branch(
        self,
        predicate: Callable[[K_co, V_co], object],
        *,
        name: str | None = None,
        then: Callable[[KStream[K_co, V_co]], None],
    ) -> BranchedKStream[K_co, V_co, S_co]: ...

    @overload
    def branch(
        self,
        predicate: Callable[[K_co, V_co], object],
        *,
        name: str | None = None,
        then: Callable[[KStream[K_co, V_co]], KStream[K2, V2] | None],
    ) -> BranchedKStream[K_co, V_co, S_co | KStream[K2, V2]]: ...

    def branch(
        self,
        predicate: Callable[[K_co, V_co], object],
        *,
        name: str | None = None,
        then: Callable[[KStream[K_co, V_co]], KStream[Any, Any] | None] | None = None,
    ) -> BranchedKStream[K_co, V_co, Any]:
        """Add a branch.

        Args:
            predicate: Which records go there, if no branch before it took them.
            name: Name of the branch, appended to the prefix given to `split`; default: its number, from 1.
            then: Called with the branch's stream; what it returns is in the final mapping instead, None leaves the
                branch out.
        """
        check_function(predicate, "branch()", KEY_AND_VALUE)
        self._add(predicate, str(len(self._branches) + 1) if name is None else name, then)
        return self

    @overload
    def default_branch(
        self, *, name: str | None = None, then: None = None
    ) -> dict[str, S_co | KStream[K_co, V_co]]: ...

    @overload
    def default_branch(
        self, *, name: str | None = None, then: Callable[[KStream[K_co, V_co]], None]
    ) -> dict[str, S_co]: ...

    @overload
    def default_branch(
        self, *, name: str | None = None, then: Callable[[KStream[K_co, V_co]], KStream[K2, V2] | None]
    ) -> dict[str, S_co | KStream[K2, V2]]: ...

    def default_branch(
        self,
        *,
        name: str | None = None,
        then: Callable[[KStream[K_co, V_co]], KStream[Any, Any] | None] | None = None,
    ) -> dict[str, Any]:
        """Add the branch for all other records, and return the streams by name (prefix and name of the branch; default
        ``0``)."""
        self._add(None, "0" if name is None else name, then)
        return self.no_default_branch()

    def no_default_branch(self) -> dict[str, S_co]:
        """Drop all other records, and return the streams by name."""
        self._ended = True
        return dict(self._streams)

    def _add(
        self,
        predicate: Callable[[K_co, V_co], object] | None,
        suffix: str,
        then: Callable[[KStream[K_co, V_co]], KStream[Any, Any] | None] | None,
    ) -> None:
        if self._ended:
            raise TopologyError(f"{self._splitter} has its last branch already: default_branch ends the splitting")
        if then is not None:
            check_function(then, "branch(then=)", ("stream",))
        name = check_name(self._splitter + suffix, "node")
        if any(name == known for _, known in self._branches):
            raise TopologyError(f"{self._splitter} has a branch {name!r} already")
        self._branches.append((predicate, name))
        self._plan.number(name)  # each branch uses up a number, though it is not called by it
        step = ProcessorStep(name, [self._step], PassThrough())
        self._plan.add(step)
        stream = self._stream
        branch: KStream[K_co, V_co] = KStream(
            self._plan, step, stream.serdes, stream.sources, repartition_required=stream.repartition_required
        )
        result = branch if then is None else then(branch)
        if result is not None and not isinstance(result, KStream):
            raise TopologyError(f"branch(then=) of {name} must return a KStream, or None, not {result!r}")
        if result is not None:
            self._streams[name] = result
