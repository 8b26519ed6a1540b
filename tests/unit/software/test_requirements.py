"""Kernels that use more than their profile has are refused, and say which profile has it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from vgpu_host.executors.software.errors import CudaResult, PtxError
from vgpu_host.executors.software.gpu import SoftwareGpu
from vgpu_host.executors.software.index import index_module
from vgpu_host.executors.software.ir import Body, Instruction, Special
from vgpu_host.executors.software.parser import parse_function
from vgpu_host.executors.software.profiles import PROFILES
from vgpu_host.executors.software.requirements import requirements
from vgpu_host.executors.software.translation import Translation

REGISTERS = (
    ".reg .pred %p<4>; .reg .b16 %h<9>; .reg .b32 %r<20>; .reg .b64 %d<9>; .reg .f32 %f<9>;"
    " .reg .f64 %g<9>;"
)


def module(statement: str, version: str = "8.8", target: str = "sm_61") -> str:
    return (
        f".version {version}\n.target {target}\n.address_size 64\n"
        f".visible .entry f(.param .u64 a) {{ {REGISTERS}\n{statement}\nret; }}"
    )


@pytest.fixture(scope="module")
def gpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, SoftwareGpu]]:
    """A software GPU of each profile."""
    made = {
        name: SoftwareGpu(
            total_memory=1 << 20,
            threads=1,
            cache_dir=tmp_path_factory.mktemp(name),
            translation=Translation(profile),
        )
        for name, profile in PROFILES.items()
    }
    yield made
    for gpu in made.values():
        gpu.close()


def refusal(gpu: SoftwareGpu, text: str) -> str:
    with pytest.raises(PtxError) as caught:
        gpu.load_module(text.encode()).get_function("f")
    assert caught.value.result == CudaResult.INVALID_PTX
    return caught.value.log


#: A statement, the profile that is the first to take it, and what the others say.
FIRST = [
    ("nanosleep.u32 100;", "sm_75", "nanosleep needs sm_70: choose --profile sm_75"),
    ("tanh.approx.f32 %f0, %f1;", "sm_75", "tanh needs sm_75: choose --profile sm_75"),
    ("ld.relaxed.gpu.global.u32 %r0, [%d0];", "sm_75", "ld with .relaxed needs sm_70"),
    ("movmatrix.sync.aligned.m8n8.trans.b16 %r0, %r1;", "sm_75", "movmatrix needs sm_75"),
    ("cp.async.wait_all;", "sm_80", "cp with .async needs sm_80: choose --profile sm_80"),
    ("redux.sync.add.s32 %r0, %r1, -1;", "sm_80", "redux needs sm_80: choose --profile sm_80"),
    ("cvt.rn.bf16x2.f32 %r0, %f0, %f1;", "sm_80", "cvt with .bf16x2.f32 needs sm_80"),
    ("max.NaN.f32 %f0, %f1, %f2;", "sm_80", "max with .NaN needs sm_80"),
    ("griddepcontrol.wait;", "sm_90", "griddepcontrol needs sm_90: choose --profile sm_90"),
    ("add.bf16 %h0, %h1, %h2;", "sm_90", "add with .bf16 needs sm_90"),
    ("min.xorsign.abs.f32 %f0, %f1, %f2;", "sm_90", "min with .xorsign needs sm_86"),
    ("stmatrix.sync.aligned.m8n8.x1.shared.b16 [%r4], {%r0};", "sm_90", "stmatrix needs sm_90"),
    ("mov.u32 %r0, %cluster_ctarank;", "sm_90", "%cluster_ctarank needs sm_90"),
]


@pytest.mark.parametrize(("statement", "first", "reason"), FIRST)
def test_profiles_below_the_first_refuse(
    gpus: dict[str, SoftwareGpu], statement: str, first: str, reason: str
) -> None:
    text = module(f"add.u32 %r0, %r0, 1;\n{statement}")
    for name, gpu in gpus.items():
        if PROFILES[name].capability >= PROFILES[first].capability:
            gpu.load_module(text.encode()).get_function("f")
            continue
        log = refusal(gpu, text)
        assert log.startswith(f"f: line 6: {reason}"), log
        assert log.endswith(statement.rstrip(";"))


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (
            "ld.global.v8.b32 {%r0,%r1,%r2,%r3,%r4,%r5,%r6,%r7}, [%d0];",
            "ld with .v8 needs sm_100: no profile has it",
        ),
        ("ld.global.v4.u64 {%d1,%d2,%d3,%d4}, [%d0];", "ld with .v4.u64 needs sm_100"),
        ("redux.sync.min.f32 %f0, %f1, -1;", "redux with .f32 needs sm_100"),
        (
            "tensormap.replace.tile.rank.global.b1024.b32 [%d0], 2;",
            "instruction tensormap is not supported: no profile has it",
        ),
        ("tcgen05.wait::ld.sync.aligned;", "instruction tcgen05 is not supported"),
    ],
)
def test_what_no_profile_has_says_so(
    gpus: dict[str, SoftwareGpu], statement: str, reason: str
) -> None:
    log = refusal(gpus["sm_90"], module(statement))
    assert log.startswith(f"f: line 5: {reason}"), log


def test_an_older_ptx_version_than_the_instruction_is_refused(
    gpus: dict[str, SoftwareGpu],
) -> None:
    log = refusal(gpus["sm_90"], module("redux.sync.or.b32 %r0, %r1, -1;", "6.5"))
    assert "redux needs PTX 7.0, the module says .version 6.5" in log


#: Statements to be compared with what `ptxas` says of them.
STATEMENTS = (Path(__file__).parent / "statements.ptx").read_text().splitlines()


def parsed(statement: str) -> Instruction:
    body: Body = parse_function(index_module(module(statement).encode()), "f")
    return next(item for item in body.items if isinstance(item, Instruction))


def needs(statement: str) -> tuple[int, tuple[int, int]]:
    """Capability (times ten, 0 up to 6.1) and PTX version by the table."""
    instruction = parsed(statement)
    found = [*requirements(instruction.opcode, instruction.modifiers)]
    for operand in instruction.operands:
        if isinstance(operand, Special):
            found += requirements(operand.name)
    capability = max((rule.capability for rule in found), default=(0, 0))
    number = 10 * capability[0] + capability[1]
    version = max((rule.version for rule in found), default=(0, 0))
    return number if number > 61 else 0, version


def ptxas_needs(statements: list[str]) -> list[tuple[int, tuple[int, int]]]:
    """The same by what `ptxas` has against the statements in an old module."""
    text = module("\n".join(statements), "4.3", "sm_50")
    first = text.splitlines().index(statements[0]) + 1
    done = subprocess.run(
        ["ptxas", "-arch=sm_90a", "-o", "/dev/null", "-"],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    capabilities = [0] * len(statements)
    versions = [(0, 0)] * len(statements)
    for line in (done.stdout + done.stderr).splitlines():
        found = re.search(r"line (\d+); error\s+: (.*)", line)
        if not found:
            continue
        index = int(found[1]) - first
        capability = re.search(r"sm_(\d+) or higher", found[2])
        version = re.search(r"\.version (\d+)\.(\d+) or later", found[2])
        assert capability or version, f"{statements[index]}: {found[2]}"
        if capability:
            capabilities[index] = max(capabilities[index], int(capability[1]))
        if version:
            versions[index] = max(versions[index], (int(version[1]), int(version[2])))
    return [
        (number if number > 61 else 0, version)
        for number, version in zip(capabilities, versions, strict=True)
    ]


@pytest.mark.skipif(not shutil.which("ptxas"), reason="there is no ptxas to compare with")
def test_the_table_says_what_ptxas_says() -> None:
    told = dict(zip(STATEMENTS, ptxas_needs(STATEMENTS), strict=True))
    assert {statement: needs(statement) for statement in STATEMENTS} == told
