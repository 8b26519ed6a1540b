"""The commands of one channel: checks what the guest sent and asks the executor for it.

`ChannelSession` has one method for each command of the ABI, named like it (the generated protocol
`ChannelCommands`). Handles and registrations are looked up here, so an executor never sees a number
that the guest made up, except for device pointers, which are the executor's to check.
"""

from __future__ import annotations

from vgpu_host.decode import decoders
from vgpu_host.executors.base import Executor
from vgpu_host.registrations import Registrations
from vgpu_host.session_blas import SessionBlas
from vgpu_host.session_graphs import SessionGraphs
from vgpu_host.session_memory import SessionMemory
from vgpu_host.session_modules import SessionModules
from vgpu_host.session_streams import SessionStreams


class ChannelSession(SessionMemory, SessionModules, SessionStreams, SessionGraphs, SessionBlas):
    """Everything that one guest process has on the device."""

    def __init__(self, executor: Executor, registrations: Registrations) -> None:
        super().__init__(executor, registrations)
        self.decoders = decoders(self)

    def nop(self) -> None:
        """NOP."""
