"""Where the guest's own files lie on this machine: first program, agent, account tables.

They belong to the source tree (`guest/image`), not to the import package, because they run in the
guest; this module is the one place that knows the way there.
"""

from __future__ import annotations

from pathlib import Path

from vgpu_qemu import agent_protocol
from vgpu_qemu.errors import ImageError

GUEST_LIBRARY = "usr/lib/vgpu-stub"
"""Directory of our own files in the guest, without a leading slash."""

_SOURCE = Path(__file__).resolve().parents[2] / "guest" / "image"


def image_file(name: str) -> Path:
    """Return a file of `guest/image`.

    Raises:
        ImageError: It is not there, as in an installation without the source tree.
    """
    path = _SOURCE / name
    if not path.exists():
        raise ImageError(f"{path} is missing: the launcher needs a checkout of the whole project")
    return path


def agent_files() -> dict[str, Path]:
    """Return what makes up the agent: path in the guest to file on this machine."""
    return {
        f"{GUEST_LIBRARY}/agent.py": image_file("agent.py"),
        f"{GUEST_LIBRARY}/agent_protocol.py": Path(agent_protocol.__file__),
    }
