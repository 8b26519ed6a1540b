"""The devices that the software GPU can be: one profile for each compute capability it knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Profile:
    """What a device of one compute capability is.

    Attributes:
        name: As in `.target` of PTX, such as "sm_61".
        capability: Major and minor compute capability.
    """

    name: str
    capability: tuple[int, int]


#: The default first: the builds of GGML for CUDA 12 choose small kernels for it.
PROFILES: Final = {
    profile.name: profile
    for profile in (
        Profile("sm_61", (6, 1)),
        Profile("sm_75", (7, 5)),
        Profile("sm_80", (8, 0)),
        Profile("sm_90", (9, 0)),
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
