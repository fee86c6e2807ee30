"""The behaviour of operators without state."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from attrs import frozen

from streamlet.processor.operator import Forward, NodeContext, Operator
from streamlet.records import Headers


@frozen
class Filter(Operator):
    """Lets records pass for which the predicate says `keep`."""

    traceless: ClassVar[bool] = True

    predicate: Callable[[Any, Any], object]
    keep: bool = True

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Null keys and values reach the predicate."""
        predicate, failed = self.predicate, context.failed

        if self.keep:

            def filter(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
                try:
                    passes = predicate(key, value)
                except Exception as error:
                    failed(error, key, value, timestamp, headers)
                    return
                if passes:
                    forward(key, value, timestamp, headers)

            return filter

        def filter_not(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            try:
                drops = predicate(key, value)
            except Exception as error:
                failed(error, key, value, timestamp, headers)
                return
            if not drops:
                forward(key, value, timestamp, headers)

        return filter_not


@frozen
class DropNulls(Operator):
    """Drops records without a value."""

    traceless: ClassVar[bool] = True

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""

        def drop_nulls(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            if value is not None:
                forward(key, value, timestamp, headers)

        return drop_nulls


@frozen
class DropNullKeys(Operator):
    """Drops records without a key, in front of a repartition topic."""

    traceless: ClassVar[bool] = True

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        dropped = context.dropped

        def drop_null_keys(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            if key is None:
                dropped("null key")
            else:
                forward(key, value, timestamp, headers)

        return drop_null_keys


@frozen
class PassThrough(Operator):
    """Sends records on as they are: merged streams, branches."""

    traceless: ClassVar[bool] = True

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return what comes next."""
        return forward


@frozen
class Map(Operator):
    """Makes another key and value."""

    traceless: ClassVar[bool] = True

    mapper: Callable[[Any, Any], tuple[Any, Any]]

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        mapper, failed = self.mapper, context.failed

        def map(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            try:
                new_key, new_value = mapper(key, value)
            except Exception as error:
                failed(error, key, value, timestamp, headers)
                return
            forward(new_key, new_value, timestamp, headers)

        return map


@frozen
class MapValues(Operator):
    """Makes another value."""

    traceless: ClassVar[bool] = True

    mapper: Callable[..., Any]
    with_key: bool = False

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        mapper, failed = self.mapper, context.failed

        if self.with_key:

            def map_values_with_key(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
                try:
                    new_value = mapper(key, value)
                except Exception as error:
                    failed(error, key, value, timestamp, headers)
                    return
                forward(key, new_value, timestamp, headers)

            return map_values_with_key

        def map_values(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            try:
                new_value = mapper(value)
            except Exception as error:
                failed(error, key, value, timestamp, headers)
                return
            forward(key, new_value, timestamp, headers)

        return map_values


@frozen
class FlatMap(Operator):
    """Makes any number of other records. All are made before the first is sent on, so that an error sends none."""

    traceless: ClassVar[bool] = True
    expands: ClassVar[bool] = True

    mapper: Callable[[Any, Any], Iterable[tuple[Any, Any]]]

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        mapper, failed = self.mapper, context.failed

        def flat_map(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            try:
                results = [(new_key, new_value) for new_key, new_value in mapper(key, value)]
            except Exception as error:
                failed(error, key, value, timestamp, headers)
                return
            for new_key, new_value in results:
                forward(new_key, new_value, timestamp, headers)

        return flat_map


@frozen
class FlatMapValues(Operator):
    """Makes any number of other values. All are made before the first is sent on, so that an error sends none."""

    traceless: ClassVar[bool] = True
    expands: ClassVar[bool] = True

    mapper: Callable[..., Iterable[Any]]
    with_key: bool = False

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        mapper, with_key, failed = self.mapper, self.with_key, context.failed

        def flat_map_values(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            try:
                results = mapper(key, value) if with_key else mapper(value)
                if type(results) is not list:
                    results = list(results)
            except Exception as error:
                failed(error, key, value, timestamp, headers)
                return
            for new_value in results:
                forward(key, new_value, timestamp, headers)

        return flat_map_values


@frozen
class SelectKey(Operator):
    """Makes another key."""

    traceless: ClassVar[bool] = True

    selector: Callable[[Any, Any], Any]

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        selector, failed = self.selector, context.failed

        def select_key(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            try:
                new_key = selector(key, value)
            except Exception as error:
                failed(error, key, value, timestamp, headers)
                return
            forward(new_key, value, timestamp, headers)

        return select_key


@frozen
class Peek(Operator):
    """Calls a function with each record, and sends it on; also `foreach`, behind which nothing comes."""

    traceless: ClassVar[bool] = True

    action: Callable[[Any, Any], object]

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        action, failed = self.action, context.failed

        def peek(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            try:
                action(key, value)
            except Exception as error:
                failed(error, key, value, timestamp, headers)
                return
            forward(key, value, timestamp, headers)

        return peek


@frozen
class Branch(Operator):
    """Sends each record to the child of the first predicate that holds; `branches` pairs predicates with children."""

    traceless: ClassVar[bool] = True
    chooses: ClassVar[bool] = True

    branches: tuple[tuple[Callable[[Any, Any], object] | None, str], ...]

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """A predicate of None always holds; a record for which none holds is dropped."""
        branches = [(predicate, context.child(child)) for predicate, child in self.branches]
        failed = context.failed

        def branch(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            for predicate, child in branches:
                try:
                    holds = predicate is None or predicate(key, value)
                except Exception as error:
                    failed(error, key, value, timestamp, headers)
                    return
                if holds:
                    child(key, value, timestamp, headers)
                    return

        return branch
