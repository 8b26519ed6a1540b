"""Control of a running QEMU through the `qemu.qmp` package, for callers that are not asynchronous.

The QMP connection lives in an event loop in a thread of its own; commands are handed over and their
answers waited for, with a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from qemu.qmp import QMPClient, QMPError

from vgpu_qemu.errors import VmError, VmTimeoutError

_Result = TypeVar("_Result")


class QmpControl:
    """A QMP connection to one QEMU.

    Args:
        connection: A connected socket whose other end is QEMU's monitor.
        timeout: Seconds that the greeting may take.

    Raises:
        VmError: QEMU closed the connection or broke the protocol.
        VmTimeoutError: No greeting in time.
    """

    def __init__(self, connection: socket.socket, *, timeout: float = 30.0) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="qmp", daemon=True)
        self._thread.start()
        self._client = QMPClient("vgpu-stub")
        try:
            self._wait(self._client.connect(connection), timeout, "greeting")
        except BaseException:
            self.close()
            raise

    def execute(
        self, command: str, arguments: dict[str, object] | None = None, *, timeout: float = 10.0
    ) -> Any:
        """Run a QMP command and return its result.

        Raises:
            VmError: QEMU refused the command or the connection is gone.
            VmTimeoutError: No answer within `timeout` seconds.
        """
        return self._wait(self._client.execute(command, arguments), timeout, command)

    def close(self) -> None:
        """Give up the connection and end the thread; does nothing the second time."""
        if self._loop.is_closed():
            return
        with contextlib.suppress(VmError):
            self._wait(self._client.disconnect(), 2.0, "disconnect")
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, _Result], timeout: float, what: str) -> _Result:
        future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, timeout), self._loop)
        try:
            return future.result()
        except TimeoutError as error:
            raise VmTimeoutError(f"QEMU did not answer {what!r} within {timeout:g} s") from error
        except (QMPError, OSError, EOFError) as error:
            raise VmError(
                f"QEMU's answer to {what!r}: {str(error) or type(error).__name__}"
            ) from error
