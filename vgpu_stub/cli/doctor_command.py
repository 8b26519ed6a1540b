"""`vgpu-stub doctor`: what this machine can do, what is missing, and the command that mends it."""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from vgpu_host.executors.options import default_memory_bytes, why_no_gpu
from vgpu_host.nvrtc import NvrtcError, compile_ptx
from vgpu_host.runtime import running_servers
from vgpu_qemu.accelerator import host_facts
from vgpu_qemu.cache import Cache, default_cache_root
from vgpu_stub.harness.build import GUEST
from vgpu_stub.monitor.text import format_bytes

_KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_LEAST_MEMORY: Final = 2 << 30
_LEAST_DISK: Final = 3 << 30


class Verdict(StrEnum):
    """What a check came to."""

    OK = "ok"  #: nothing to do
    NOTE = "note"  #: works, less well or later than it could
    MISSING = "missing"  #: something does not work until it is mended


@dataclass(frozen=True)
class Finding:
    """The outcome of one check; `affects` names the commands that need it."""

    check: str
    verdict: Verdict
    detail: str
    mend: str = ""
    affects: str = "exec, vm"


def _python() -> Finding:
    return Finding("Python", Verdict.OK, platform.python_version())


def _checkout() -> Finding:
    if (GUEST / "cuda").is_dir():
        return Finding("checkout", Verdict.OK, str(GUEST.parent))
    return Finding(
        "checkout", Verdict.MISSING, "the guest's sources are not here", "run from a git checkout"
    )


def _compiler() -> Finding:
    missing = [name for name in ("gcc", "make") if not shutil.which(name)]
    if missing:
        mend = f"apt-get install {' '.join(missing)}"
        return Finding("C compiler", Verdict.MISSING, f"no {' and no '.join(missing)}", mend)
    return Finding("C compiler", Verdict.OK, str(shutil.which("gcc")))


def _nvrtc() -> Finding:
    try:
        compile_ptx('extern "C" __global__ void f(int *p) { *p = 1; }')
    except NvrtcError as error:
        mend = "pip install nvidia-cuda-nvrtc-cu12"
        return Finding("NVRTC", Verdict.MISSING, str(error), mend, "workloads")
    return Finding("NVRTC", Verdict.OK, "compiles CUDA C++ to PTX", affects="workloads")


def _software_gpu() -> Finding:
    flags = set()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            flags = set(line.split())
            break
    memory = format_bytes(default_memory_bytes())
    if platform.machine() == "x86_64" and not {"avx2", "f16c"} <= flags:
        detail = f"{memory}; without AVX2 and F16C half precision does not work"
        return Finding("software GPU", Verdict.NOTE, detail)
    wide = "AVX-512" if "avx512f" in flags else "AVX2"
    return Finding("software GPU", Verdict.OK, f"{os.cpu_count()} cores, {wide}, {memory}")


def _physical_gpu() -> Finding:
    reason = why_no_gpu()
    if reason is None:
        return Finding("physical GPU", Verdict.OK, "usable through --executor cuda")
    return Finding("physical GPU", Verdict.NOTE, f"{reason}; the software GPU is used")


def _memory() -> Finding:
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    detail = f"{format_bytes(installed)}, {os.cpu_count()} cores"
    if installed < _LEAST_MEMORY:
        return Finding("memory", Verdict.NOTE, f"{detail}: a guest needs 1 GiB of it", affects="vm")
    return Finding("memory", Verdict.OK, detail, affects="vm")


def _memlock() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    detail = "unlimited" if soft == resource.RLIM_INFINITY else format_bytes(soft)
    return Finding("RLIMIT_MEMLOCK", Verdict.OK, detail, affects="exec")


def _qemu() -> Finding:
    cached = Cache().path("runtime", "").glob("qemu-*")
    if os.environ.get("VGPU_STUB_QEMU"):
        return Finding("QEMU", Verdict.OK, os.environ["VGPU_STUB_QEMU"], affects="vm")
    if any(cached):
        return Finding("QEMU", Verdict.OK, "Debian's, in the cache", affects="vm")
    return Finding(
        "QEMU", Verdict.NOTE, "the first `vgpu-stub vm` fetches it", "vgpu-stub vm -- true", "vm"
    )


def _fetching() -> Finding:
    missing = [name for name in ("apt-get", "dpkg-deb") if not shutil.which(name)]
    if missing:
        detail = f"no {' and no '.join(missing)}: QEMU, kernels and images cannot be fetched"
        return Finding("Debian packages", Verdict.MISSING, detail, "use Debian or Ubuntu", "vm")
    if not _KEYRING.exists():
        mend = "apt-get install debian-archive-keyring"
        return Finding("Debian packages", Verdict.MISSING, f"no {_KEYRING}", mend, "vm")
    return Finding("Debian packages", Verdict.OK, "can be fetched and checked", affects="vm")


def _cached(kind: str, what: str) -> Callable[[], Finding]:
    def check() -> Finding:
        entries = [entry.name for entry in Cache().path(kind, "").glob("*")]
        if entries:
            return Finding(what, Verdict.OK, f"{len(entries)} in the cache", affects="vm")
        mend = "vgpu-stub vm -- true"
        return Finding(what, Verdict.NOTE, "the first start makes it", mend, "vm")

    return check


def _kvm() -> Finding:
    facts = host_facts()
    if facts.kvm_problem:
        return Finding(
            "KVM", Verdict.NOTE, f"{facts.kvm_problem}; guests are emulated", affects="vm"
        )
    if not facts.virtualization_flags:
        detail = "the processor shows neither vmx nor svm; guests are emulated"
        return Finding("KVM", Verdict.NOTE, detail, affects="vm")
    return Finding("KVM", Verdict.OK, "tried at the first start", affects="vm")


def _cache() -> Finding:
    root = default_cache_root()
    existing = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    detail = f"{root}, {format_bytes(free)} free"
    if free < _LEAST_DISK:
        return Finding("cache", Verdict.NOTE, f"{detail}: little", "free some space", "vm")
    return Finding("cache", Verdict.OK, detail, affects="vm")


def _servers() -> Finding:
    names = [folder.name for folder in running_servers()]
    return Finding("device servers", Verdict.OK, ", ".join(names) or "none running", affects="")


CHECKS: Final[tuple[Callable[[], Finding], ...]] = (
    _python,
    _checkout,
    _compiler,
    _nvrtc,
    _software_gpu,
    _physical_gpu,
    _memory,
    _memlock,
    _fetching,
    _qemu,
    _cached("kernel", "guest kernel"),
    _cached("image", "guest image"),
    _kvm,
    _cache,
    _servers,
)

_STYLES: Final = {Verdict.OK: "green", Verdict.NOTE: "yellow", Verdict.MISSING: "bold red"}


def render(findings: Iterable[Finding]) -> Table:
    """The findings as a table."""
    table = Table(box=None, pad_edge=False)
    for heading in ("check", "", "detail"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        detail = finding.detail
        if finding.mend:
            detail += f"\n-> {finding.mend}"
        style = _STYLES[finding.verdict]
        table.add_row(finding.check, f"[{style}]{finding.verdict}[/{style}]", detail)
    return table


def doctor_command(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object for machines.")
    ] = False,
) -> None:
    """Say what this machine can do, what is missing, and the command that mends it.

    This is about the machine. For a program that does not use the GPU, see `vgpu-stub explain`.
    Exits with 0 when `vgpu-stub exec` and `vgpu-stub vm` can work, else with 1. Nothing is fetched.
    """
    findings = [check() for check in CHECKS]
    broken = [finding for finding in findings if finding.verdict is Verdict.MISSING]
    if as_json:
        print(json.dumps({"ok": not broken, "checks": [asdict(f) for f in findings]}, indent=2))
    else:
        console = Console()
        console.print(render(findings))
        console.print("\nEverything needed is here." if not broken else "\nMend what is missing.")
    raise typer.Exit(1 if broken else 0)
