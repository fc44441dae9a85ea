"""A gateway's line to the controller: a few connections, one command at a time on each."""

from __future__ import annotations

import asyncio

from model_server import wire
from model_server.errors import ProblemError, ServerUnavailable

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_KEPT_IDLE = 8


class ControlClient:
    """Sends commands and returns answers; a failure comes as ``ProblemError``."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._idle: list[_Connection] = []

    async def ask(self, command: wire.Command) -> wire.Answer:
        """The controller's answer. Raises ServerError when it is a failure or there is none."""
        try:
            reader, writer = self._idle.pop() if self._idle else await self._connect()
        except OSError as error:
            raise ServerUnavailable("the server is starting or stopping") from error
        try:
            writer.write(wire.message(command))
            await writer.drain()
            answer = await wire.read_answer(reader)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            writer.close()
            raise ServerUnavailable("the server is stopping") from error
        except BaseException:
            writer.close()  # cancelled in the middle: an answer is still to come on it
            raise
        self._put_back(reader, writer)
        if isinstance(answer, wire.Failed):
            raise ProblemError(answer.problem)
        return answer

    async def _connect(self) -> _Connection:
        return await asyncio.open_unix_connection(self._path)

    def _put_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._idle) < _KEPT_IDLE:
            self._idle.append((reader, writer))
        else:
            writer.close()
