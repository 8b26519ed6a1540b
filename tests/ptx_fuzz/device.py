"""Runs cases on the software GPU, optimised and in its general form."""

from __future__ import annotations

import ctypes
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from vgpu_host.executors.software.errors import DeviceFault, PtxError
from vgpu_host.executors.software.function import Function
from vgpu_host.executors.software.gpu import SoftwareGpu
from vgpu_host.executors.software.profiles import profile_of
from vgpu_host.executors.software.translation import Translation
from vgpu_host.findings import Report

from .case import Case

#: Bytes before and behind each buffer that must stay as they are.
GUARD = 512
_GUARD_BYTE = b"\xcc"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a case ended: `buffers` afterwards, or the `error` that it was refused or ended with."""

    buffers: list[bytes] | None
    error: str = ""
    refused: bool = False
    guards_intact: bool = True
    findings: tuple[str, ...] = ()


class Runner:
    """A software GPU for fuzzing.

    Args:
        how: "optimised", "general" (with which the optimised is compared), or "checked" (by every
            checker).
        profile: the device that it is.
        watchdog_s: seconds after which a launch is stopped.
    """

    def __init__(
        self, how: str = "optimised", *, profile: str = "sm_90", watchdog_s: float = 2.0
    ) -> None:
        self._cache = tempfile.TemporaryDirectory(prefix="vgpu-fuzz-")
        checks = frozenset(("mem", "race", "sync")) if how == "checked" else frozenset()
        translation = replace(
            Translation(), profile=profile_of(profile), general=how == "general", checks=checks
        )
        self._report = Report()
        self._gpu = SoftwareGpu(
            total_memory=64 << 20,
            threads=1,
            cache_dir=Path(self._cache.name),
            watchdog_s=watchdog_s,
            translation=translation,
            report=self._report,
        )

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back the device."""
        self._gpu.close()
        self._cache.cleanup()

    def run(self, case: Case) -> Outcome:
        """Load, compile and launch; every documented error is an outcome, all else is raised."""
        try:
            module = self._gpu.load_module(case.text.encode())
        except PtxError as error:
            return Outcome(None, f"{error.result}: {error.log}", refused=True)
        try:
            names = module.function_names()
            if not names:
                return Outcome(None, "no kernel", refused=True)
            return self._launch(case, module.get_function(names[0]))
        except PtxError as error:
            return Outcome(None, f"{error.result}: {error.log}", refused=True)
        finally:
            module.unload()

    def _launch(self, case: Case, function: Function) -> Outcome:
        self._report.findings.clear()
        guard = _GUARD_BYTE * GUARD
        contents = case.buffers()
        places = []
        for data in contents:
            pointer = self._gpu.alloc(len(data) + 2 * GUARD)
            ctypes.memmove(pointer, guard + data + guard, len(data) + 2 * GUARD)
            self._gpu.written(pointer, len(data) + 2 * GUARD)
            places.append(pointer)
        try:
            arguments = [pointer + GUARD for pointer in places] + list(case.scalars)
            packed = _pack(function, arguments)
            error = ""
            try:
                function.launch(case.grid, case.block, 0, packed)
            except DeviceFault as fault:
                error = f"{fault.result}: {fault.message}"
            except ValueError as refusal:
                error = f"launch refused: {refusal}"
            after = [
                ctypes.string_at(pointer, len(data) + 2 * GUARD)
                for pointer, data in zip(places, contents, strict=True)
            ]
            intact = all(whole[:GUARD] == guard and whole[-GUARD:] == guard for whole in after)
            buffers = [whole[GUARD:-GUARD] for whole in after]
            findings = tuple(
                f"{finding.check}: {finding.message}" for finding in self._report.findings.values()
            )
            return Outcome(
                None if error else buffers, error, guards_intact=intact, findings=findings
            )
        finally:
            for pointer in places:
                self._gpu.free(pointer)


def _pack(function: Function, arguments: list[int]) -> bytes:
    """The parameter buffer: the arguments in order, cut to the sizes of the parameters."""
    buffer = bytearray(function.param_bytes)
    for index, parameter in enumerate(function.params):
        value = arguments[index % len(arguments)]
        if parameter.size < 8:
            value = arguments[-1]
        size = min(parameter.size, 8)
        data = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
        buffer[parameter.offset : parameter.offset + size] = data
    return bytes(buffer)
