"""The control socket of a device server: one JSON object a line in, one a line out.

A request is `{"verb": ..., arguments}`; the answer is `{"ok": true, ...}` or `{"ok": false,
"error": text}`. The socket lies in the server's folder, which is closed to other users.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

_log = logging.getLogger(__name__)
_MAX_REQUEST: Final = 1 << 20

#: Carries out a verb: takes its arguments, returns what goes into the answer.
Handler = Callable[[dict[str, Any]], dict[str, Any]]


class ControlError(Exception):
    """A request cannot be carried out; the text goes to who asked."""


class ControlServer:
    """Answers requests while its context lasts; one thread for each connection."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        """Prepare; entering binds the socket.

        Args:
            path: Where to listen.
            handlers: By verb. What they raise as ControlError, ValueError or KeyError is the
                answer's error; they are called from several threads.
        """
        self._path = path
        self._handlers = dict(handlers)
        self._socket = socket.socket(socket.AF_UNIX)
        self._thread = threading.Thread(target=self._accept, name="vgpu-control", daemon=True)

    def __enter__(self) -> Self:
        self._socket.bind(str(self._path))
        self._socket.listen()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._path.unlink(missing_ok=True)
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as lines, contextlib.suppress(OSError):
            while line := lines.readline(_MAX_REQUEST):
                client.sendall(json.dumps(self.answer(line)).encode() + b"\n")

    def answer(self, line: bytes) -> dict[str, Any]:
        """The answer to one request."""
        try:
            request = json.loads(line)
            verb = request.pop("verb") if isinstance(request, dict) else None
            handler = self._handlers.get(verb) if isinstance(verb, str) else None
            if handler is None:
                known = ", ".join(sorted(self._handlers))
                raise ControlError(f"there is no verb {verb!r}; there are {known}")
            return {"ok": True, **handler(request)}
        except KeyError as error:
            return {"ok": False, "error": f"the request lacks {error}"}
        except (ControlError, TypeError, ValueError) as error:
            return {"ok": False, "error": str(error)}
        except Exception as error:  # a bug in a handler must cost its caller an answer only
            _log.exception("control request failed unexpectedly")
            return {"ok": False, "error": f"{type(error).__name__}: {error}"}
