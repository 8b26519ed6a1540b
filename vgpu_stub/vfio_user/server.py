"""Listens on an AF_UNIX socket and serves a device to each client that connects.

Every client has a thread of its own that waits in `recvmsg`; a client may go and another come
without a restart, and nothing that a client sends can end the server. The protocol is in `session`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from .device import Device
from .errors import VfioUserError
from .observer import Observer, Tap
from .session import MAX_MESSAGE_BYTES, Session
from .transport import Connection

_log = logging.getLogger(__name__)

_BACKLOG = 64
#: How long, in seconds, a new client waits for the session of one that has just gone; QEMU waits 5
#: for the answer to its VERSION.
_HANDOVER_S = 4.0


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """What a server has done so far."""

    #: Clients connected now.
    clients: int
    #: Connections served since the start, those included.
    accepted: int
    #: Connections closed at once because `max_clients` were there.
    turned_away: int
    #: Requests answered with an error.
    refusals: int
    #: Messages in both directions, by command name.
    messages: Mapping[str, int]


class Server:
    """Serves devices over vfio-user; a context manager that serves while it is entered.

    Example:
        >>> with Server("/run/gpu.sock", lambda: device, max_clients=1):  # doctest: +SKIP
        ...     run_qemu()
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        device_factory: Callable[[], Device],
        *,
        max_clients: int | None = None,
        observer: Observer | None = None,
    ) -> None:
        """Prepare a server; nothing is opened before `start`.

        Args:
            path: Where the socket shall be; only the owner may connect to it.
            device_factory: Called once for each client, in that client's thread, for the device
                that it gets. Return the same device each time to let it outlive its clients;
                `max_clients=1` then keeps it to one at a time.
            max_clients: Clients served at once; one more is disconnected at once. None: no limit.
            observer: Called for each message; see `Observer`. It runs on the register path: keep it
                short.
        """
        self.path = Path(path)
        self._device_factory = device_factory
        self._max_clients = max_clients
        self._observer = observer
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._sessions: dict[Session, threading.Thread] = {}
        self._finished_messages: Counter[str] = Counter()
        self._finished_refusals = 0
        self._accepted = 0
        self._turned_away = 0
        self._tap: Tap | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Create the socket and serve from threads of this process, until `stop`.

        A socket that nobody listens on any more is replaced.

        Raises:
            VfioUserError: The server runs already, another server listens there, or the path cannot
                be used.
        """
        # Whole, or not at all: `stop` may come from another thread as soon as the socket is there.
        with self._lock:
            if self._listener is not None:
                raise VfioUserError(errno.EALREADY, f"already serving at {self.path}")
            self._stopping.clear()
            self._listener = _listen(self.path)
            self._acceptor = threading.Thread(
                target=self._accept_clients,
                args=(self._listener,),
                name="vfio-user-accept",
                daemon=True,
            )
            self._acceptor.start()
        _log.info("serving at %s", self.path)

    def serve_forever(self) -> None:
        """Serve until another thread calls `stop`, or this one is interrupted."""
        if self._listener is None:
            self.start()
        try:
            self._stopping.wait()
        finally:
            self.stop()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Disconnect every client, wait for the threads, and remove the socket; idempotent.

        Args:
            timeout_s: How long to wait for each client's device to return, in seconds.
        """
        with self._lock:
            listener, self._listener = self._listener, None
            acceptor, self._acceptor = self._acceptor, None
            self._stopping.set()
        if listener is None or acceptor is None:
            return
        self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        acceptor.join()
        listener.close()
        with self._lock:
            sessions = dict(self._sessions)
        for session in sessions:
            session.disconnect()
        for thread in sessions.values():
            if thread is threading.current_thread():
                continue
            thread.join(timeout_s)
            if thread.is_alive():
                _log.error("a device did not return within %s s; its thread is left", timeout_s)
        _log.info("stopped serving at %s", self.path)

    def set_tap(self, tap: Tap | None) -> None:
        """Give every message of every client, whole, to somebody from now on; None to nobody."""
        with self._lock:
            self._tap = tap
            for session in self._sessions:
                session.tap = tap

    def statistics(self) -> ServerStatistics:
        """Return a snapshot of what the server has done."""
        with self._lock:
            messages = self._finished_messages.copy()
            refusals = self._finished_refusals
            for session in self._sessions:
                messages.update(dict(session.message_counts))
                refusals += session.refusals
            return ServerStatistics(
                len(self._sessions), self._accepted, self._turned_away, refusals, dict(messages)
            )

    def _accept_clients(self, listener: socket.socket) -> None:
        while not self._stopping.is_set():
            try:
                client, _ = listener.accept()
            except OSError as error:
                if self._stopping.is_set():
                    return
                _log.error("cannot accept a client: %s", error)
                # Out of descriptors, most likely: leave time for some to come back.
                self._stopping.wait(0.1)
                continue
            self._admit(client)

    def _admit(self, client: socket.socket) -> None:
        if not self._has_room():
            _log.warning(
                "client turned away from %s: all %s places are taken", self.path, self._max_clients
            )
            client.close()
            with self._lock:
                self._turned_away += 1
            return
        connection = Connection(client, MAX_MESSAGE_BYTES)
        session = Session(connection, self._observer, self._accepted + 1)
        thread = threading.Thread(
            target=self._serve_client, args=(session,), name="vfio-user-client", daemon=True
        )
        with self._lock:
            self._accepted += 1
            session.tap = self._tap
            self._sessions[session] = thread
        try:
            thread.start()
        except RuntimeError as error:
            _log.error("client turned away from %s: %s", self.path, error)
            client.close()
            with self._lock:
                del self._sessions[session]

    def _has_room(self) -> bool:
        if self._max_clients is None:
            return True
        with self._lock:
            sessions = dict(self._sessions)
        if len(sessions) >= self._max_clients:
            # A client that takes over from one that has just died shall not find its place taken.
            for session, thread in sessions.items():
                if session.peer_gone:
                    thread.join(_HANDOVER_S)
        with self._lock:
            return len(self._sessions) < self._max_clients

    def _serve_client(self, session: Session) -> None:
        try:
            session.run(self._device_factory)
        finally:
            with self._lock:
                del self._sessions[session]
                self._finished_messages.update(session.message_counts)
                self._finished_refusals += session.refusals


def _listen(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > 107:
        raise VfioUserError(
            errno.ENAMETOOLONG, f"a socket path has at most 107 bytes; choose a shorter one: {path}"
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale_socket(path)
        listener.bind(os.fspath(path))
        # Nobody can connect before listen, so there is no moment with wider access.
        path.chmod(0o600)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise VfioUserError(
            error.errno or errno.EIO, f"cannot listen at {path}: {error}"
        ) from error
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_stale_socket(path: Path) -> None:
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise VfioUserError(errno.EADDRINUSE, f"another server listens at {path}")
