"""A tiny device in memory: a register BAR, a mappable BAR, config space, and a log of its calls."""

from __future__ import annotations

import errno
import mmap
import os
import threading
from collections.abc import Sequence

from vgpu_stub.vfio_user import (
    ConnectedClient,
    DmaWindow,
    FeatureFlag,
    Irq,
    IrqIndex,
    Region,
    RegionFlag,
    RegionIndex,
    SparseArea,
    VfioUserError,
)

BAR0_BYTES = 4096
BAR2_BYTES = 64 * 1024
CONFIG_BYTES = 4096
READ_ONLY_BAR = RegionIndex.BAR5
VECTORS = 32
FEATURE = 77


class MemoryDevice:
    """Keeps what is written, and records every call as a tuple whose first item is its name."""

    def __init__(self) -> None:
        self.bar2_fd = os.memfd_create("bar2")
        os.ftruncate(self.bar2_fd, BAR2_BYTES)
        self.bar2 = mmap.mmap(self.bar2_fd, BAR2_BYTES)
        self.memory = {
            RegionIndex.BAR0: bytearray(BAR0_BYTES),
            RegionIndex.BAR2: memoryview(self.bar2),
            RegionIndex.CONFIG: bytearray(CONFIG_BYTES),
            READ_ONLY_BAR: bytearray(range(16)),
        }
        self.sparse_areas: tuple[SparseArea, ...] = ()
        self.calls: list[tuple[object, ...]] = []
        self.client: ConnectedClient | None = None
        self.connected = threading.Event()
        self.disconnected = threading.Event()
        self.failure: Exception | None = None
        self.feature_data = b"\x01\x02\x03\x04"

    def close(self) -> None:
        self.memory[RegionIndex.BAR2].release()
        self.bar2.close()
        os.close(self.bar2_fd)

    @property
    def regions(self) -> Sequence[Region]:
        return (
            Region(RegionIndex.BAR0, BAR0_BYTES),
            Region(RegionIndex.BAR2, BAR2_BYTES, fd=self.bar2_fd, sparse_areas=self.sparse_areas),
            Region(READ_ONLY_BAR, 16, flags=RegionFlag.READ),
            Region(RegionIndex.CONFIG, CONFIG_BYTES),
        )

    @property
    def irqs(self) -> Sequence[Irq]:
        return (Irq(IrqIndex.MSIX, VECTORS), Irq(IrqIndex.ERR, 1))

    def client_connected(self, client: ConnectedClient) -> None:
        self.calls.append(("client_connected",))
        self.client = client
        self.disconnected.clear()
        self.connected.set()

    def client_disconnected(self, client: ConnectedClient) -> None:
        self.calls.append(("client_disconnected",))
        assert client is self.client
        self.connected.clear()
        self.disconnected.set()

    def _fail_when_told(self) -> None:
        if self.failure is not None:
            raise self.failure

    def region_read(self, index: int, offset: int, count: int) -> bytes:
        self._fail_when_told()
        return bytes(self.memory[RegionIndex(index)][offset : offset + count])

    def region_write(self, index: int, offset: int, data: bytes) -> None:
        self._fail_when_told()
        self.memory[RegionIndex(index)][offset : offset + len(data)] = data

    def dma_mapped(self, window: DmaWindow) -> None:
        self.calls.append(("dma_mapped", window.iova, window.size, window.is_shared))
        self._fail_when_told()

    def dma_unmapped(self, window: DmaWindow) -> None:
        self.calls.append(("dma_unmapped", window.iova, window.size, window.is_shared))
        self._fail_when_told()

    def irqs_changed(self, index: int, vectors: range) -> None:
        self.calls.append(("irqs_changed", index, vectors))

    def reset(self) -> None:
        self._fail_when_told()
        self.calls.append(("reset",))

    def device_feature(self, feature: int, operations: FeatureFlag, data: bytes) -> bytes:
        if feature != FEATURE:
            raise VfioUserError(errno.ENOTTY, f"no feature {feature}")
        self.calls.append(("device_feature", operations, data))
        return self.feature_data
