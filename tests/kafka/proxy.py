"""A TCP proxy in front of brokers that can cut its clients off."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from types import TracebackType

from tests.kafka.cluster import HOST

_CHUNK = 1 << 16


class Proxy:
    """Forwards connections, as a context manager.

    Args:
        routes: Ports to listen on, and where each leads to (`Cluster.detours`).
    """

    def __init__(self, routes: Sequence[tuple[int, int]]) -> None:
        self._routes = routes
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._gate = asyncio.Event()
        self._gate.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Proxy:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """From now on nothing gets through, in either direction; connections stay open, new ones are accepted."""
        self._loop.call_soon_threadsafe(self._gate.clear)

    def mend(self) -> None:
        """Everything goes on, what was sent meanwhile included."""
        self._loop.call_soon_threadsafe(self._gate.set)

    async def _listen(self) -> None:
        self._servers = [
            await asyncio.start_server(lambda r, w, to=to: self._forward(r, w, to), HOST, port)
            for port, to in self._routes
        ]

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: int) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            far_reader, far_writer = await asyncio.open_connection(HOST, to)
        except OSError:
            writer.close()
            return
        pumps = [asyncio.ensure_future(self._pump(*ends)) for ends in ((reader, far_writer), (far_reader, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pass  # the proxy closes
        finally:
            for pump in pumps:
                pump.cancel()
            writer.close()
            far_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(_CHUNK):
                await self._gate.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
