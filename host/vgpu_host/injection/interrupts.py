"""Faults of a channel's interrupt."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from vgpu_host.hooks import Interrupt
from vgpu_stub.faults import Rule

if TYPE_CHECKING:
    from vgpu_host.injection.hook import FaultHook

#: What each kind does where the guest is due an interrupt.
INTERRUPT_FAULTS: Final[dict[str, Callable[[FaultHook, Rule, Interrupt], None]]] = {}
