"""What somebody who listens in on a device is told; a recording is one."""

from __future__ import annotations

from typing import Protocol

from vgpu_stub.device.channels import Channel


class DeviceTap(Protocol):
    """Called as things happen, with the device's lock held unless said otherwise: keep it short."""

    def channel_starting(self, device: str, channel: Channel) -> None:
        """A channel's worker is about to be attached, or is when the tap is set."""
        ...

    def fault_fired(self, device: str, text: str) -> None:
        """An injected fault happened; perhaps without the lock."""
        ...

    def admin_command(self, device: str, sequence: int, command: bytes) -> None:
        """An admin command is about to be carried out; without the lock."""
        ...

    def admin_completion(self, device: str, sequence: int, number: int) -> None:
        """An admin command is done; `number` is an errno."""
        ...
