"""Faults of registered guest memory that commands read and write."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from vgpu_host.hooks import MemoryAccess
from vgpu_stub.faults import Rule

if TYPE_CHECKING:
    from vgpu_host.injection.hook import FaultHook

#: What each kind does where a command is about to use guest memory; returns the address to use.
MEMORY_FAULTS: Final[dict[str, Callable[[FaultHook, Rule, MemoryAccess], int]]] = {}
