"""An interactive program in the guest on this process's own terminal.

The terminal is put into raw mode, so that every key including Ctrl-C reaches the guest, and back
whatever happens; its size follows the window's.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from vgpu_qemu.agent_client import AgentClient, AgentGoneError, Session, Terminal
from vgpu_qemu.agent_protocol import CHUNK, Kind


def run_on_terminal(client: AgentClient, argv: list[str], env: dict[str, str]) -> int:
    """Run a program in the guest with this process's terminal and return its exit status.

    Where standard input is no terminal it is passed on as it is, to its end.

    Raises:
        AgentGoneError: The guest ended.
        GuestError: The program could not be started.
    """
    stdin, stdout = sys.stdin.fileno(), sys.stdout.fileno()
    env = {"TERM": os.environ.get("TERM", "xterm"), **env}
    session = client.open(argv, env=env, terminal=_size(stdout))
    stop_reader, stop_writer = os.pipe()
    feeder = threading.Thread(target=_feed, args=(session, stdin, stop_reader), daemon=True)
    try:
        with _raw(stdin), _follow_size(session, stdout):
            feeder.start()
            while (event := session.next()) is not None:
                kind, data = event
                if kind == Kind.EXIT:
                    return int.from_bytes(data, "little")
                _write_all(stdout, data)
    finally:
        os.close(stop_writer)
        if feeder.ident is not None:
            feeder.join()
        os.close(stop_reader)
        session.close()
    raise AgentGoneError("the guest ended")


def _feed(session: Session, source: int, stop: int) -> None:
    while True:
        ready, _, _ = select.select([source, stop], [], [])
        if stop in ready:
            return
        data = os.read(source, CHUNK)
        if not data:
            # End of input, as Ctrl-D at the start of a line tells a program on a terminal.
            session.write(b"\x04")
            return
        session.write(data)


def _size(descriptor: int) -> Terminal:
    try:
        size = os.get_terminal_size(descriptor)
    except OSError:
        return Terminal()
    return Terminal(size.lines, size.columns)


@contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    if not os.isatty(descriptor):
        yield
        return
    saved = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, saved)


@contextmanager
def _follow_size(session: Session, descriptor: int) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def resized(_number: int, _frame: FrameType | None) -> None:
        session.resize(_size(descriptor))

    previous = signal.signal(signal.SIGWINCH, resized)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, previous)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
