"""Guests that were booted once and saved: later machines start where they stood.

A vfio-user device cannot be part of it: its state is its server's. So the machine that is saved has
no such device, and the slot is empty. The one that is restored has it from the start, in its slot,
and the guest finds it by looking at its bus again, after which everything is as after a boot.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from vgpu_qemu.errors import VmError, VmTimeoutError
from vgpu_qemu.qmp_control import QmpControl

#: Put on QEMU's command line where a saved guest is going to be restored.
INCOMING: Final = ("-incoming", "defer")
_POLL_SECONDS: Final = 0.005
_SAVE_SECONDS: Final = 120.0

#: What a guest does first: sets its clock, finds devices.
RESUME: Final = """\
date -s @$NOW >/dev/null
echo 1 >/sys/bus/pci/rescan
for node in /dev/vgpu*; do [ ! -e $node ] || chown 0:105 $node; done
"""


def save(qmp: QmpControl, path: Path) -> None:
    """Write the state of a running machine to a file; the machine is of no more use then.

    Raises:
        VmError: QEMU cannot, and says why.
    """
    _with_pages_at_their_place(qmp)
    qmp.execute("migrate", {"uri": f"file:{path}"})
    deadline = time.monotonic() + _SAVE_SECONDS
    while (state := qmp.execute("query-migrate"))["status"] != "completed":
        if state["status"] in ("failed", "cancelled"):
            raise VmError(f"the guest cannot be saved: {state.get('error-desc', state['status'])}")
        if time.monotonic() > deadline:
            raise VmTimeoutError(f"the guest was not saved within {_SAVE_SECONDS:g} s")
        time.sleep(_POLL_SECONDS)


def restore(qmp: QmpControl, path: Path, timeout: float) -> None:
    """Start a machine that waits for its state with the one of a file.

    Raises:
        VmError: The state is not of such a machine.
        VmTimeoutError: It took too long.
    """
    _with_pages_at_their_place(qmp)
    qmp.execute("migrate-incoming", {"uri": f"file:{path}"})
    deadline = time.monotonic() + timeout
    while not qmp.execute("query-status")["running"]:
        if time.monotonic() > deadline:
            raise VmTimeoutError(f"the guest was not restored within {timeout:g} s")
        time.sleep(_POLL_SECONDS)


def _with_pages_at_their_place(qmp: QmpControl) -> None:
    """Pages that are zero take no room and no time."""
    capability = {"capability": "mapped-ram", "state": True}
    qmp.execute("migrate-set-capabilities", {"capabilities": [capability]})
