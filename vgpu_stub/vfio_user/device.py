"""What a device must offer to be served, and what it is given of its client.

The server calls a device from the one thread that serves its connection, a message at a time and in
the order of arrival; so a device needs locks only against threads of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .constants import FeatureFlag, RegionFlag
from .dma import DmaMap, DmaWindow
from .irqs import Irq, IrqTable
from .messages import SparseArea


@dataclass(frozen=True, slots=True)
class Region:
    """A region of the device's address space (a BAR, the expansion ROM, config space).

    Attributes:
        index: `RegionIndex` of the region.
        size: Length in bytes; for a BAR a power of two.
        flags: READ and WRITE for access by message. MMAP and CAPS are set by the server.
        fd: File that the client may map, owned by the device; None when every access is a message.
        mmap_offset: Offset of the region in the file, in bytes.
        sparse_areas: Parts that may be mapped; none means the whole region.
    """

    index: int
    size: int
    flags: RegionFlag = RegionFlag.READ | RegionFlag.WRITE
    fd: int | None = None
    mmap_offset: int = 0
    sparse_areas: tuple[SparseArea, ...] = ()


class ConnectedClient(Protocol):
    """A client as its device sees it; valid until `client_disconnected` returns."""

    @property
    def dma(self) -> DmaMap:
        """Memory that the client has opened to the device."""

    @property
    def irqs(self) -> IrqTable:
        """Interrupts that the device may ring."""

    def dma_read(self, iova: int, count: int, timeout_s: float = 5.0) -> bytes:
        """Read client memory by messages, for windows that are not shared.

        Never from inside a handler: the client waits there for this device, and does not answer.

        Args:
            iova: I/O virtual address, in bytes.
            count: Number of bytes; longer than one transfer is split.
            timeout_s: Limit for each message, in seconds.

        Raises:
            VfioUserError: EDEADLK from inside a handler; what the client says when it refuses.
            DmaFaultError: Part of the range is not mapped or not readable.
            DisconnectedError: The client is gone.
            ReplyTimeoutError: The client did not answer in time.
        """

    def dma_write(self, iova: int, data: bytes, timeout_s: float = 5.0) -> None:
        """Write client memory by messages; limits and errors are those of `dma_read`."""

    def disconnect(self) -> None:
        """End the connection; `client_disconnected` follows from the connection's thread."""


class Device(Protocol):
    """A device that a `Server` can serve.

    A handler refuses a request by raising `VfioUserError` with the errno for the reply; any other
    exception is answered with EIO and logged. QEMU gives up on a device that takes 5 seconds to
    answer.
    """

    @property
    def regions(self) -> Sequence[Region]:
        """Regions, constant while a client is connected; those not named have size 0."""

    @property
    def irqs(self) -> Sequence[Irq]:
        """Interrupt types, constant like the regions; those not named have no vectors."""

    def client_connected(self, client: ConnectedClient) -> None:
        """Take note of a client, with nothing mapped yet; raising anything drops it."""

    def client_disconnected(self, client: ConnectedClient) -> None:
        """Stop using the client's memory and interrupts; they are closed when this returns.

        No `dma_unmapped` or `irqs_changed` follows for what is still there. Device state is kept.
        """

    def region_read(self, index: int, offset: int, count: int) -> bytes:
        """Return exactly `count` bytes; the range lies within a readable region."""

    def region_write(self, index: int, offset: int, data: bytes) -> None:
        """Take a write; the range lies within a writeable region."""

    def dma_mapped(self, window: DmaWindow) -> None:
        """Take note of a new window, already in `client.dma`; refusing it removes it again."""

    def dma_unmapped(self, window: DmaWindow) -> None:
        """Let go of a window, which `client.dma` has no more; it is closed when this returns."""

    def irqs_changed(self, index: int, vectors: range) -> None:
        """Take note that eventfds or masks of these vectors changed, or that they rang."""

    def reset(self) -> None:
        """Return to the state after power-on; windows and interrupts stay as they are."""

    def device_feature(self, feature: int, operations: FeatureFlag, data: bytes) -> bytes:
        """Get, set or probe a feature.

        Returns:
            The feature's data for GET; ignored otherwise.

        Raises:
            VfioUserError: ENOTTY when the device has no such feature or operation.
        """
