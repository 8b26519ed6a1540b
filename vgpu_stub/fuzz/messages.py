"""The target `messages`: what a vfio-user client sends, to a real session and device.

A sequence is the life of a client as QEMU would lead it, with fields, sizes and descriptors
changed here and there, beside which the guest writes rings and memory. Each request must get the
one reply that the protocol has for it, whatever is in it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from vgpu_stub.fuzz.device_world import (
    DeviceWorld,
    Fill,
    Poke,
    Submit,
    Truncate,
    WorkerEvent,
)
from vgpu_stub.fuzz.loopback import LoopbackConnection
from vgpu_stub.fuzz.message_grammar import MessageGrammar, Raw, Send
from vgpu_stub.fuzz.operations import Finding, Operation, kinds_of
from vgpu_stub.fuzz.watch import finding_of
from vgpu_stub.vfio_user.constants import HEADER_BYTES, Command, HeaderFlag
from vgpu_stub.vfio_user.messages import Header
from vgpu_stub.vfio_user.session import MAX_MESSAGE_BYTES, Session

_MASK: Final = {2: 0xFFFF, 4: 0xFFFF_FFFF}
#: Commands whose reply repeats the request's payload, or begins with it.
_ECHOED: Final[dict[int, int]] = {
    Command.DMA_UNMAP: 24,
    Command.REGION_READ: 16,
    Command.REGION_WRITE: 16,
}


@dataclass(frozen=True, slots=True)
class _Expected:
    """A request that the server has been sent."""

    header: Header
    body: bytes


class Messages:
    """Fuzzes `Session` and the device behind it by messages."""

    name: ClassVar[str] = "messages"
    summary: ClassVar[str] = "vfio-user messages, as QEMU or a hostile client sends them"
    kinds: ClassVar[dict[str, type[Operation]]] = kinds_of(
        Send, Raw, Submit, Poke, Fill, Truncate, WorkerEvent
    )

    def start(self) -> None:
        """Make the device."""
        self._world = DeviceWorld()

    def close(self) -> None:
        """End the device."""
        self._world.close()

    def generate(self, rng: random.Random) -> list[Operation]:
        """A client's life, with changes."""
        return MessageGrammar(rng).sequence()

    def run(self, operations: Sequence[Operation]) -> list[str]:
        """Serve one client from VERSION to its end."""
        life = _Life(self._world, operations)
        self._world.begin()
        life.run()
        self._world.check_reset()
        self._world.logs.check()
        self._world.end()
        return life.ends


class _Life:
    """One client."""

    def __init__(self, world: DeviceWorld, operations: Sequence[Operation]) -> None:
        self._world = world
        self._left = iter(operations)
        self._stream: bytes = b""
        self._connection = LoopbackConnection(MAX_MESSAGE_BYTES, self._feed)
        self._failure: Finding | None = None
        self.ends: list[str] = []

    def run(self) -> None:
        """Serve until the client has nothing more to say, or is dropped."""
        session = Session(self._connection)
        try:
            session.run(lambda: self._world.gpu)
            if self._failure:
                raise self._failure
            self._world.logs.check()
            self._check_replies(at_end=True)
        except Finding:
            raise
        except Exception as error:
            raise finding_of(error) from error

    # -- the client ----------------------------------------------------------------------------

    def _feed(self) -> bool:
        """Check what came of the last message, and write the next; False at the end."""
        try:
            self._world.settle()
            self.ends += self._world.answers()
            self._check_replies()
            for operation in self._left:
                if self._perform(operation):
                    return True
        except Finding as finding:
            self._failure = finding
        return False

    def _perform(self, operation: Operation) -> bool:
        if isinstance(operation, Send):
            data = _packed(operation)
        elif isinstance(operation, Raw):
            data = operation.data
        else:
            if not self._world.gpu.snapshot().connected:
                # Before VERSION a client has no descriptor of BAR2, and no worker is its own.
                self.ends.append("not connected")
                return False
            end = self._world.perform(operation)
            if end is None:
                raise TypeError(f"{operation} is none of this target's")
            self.ends.append(end)
            self._world.settle()
            return False
        fds = [self._world.fds[name] for name in operation.fds if name in self._world.fds]
        self._stream += data
        self._connection.write(data, fds)
        return bool(data)

    # -- what must hold ------------------------------------------------------------------------

    def _check_replies(self, at_end: bool = False) -> None:
        """Every whole request that was sent has the reply that it must have."""
        try:
            replies = self._connection.take_replies()
        except ValueError as error:
            raise Finding("what the server sends is no message", str(error)) from error
        answers = iter(replies)
        dropped = False
        for request in self._requests():
            name = _name(request.header.command)
            if request.header.is_reply or request.header.flags & HeaderFlag.NO_REPLY:
                self.ends.append(f"{name} unanswered")
                continue
            answer = next(answers, None)
            if answer is None:
                # Only a client that is dropped gets none; then there is no later reply either.
                dropped = True
                self.ends.append(f"{name} dropped")
                break
            self.ends.append(f"{name} {answer[0].error}")
            _check_reply(request, *answer)
        if extra := next(answers, None):
            raise Finding("a reply to no request", f"{extra[0]} {extra[1][:64].hex()}")
        if dropped and not at_end:
            raise Finding("a request without a reply", repr(self.ends[-1]))

    def _requests(self) -> Iterator[_Expected]:
        while len(self._stream) >= HEADER_BYTES:
            header = Header.unpack(self._stream[:HEADER_BYTES])
            if not HEADER_BYTES <= header.size <= MAX_MESSAGE_BYTES:
                self._stream = b""
                return
            if len(self._stream) < header.size:
                return
            body = self._stream[HEADER_BYTES : header.size]
            self._stream = self._stream[header.size :]
            yield _Expected(header, body)


def _packed(operation: Send) -> bytes:
    size = HEADER_BYTES + len(operation.body) + operation.more
    header = Header(
        operation.msg_id & _MASK[2],
        operation.command & _MASK[2],
        size & _MASK[4],
        operation.flags & _MASK[4],
        operation.error & _MASK[4],
    )
    return header.pack() + operation.body


def _check_reply(request: _Expected, header: Header, body: bytes) -> None:
    sent = request.header
    if (header.msg_id, header.command) != (sent.msg_id, sent.command):
        raise Finding("a reply is to another request", f"{header} to {sent}")
    if header.flags & HeaderFlag.ERROR:
        if not 0 < header.error < 4096 or body:
            raise Finding("an error reply is malformed", f"{header} {body[:64].hex()}")
        return
    if header.flags != HeaderFlag.REPLY or header.error:
        raise Finding("a reply has odd flags", f"{header}")
    size = _ECHOED.get(sent.command, 0)
    if body[:size] != request.body[:size]:
        raise Finding(f"a reply to {_name(sent.command)} does not repeat it", f"{header}")


def _name(command: int) -> str:
    try:
        return Command(command).name
    except ValueError:
        return "UNKNOWN"
