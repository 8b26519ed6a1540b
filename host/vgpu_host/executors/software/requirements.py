"""What instructions need of the device and of the PTX version, and the check of it.

A kernel that uses more than its profile has is refused, as a GPU of that capability would refuse
it, and is told which profile has it. The numbers are those that NVIDIA's `ptxas` 13.0 enforces;
below 6.1, which every profile has, they are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from .errors import UnsupportedError
from .ir import Body, Instruction, Operand, Special, Vector
from .profiles import Profile, profile_for

Version = tuple[int, int]

#: Opcodes (`*`: any) or special registers; what is among their modifiers (`!x`: not; `x.y`: one
#: after the other); capability, or 0, and PTX version. Of all lines that apply the most counts.
_RULES = """
* | relaxed | 70 6.0
* | acquire | 70 6.0
* | release | 70 6.0
* | weak | 70 6.0
* | cluster | 90 7.8
* | shared::cluster | 90 7.8
* | shared::cta | 0 7.8
* | param::entry | 0 8.3
* | param::func | 0 8.3
* | b128 | 70 8.3
* | L1::evict_normal | 70 7.4
* | L1::evict_unchanged | 70 7.4
* | L1::evict_first | 70 7.4
* | L1::evict_last | 70 7.4
* | L1::no_allocate | 70 7.4
* | L2::64B | 75 7.4
* | L2::128B | 75 7.4
* | L2::256B | 80 7.4
* | L2::cache_hint | 80 7.4
ld st | v8 | 100 8.8
ld st | v4.b64 | 100 8.8
ld st | v4.u64 | 100 8.8
ld st | v4.s64 | 100 8.8
ld st | v4.f64 | 100 8.8
ld st | mmio | 70 8.2
add sub mul set setp tanh ex2 | bf16 | 90 7.8
add sub mul set setp tanh ex2 | bf16x2 | 90 7.8
fma min max neg abs | bf16 | 80 7.0
fma min max neg abs | bf16x2 | 80 7.0
min max | f16 | 80 7.0
min max | f16x2 | 80 7.0
min max | NaN | 80 7.0
min max | xorsign | 86 7.2
min max | relu | 90 8.0
add min max | u16x2 | 90 8.0
add min max | s16x2 | 90 8.0
add sub mul fma | f32x2 | 100 8.6
add sub | f32.f16 | 100 8.6
add sub | f32.bf16 | 100 8.6
fma | f32.f16 | 100 8.6
fma | f32.bf16 | 100 8.6
fma | relu | 80 7.0
fma | oob | 90 8.1
neg | f16 | 0 6.0
neg | f16x2 | 0 6.0
abs | f16 | 0 6.5
abs | f16x2 | 0 6.5
set | u16.f16 | 0 6.5
set | s16.f16 | 0 6.5
set | u32.f16 | 0 6.5
set | s32.f16 | 0 6.5
set | u32.f16x2 | 0 6.5
set | s32.f16x2 | 0 6.5
tanh | | 75 7.0
ex2 | f16 | 75 7.0
ex2 | f16x2 | 75 7.0
dp4a dp2a | | 61 5.0
lop3 | or | 70 8.2
lop3 | and | 70 8.2
bmsk szext | | 70 7.6
fns | | 0 6.0
cvt | relu | 80 7.0
cvt | f16x2.f32 | 80 7.0
cvt | bf16.f32 | 80 7.0
cvt | bf16x2.f32 | 80 7.0
cvt | f32.bf16 | 80 7.1
cvt | bf16 !bf16.f32 !f32.bf16 | 90 7.8
cvt | tf32 | 80 7.0
cvt | tf32 !rna | 90 7.8
cvt | satfinite !e4m3x2 !e5m2x2 | 70 8.1
cvt | satfinite tf32 !rna | 100 8.6
cvt | e4m3x2 | 90 7.8
cvt | e5m2x2 | 90 7.8
cvt | e2m1x2 | 100 8.6
cvt | e2m3x2 | 100 8.6
cvt | e3m2x2 | 100 8.6
cvt | ue8m0x2 | 100 8.6
cvt | rs | 100 8.7
cvt | pack | 72 6.5
cvt | pack s4 | 75 6.5
cvt | pack u4 | 75 6.5
cvt | pack s2 | 75 6.5
cvt | pack u2 | 75 6.5
shfl vote | sync | 0 6.0
bar | warp | 0 6.0
match | | 70 6.0
activemask | | 0 6.2
redux | | 80 7.0
redux | f32 | 100 8.6
elect | | 90 8.0
barrier | | 0 6.0
barrier | cta | 0 7.8
fence | | 70 6.0
fence | proxy | 70 7.5
fence | async | 90 8.0
fence | mbarrier_init | 90 8.0
fence | tensormap::generic | 90 8.3
nanosleep | | 70 6.2
griddepcontrol mapa getctarank | | 90 7.8
createpolicy applypriority discard | | 80 7.4
prefetch | L2::evict_last | 80 7.4
prefetch | L2::evict_normal | 80 7.4
prefetch | tensormap | 90 8.0
isspacep cvta | param | 70 7.7
setmaxnreg | | 90 8.0
cp | async | 80 7.0
cp | bulk | 90 8.0
cp | bulk.shared::cta.global | 90 8.6
mbarrier | | 80 7.0
mbarrier | parity | 80 7.1
mbarrier | try_wait | 90 7.8
mbarrier | expect_tx | 90 8.0
mbarrier | complete_tx | 90 8.0
mbarrier | cta | 80 8.0
atom red | f64 | 0 5.0
atom red | cta | 0 5.0
atom red | gpu | 0 5.0
atom red | sys | 0 5.0
atom red | f16x2 | 0 6.2
atom red | f16 | 70 6.3
atom red | b16 | 70 6.3
atom red | bf16 | 90 7.8
atom red | bf16x2 | 90 7.8
atom red | v2 | 90 8.1
atom red | v4 | 90 8.1
atom red | v8 | 90 8.1
ldmatrix | | 75 6.5
ldmatrix | b8 | 100 8.6
stmatrix | | 90 7.8
stmatrix | b8 | 100 8.6
movmatrix | | 75 7.8
wmma | | 70 6.0
wmma | s8 | 72 6.3
wmma | u8 | 72 6.3
wmma | s4 | 75 6.3
wmma | u4 | 75 6.3
wmma | b1 | 75 6.3
wmma | bf16 | 80 7.0
wmma | tf32 | 80 7.0
wmma | f64 | 80 7.0
mma | | 70 6.4
mma | m16n8k8 | 75 6.5
mma | m8n8k16 | 75 6.5
mma | m8n8k32 | 75 6.5
mma | m8n8k128 | 75 7.0
mma | m16n8k4 | 80 7.0
mma | m16n8k16 | 80 7.0
mma | m16n8k32 | 80 7.0
mma | m16n8k64 | 80 7.0
mma | m16n8k128 | 80 7.0
mma | m16n8k256 | 80 7.0
mma | bf16 | 80 7.0
mma | tf32 | 80 7.0
mma | f64 | 80 7.0
mma | f64 !m8n8k4 | 90 7.8
mma | and.popc | 80 7.1
mma | e4m3 | 89 8.4
mma | e5m2 | 89 8.4
mma | sp | 80 7.1
wgmma | | 90 8.0
%clusterid %nclusterid %cluster_ctaid %cluster_nctaid | | 90 7.8
%cluster_ctarank %cluster_nctarank %is_explicit_cluster | | 90 7.8
%clock_hi | | 0 5.0
"""


@dataclass(frozen=True, slots=True)
class Requirement:
    """A line of the table: least capability and PTX version, (0, 0) where any will do."""

    wanted: tuple[str, ...]
    unwanted: tuple[str, ...]
    capability: Version
    version: Version

    def applies(self, modifiers: str) -> bool:
        """Whether it is about an instruction with these modifiers, each between dots."""
        return all(f".{name}." in modifiers for name in self.wanted) and not any(
            f".{name}." in modifiers for name in self.unwanted
        )


def _read_rules(text: str) -> dict[str, list[Requirement]]:
    rules: dict[str, list[Requirement]] = {}
    for line in text.strip().splitlines():
        names, conditions, needs = (part.split() for part in line.split("|"))
        capability, version = int(needs[0]), needs[1].split(".")
        rule = Requirement(
            tuple(word for word in conditions if word[0] != "!"),
            tuple(word[1:] for word in conditions if word[0] == "!"),
            (capability // 10, capability % 10),
            (int(version[0]), int(version[1])),
        )
        for name in names:
            rules.setdefault(name, []).append(rule)
    return rules


_TABLE = _read_rules(_RULES)


@cache
def requirements(name: str, modifiers: tuple[str, ...] = ()) -> tuple[Requirement, ...]:
    """What an opcode with these modifiers, or a special register, needs."""
    dotted = f".{'.'.join(modifiers)}."
    rules = _TABLE.get(name.partition(".")[0], []) + _TABLE["*"]
    return tuple(rule for rule in rules if rule.applies(dotted))


def check_requirements(body: Body, profile: Profile, version: Version) -> None:
    """Check that a profile has what a kernel uses.

    Args:
        body: the kernel.
        profile: the device.
        version: the PTX version that the module says it is written in.

    Raises:
        UnsupportedError: it does not; the reason names the profile that does, if there is one.
    """
    for item in body.items:
        if not isinstance(item, Instruction):
            continue
        reason = _unmet(item.opcode, item.modifiers, profile, version)
        for name in _specials(item.operands):
            reason = reason or _unmet(name, (), profile, version)
        if reason:
            raise UnsupportedError(reason, item.position, item.text)


def _specials(operands: Iterable[Operand]) -> Iterator[str]:
    for operand in operands:
        match operand:
            case Special(name):
                yield name
            case Vector(items):
                yield from _specials(items)


@cache
def _unmet(name: str, modifiers: tuple[str, ...], profile: Profile, version: Version) -> str:
    """Why a profile, or a PTX version, does not have something; empty if it does."""
    found = requirements(name, modifiers)
    if not found:
        return ""
    most = max(found, key=lambda rule: rule.capability)
    if most.capability > profile.capability:
        target = "sm_{}{}".format(*most.capability)
        other = profile_for(target)
        choice = f"choose --profile {other.name}" if other else "no profile has it"
        return f"{_what(name, most)} needs {target}: {choice}"
    newest = max(found, key=lambda rule: rule.version)
    if newest.version > version:
        return "{} needs PTX {}.{}, the module says .version {}.{}".format(
            _what(name, newest), *newest.version, *version
        )
    return ""


def _what(name: str, rule: Requirement) -> str:
    return " with ".join([name, *(f".{word}" for word in rule.wanted)])
