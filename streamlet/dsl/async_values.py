"""`map_values_async`: user code that waits, for many records at a time."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from datetime import timedelta
from functools import partial
from time import monotonic
from typing import Any, ClassVar, Literal, TypeAlias, get_args

from attrs import field, frozen

from streamlet.errors import TopologyError
from streamlet.processor.calls import CallThreads, event_loop
from streamlet.processor.operator import Forward, InFlight, NodeContext, Operator
from streamlet.records import Headers, Record

Ordering: TypeAlias = Literal["partition", "key", "none"]
"""In which order results are sent on."""

Takes: TypeAlias = Literal["value", "key and value", "record"]
"""What the user's function is given."""


@frozen
class MapValuesAsync(Operator):
    """Makes another value by user code that waits; the operator of `KStream.map_values_async`, which says more.

    Attributes:
        function: The user's, plain or a coroutine function.
        max_in_flight: How many records a task may have taken without having sent them on.
        ordering: ``partition``: in the order in which the records came; ``key``: in that order among records of a key,
            of which one call runs at a time (records without a key have no order); ``none``: as calls end.
        timeout: How long a call may take; None: any time.
        takes: What the function is given.
        recover: Makes the value for a record whose call failed, of what the function was given and the exception; None:
            the processing exception handler is asked.
    """

    function: Callable[..., Any] = field()
    max_in_flight: int = field(default=64)
    ordering: Ordering = field(default="partition")
    timeout: timedelta | None = field(default=None)
    takes: Takes = "value"
    recover: Callable[..., Any] | None = None

    traceless: ClassVar[bool] = True
    defers: ClassVar[bool] = True

    @function.validator
    def _check_function(self, _: Any, function: Any) -> None:
        if not callable(function):
            raise TopologyError(f"map_values_async needs a function or a coroutine function, not {function!r}")

    @max_in_flight.validator
    def _check_max_in_flight(self, _: Any, number: Any) -> None:
        if not isinstance(number, int) or number < 1:
            raise TopologyError(f"max_in_flight must be a whole number of at least 1, not {number!r}")

    @ordering.validator
    def _check_ordering(self, _: Any, ordering: Any) -> None:
        if ordering not in get_args(Ordering):
            raise TopologyError(f"ordering must be 'partition', 'key' or 'none', not {ordering!r}")

    @timeout.validator
    def _check_timeout(self, _: Any, timeout: Any) -> None:
        if timeout is not None and not (isinstance(timeout, timedelta) and timeout > timedelta(0)):
            raise TopologyError(f"timeout must be a timedelta of more than 0, or None, not {timeout!r}")

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function that takes a record; results are sent on when the task asks for them."""
        return _Calls(self, context, forward).take


class _Unit:
    """A record of a source topic that the node has taken, with all that came of it on the way here.

    It is sent on as a whole: half of it must not be committed.
    """

    __slots__ = ("calls", "left", "lines", "origin", "released")

    def __init__(self, origin: Any) -> None:
        self.origin = origin
        self.calls: list[_Call] = []
        self.left = 0
        self.lines: list[_Line] = []
        self.released = False


class _Line:
    """Units that are sent on in the order in which they came: of a key, or of a partition."""

    __slots__ = ("busy", "calls", "name", "units")

    def __init__(self, name: Any) -> None:
        self.name = name
        self.units: deque[_Unit] = deque()
        self.calls: deque[_Call] = deque()
        self.busy = False


class _Call:
    """One call of the user's function. Only the task's thread writes to it."""

    __slots__ = (
        "deadline",
        "error",
        "future",
        "headers",
        "key",
        "line",
        "over",
        "result",
        "timestamp",
        "unit",
        "value",
    )

    def __init__(self, unit: _Unit, key: Any, value: Any, timestamp: int, headers: Headers) -> None:
        self.unit = unit
        self.key = key
        self.value = value
        self.timestamp = timestamp
        self.headers = headers
        self.line: _Line | None = None
        self.deadline = 0.0
        self.future: Future[Any] | None = None
        self.over = False
        self.result: Any = None
        self.error: BaseException | None = None


class _Calls:
    """The node at work in one task. All methods but `_run`, `_await` and `_end` are for the task's thread."""

    def __init__(self, operator: MapValuesAsync, context: NodeContext, forward: Forward) -> None:
        self._function = operator.function
        self._coroutines = inspect.iscoroutinefunction(operator.function)
        self._most = operator.max_in_flight
        self._ordering = operator.ordering
        self._timeout = operator.timeout
        self._seconds = None if operator.timeout is None else operator.timeout.total_seconds()
        self._takes = operator.takes
        self._recover = operator.recover
        self._context = context
        self._forward = forward
        self._in_flight: InFlight = context.defer(self, operator.max_in_flight)
        self._threads = CallThreads(f"{context.node}-{context.task_id}")
        self._ended: deque[tuple[_Call, Any, BaseException | None]] = deque()
        self._clear()
        context.on_close(self._close)

    def _clear(self) -> None:
        self._newest: _Unit | None = None
        self._units = 0
        self._lines: dict[Any, _Line] = {}
        self._waiting: deque[_Call] = deque()
        self._running: dict[_Call, None] = {}  # in the order in which they began

    def _close(self) -> None:
        self.drop()
        self._threads.close()

    # --- in -----------------------------------------------------------------------------------------------------------

    def take(self, key: Any, value: Any, timestamp: int, headers: Headers) -> None:
        """Take a record, and begin its call as soon as that may be."""
        origin = self._in_flight.enter()
        unit = self._newest
        if unit is None or unit.origin is not origin:
            unit = self._newest = _Unit(origin)
            self._units += 1
            if self._ordering == "partition":
                self._stand_in_line(unit, (origin.topic(), origin.partition()))
        call = _Call(unit, key, value, timestamp, headers)
        unit.calls.append(call)
        unit.left += 1
        if self._ordering == "key" and key is not None:
            call.line = self._stand_in_line(unit, _hashable(key))
            if call.line.busy:
                call.line.calls.append(call)
                return
            call.line.busy = True
        self._waiting.append(call)
        self._begin_calls()

    def _stand_in_line(self, unit: _Unit, name: Any) -> _Line:
        line = self._lines.get(name)
        if line is None:
            line = self._lines[name] = _Line(name)
        if not line.units or line.units[-1] is not unit:
            line.units.append(unit)
            unit.lines.append(line)
        return line

    def room(self) -> int:
        """How many records may still be taken."""
        return self._most - self._units

    # --- calls --------------------------------------------------------------------------------------------------------

    def _begin_calls(self) -> None:
        # Calls that were given up after their timeout keep their threads: there may be as many of those, and no more.
        while self._waiting and len(self._running) < self._most and self._threads.outstanding < 2 * self._most:
            self._begin(self._waiting.popleft())

    def _begin(self, call: _Call) -> None:
        self._running[call] = None
        if self._seconds is not None:
            call.deadline = monotonic() + self._seconds
        if self._coroutines:
            try:
                self._await(call, self._function(*self._arguments(call)))
            except Exception as error:  # it does not take these arguments
                self._ended.append((call, None, error))
                self._in_flight.wake()
        else:
            self._threads.submit(partial(self._run, call))

    def _arguments(self, call: _Call) -> tuple[Any, ...]:
        match self._takes:
            case "value":
                return (call.value,)
            case "key and value":
                return (call.key, call.value)
            case _:
                return (Record(call.key, call.value, call.timestamp, call.headers),)

    def _run(self, call: _Call) -> None:
        result, failure = None, None
        try:
            if not call.over:
                result = self._function(*self._arguments(call))
                if inspect.isawaitable(result):
                    self._await(call, result)
                    return
        except BaseException as error:
            failure = error
        self._ended.append((call, result, failure))
        self._in_flight.wake()

    def _await(self, call: _Call, awaitable: Any) -> None:
        future = asyncio.run_coroutine_threadsafe(_awaited(awaitable), event_loop())
        call.future = future
        future.add_done_callback(partial(self._end, call))
        if call.over:
            future.cancel()

    def _end(self, call: _Call, future: Future[Any]) -> None:
        if future.cancelled():
            self._ended.append((call, None, CancelledError("the coroutine was cancelled")))
        else:
            failure = future.exception()
            result: Any = None if failure is not None else future.result()
            if isinstance(result, _Leaving):
                result, failure = None, result.error
            self._ended.append((call, result, failure))
        self._in_flight.wake()

    # --- out ----------------------------------------------------------------------------------------------------------

    def settle(self) -> int:
        """Send on the results that are there, as far as their order allows."""
        released: list[_Unit] = []
        while self._ended:
            call, result, error = self._ended.popleft()
            if not call.over:
                call.result, call.error = result, error
                self._finish(call, released)
        if self._timeout is not None and self._running:
            self._expire(released)
        self._begin_calls()
        for unit in released:
            self._send_on(unit)
        return len(released)

    def _expire(self, released: list[_Unit]) -> None:
        now = monotonic()
        late: list[_Call] = []
        for call in self._running:
            if call.deadline > now:
                break
            late.append(call)
        for call in late:
            call.error = TimeoutError(f"the call took longer than {self._timeout}")
            self._finish(call, released)
            if call.future is not None:
                call.future.cancel()

    def _finish(self, call: _Call, released: list[_Unit]) -> None:
        call.over = True
        del self._running[call]
        if (line := call.line) is not None:
            if line.calls:
                self._waiting.append(line.calls.popleft())
            else:
                line.busy = False
        call.unit.left -= 1
        ready = [call.unit]
        while ready:
            unit = ready.pop()
            if unit.released or unit.left or any(line.units[0] is not unit for line in unit.lines):
                continue
            unit.released = True
            released.append(unit)
            for line in unit.lines:
                line.units.popleft()
                if line.units:
                    ready.append(line.units[0])
                else:
                    del self._lines[line.name]

    def _send_on(self, unit: _Unit) -> None:
        for call in unit.calls:
            self._in_flight.at_hand(unit.origin, call.timestamp)
            result, failure = call.result, call.error
            if failure is not None and not isinstance(failure, Exception):
                raise failure
            if failure is not None and self._recover is not None:
                try:
                    result, failure = self._recover(*self._arguments(call), failure), None
                except Exception as error:
                    failure = error
            if failure is None:
                self._forward(call.key, result, call.timestamp, call.headers)
            else:
                self._context.failed(failure, call.key, call.value, call.timestamp, call.headers)
        self._units -= 1
        for _ in unit.calls:
            self._in_flight.leave(unit.origin)

    def drop(self) -> None:
        """Forget all records. Coroutines are cancelled; what a thread is at runs to its end, and comes to nothing."""
        running = self._running
        waiting = [*self._waiting, *(call for line in self._lines.values() for call in line.calls)]
        self._clear()
        for call in (*running, *waiting):
            call.over = True
            if call.future is not None:
                call.future.cancel()


@frozen
class _Leaving:
    """A coroutine raised what would end the event loop's thread, and leave all other coroutines hanging."""

    error: BaseException


async def _awaited(awaitable: Any) -> Any:
    try:
        return await awaitable
    except (SystemExit, KeyboardInterrupt) as error:
        return _Leaving(error)


def _hashable(key: Any) -> Any:
    try:
        hash(key)
    except TypeError:
        return repr(key)
    return key
