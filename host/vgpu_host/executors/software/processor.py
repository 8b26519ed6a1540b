"""What the processor at hand can do, in LLVM's words."""

from __future__ import annotations

from functools import cache

import llvmlite.binding as llvm


@cache
def features() -> dict[str, bool]:
    """Instruction sets by LLVM's name for them, such as "avx512vnni"."""
    return dict(llvm.get_host_cpu_features())


def has(feature: str) -> bool:
    """Whether instructions of a set may be used."""
    return features().get(feature, False)
