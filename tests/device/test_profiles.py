"""Profiles of the software GPU as programs see them: attributes, and shared memory on request."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vgpu_host.executors.options import ExecutorOptions
from vgpu_stub.harness.build import GUEST, cuda_libraries
from vgpu_stub.harness.device_server import DeviceServer
from vgpu_stub.harness.program import program_environment

pytestmark = pytest.mark.device

PTX = """.version 7.0
.target sm_61
.address_size 64
.extern .shared .align 16 .b8 dynamic[];
.visible .entry last_word(.param .u64 out, .param .u32 size) {
  .reg .b32 %i, %v; .reg .b64 %a, %s;
  ld.param.u32 %i, [size]; cvt.u64.u32 %a, %i;
  mov.u64 %s, dynamic; add.u64 %s, %s, %a; mov.u32 %v, 77;
  st.shared.u32 [%s+-4], %v; bar.sync 0; ld.shared.u32 %v, [%s+-4];
  ld.param.u64 %a, [out]; st.global.u32 [%a], %v;
  ret;
}
"""

#: argv: folder of cuda_driver, PTX file. Writes what it saw as JSON.
PROGRAM = """
import json, sys
from ctypes import c_int, c_uint
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import numpy as np
from cuda_driver import CudaError, Driver

with Driver() as driver:
    kernel = driver.load(Path(sys.argv[2])).kernel("last_word")
    most = driver.attribute(97)

    def launch(size):
        out = driver.zeros(4)
        kernel((1, 1, 1), (32, 1, 1), out, c_uint(size), shared_bytes=size)
        return int(out.download(1, np.uint32)[0])

    def allow(size):
        driver.call("cuFuncSetAttribute", kernel.handle, c_int(8), c_int(size))

    def result(call, size):
        try:
            call(size)
        except CudaError as error:
            return error.result
        return 0

    usual = driver.attribute(8)
    seen = {
        "attributes": [driver.attribute(n) for n in (75, 76, 8, 81, 97, 39, 106)],
        "usual": launch(usual),
        "more without asking": result(launch, usual + 4),
        "asking for too much": result(allow, most + 1),
    }
    allow(most)
    seen["most"] = launch(most)
    print(json.dumps(seen))
"""

INVALID_VALUE = 1


@pytest.mark.parametrize(
    ("profile", "attributes"),
    [
        ("sm_61", [6, 1, 49152, 98304, 49152, 2048, 32]),
        ("sm_75", [7, 5, 49152, 65536, 65536, 1024, 16]),
        ("sm_80", [8, 0, 49152, 167936, 166912, 2048, 32]),
        ("sm_90", [9, 0, 49152, 233472, 232448, 2048, 32]),
    ],
)
def test_a_program_gets_the_shared_memory_that_its_device_promises(
    profile: str, attributes: list[int], tmp_path: Path
) -> None:
    ptx = tmp_path / "last_word.ptx"
    ptx.write_text(PTX)
    options = ExecutorOptions("software", memory_bytes=1 << 26, profile=profile)
    with DeviceServer(options, shared=False) as server:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(GUEST / "workloads"), str(ptx)],
            env=program_environment(server.device_socket, cuda_libraries()),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "attributes": attributes,
        "usual": 77,
        "more without asking": INVALID_VALUE,
        "asking for too much": INVALID_VALUE,
        "most": 77,
    }
