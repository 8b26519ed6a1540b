"""Every attack of the hostile guest: imports the modules that enter them."""

from __future__ import annotations

from vgpu_stub.villain import registry
from vgpu_stub.villain.guest import (  # noqa: F401  # importing them enters their attacks
    admin,
    commands,
    config_space,
    messages,
    opcodes,
    races,
    registers,
    registrations,
    rings,
)
from vgpu_stub.villain.registry import Attack

#: Every attack, and the attack of a name.
attacks = registry.attacks
find = registry.find
batches = registry.batches

__all__ = ["Attack", "attacks", "batches", "find"]
