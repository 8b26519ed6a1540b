"""Every lie of the suite, in the order of docs/device.md."""

from __future__ import annotations

from functools import cache

from vgpu_stub.villain.device.lie import Case
from vgpu_stub.villain.device.lies_completion import admin_lies, completion_lies, reply_lies
from vgpu_stub.villain.device.lies_identity import config_lies, info_lies, region_lies
from vgpu_stub.villain.device.lies_register import register_lies
from vgpu_stub.villain.device.lies_shared import control_lies, interrupt_lies, status_lies


@cache
def cases() -> tuple[Case, ...]:
    """All cases; ids are unique."""
    every = [
        *config_lies(),
        *register_lies(),
        *region_lies(),
        *info_lies(),
        *control_lies(),
        *completion_lies(),
        *reply_lies(),
        *admin_lies(),
        *status_lies(),
        *interrupt_lies(),
    ]
    assert len({case.id for case in every}) == len(every), "two cases of one id"
    return tuple(every)
