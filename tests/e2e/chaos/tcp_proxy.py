"""A way to a server on this machine that can be cut, stopped and slowed down."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

_BYTES = 65536


class TcpProxy:
    """Passes on what comes to `port` to another port of this machine, and the answers."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.delay_s = 0.0
        """Seconds by which each piece of a message comes later."""
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._passing = asyncio.Event()
        self._passing.set()
        self._connections: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.restore()

    def pause(self) -> None:
        """Have nothing pass, as where the other side hangs: connections are made and stay."""
        self._loop.call_soon_threadsafe(self._passing.clear)

    def resume(self) -> None:
        """Have all pass that was held."""
        self._loop.call_soon_threadsafe(self._passing.set)

    def cut(self) -> None:
        """End all connections and refuse new ones, as where the other side is gone."""
        self._run(self._close())

    def restore(self) -> None:
        """Take connections, on the same port as before."""
        self._run(self._listen())

    def close(self) -> None:
        """Cut it for good."""
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=30)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._connections):
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            there_reader, there = await asyncio.open_connection("127.0.0.1", self._target)
            self._connections.add(there)
            await asyncio.gather(self._pass(reader, there), self._pass(there_reader, writer))
        except OSError:
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(_BYTES):
                await self._passing.wait()
                await asyncio.sleep(self.delay_s)
                writer.write(piece)
                await writer.drain()
        with suppress(OSError):
            writer.close()
        self._connections.discard(writer)


@contextmanager
def tcp_proxy(target: int) -> Iterator[TcpProxy]:
    """A way to a port, while the block runs."""
    proxy = TcpProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
