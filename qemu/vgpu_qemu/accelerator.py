"""Choose between KVM and emulation: KVM only where it is known to run a guest.

`/dev/kvm` can exist, open, and still hang every guest (nested machines without the processor's
virtualisation). So the processor's flags are looked at first, then a bounded trial boot decides,
whose answer is kept for this machine.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vgpu_qemu.binary import QemuBinary
from vgpu_qemu.cache import Cache, content_key
from vgpu_qemu.errors import AcceleratorError

CHOICES = ("auto", "kvm", "tcg")
_TRIAL_SECONDS = 15.0


@dataclass(frozen=True)
class HostFacts:
    """What decides, as found on this machine.

    Attributes:
        kvm_problem: Why `/dev/kvm` cannot be used; None where it opens.
        virtualization_flags: Whether the processor shows `vmx` or `svm`.
    """

    kvm_problem: str | None
    virtualization_flags: bool


@dataclass(frozen=True)
class Accelerator:
    """The decision.

    Attributes:
        name: `kvm` or `tcg`.
        reason: One line for people; empty when there is nothing to explain.
    """

    name: str
    reason: str = ""


def host_facts(device: Path = Path("/dev/kvm"), cpuinfo: Path = Path("/proc/cpuinfo")) -> HostFacts:
    """Look at this machine."""
    problem = None
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        problem = f"there is no {device}"
    except PermissionError:
        problem = f"{device} may not be opened (add yourself to group kvm)"
    except OSError as error:
        problem = f"{device}: {error.strerror}"
    flags = re.search(r"^flags\s*:.*\b(vmx|svm)\b", cpuinfo.read_text(), re.MULTILINE)
    return HostFacts(problem, flags is not None)


def choose_accelerator(
    request: str, facts: HostFacts, trial: Callable[[], str | None]
) -> Accelerator:
    """Decide which accelerator to use.

    Args:
        request: `auto`, `kvm` or `tcg`.
        facts: What this machine has.
        trial: Boots a guest with KVM; returns None on success, else what went wrong.

    Raises:
        AcceleratorError: KVM was demanded and does not work, or the request is unknown.
    """
    if request not in CHOICES:
        raise AcceleratorError(f"accelerator {request!r}: use one of {', '.join(CHOICES)}")
    if request == "tcg":
        return Accelerator("tcg")
    problem = facts.kvm_problem
    if problem is None and not facts.virtualization_flags and request == "auto":
        problem = "the processor shows neither vmx nor svm"
    if problem is None:
        problem = trial()
    if problem is None:
        return Accelerator("kvm")
    if request == "kvm":
        raise AcceleratorError(f"KVM does not run guests here: {problem}; use --accel tcg")
    return Accelerator("tcg", f"emulating (TCG), because {problem}")


def remembered_trial(qemu: QemuBinary, kernel: Path, cache: Cache) -> Callable[[], str | None]:
    """Return a trial boot that runs once per machine, host kernel and QEMU."""

    def trial() -> str | None:
        answer = "kvm-" + content_key(platform.node(), platform.release(), qemu.version)
        known = cache.recall(answer)
        if known is None:
            known = {"problem": trial_boot(qemu, kernel)}
            cache.remember(answer, known)
        problem: str | None = known["problem"]
        return problem

    return trial


def trial_boot(qemu: QemuBinary, kernel: Path, timeout: float = _TRIAL_SECONDS) -> str | None:
    """Boot a kernel with KVM and no root file system; it must panic and so end QEMU in time.

    Returns:
        None when the guest ran, else what went wrong.
    """
    command = [
        *qemu.command,
        *("-accel", "kvm", "-cpu", "host", "-machine", "q35", "-m", "256"),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-nographic"),
        *("-kernel", str(kernel), "-append", "console=ttyS0 panic=-1 nokaslr"),
        *("-serial", "stdio"),
    ]
    with tempfile.TemporaryFile() as output:
        try:
            done = subprocess.run(
                command,
                env={**os.environ, **qemu.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"a trial guest with KVM did not end within {timeout:g} s"
        output.seek(0)
        text = output.read().decode(errors="replace")
    if "Linux version" in text:
        return None
    last = (text.strip().splitlines() or ["no output"])[-1]
    return f"a trial guest with KVM ended with status {done.returncode}: {last}"
