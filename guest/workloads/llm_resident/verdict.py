"""Whether the model lived on the device while it decoded, judged from what was counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from device import Traffic

_BYTES_PER_TOKEN: Final = 16
_WAITS_PER_TOKEN: Final = 2.0
_LAUNCHES_PER_TOKEN: Final = 50
_BUSY_SHARE: Final = 0.5


@dataclass(frozen=True)
class Verdict:
    """A stable code, and what it was seen from."""

    code: str
    reason: str

    @property
    def resident(self) -> bool:
        """Whether nothing is to be done."""
        return self.code == "RESIDENT"


def judge(
    decode: Traffic,
    tokens: int,
    fallbacks: Counter[tuple[str, str]],
    busy_share: float,
    logits_bytes: int = 0,
) -> Verdict:
    """Judge the decode phase; the first thing that is wrong counts.

    Args:
        decode: What the phase asked of the device.
        tokens: Tokens that it made.
        fallbacks: Operations of the whole run that the host computed.
        busy_share: Part of the phase in which the device worked.
        logits_bytes: Logits that were asked for, in bytes.
    """
    moved = (decode.moved_bytes - logits_bytes) / tokens
    if not decode.launches:
        return Verdict("DETECTED_NOT_USED", "nothing was launched")
    if fallbacks:
        (name, reason), count = fallbacks.most_common(1)[0]
        return Verdict(
            "PARTLY_CPU",
            f"{fallbacks.total()} operations on the host, {count} of them {name} ({reason})",
        )
    if decode.weight_bytes:
        return Verdict(
            "WEIGHTS_NOT_RESIDENT",
            f"{decode.weight_bytes / tokens:.0f} bytes of weights were uploaded for each token",
        )
    if moved > _BYTES_PER_TOKEN:
        return Verdict("TRAFFIC_BOUND", f"{moved:.0f} bytes a token, {_BYTES_PER_TOKEN} are enough")
    if decode.allocations:
        return Verdict(
            "ALLOCATING", f"{decode.allocations / tokens:.0f} allocations for each token"
        )
    if decode.waits > _WAITS_PER_TOKEN * tokens:
        return Verdict("SYNC_BOUND", f"{decode.waits / tokens:.0f} waits for each token")
    if busy_share < _BUSY_SHARE and decode.launches > _LAUNCHES_PER_TOKEN * tokens:
        return Verdict("LAUNCH_BOUND", f"{decode.launches / tokens:.0f} launches for each token")
    return Verdict("RESIDENT", "weights, caches and activations stayed on the device")
