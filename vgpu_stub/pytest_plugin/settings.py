"""What a test wants: options of the command line and the ini file, and the `vgpu` marker.

A marker goes before the command line, that before the ini file. Nothing here is slow to import, as
every start of pytest pays for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import pytest


@dataclass(frozen=True)
class VgpuSettings:
    """What a test wants of its device, machine or program.

    Attributes:
        kernel: A series such as "6.12", or the path of a kernel image.
        image: Root file system of the guest: "base", "cuda" or "llm".
        executor: "auto", "software" or "cuda".
        profile: What the software GPU is, such as "sm_61".
        gpu_memory: Device memory of the software GPU in MiB.
        accel: "auto", "kvm" or "tcg".
        cpus: Virtual processors of the guest.
        memory: Memory of the guest in MiB.
        timeout: Seconds that a command in the guest, or a program, may take.
        drivers: Kernel modules (paths) that the guest loads in place of ours; "none" for none.
        kernel_arguments: Added to the kernel's command line.
        identity: PCI ids as "VENDOR:DEVICE" in hex; "" for the usual ones.
        fresh: A device or machine that no other test has used, or will.
    """

    kernel: str = "6.12"
    image: str = "cuda"
    executor: str = "auto"
    profile: str = "sm_61"
    gpu_memory: int = 1024
    accel: str = "auto"
    cpus: int = 2
    memory: int = 1024
    timeout: float = 60.0
    drivers: tuple[str, ...] = ()
    kernel_arguments: tuple[str, ...] = ()
    identity: str = ""
    fresh: bool = False

    @property
    def identity_ids(self) -> tuple[int, int] | None:
        """`identity` as numbers; None for the usual ones."""
        if not self.identity:
            return None
        vendor, device = (int(part, 16) for part in self.identity.split(":"))
        return vendor, device


@dataclass(frozen=True)
class _Option:
    """One setting on the command line (`--vgpu-NAME`) and in the ini file (`vgpu_NAME`)."""

    name: str
    metavar: str
    help: str
    several: bool = False


_OPTIONS: Final = (
    _Option("kernel", "NAME", "guest kernel: 6.1, 6.12, 7.2 or an image's path", several=True),
    _Option("image", "NAME", "root file system of the guest: base, cuda or llm"),
    _Option("executor", "NAME", "what executes: auto, software or cuda"),
    _Option("profile", "NAME", "what the software GPU is: sm_61, sm_75, sm_80 or sm_90"),
    _Option("gpu-memory", "MIB", "device memory of the software GPU"),
    _Option("accel", "NAME", "auto, kvm or tcg"),
    _Option("cpus", "N", "virtual processors of the guest"),
    _Option("memory", "MIB", "memory of the guest"),
    _Option("timeout", "SECONDS", "how long a command in the guest, or a program, may take"),
    _Option("driver", "FILE", "kernel module that the guest loads in place of ours", several=True),
    _Option("artifacts", "DIR", "keep what is attached to failed tests in files of this folder"),
)
#: Options that are no setting of the same name.
_FIELDS: Final = {"driver": "drivers", "artifacts": None}
_MARKER: Final = (
    "vgpu(kernel=, image=, executor=, profile=, gpu_memory=, accel=, cpus=, memory=, timeout=,"
    " drivers=, kernel_arguments=, identity=, fresh=): what a test wants of its device or machine;"
    " several kernels, as a list, run it on each"
)
_EXPECTS_MARKER: Final = (
    "vgpu_expects(pattern, ...): the guest's kernel is to report a problem (oops, BUG, WARNING ...)"
    " whose text matches; the test fails when it does not"
)


def add_options(parser: pytest.Parser) -> None:
    """Add the plugin's options to the command line and the ini file."""
    group = parser.getgroup("vgpu", "VGPU-STUB")
    for option in _OPTIONS:
        group.addoption(
            f"--vgpu-{option.name}",
            action="append" if option.several else "store",
            metavar=option.metavar,
            default=None,
            help=option.help + ("; may be given several times" if option.several else ""),
        )
        name = f"vgpu_{option.name.replace('-', '_')}"
        if option.several:
            parser.addini(name, option.help, type="args", default=[])
        else:
            parser.addini(name, option.help, type="string", default="")


def add_markers(config: pytest.Config) -> None:
    """Make the plugin's markers known."""
    config.addinivalue_line("markers", _MARKER)
    config.addinivalue_line("markers", _EXPECTS_MARKER)


def option_of(config: pytest.Config, name: str) -> str | list[str]:
    """An option's value: of the command line, else of the ini file; "" or [] for neither."""
    given = config.getoption(f"--vgpu-{name}")
    value: str | list[str] = (
        given if given is not None else config.getini(f"vgpu_{name.replace('-', '_')}")
    )
    return value


def kernels_of(config: pytest.Config, marks: Iterable[pytest.Mark]) -> list[str]:
    """The kernels on which a test is to run; its closest marker comes first in `marks`."""
    for mark in marks:
        if "kernel" in mark.kwargs:
            kernel = mark.kwargs["kernel"]
            return [kernel] if isinstance(kernel, str) else list(kernel)
    return list(option_of(config, "kernel")) or [VgpuSettings.kernel]


def resolve(config: pytest.Config, marks: Iterable[pytest.Mark]) -> VgpuSettings:
    """The settings of a test; its closest marker comes first in `marks`.

    Raises:
        pytest.UsageError: A marker or an option has a value that makes no sense.
    """
    settings = VgpuSettings()
    for option in _OPTIONS:
        field = _FIELDS.get(option.name, option.name.replace("-", "_"))
        value = option_of(config, option.name)
        if field and value:
            settings = _changed(settings, {field: value}, f"--vgpu-{option.name}")
    for mark in reversed(list(marks)):
        if mark.args:
            raise pytest.UsageError(f"the vgpu marker takes keyword arguments, not {mark.args}")
        settings = _changed(settings, mark.kwargs, "the vgpu marker")
    return settings


def _changed(settings: VgpuSettings, values: Mapping[str, Any], where: str) -> VgpuSettings:
    known = {field.name for field in fields(settings)}
    if unknown := sorted(set(values) - known):
        raise pytest.UsageError(
            f"{where} has no {', '.join(unknown)}; it has {', '.join(sorted(known))}"
        )
    try:
        return replace(settings, **{name: _typed(name, value) for name, value in values.items()})
    except (TypeError, ValueError) as error:
        raise pytest.UsageError(f"{where}: {error}") from error


def _typed(name: str, value: Any) -> Any:
    """A value in the type of its field."""
    default = getattr(VgpuSettings, name)
    if name == "kernel" and not isinstance(value, str):
        return str(value[0])
    if isinstance(default, tuple):
        return (value,) if isinstance(value, str) else tuple(str(part) for part in value)
    return type(default)(value)
