"""The devices that the software GPU can be: one profile for each compute capability it knows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Profile:
    """What a device of one compute capability is; sizes of memory are in bytes.

    The numbers are those of the table of technical specifications in the CUDA C++ programming
    guide.

    Attributes:
        name: As in `.target` of PTX, such as "sm_61".
        capability: Major and minor compute capability.
        shared_per_multiprocessor: Shared memory of one multiprocessor.
        shared_optin: Shared memory that a block can have if the program asks for it.
        shared_reserved: What of its shared memory the system keeps from each block.
        threads_per_multiprocessor: Threads of one multiprocessor.
        blocks_per_multiprocessor: Blocks of one multiprocessor.
    """

    name: str
    capability: tuple[int, int]
    shared_per_multiprocessor: int
    shared_optin: int
    shared_reserved: int
    threads_per_multiprocessor: int
    blocks_per_multiprocessor: int

    def takes(self, target: str) -> bool:
        """Whether PTX for a `.target` runs here; `sm_90a` only on exactly that capability."""
        found = _TARGET.match(target)
        if not found:
            return False
        wanted = (int(found[1]), int(found[2]))
        return wanted == self.capability if found[3] else wanted <= self.capability


_KIB: Final = 1024
_TARGET: Final = re.compile(r"sm_(\d+)(\d)(a?)$")
#: Shared memory that a block has without asking for more.
SHARED_PER_BLOCK: Final = 48 * _KIB


#: The default first: the builds of GGML for CUDA 12 choose small kernels for it.
PROFILES: Final = {
    profile.name: profile
    for profile in (
        Profile("sm_61", (6, 1), 96 * _KIB, 48 * _KIB, 0, 2048, 32),
        Profile("sm_75", (7, 5), 64 * _KIB, 64 * _KIB, 0, 1024, 16),
        Profile("sm_80", (8, 0), 164 * _KIB, 163 * _KIB, _KIB, 2048, 32),
        Profile("sm_90", (9, 0), 228 * _KIB, 227 * _KIB, _KIB, 2048, 32),
    )
}
DEFAULT_PROFILE: Final = "sm_61"


def profile_of(name: str) -> Profile:
    """The profile of a name.

    Raises:
        ValueError: There is none of that name.
    """
    try:
        return PROFILES[name]
    except KeyError:
        raise ValueError(f"no profile {name!r}; choose one of {', '.join(PROFILES)}") from None


def profile_for(target: str) -> Profile | None:
    """The least profile that takes PTX for a `.target`, if any does."""
    return next((profile for profile in PROFILES.values() if profile.takes(target)), None)
