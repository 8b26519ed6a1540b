"""The targets by name."""

from __future__ import annotations

import importlib
from typing import Final

from vgpu_stub.fuzz.target import Target

#: Name on the command line: module and class. Only the one that is fuzzed is imported.
_PLACES: Final = {
    "messages": "vgpu_stub.fuzz.messages:Messages",
    "rings": "vgpu_stub.fuzz.rings:Rings",
    "races": "vgpu_stub.fuzz.races:Races",
    "images": "vgpu_stub.fuzz.images:Images",
    "registers": "vgpu_stub.fuzz.registers:Registers",
}
TARGETS: Final = tuple(_PLACES)


def make_target(name: str) -> Target:
    """A target by its name, or of one's own by "module:Class".

    Raises:
        ValueError: There is no such target.
    """
    place = _PLACES.get(name, name)
    module, colon, target = place.partition(":")
    if not colon:
        raise ValueError(f"there is no target {name!r}; choose one of {', '.join(TARGETS)}")
    made: Target = getattr(importlib.import_module(module), target)()
    return made
