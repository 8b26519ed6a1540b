"""Sensors of the physical GPU, read by NVML in the device server: no CUDA context, no channel.

A value that this GPU or this driver does not give is left out, and the guest's NVML answers
NVML_ERROR_NOT_SUPPORTED for it, as NVIDIA's would.
"""

from __future__ import annotations

import importlib
import logging
import time
import uuid
from collections.abc import Callable
from typing import Any, Final

from vgpu_host.identity import device_uuid
from vgpu_stub.abi import generated as abi
from vgpu_stub.device.status import ProcessUse

_log = logging.getLogger(__name__)
_PERIOD_US: Final = 1_000_000

#: By member of `struct vgpu_device_status`: function of pynvml, arguments after the handle, and the
#: member or index of its result where that is a structure or a pair.
_Query = tuple[str, tuple[str | int, ...], str | int | None]
_QUERIES: Final[dict[str, _Query]] = {
    "bar1_total": ("nvmlDeviceGetBAR1MemoryInfo", (), "bar1Total"),
    "bar1_used": ("nvmlDeviceGetBAR1MemoryInfo", (), "bar1Used"),
    "energy_mj": ("nvmlDeviceGetTotalEnergyConsumption", (), None),
    "throttle_reasons": ("nvmlDeviceGetCurrentClocksEventReasons", (), None),
    "ecc_volatile_corrected": (
        "nvmlDeviceGetTotalEccErrors",
        ("NVML_MEMORY_ERROR_TYPE_CORRECTED", "NVML_VOLATILE_ECC"),
        None,
    ),
    "ecc_volatile_uncorrected": (
        "nvmlDeviceGetTotalEccErrors",
        ("NVML_MEMORY_ERROR_TYPE_UNCORRECTED", "NVML_VOLATILE_ECC"),
        None,
    ),
    "ecc_aggregate_corrected": (
        "nvmlDeviceGetTotalEccErrors",
        ("NVML_MEMORY_ERROR_TYPE_CORRECTED", "NVML_AGGREGATE_ECC"),
        None,
    ),
    "ecc_aggregate_uncorrected": (
        "nvmlDeviceGetTotalEccErrors",
        ("NVML_MEMORY_ERROR_TYPE_UNCORRECTED", "NVML_AGGREGATE_ECC"),
        None,
    ),
    "ecc_memory_volatile_corrected": (
        "nvmlDeviceGetMemoryErrorCounter",
        (
            "NVML_MEMORY_ERROR_TYPE_CORRECTED",
            "NVML_VOLATILE_ECC",
            "NVML_MEMORY_LOCATION_DEVICE_MEMORY",
        ),
        None,
    ),
    "ecc_memory_volatile_uncorrected": (
        "nvmlDeviceGetMemoryErrorCounter",
        (
            "NVML_MEMORY_ERROR_TYPE_UNCORRECTED",
            "NVML_VOLATILE_ECC",
            "NVML_MEMORY_LOCATION_DEVICE_MEMORY",
        ),
        None,
    ),
    "ecc_memory_aggregate_corrected": (
        "nvmlDeviceGetMemoryErrorCounter",
        (
            "NVML_MEMORY_ERROR_TYPE_CORRECTED",
            "NVML_AGGREGATE_ECC",
            "NVML_MEMORY_LOCATION_DEVICE_MEMORY",
        ),
        None,
    ),
    "ecc_memory_aggregate_uncorrected": (
        "nvmlDeviceGetMemoryErrorCounter",
        (
            "NVML_MEMORY_ERROR_TYPE_UNCORRECTED",
            "NVML_AGGREGATE_ECC",
            "NVML_MEMORY_LOCATION_DEVICE_MEMORY",
        ),
        None,
    ),
    "gpu_percent": ("nvmlDeviceGetUtilizationRates", (), "gpu"),
    "memory_percent": ("nvmlDeviceGetUtilizationRates", (), "memory"),
    "encoder_percent": ("nvmlDeviceGetEncoderUtilization", (), 0),
    "encoder_period_us": ("nvmlDeviceGetEncoderUtilization", (), 1),
    "decoder_percent": ("nvmlDeviceGetDecoderUtilization", (), 0),
    "decoder_period_us": ("nvmlDeviceGetDecoderUtilization", (), 1),
    "temperature_c": ("nvmlDeviceGetTemperature", ("NVML_TEMPERATURE_GPU",), None),
    "temperature_slowdown_c": (
        "nvmlDeviceGetTemperatureThreshold",
        ("NVML_TEMPERATURE_THRESHOLD_SLOWDOWN",),
        None,
    ),
    "temperature_shutdown_c": (
        "nvmlDeviceGetTemperatureThreshold",
        ("NVML_TEMPERATURE_THRESHOLD_SHUTDOWN",),
        None,
    ),
    "fan_percent": ("nvmlDeviceGetFanSpeed", (), None),
    "power_mw": ("nvmlDeviceGetPowerUsage", (), None),
    "power_limit_mw": ("nvmlDeviceGetPowerManagementLimit", (), None),
    "power_default_limit_mw": ("nvmlDeviceGetPowerManagementDefaultLimit", (), None),
    "power_enforced_limit_mw": ("nvmlDeviceGetEnforcedPowerLimit", (), None),
    "power_min_limit_mw": ("nvmlDeviceGetPowerManagementLimitConstraints", (), 0),
    "power_max_limit_mw": ("nvmlDeviceGetPowerManagementLimitConstraints", (), 1),
    "clock_graphics_mhz": ("nvmlDeviceGetClockInfo", ("NVML_CLOCK_GRAPHICS",), None),
    "clock_sm_mhz": ("nvmlDeviceGetClockInfo", ("NVML_CLOCK_SM",), None),
    "clock_memory_mhz": ("nvmlDeviceGetClockInfo", ("NVML_CLOCK_MEM",), None),
    "clock_video_mhz": ("nvmlDeviceGetClockInfo", ("NVML_CLOCK_VIDEO",), None),
    "clock_graphics_max_mhz": ("nvmlDeviceGetMaxClockInfo", ("NVML_CLOCK_GRAPHICS",), None),
    "clock_sm_max_mhz": ("nvmlDeviceGetMaxClockInfo", ("NVML_CLOCK_SM",), None),
    "clock_memory_max_mhz": ("nvmlDeviceGetMaxClockInfo", ("NVML_CLOCK_MEM",), None),
    "clock_video_max_mhz": ("nvmlDeviceGetMaxClockInfo", ("NVML_CLOCK_VIDEO",), None),
    "performance_state": ("nvmlDeviceGetPerformanceState", (), None),
    "ecc_mode": ("nvmlDeviceGetEccMode", (), 0),
    "ecc_mode_pending": ("nvmlDeviceGetEccMode", (), 1),
    "pcie_generation": ("nvmlDeviceGetCurrPcieLinkGeneration", (), None),
    "pcie_generation_max": ("nvmlDeviceGetMaxPcieLinkGeneration", (), None),
    "pcie_width": ("nvmlDeviceGetCurrPcieLinkWidth", (), None),
    "pcie_width_max": ("nvmlDeviceGetMaxPcieLinkWidth", (), None),
    "pcie_replays": ("nvmlDeviceGetPcieReplayCounter", (), None),
    "persistence_mode": ("nvmlDeviceGetPersistenceMode", (), None),
    "mig_mode": ("nvmlDeviceGetMigMode", (), 0),
    "mig_mode_pending": ("nvmlDeviceGetMigMode", (), 1),
    "brand": ("nvmlDeviceGetBrand", (), None),
    "architecture": ("nvmlDeviceGetArchitecture", (), None),
    "cores": ("nvmlDeviceGetNumGpuCores", (), None),
    "memory_bus_bits": ("nvmlDeviceGetMemoryBusWidth", (), None),
}
# nvmlDeviceGetPcieThroughput is not asked: each call waits 20 ms for its measurement.


class NvmlSensors:
    """One GPU of NVML; implements `vgpu_host.telemetry.PhysicalGpu`."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        """Take over a handle of the initialised module `nvml` (pynvml or one like it)."""
        self._nvml = nvml
        self._handle = handle
        self._queries = [
            (member, getattr(nvml, function), self._arguments(arguments), place)
            for member, (function, arguments, place) in _QUERIES.items()
            if hasattr(nvml, function)
        ]
        version = nvml.nvmlSystemGetDriverVersion()
        self._driver_version = version.decode() if isinstance(version, bytes) else str(version)

    def _arguments(self, names: tuple[str | int, ...]) -> tuple[int, ...]:
        return tuple(getattr(self._nvml, n) if isinstance(n, str) else n for n in names)

    @property
    def driver_version(self) -> str:
        """Version of its driver."""
        return self._driver_version

    def measure(self) -> dict[str, int]:
        """Values by member of `struct vgpu_device_status`; what it does not have is absent."""
        values = self._memory()
        results: dict[tuple[Callable[..., Any], tuple[int, ...]], Any] = {}
        for member, function, arguments, place in self._queries:
            key = (function, arguments)
            if key not in results:
                results[key] = self._ask(function, *arguments)
            result = results[key]
            if result is None:
                continue
            if isinstance(place, str):
                result = getattr(result, place)
            elif place is not None:
                result = result[place]
            values[member] = int(result)
        return values

    def process_memory(self) -> dict[int, int]:
        """Device memory in bytes by process id of the host; empty where NVML cannot tell."""
        processes = self._ask(self._nvml.nvmlDeviceGetComputeRunningProcesses) or ()
        return {row.pid: row.usedGpuMemory for row in processes if row.usedGpuMemory is not None}

    def process_use(self) -> dict[int, ProcessUse]:
        """What processes used in the last second, by process id of the host."""
        since_us = time.time_ns() // 1000 - _PERIOD_US
        samples = self._ask(self._nvml.nvmlDeviceGetProcessUtilization, since_us) or ()
        # In order of time: the last of a process counts.
        return {
            row.pid: ProcessUse(row.smUtil, row.memUtil, row.encUtil, row.decUtil)
            for row in samples
        }

    def _memory(self) -> dict[str, int]:
        version = getattr(self._nvml, "nvmlMemory_v2", None)
        found = self._ask(self._nvml.nvmlDeviceGetMemoryInfo, version) if version else None
        if found is None:
            return {}
        return {
            "memory_total": found.total,
            "memory_used": found.used,
            "memory_free": found.free,
            "memory_reserved": found.reserved,
        }

    def _ask(self, function: Callable[..., Any], *arguments: int) -> Any:
        try:
            return function(self._handle, *arguments)
        except self._nvml.NVMLError:
            return None


def open_sensors(info: bytes) -> NvmlSensors | None:
    """Find the GPU that `struct vgpu_device_info` describes in NVML; None where that cannot be."""
    offset = abi.DEVICE_INFO_OFFSETS["uuid"]
    wanted = info[offset : offset + 16]
    try:
        pynvml = importlib.import_module("pynvml")
    except ImportError:
        _log.warning("no NVML values for the guest: the package nvidia-ml-py is not installed")
        return None
    try:
        pynvml.nvmlInit()
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            physical = uuid.UUID(pynvml.nvmlDeviceGetUUID(handle).removeprefix("GPU-"))
            if device_uuid(physical.bytes) == wanted:
                return NvmlSensors(pynvml, handle)
        _log.warning("no NVML values for the guest: NVML does not know the GPU that CUDA uses")
    except pynvml.NVMLError as error:
        _log.warning("no NVML values for the guest: %s", error)
    return None
