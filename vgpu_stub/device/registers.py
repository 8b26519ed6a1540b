"""The registers in BAR0: what each reads, and which write has an effect.

The file holds register values only; effects are methods of the `RegisterEffects` that it is given,
called after the value is stored (docs/device.md, section 2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from vgpu_stub.abi import generated as abi

_CONSTANT: Final = {
    abi.REG_MAGIC: abi.MAGIC,
    abi.REG_ABI_VERSION: abi.ABI_VERSION,
    abi.REG_FEATURES_HIGH: 0,
    abi.REG_CHANNEL_COUNT: abi.CHANNEL_COUNT,
    abi.REG_CHANNEL_BASE: abi.CHANNEL_BASE,
    abi.REG_CHANNEL_STRIDE: abi.CHANNEL_STRIDE,
    abi.REG_SQ_ENTRIES: abi.SQ_ENTRIES,
    abi.REG_CQ_ENTRIES: abi.CQ_ENTRIES,
    abi.REG_VECTOR_COUNT: abi.VECTOR_COUNT,
}
_WRITE_ONLY: Final = (abi.REG_INTERRUPT_TEST, abi.REG_DOORBELL)
_READABLE: Final = {
    name.removeprefix("REG_"): offset
    for name, offset in vars(abi).items()
    if name.startswith("REG_") and offset not in _WRITE_ONLY
}
_DOORBELL_END: Final = abi.REG_DOORBELL + 4 * abi.CHANNEL_COUNT


class RegisterEffects(Protocol):
    """What register writes cause."""

    def enable(self) -> bool:
        """CONTROL.ENABLE was set; returns whether the device is enabled now."""
        ...

    def control_reset(self) -> None:
        """CONTROL.RESET was set, or CONTROL.ENABLE was cleared."""
        ...

    def doorbell(self, channel: int) -> None:
        """DOORBELL[channel] was written."""
        ...

    def interrupt_test(self, vector: int) -> None:
        """INTERRUPT_TEST was written with an existing vector."""
        ...


class RegisterFile:
    """BAR0 without its MSI-X table."""

    def __init__(self, effects: RegisterEffects, features: int) -> None:
        self._effects = effects
        self._features = features
        self.reset_count = 0
        self._power_on()

    def _power_on(self) -> None:
        self.ready = True
        self.enabled = False
        self.abi_refused = False
        self.error = abi.DEVICE_ERROR_NONE
        self.error_channel = 0
        self.accesses = 0
        self._guest_abi_version = 0
        self._scratch = 0
        self._interrupt_tests = 0

    def reset(self) -> None:
        """Return every register to its reset value; RESET_COUNT counts."""
        self.reset_count += 1
        self._power_on()

    def be_ready(self) -> None:
        """Set STATUS.READY, after a reset that took its time."""
        self.ready = True

    def latch_error(self, error: int, channel: int) -> None:
        """Set ERROR, unless an earlier error is still there."""
        if self.error == abi.DEVICE_ERROR_NONE:
            self.error = error
            self.error_channel = channel

    @property
    def status(self) -> int:
        """The STATUS register."""
        return (
            (abi.STATUS_READY if self.ready else 0)
            | (abi.STATUS_ENABLED if self.enabled else 0)
            | (abi.STATUS_ERROR if self.error else 0)
            | (abi.STATUS_ABI_REFUSED if self.abi_refused else 0)
        )

    def values(self) -> dict[str, int]:
        """Every register that can be read, by name; looking is no access."""
        return {name: self._read32(offset) for name, offset in _READABLE.items()}

    def read(self, offset: int, count: int) -> bytes:
        """Read `count` bytes; 8 are two registers, other widths than 4 and 8 read 0."""
        self.accesses += 1
        if offset % 4 or count not in (4, 8):
            return bytes(count)
        return b"".join(
            self._read32(offset + part).to_bytes(4, "little") for part in range(0, count, 4)
        )

    def _read32(self, offset: int) -> int:
        if offset in _CONSTANT:
            return _CONSTANT[offset]
        readers: dict[int, Callable[[], int]] = {
            abi.REG_FEATURES_LOW: lambda: self._features,
            abi.REG_STATUS: lambda: self.status,
            abi.REG_CONTROL: lambda: abi.CONTROL_ENABLE if self.enabled else 0,
            abi.REG_ERROR: lambda: self.error,
            abi.REG_ERROR_CHANNEL: lambda: self.error_channel,
            abi.REG_GUEST_ABI_VERSION: lambda: self._guest_abi_version,
            abi.REG_SCRATCH: lambda: self._scratch,
            abi.REG_RESET_COUNT: lambda: self.reset_count & 0xFFFF_FFFF,
            abi.REG_INTERRUPT_TEST_COUNT: lambda: self._interrupt_tests & 0xFFFF_FFFF,
            abi.REG_ACCESS_COUNT: lambda: self.accesses & 0xFFFF_FFFF,
        }
        reader = readers.get(offset)
        return reader() if reader else 0

    def write(self, offset: int, data: bytes) -> None:
        """Write 4 bytes, or 8 as two registers; other widths are ignored."""
        self.accesses += 1
        if offset % 4 or len(data) not in (4, 8):
            return
        for part in range(0, len(data), 4):
            self._write32(offset + part, int.from_bytes(data[part : part + 4], "little"))

    def _write32(self, offset: int, value: int) -> None:
        if abi.REG_DOORBELL <= offset < _DOORBELL_END:
            self._effects.doorbell((offset - abi.REG_DOORBELL) // 4)
        elif offset == abi.REG_CONTROL:
            self._write_control(value)
        elif offset == abi.REG_ERROR:
            if value & self.error:
                self.error = abi.DEVICE_ERROR_NONE
                self.error_channel = 0
        elif offset == abi.REG_GUEST_ABI_VERSION:
            self._guest_abi_version = value
        elif offset == abi.REG_SCRATCH:
            self._scratch = value
        elif offset == abi.REG_INTERRUPT_TEST and value < abi.VECTOR_COUNT:
            self._interrupt_tests += 1
            self._effects.interrupt_test(value)

    def _write_control(self, value: int) -> None:
        if value & abi.CONTROL_RESET:
            self._effects.control_reset()
        elif value & abi.CONTROL_ENABLE:
            if self.enabled or not self.ready:
                return
            self.abi_refused = not self._abi_accepted()
            if not self.abi_refused:
                self.enabled = self._effects.enable()
        elif self.enabled:
            self._effects.control_reset()

    def _abi_accepted(self) -> bool:
        major, minor = self._guest_abi_version >> 16, self._guest_abi_version & 0xFFFF
        return major == abi.ABI_MAJOR and minor <= abi.ABI_MINOR
