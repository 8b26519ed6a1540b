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

_SOURCE = Path(__file__).resolve().parents[2] / "guest"


def image_file(name: str) -> Path:
    """Return a file or directory of `guest/image`.

    Raises:
        ImageError: It is not there, as in an installation without the source tree.
    """
    return _guest_file(f"image/{name}")


def _guest_file(name: str) -> Path:
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


def standard_files() -> dict[str, Path]:
    """Return what every guest has in its overlay: the agent, and the driver's rules for udev."""
    rules = "60-vgpu-stub.rules"
    return {**agent_files(), f"etc/udev/rules.d/{rules}": _guest_file(f"driver/{rules}")}
