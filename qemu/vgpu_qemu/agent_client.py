"""The launcher's side of the conversation with the agent in the guest.

One thread reads the stream and sorts frames by session; callers wait on their own session's queue,
so several commands can run at once, each from a thread of its own.
"""

from __future__ import annotations

import itertools
import json
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vgpu_qemu.agent_protocol import CHUNK, Decoder, Kind, ProtocolError, encode
from vgpu_qemu.errors import GuestError

OutputCallback = Callable[[bytes], object]
"""Called with each piece of output as it arrives, in the thread that runs the command."""

_KILL_GRACE_SECONDS = 5.0


class AgentGoneError(GuestError):
    """The stream to the agent ended: the guest or QEMU is gone."""


class CommandTimeoutError(GuestError):
    """A command did not end in time and was killed; holds what it had written."""

    def __init__(self, argv: Sequence[str], timeout: float, stdout: bytes, stderr: bytes) -> None:
        super().__init__(f"{' '.join(argv)!r} did not end within {timeout:g} s in the guest")
        self.stdout = stdout
        self.stderr = stderr


@dataclass(frozen=True)
class CommandResult:
    """How a command in the guest ended, and what it wrote.

    Attributes:
        argv: The command.
        status: Its exit status, or 128 + the signal that ended it.
        stdout: What it wrote to standard output; empty when a callback took it.
        stderr: The same of standard error.
    """

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes

    def check(self) -> CommandResult:
        """Return this result if the command succeeded.

        Raises:
            GuestError: It did not; with the last of what it wrote.
        """
        if self.status:
            tail = (self.stderr or self.stdout).decode(errors="replace").strip()[-2000:]
            command = " ".join(self.argv)
            raise GuestError(f"{command!r} ended with status {self.status} in the guest: {tail}")
        return self


@dataclass(frozen=True)
class Terminal:
    """The size of a terminal in characters."""

    rows: int = 24
    columns: int = 80

    def as_json(self) -> dict[str, int]:
        """Return the form that the agent takes."""
        return {"rows": self.rows, "columns": self.columns}


class AgentClient:
    """A conversation with one agent.

    Args:
        connection: A stream socket whose other end is the guest's virtio-serial port.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._send_lock = threading.Lock()
        self._sessions: dict[int, queue.SimpleQueue[tuple[int, bytes] | None]] = {}
        self._sessions_lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._hello: queue.SimpleQueue[dict[str, float] | None] = queue.SimpleQueue()
        self._gone = threading.Event()
        self._thread = threading.Thread(target=self._receive, name="guest-agent", daemon=True)
        self._thread.start()

    @property
    def gone(self) -> bool:
        """Whether the stream has ended."""
        return self._gone.is_set()

    def wait_ready(self, timeout: float) -> dict[str, float]:
        """Wait for the agent's first word and return its facts (`uptime` in seconds).

        Raises:
            AgentGoneError: The stream ended first.
            TimeoutError: It did not come within `timeout` seconds.
        """
        try:
            facts = self._hello.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError from None
        if facts is None:
            raise AgentGoneError("the guest ended before its agent was ready")
        return facts

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: bytes = b"",
        on_stdout: OutputCallback | None = None,
        on_stderr: OutputCallback | None = None,
    ) -> CommandResult:
        """Run a command to its end; see `Vm.run`."""
        session = self.open(argv, env=env, cwd=cwd)
        deadline = None if timeout is None else time.monotonic() + timeout
        collected: dict[int, bytearray] = {Kind.STDOUT: bytearray(), Kind.STDERR: bytearray()}
        callbacks = {Kind.STDOUT: on_stdout, Kind.STDERR: on_stderr}
        try:
            session.write(stdin)
            session.write_end()
            while (event := session.next(deadline)) is not None:
                kind, data = event
                if kind == Kind.EXIT:
                    status = int.from_bytes(data, "little")
                    out, err = bytes(collected[Kind.STDOUT]), bytes(collected[Kind.STDERR])
                    return CommandResult(tuple(argv), status, out, err)
                callback = callbacks[Kind(kind)]
                if callback:
                    callback(data)
                else:
                    collected[kind] += data
        except TimeoutError:
            session.kill()
            out, err = bytes(collected[Kind.STDOUT]), bytes(collected[Kind.STDERR])
            raise CommandTimeoutError(argv, timeout or 0.0, out, err) from None
        except GuestError:
            # Refused: nothing runs that would have to be ended.
            raise
        except BaseException:
            if not self.gone:
                session.kill()
            raise
        finally:
            session.close()
        raise AgentGoneError(f"the guest ended while {' '.join(argv)!r} ran in it")

    def open(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        terminal: Terminal | None = None,
    ) -> Session:
        """Start a command and return the session that carries its streams."""
        if not argv:
            raise GuestError("no command given")
        number = next(self._numbers)
        events: queue.SimpleQueue[tuple[int, bytes] | None] = queue.SimpleQueue()
        with self._sessions_lock:
            self._sessions[number] = events
            if self.gone:
                events.put(None)
        request: dict[str, object] = {"argv": list(argv), "env": dict(env or {}), "cwd": cwd}
        if terminal:
            request["terminal"] = terminal.as_json()
        self.send(Kind.START, number, json.dumps(request).encode())
        return Session(self, number, events)

    def power_off(self) -> None:
        """Ask the guest to end all programs and switch off."""
        self.send(Kind.POWER_OFF, 0)

    def reseed(self, randomness: bytes) -> None:
        """Have the guest's random numbers begin anew, before any program that is run later."""
        self.send(Kind.RESEED, 0, randomness)

    def close(self) -> None:
        """End the conversation; sessions that wait are told that the guest is gone."""
        self._connection.close() if self.gone else self._connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._connection.close()

    def send(self, kind: Kind, session: int, payload: bytes = b"") -> None:
        """Send one frame; into a stream that has ended it is lost, which receivers are told."""
        with self._send_lock:
            try:
                self._connection.sendall(encode(kind, session, payload))
            except OSError:
                self._gone.set()

    def forget(self, session: int) -> None:
        """Drop what still comes for a session."""
        with self._sessions_lock:
            self._sessions.pop(session, None)

    def _receive(self) -> None:
        decoder = Decoder()
        try:
            while data := self._connection.recv(CHUNK):
                for kind, session, payload in decoder.feed(data):
                    self._deliver(kind, session, payload)
        except (OSError, ProtocolError, ValueError):
            # The stream is of no more use; everyone who waits is told so below.
            pass
        with self._sessions_lock:
            self._gone.set()
            waiting = list(self._sessions.values())
        self._hello.put(None)
        for events in waiting:
            events.put(None)

    def _deliver(self, kind: int, session: int, payload: bytes) -> None:
        if kind == Kind.HELLO:
            self._hello.put(json.loads(payload))
            return
        with self._sessions_lock:
            events = self._sessions.get(session)
        if events is not None:
            events.put((kind, payload))


class Session:
    """A command that runs in the guest."""

    def __init__(
        self,
        client: AgentClient,
        number: int,
        events: queue.SimpleQueue[tuple[int, bytes] | None],
    ) -> None:
        self._client = client
        self._number = number
        self._events = events

    def next(self, deadline: float | None = None) -> tuple[int, bytes] | None:
        """Return the next `(Kind.STDOUT | STDERR | EXIT, data)`, or None when the guest is gone.

        Args:
            deadline: A `time.monotonic()` value, or None to wait for ever.

        Raises:
            GuestError: The program could not be started.
            TimeoutError: The deadline has passed.
        """
        try:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            event = self._events.get(timeout=left)
        except queue.Empty:
            raise TimeoutError from None
        if event is not None and event[0] == Kind.REFUSED:
            raise GuestError(f"the guest cannot run {event[1].decode(errors='replace')}")
        return event

    def write(self, data: bytes) -> None:
        """Give the program input."""
        for start in range(0, len(data), CHUNK):
            self._client.send(Kind.STDIN, self._number, data[start : start + CHUNK])

    def write_end(self) -> None:
        """Tell the program that no more input comes."""
        self._client.send(Kind.STDIN, self._number)

    def signal(self, number: int) -> None:
        """Send a signal to the program and its process group."""
        self._client.send(Kind.SIGNAL, self._number, bytes([number]))

    def resize(self, terminal: Terminal) -> None:
        """Set the size of the program's terminal."""
        self._client.send(Kind.RESIZE, self._number, json.dumps(terminal.as_json()).encode())

    def kill(self) -> None:
        """Kill the program and wait, within reason, until it has ended."""
        self.signal(signal.SIGKILL)
        deadline = time.monotonic() + _KILL_GRACE_SECONDS
        try:
            while (event := self.next(deadline)) is not None and event[0] != Kind.EXIT:
                pass
        except (TimeoutError, GuestError):
            return

    def close(self) -> None:
        """Forget the session; what the program still writes is dropped."""
        self._client.forget(self._number)
