"""`.sat` and `.relu`: results of floating-point instructions kept within bounds."""

from __future__ import annotations

from vgpu_host.executors.software.ir import Instruction

from .emitter import Emitter, Value


def saturate(emitter: Emitter, instruction: Instruction, value: Value) -> Value:
    """`.sat`: from 0 to 1, and 0 for NaN; `.relu`: not below 0, and NaN stays one."""
    if "relu" in instruction.modifiers:
        return emitter.intrinsic("maximum", value, Value("0.0", value.type))
    if "sat" not in instruction.modifiers:
        return value
    above = emitter.intrinsic("maximumnum", value, Value("0.0", value.type))
    return emitter.intrinsic("minimumnum", above, Value("1.0", value.type))
