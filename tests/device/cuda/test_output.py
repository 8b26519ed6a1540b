"""What kernels print comes out of the program's own standard output, at calls that wait."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vgpu_host.executors.options import ExecutorOptions
from vgpu_host.nvrtc import compile_ptx
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.program import program_environment

ROOT = Path(__file__).resolve().parents[3]
BUILD = ROOT / "guest/cuda/build"

pytestmark = pytest.mark.device

SOURCE = """
extern "C" __device__ void
__assertfail(const char*, const char*, unsigned, const char*, size_t);
extern "C" __global__ void say(int count) {
    for (int i = 0; i < count; i++) printf("kernel %d of %d\\n", i, count);
}
extern "C" __global__ void check(int x) {
    if (x) __assertfail("x == 0", "a.cu", 5, "check", 1);
}
"""

#: Says what it does in C's own stdout, so that the order of lines is seen.
PROGRAM = """
import ctypes, sys
cuda, libc = ctypes.CDLL("libcuda.so.1"), ctypes.CDLL(None)
def say(text): libc.puts(text.encode())
def call(name, *arguments):
    status = getattr(cuda, name)(*arguments)
    if status: say(f"{name}: {status}")
context, module, function, stream = (ctypes.c_void_p() for _ in range(4))
call("cuInit", 0)
call("cuCtxCreate_v2", ctypes.byref(context), 0, 0)
call("cuModuleLoadData", ctypes.byref(module), open(sys.argv[1], "rb").read() + b"\\0")
call("cuStreamCreate", ctypes.byref(stream), 1)
def launch(name, number, stream=None):
    call("cuModuleGetFunction", ctypes.byref(function), module, name.encode())
    value = ctypes.c_int(number)
    values = (ctypes.c_void_p * 1)(ctypes.addressof(value))
    call("cuLaunchKernel", function, 1, 1, 1, 1, 1, 1, 0, stream, values, None)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[DeviceServer]:
    with DeviceServer(ExecutorOptions(name="software"), shared=False) as running:
        yield running


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("output") / "say.ptx"
    path.write_bytes(compile_ptx(SOURCE))
    return path


def run(server: DeviceServer, image: Path, *statements: str) -> list[str]:
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM + "\n".join(statements), str(image)],
        env=program_environment(server.device_socket, BUILD),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert process.stderr == ""
    return process.stdout.splitlines()


def test_text_comes_when_the_program_waits(server: DeviceServer, image: Path) -> None:
    lines = run(
        server,
        image,
        'launch("say", 2); say("launched"); call("cuCtxSynchronize"); say("synchronised")',
        'launch("say", 1, stream); call("cuStreamSynchronize", stream); say("end")',
    )
    assert lines == [
        "launched",
        "kernel 0 of 2",
        "kernel 1 of 2",
        "synchronised",
        "kernel 0 of 1",
        "end",
    ]


def test_a_copy_to_the_host_brings_the_text(server: DeviceServer, image: Path) -> None:
    lines = run(
        server,
        image,
        "pointer, word = ctypes.c_uint64(), ctypes.c_uint64()",
        'call("cuMemAlloc_v2", ctypes.byref(pointer), 8); launch("say", 1)',
        'call("cuMemcpyDtoH_v2", ctypes.byref(word), pointer, ctypes.c_size_t(8)); say("copied")',
    )
    assert lines == ["kernel 0 of 1", "copied"]


def test_much_text_comes_whole(server: DeviceServer, image: Path) -> None:
    lines = run(server, image, 'launch("say", 9000); call("cuCtxSynchronize")')
    assert lines == [f"kernel {i} of 9000" for i in range(9000)]


def test_nothing_is_printed_without_waiting(server: DeviceServer, image: Path) -> None:
    assert run(server, image, 'launch("say", 3); say("end")') == ["end"]


def test_a_failed_assertion_is_reported_and_ends_the_context(
    server: DeviceServer, image: Path
) -> None:
    lines = run(server, image, 'launch("check", 1); call("cuCtxSynchronize")')
    assert lines == [
        "a.cu:5: check: block: [0,0,0], thread: [0,0,0] Assertion `x == 0` failed.",
        "cuCtxSynchronize: 710",
    ]
