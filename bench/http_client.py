"""A small HTTP/1.1 client for load: one connection, keep-alive, one request at a time, no more than is needed.

A general client would cost more than the server under test; this one parses just what our server sends.
"""

import asyncio
from typing import Self

HEAD_BYTES_MAX = 64 * 1024


class Connection:
    """One keep-alive connection to a server on loopback."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader, self._writer, self._host = reader, writer, host

    @classmethod
    async def open(cls, host: str, port: int) -> Self:
        reader, writer = await asyncio.open_connection(host, port, limit=HEAD_BYTES_MAX)
        return cls(reader, writer, f"{host}:{port}")

    async def request(self, method: str, path: str, body: bytes = b"", headers: str = "") -> tuple[int, bytes, str]:
        """Status, body and raw head of the answer. `headers` are complete lines, each ending in CRLF."""
        self._writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nOrigin: http://{self._host}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode()
            + body
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status = int(head[9:12])
        length = 0
        for line in head.split("\r\n"):
            if line[:15].lower() == "content-length:":
                length = int(line[15:])
        return status, await self._reader.readexactly(length) if length else b"", head

    def close(self) -> None:
        self._writer.close()
