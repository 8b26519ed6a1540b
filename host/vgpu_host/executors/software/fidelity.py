"""What the software GPU's results are worth, instruction by instruction.

*Exact* instructions give the bits that the PTX manual defines. *Approximate* ones have results that
the manual leaves open within a bound, or altogether: ours are within it, and not a GPU's bits.
*Different* ones do something else than a GPU, without effect on what a correct program computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from .cfg import Block
from .inline import SYSTEM_CALLS
from .ir import ARRIVE, Instruction, Special


class Fidelity(StrEnum):
    """How an instruction compares with a GPU's."""

    EXACT = "exact"
    APPROXIMATE = "approximate"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class Judgement:
    """How an instruction compares with a GPU's, and in what.

    Attributes:
        fidelity: Its class.
        how: What is different; of an exact one nothing.
        allowed: The error that the manual allows an approximate one; empty where it has no bound.
        ours: The error here, in units of the last place of the result; None where it has no bound.
    """

    fidelity: Fidelity
    how: str = ""
    allowed: str = ""
    ours: float | None = None

    def __str__(self) -> str:
        if self.fidelity is Fidelity.APPROXIMATE and self.ours is not None:
            allowed = f"{self.allowed} allowed" if self.allowed else "no bound documented"
            return f"{allowed}, ours {self.ours} ulp"
        return self.how


_EXACT: Final = Judgement(Fidelity.EXACT)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Instructions that are exact in every form, but for hints to caches and special registers.
EXACT: Final = _names(
    "abs add addc alloca and atom bar barrier bfe bfi bfind bmsk bra brev brx call clz cnot"
    " copysign cvt cvta div dp2a dp4a elect exit fence fma fns getctarank isspacep ld ldmatrix ldu"
    " lop3 mad mad24 madc mapa match max mbarrier membar min mma mov movmatrix mul mul24 neg not"
    " or popc prmt rcp red redux rem ret sad selp set setp shf shfl shl shr slct sqrt st stmatrix"
    " sub subc szext testp trap vabsdiff vabsdiff2 vabsdiff4 vadd vadd2 vadd4 vavrg2 vavrg4 vmax"
    " vmad vmax2 vmax4 vmin vmin2 vmin4 vote vprintf vset vset2 vset4 vshl vshr vsub vsub2 vsub4"
    " wgmma wmma xor __assertfail"
)


def _approximate(allowed: str, ours: float) -> Judgement:
    return Judgement(Fidelity.APPROXIMATE, "", allowed, ours)


_SINE: Final = "2^-20.5 absolute up to 2 pi"
#: Opcode, mode and type -> what is allowed and what we do. Errors of ours are measured by a test.
APPROXIMATE: Final = {
    ("div", "approx", "f32"): _approximate("2 ulp", 0.5),
    ("div", "full", "f32"): _approximate("2 ulp", 0.5),
    ("rcp", "approx", "f32"): _approximate("1 ulp", 0.5),
    ("rcp", "approx", "f64"): _approximate("", 0.5),
    ("sqrt", "approx", "f32"): _approximate("2^-23 relative", 0.5),
    ("rsqrt", "approx", "f32"): _approximate("2^-22.9 relative", 1.5),
    ("rsqrt", "approx", "f64"): _approximate("", 1.5),
    ("ex2", "approx", "f32"): _approximate("2 ulp", 1.0),
    ("ex2", "approx", "f16"): _approximate("2^-9.9 relative", 0.51),
    ("ex2", "approx", "bf16"): _approximate("2^-7 relative", 0.51),
    ("lg2", "approx", "f32"): _approximate("2^-22", 1.0),
    ("sin", "approx", "f32"): _approximate(_SINE, 1.0),
    ("cos", "approx", "f32"): _approximate(_SINE, 1.0),
    ("tanh", "approx", "f32"): _approximate("2^-11 relative", 2.5),
    ("tanh", "approx", "f16"): _approximate("2^-10.987 absolute", 0.51),
    ("tanh", "approx", "bf16"): _approximate("2^-8 absolute", 0.51),
}
_PACKED: Final = {"f16x2": "f16", "bf16x2": "bf16"}


def _different(how: str) -> Judgement:
    return Judgement(Fidelity.DIFFERENT, how)


_NO_CACHES: Final = _different("there are no caches to advise")
_AT_ONCE: Final = _different("carried out at once, waiting finds it done")
#: Opcodes that do something else than on a GPU.
DIFFERENT: Final = {
    "activemask": _different("lanes meet again as early as the graph of branches allows"),
    "applypriority": _NO_CACHES,
    "brkpt": _different("there is no debugger: it ends the kernel"),
    "createpolicy": _NO_CACHES,
    "cp": _AT_ONCE,
    "discard": _NO_CACHES,
    "griddepcontrol": _different("kernels run one after the other, there is nothing to wait for"),
    "nanosleep": _different("does not sleep"),
    "pmevent": _different("there are no performance counters"),
    "prefetch": _NO_CACHES,
    "prefetchu": _NO_CACHES,
    "setmaxnreg": _different("registers are as many as a kernel wants"),
}
#: Special registers, without what follows an underline or a dot, whose value is another.
SPECIALS: Final = {
    "%clock": _different("cycles of this processor"),
    "%clock64": _different("cycles of this processor"),
    "%globaltimer": _different("the clock of this machine"),
    "%smid": _different("the number of the host thread"),
    "%nsmid": _different("the number of host threads"),
}
_ORDER: Final = Judgement(
    Fidelity.APPROXIMATE, "order and precision of the sums are not documented; ours are defined"
)
_PRODUCTS: Final = frozenset(("mma", "mma_async"))
_SUMS: Final = frozenset(("f16", "bf16", "tf32", "f64"))
_CACHE_OPERATORS: Final = frozenset(("ca", "cg", "cs", "lu", "cv", "wb", "wt", "nc"))


def counted_blocks(blocks: Sequence[Block]) -> tuple[str, ...]:
    """The instructions of each block by the names under which they are counted."""
    return tuple(
        " ".join(filter(None, (counted_name(instruction) for instruction in block.instructions)))
        for block in blocks
    )


def counted_name(instruction: Instruction) -> str:
    """What an instruction of PTX is counted as; '' for the further steps that became of one.

    Calls are inlined and not counted themselves.
    """
    words = instruction.text.split()
    written = next((word for word in words if not word.startswith("@")), "")
    name = ".".join((instruction.opcode, *instruction.modifiers))
    if instruction.opcode == ARRIVE or (instruction.opcode == "bra" and written[:3] == "ret"):
        return written
    if name != written and instruction.opcode not in SYSTEM_CALLS and written[:3] != "brx":
        return ""
    for operand in instruction.operands:
        if isinstance(operand, Special) and _stem(operand.name) in SPECIALS:
            return f"{name}({operand.name})"
    return name


def _stem(special: str) -> str:
    return special.partition("_")[0].partition(".")[0]


def judge(name: str) -> Judgement:
    """Judge an instruction by the name under which it is counted."""
    text, _, special = name.rstrip(")").partition("(")
    if special:
        return SPECIALS[_stem(special)]
    opcode, *modifiers = text.split(".")
    if opcode in DIFFERENT:
        return DIFFERENT[opcode]
    approximate = _approximation(opcode, modifiers)
    if approximate:
        return approximate
    if opcode not in EXACT:
        return _different("nobody has compared it with a GPU")
    if _PRODUCTS & {opcode, *modifiers} and _SUMS & set(modifiers):
        return _ORDER
    if opcode == "wgmma":
        return _AT_ONCE
    if opcode in ("ld", "st", "ldu") and _advises(opcode, modifiers):
        return _NO_CACHES
    if opcode == "isspacep" and "const" in modifiers:
        return _different("constants lie in global memory")
    return _EXACT


def _approximation(opcode: str, modifiers: Sequence[str]) -> Judgement | None:
    type_ = modifiers[-1] if modifiers else ""
    mode = "full" if "full" in modifiers else "approx"
    if mode in modifiers or opcode not in EXACT:
        return APPROXIMATE.get((opcode, mode, _PACKED.get(type_, type_)))
    return None


def _advises(opcode: str, modifiers: Sequence[str]) -> bool:
    return opcode == "ldu" or any(
        modifier in _CACHE_OPERATORS or modifier.startswith(("L1::", "L2::"))
        for modifier in modifiers
    )
