"""`vgpu-stub ptx` as users call it, on small files."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from vgpu_host.ptx_files import PtxFileError
from vgpu_stub.cli.main import typer_app

HEADER = ".version 8.4\n.target sm_61\n.address_size 64\n"
KERNELS = (
    HEADER
    + """
.func (.param .b32 r) twice(.param .b32 x) {
  .reg .b32 %r<3>;
  ld.param.u32 %r1, [x];
  add.u32 %r2, %r1, %r1;
  st.param.b32 [r], %r2;
  ret;
}
.entry _Z5storePjj(.param .u64 out, .param .u32 number) .maxntid 64 {
  .reg .b64 %rd<2>;
  .reg .b32 %r<3>;
  .reg .pred %p1;
  .shared .align 4 .b8 buffer[256];
  .param .b32 argument;
  .param .b32 result;
  ld.param.u64 %rd1, [out];
  ld.param.u32 %r1, [number];
  st.param.b32 [argument], %r1;
  call (result), twice, (argument);
  ld.param.b32 %r1, [result];
  mov.u32 %r2, %tid.x;
  setp.ge.u32 %p1, %r2, 7;
  @%p1 bra END;
  st.global.u32 [%rd1], %r1;
END:
  ret;
}
"""
)
REFUSED = """
.entry _Z6samplev() {
  .reg .f32 %f<5>;
  frobnicate.f32 %f1, %f2;
  ret;
}
"""


@pytest.fixture
def ptx(tmp_path: Path) -> Path:
    path = tmp_path / "kernels.ptx"
    path.write_text(KERNELS)
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(typer_app, ["ptx", *map(str, arguments)])


def failure(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, PtxFileError), result.output
    return str(result.exception)


def fat_binary(architecture: int, text: bytes) -> bytes:
    text += bytes(-len(text) % 8)
    image = struct.pack(
        "<HHIQIIHHIIIQQQ", 1, 0x101, 64, len(text), 0, 0, 4, 8, architecture, 0, 0, 0, 0, 0
    )
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(image + text)) + image + text


def test_list_says_what_kernels_take(ptx: Path) -> None:
    result = run("list", ptx, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "profile": "sm_61",
        "kernels": [
            {
                "name": "_Z5storePjj",
                "readable": "store(unsigned int*, unsigned int)",
                "parameters": [8, 4],
                "shared": 256,
                "local": 16,
                "registers": 4,
                "instructions": 13,
                "refusal": "",
                "translates": True,
            }
        ],
    }


def test_list_says_why_a_kernel_is_refused(ptx: Path) -> None:
    ptx.write_text(KERNELS + REFUSED)
    result = run("list", ptx)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    store = ["12", "256", "16", "4", "13", "yes", "store(unsigned", "int*,", "unsigned", "int)"]
    assert lines[1].split() == store
    assert lines[2].split() == ["0", "0", "0", "1", "2", "no", "sample()"]
    assert "line 34: instruction frobnicate is not supported" in lines[3]
    assert "1 of 2 kernels can run on sm_61" in result.stderr
    only = run("list", ptx, "--match", r"store\(unsigned")
    assert only.exit_code == 0
    assert len(only.stdout.splitlines()) == 2


def test_a_library_is_read_as_a_device_of_the_profile_would(tmp_path: Path) -> None:
    library = tmp_path / "library.so"
    newer = KERNELS.replace("sm_61", "sm_75").replace("_Z5storePjj", "_Z5newerPjj")
    library.write_bytes(
        b"\x7fELF" + fat_binary(61, KERNELS.encode()) + fat_binary(75, newer.encode())
    )

    def names(profile: str) -> list[str]:
        listed = json.loads(run("list", library, "--profile", profile, "--json").stdout)
        return [kernel["name"] for kernel in listed["kernels"]]

    assert names("sm_61") == ["_Z5storePjj"]
    assert names("sm_80") == ["_Z5storePjj", "_Z5newerPjj"]
    library.write_bytes(fat_binary(90, KERNELS.encode()))
    assert "no PTX for 6.1 or less, only PTX for 9.0" in failure("list", library)


def test_files_without_kernels_are_refused_with_a_reason(tmp_path: Path) -> None:
    assert "cannot read" in failure("list", tmp_path / "missing.ptx")
    assert "cannot read" in failure("list", tmp_path / "missing.cu")
    path = tmp_path / "file"
    path.write_bytes(b"\x7fELF" + bytes(100))
    assert "no fat binary" in failure("list", path)
    path.write_text("int main() {}")
    assert "does not start with .version" in failure("list", path)
    path.write_text("")
    assert "is empty" in failure("dump", path, "--kernel", "f")
    path.write_text(HEADER)
    assert "has no kernels" in failure("dump", path, "--kernel", "f")
    path.write_text(HEADER.replace("61", "90"))
    assert ".target sm_90 needs --profile sm_90" in failure("list", path)


def test_dump_shows_the_body_with_its_calls_inlined(ptx: Path) -> None:
    result = run("dump", ptx, "--kernel", "store", "--stage", "body")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "kernel _Z5storePjj, at most 64 threads a block"
    assert "  parameter number: 4 bytes at 8" in lines
    assert "  shared _Z5storePjj::buffer: 256 bytes, aligned to 4" in lines
    assert any(line.split()[:2] == ["8", "add.u32"] for line in lines)
    assert not any("call" in line for line in lines)


def stage(file: Path, name: str, kernel: str = "store") -> list[str]:
    result = run("dump", file, "--kernel", kernel, "--stage", name)
    assert result.exit_code == 0
    return result.stdout.splitlines()


def test_dump_shows_the_pieces_of_the_text(ptx: Path) -> None:
    lines = [line.split(None, 2) for line in stage(ptx, "tokens")]
    assert ["22", "statement", "call (result), twice, (argument)"] in lines
    assert lines[-2:] == [["28", "label", "END"], ["29", "statement", "ret"]]


def test_dump_shows_the_flow_graph(ptx: Path) -> None:
    lines = stage(ptx, "blocks")
    heads = [line for line in lines if line.startswith("block")]
    assert heads[-3:] == ["block 1, then 3 or 2", "block 2, then 3", "block 3, then the end"]
    assert lines[lines.index("block 2, then 3") + 1] == "    st.global.u32 [%rd1], %r1"


def test_dump_shows_what_is_live(ptx: Path) -> None:
    assert stage(ptx, "liveness")[-3:] == [
        "block 2: %r1 %rd1",
        "block 3: nothing",
        "32-bit registers that are live at once: 4",
    ]


def test_dump_tells_uniform_registers_from_vectors(ptx: Path) -> None:
    lines = stage(ptx, "uniformity")
    assert "vector i1: %p1" in lines
    assert "uniform i64: %rd1" in lines
    assert lines[-4:] == [
        "block 1: for all lanes of a warp, which may part at its end",
        "block 2: for some lanes of a warp",
        "    others may wait at: 3",
        "block 3: for all lanes of a warp",
    ]


def test_dump_shows_where_variables_are(ptx: Path) -> None:
    lines = stage(ptx, "layout")
    assert lines[:3] == ["parameters: 12 bytes", "    out at 0", "    number at 8"]
    assert lines[lines.index("shared memory: 256 bytes") + 1] == "    _Z5storePjj::buffer at 0"


def test_dump_writes_a_file_for_each_stage(ptx: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stages"
    assert run("dump", ptx, "--kernel", "store", "-o", folder).exit_code == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "1-tokens.txt",
        "2-body.txt",
        "3-blocks.txt",
        "4-liveness.txt",
        "5-uniformity.txt",
        "6-layout.txt",
        "7-llvm.ll",
        "8-optimized.ll",
        "9-assembly.s",
    ]
    generated, optimized = (folder / name for name in ("7-llvm.ll", "8-optimized.ll"))
    assert "define void @vgpu_run(ptr %launch, ptr %worker)" in generated.read_text()
    assert 0 < optimized.read_text().count("alloca") < generated.read_text().count("alloca")
    assert "vgpu_run:" in (folder / "9-assembly.s").read_text()


def test_dump_of_a_refused_kernel_shows_what_there_is(ptx: Path) -> None:
    ptx.write_text(KERNELS + REFUSED)
    result = run("dump", ptx, "--kernel", "sample")
    assert result.exit_code == 1
    assert "==== layout\n" in result.stdout
    assert "==== llvm" not in result.stdout
    assert "line 34: instruction frobnicate is not supported" in result.stderr


def test_unknown_and_ambiguous_kernels_are_answered_with_names(tmp_path: Path) -> None:
    path = tmp_path / "kernels.ptx"
    names = ["_Z4normILi64EEvPf", "_Z4normILi128EEvPf"]
    path.write_text(HEADER + "".join(f".entry {name}() {{ ret; }}\n" for name in names))
    both = "\n  void norm<64>(float*)\n  void norm<128>(float*)"
    assert failure("dump", path, "--kernel", "norm") == f"2 kernels are called norm:{both}"
    assert run("dump", path, "--kernel", "norm<64>", "--stage", "body").stdout.startswith(
        f"kernel {names[0]}"
    )
    assert "did you mean\n  void norm<" in failure("dump", path, "--kernel", "morn")
    assert "it has 2 others" in failure("dump", path, "--kernel", "zzzzzz")
    assert f"{path} has 2 kernels; choose one with --kernel:{both}" == failure("dump", path)
    assert run("list", path, "--match", "(").exit_code == 2


def test_cuda_source_is_compiled(tmp_path: Path) -> None:
    path = tmp_path / "scale.cu"
    path.write_text("__global__ void scale(float *x) { x[threadIdx.x] *= 2; }")
    lines = run("list", path, "--profile", "sm_80").stdout.splitlines()
    assert lines[1].endswith("yes   scale(float*)")
    path.write_text("__global__ void scale(float *x) { y = 1; }")
    assert 'identifier "y" is undefined' in failure("list", path)
