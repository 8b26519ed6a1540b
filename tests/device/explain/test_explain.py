"""`vgpu-stub explain`: each verdict, provoked by a program that deserves it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vgpu_host.pool import WorkerPool
from vgpu_stub.abi import generated as abi
from vgpu_stub.device.gpu import VirtualGpu
from vgpu_stub.device.worker_link import WorkerProcess, WorkerUnavailableError
from vgpu_stub.harness.build import cuda_libraries
from vgpu_stub.vfio_user import Server

pytestmark = pytest.mark.device

COMMAND = "from vgpu_stub.cli.main import app; app()"
PROGRAM = Path(__file__).with_name("program.py")
PYTHON = [sys.executable, str(PROGRAM)]
NOBODY = 65534

Report = dict[str, Any]
Compile = Callable[..., Path]


def run(*command: str, json_report: bool = True) -> subprocess.CompletedProcess[str]:
    options = ["--executor", "software", *(["--json"] if json_report else []), "--"]
    return subprocess.run(
        [sys.executable, "-c", COMMAND, "explain", *options, *command],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def explain(*command: str) -> Report:
    done = run(*command)
    assert done.stdout, done.stderr
    report: Report = json.loads(done.stdout)
    code = report["verdict"]["code"]
    assert done.returncode == (0 if code == "RESIDENT" else 1), done.stderr
    return report


def verdict(*command: str) -> tuple[str, str]:
    found = explain(*command)["verdict"]
    return found["code"], "\n".join(found["evidence"])


@pytest.fixture
def compiler(tmp_path: Path) -> Compile:
    """Compiles C text to a program or, by its name, to a library."""

    def compile_to(name: str, text: str, *flags: str) -> Path:
        source, target = tmp_path / f"{name}.c", tmp_path / name
        source.write_text(text)
        shared = ["-shared", "-fPIC"] if ".so" in name else []
        subprocess.run(["cc", *shared, str(source), "-o", str(target), *flags], check=True)
        return target

    return compile_to


@contextmanager
def other_device(workers: object) -> Iterator[str]:
    """The socket of a device of our own, in place of the one that explain starts."""
    gpu = VirtualGpu(workers, "other")  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory(prefix="vgpu") as folder:
        path = Path(folder) / "device.sock"
        with Server(path, lambda: gpu, max_clients=1):
            yield f"VGPU_STUB_SOCKET={path}"
    gpu.close()


class NoWorkers:
    """A host that cannot start workers."""

    def __init__(self, info: bytes) -> None:
        self._info = info

    def device_info(self) -> bytes:
        return self._info

    def take(self) -> WorkerProcess:
        raise WorkerUnavailableError("there is no memory left")


def nvidia_runtime() -> str:
    found = sorted(
        Path(sys.prefix).glob("lib/python3*/site-packages/nvidia/cu13/lib/libcudart.so*")
    )
    if not found:
        pytest.skip("NVIDIA's runtime is not here: install the wheel nvidia-cuda-runtime")
    return str(found[0])


# -- finding the libraries -----------------------------------------------------------------------


def test_a_program_without_cuda_attempted_nothing() -> None:
    code, seen = verdict("sh", "-c", "exit 3")
    assert code == "NOT_ATTEMPTED"
    assert "status 3" in seen


def test_another_libcuda_on_the_path_is_found(compiler: Compile, tmp_path: Path) -> None:
    other = compiler("libcuda.so.1", "int cuInit(unsigned f) { return 100; }")
    path = f"LD_LIBRARY_PATH={tmp_path}"
    code, seen = verdict("env", path, *PYTHON, "init")
    assert code == "WRONG_LIBCUDA"
    assert str(other) in seen


def test_a_process_without_the_library_path_finds_no_libcuda() -> None:
    code, seen = verdict("env", "-u", "LD_LIBRARY_PATH", *PYTHON, "init")
    assert code == "WRONG_LIBCUDA"
    assert "asked for libcuda.so.1" in seen


def test_a_backend_with_an_undefined_symbol_is_named(compiler: Compile) -> None:
    backend = compiler(
        "libapp-cuda.so",
        "extern int cublasImaginary(void); int f(void) { return cublasImaginary(); }",
    )
    code, seen = verdict(*PYTHON, "load", str(backend))
    assert code == "BACKEND_UNLOADABLE"
    assert seen == f"{backend}: symbol lookup error: undefined symbol: cublasImaginary"


def test_a_backend_whose_library_is_missing_is_named(compiler: Compile, tmp_path: Path) -> None:
    needed = compiler("libcublasLt.so.99", "int x;", "-Wl,-soname,libcublasLt.so.99")
    backend = compiler("libapp-cuda.so", "extern int x; int f(void) { return x; }", str(needed))
    needed.unlink()
    code, seen = verdict(*PYTHON, "load", str(backend))
    assert code == "BACKEND_UNLOADABLE"
    assert seen == f"{backend} needs libcublasLt.so.99, which was not found"


def test_a_preloaded_library_that_answers_for_cuda_interferes(compiler: Compile) -> None:
    hook = compiler("hook.so", "int cuInit(unsigned f) { return 999; }")
    program = compiler(
        "uses_cuda",
        "extern int cuInit(unsigned); int main(void) { return cuInit(0); }",
        f"-L{cuda_libraries()}",
        "-lcuda",
    )
    assert verdict("env", f"LD_PRELOAD={hook}", str(program))[0] == "PRELOAD_INTERFERENCE"


def test_a_harmless_preload_is_not_blamed(compiler: Compile) -> None:
    other = compiler("other.so", "int unrelated(void) { return 1; }")
    assert verdict("env", f"LD_PRELOAD={other}", *PYTHON, "look")[0] == "DETECTED_NOT_USED"


# -- opening the device --------------------------------------------------------------------------


def test_a_process_that_lost_the_socket_finds_no_device() -> None:
    code, seen = verdict("env", "-u", "VGPU_STUB_SOCKET", *PYTHON, "init")
    assert code == "NO_DEVICE"
    assert "cuInit(Flags=0) = 100 CUDA_ERROR_NO_DEVICE" in seen
    assert "cannot open /dev/vgpu0" in seen


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_without_access_lacks_permission(compiler: Compile, tmp_path: Path) -> None:
    program = compiler(
        "as_nobody",
        "#include <unistd.h>\n"
        "extern int cuInit(unsigned);\n"
        f"int main(void) {{ return setgid({NOBODY}) || setuid({NOBODY}) ? 99 : cuInit(0); }}",
        f"-L{cuda_libraries()}",
        "-lcuda",
    )
    code, seen = verdict(str(program))
    assert code == "PERMISSION"
    assert "Permission denied" in seen


def test_a_device_without_workers_cannot_be_opened(workers: WorkerPool) -> None:
    with other_device(NoWorkers(workers.device_info())) as socket:
        code, seen = verdict("env", socket, *PYTHON, "init")
    assert code == "DRIVER_INIT_FAILED"
    assert "cannot start a worker" in seen


def test_a_forked_child_cannot_use_its_parents_device() -> None:
    code, seen = verdict(*PYTHON, "fork")
    assert code == "DRIVER_INIT_FAILED"
    assert "cuMemAlloc_v2" in seen
    assert "CUDA_ERROR_NOT_INITIALIZED" in seen


# -- starting the runtime ------------------------------------------------------------------------


def test_nvidias_runtime_refuses_another_driver() -> None:
    runtime = nvidia_runtime()
    code, seen = verdict(*PYTHON, "runtime", runtime)
    assert code == "VENDOR_RUNTIME_REFUSES"
    assert f"{runtime} is NVIDIA's" in seen


def test_a_runtime_that_is_newer_than_the_driver_is_too_new(workers: WorkerPool) -> None:
    info = bytearray(workers.device_info())
    place = abi.DEVICE_INFO_OFFSETS["driver_version"]
    info[place : place + 4] = (12040).to_bytes(4, "little")
    patched = WithInfo(workers, bytes(info))
    with other_device(patched) as socket:
        code, seen = verdict("env", socket, *PYTHON, "runtime", nvidia_runtime())
    assert code == "VERSION_TOO_OLD"
    assert "the driver reports CUDA 12.4" in seen


class WithInfo:
    """Workers of a pool with another device info."""

    def __init__(self, workers: WorkerPool, info: bytes) -> None:
        self._workers = workers
        self._info = info

    def device_info(self) -> bytes:
        return self._info

    def take(self) -> WorkerProcess:
        return self._workers.take()


def test_a_private_table_is_named() -> None:
    code, seen = verdict(*PYTHON, "table", "30" * 16)
    assert code == "PRIVATE_TABLE"
    assert "30" * 16 in seen


def test_a_runtime_that_is_linked_in_is_told_by_the_tables_it_wants() -> None:
    code, seen = verdict(*PYTHON, "table", "6bd5fb6c" + "00" * 12)
    assert code == "VENDOR_RUNTIME_REFUSES"
    assert "linked into the program" in seen


def test_a_missing_entry_point_is_named() -> None:
    code, seen = verdict(*PYTHON, "missing")
    assert code == "MISSING_ENTRY_POINT"
    assert "cuGetProcAddress has no cuComputeEverything for CUDA 13.0" in seen


def test_a_refused_function_is_named() -> None:
    code, seen = verdict(*PYTHON, "refused")
    assert code == "MISSING_ENTRY_POINT"
    assert "cuArray3DCreate_v2 is refused" in seen


# -- computing -----------------------------------------------------------------------------------


def test_code_for_a_newer_device_only_is_no_code() -> None:
    code, seen = verdict(*PYTHON, "too_new")
    assert code == "NO_CODE_FOR_ARCH"
    assert "cuModuleLoadData" in seen


def test_a_failed_call_is_shown_with_its_arguments() -> None:
    code, seen = verdict(*PYTHON, "too_much")
    assert code == "CALL_FAILED"
    assert "cuMemAlloc_v2" in seen
    assert f"bytesize={1 << 50}) = 2 CUDA_ERROR_OUT_OF_MEMORY" in seen


def test_a_kernel_that_faults_is_broken() -> None:
    code, seen = verdict(*PYTHON, "stray")
    assert code == "COMPUTE_BROKEN"
    assert "700 CUDA_ERROR_ILLEGAL_ADDRESS" in seen
    assert "kernel stray" in seen
    assert "illegal address 0x10" in seen


@pytest.mark.parametrize("way", ["init", "look"])
def test_a_device_that_was_only_looked_at_was_not_used(way: str) -> None:
    code, seen = verdict(*PYTHON, way)
    assert code == "DETECTED_NOT_USED"
    assert "VGPU-STUB software GPU" in seen


# -- keeping the device busy -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "code"),
    [
        ("copies", "TRAFFIC_BOUND"),
        ("waits", "SYNC_BOUND"),
        ("launches", "LAUNCH_BOUND"),
        ("processor", "PARTLY_CPU"),
        ("once", "RESIDENT"),
        ("idle", "RESIDENT"),
        ("compute", "RESIDENT"),
    ],
)
def test_the_use_of_the_device_is_judged(way: str, code: str) -> None:
    found, seen = verdict(*PYTHON, way)
    assert found == code, seen


def test_processes_that_compete_are_contended(tmp_path: Path) -> None:
    program = " ".join([*PYTHON, "compute", str(tmp_path)])
    code, seen = verdict("sh", "-c", f"{program} & {program}; wait")
    assert code == "CONTENDED"
    assert seen.count("launches") == 2


# -- process trees and reports ---------------------------------------------------------------------


def test_the_cause_of_a_child_is_found_behind_a_parent_that_looked() -> None:
    program = " ".join(PYTHON)
    line = f"{program} look; env -u VGPU_STUB_SOCKET {program} init"
    assert verdict("sh", "-c", line)[0] == "NO_DEVICE"


def test_a_child_that_computes_counts_for_its_parent() -> None:
    program = " ".join(PYTHON)
    assert verdict("sh", "-c", f"{program} look; {program} once")[0] == "RESIDENT"


def test_the_report_has_libraries_calls_and_figures() -> None:
    report = explain(*PYTHON, "once")
    (process,) = report["processes"]
    assert process["libraries"]["libcuda.so"] == str(cuda_libraries() / "libcuda.so.1")
    assert process["device"]["capability"] == "6.1"
    assert process["use"][0]["last"]["launches"] == 1
    assert report["exit_status"] == 0


def test_the_programs_output_is_not_swallowed() -> None:
    done = run("sh", "-c", "echo out; echo err >&2; exit 5", json_report=False)
    assert done.returncode == 1
    assert done.stdout == "out\n"
    assert done.stderr.startswith("err\n")
    assert "NOT_ATTEMPTED" in done.stderr
    assert "status 5" in done.stderr


KILL_SERVER = """
import json, os, signal, socket
folder = os.path.dirname(os.environ["VGPU_STUB_SOCKET"])
with socket.socket(socket.AF_UNIX) as monitor:
    monitor.connect(folder + "/monitor.sock")
    os.kill(json.load(monitor.makefile())["pid"], signal.SIGKILL)
"""


def test_a_server_that_dies_under_a_program_is_told() -> None:
    program = f"{' '.join(PYTHON)} forever | {{ read ready; '{sys.executable}' -c \"$1\"; cat; }}"
    code, seen = verdict("sh", "-c", program, "sh", KILL_SERVER)
    assert code == "COMPUTE_BROKEN"
    assert "46 CUDA_ERROR_DEVICE_UNAVAILABLE" in seen
    assert "the device server ended before the program" in seen
