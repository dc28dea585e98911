"""A wire of the demo of the tree: the line from one node to its superior, which can be cut and joined again.

Shell; loopback only. It carries octets and looks at none. Invariant: while it is cut nothing passes, in neither direction, and
whoever dials is refused.
"""

import asyncio
import contextlib

CHUNK = 65_536


class Wire:
    """From a free loopback port to `target`. Run `open` first; `close` at the end."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def open(self) -> None:
        """Carry; on the same port after a cut."""
        if self._server is None:
            self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Cut: nobody is let in, and what stands ends at once."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for end in list(self._ends):
            end.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ends.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            self._ends.discard(writer)
            writer.transport.abort()
            return
        self._ends.add(far_writer)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pour(reader, far_writer))
                group.create_task(_pour(far_reader, writer))
        finally:
            for end in (writer, far_writer):
                self._ends.discard(end)
                end.transport.abort()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one side ends; the other is then told that it has."""
    with contextlib.suppress(OSError):
        while octets := await reader.read(CHUNK):
            writer.write(octets)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()
