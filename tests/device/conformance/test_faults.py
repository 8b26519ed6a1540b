"""What is left when a kernel has failed: its CUresult from every call, and nothing worse.

Each fault has a process of its own, because on a physical GPU it ends all contexts of the process.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.device

ILLEGAL_ADDRESS = 700
MISALIGNED_ADDRESS = 716
LAUNCH_FAILED = 719
#: Takes ("kernel", "address") and prints by call the CUresult, or the name of what else it raised.
SCRIPT = '''
import ctypes, json, mmap, os, struct, sys
from vgpu_host.executors.base import CudaError
from vgpu_host.executors.options import ExecutorOptions, make_executor

PTX = b""".version 6.0
.target sm_50
.address_size 64
.visible .entry store(.param .u64 out)
{
    .reg .b64 %rd<2>;
    .reg .b32 %r<2>;
    ld.param.u64 %rd1, [out];
    mov.u32 %r1, 7;
    st.global.u32 [%rd1], %r1;
    ret;
}
.visible .entry stop(.param .u64 out)
{
    trap;
}
"""
name, kernel, offset = sys.argv[1:]
executor = make_executor(ExecutorOptions(name, memory_bytes=64 << 20, threads=1))
context = executor.context_create(0)
executor.context_activate(context)
module = executor.module_load(PTX)
function, _ = executor.module_get_function(module, kernel)
stream = executor.stream_create(1, 0)
event = executor.event_create(0)
memory = executor.memory_allocate(4096)
host = mmap.mmap(-1, 4096)
view = (ctypes.c_char * 4096).from_buffer(host)
page = ctypes.addressof(view)
executor.host_register(page, 4096)
address = 16 if offset == "none" else memory + int(offset)
results = {}


def attempt(what, *arguments):
    try:
        outcome = getattr(executor, what)(*arguments)
        while callable(outcome) and not outcome():
            pass
        results[what] = 0
    except CudaError as error:
        results[what] = error.result
    except Exception as error:
        results[what] = repr(error)


def fault():
    executor.launch(function, (1, 1, 1), (1, 1, 1), 0, stream, struct.pack("<Q", address))
    poll = executor.stream_synchronize(stream)
    while not poll():
        pass


executor.fault = fault
attempt("fault")
attempt("context_synchronize")
attempt("stream_synchronize", stream)
attempt("memory_allocate", 4096)
attempt("memory_info")
attempt("copy_bytes_to_device", memory, b"data", None)
attempt("launch", function, (1, 1, 1), (1, 1, 1), 0, None, struct.pack("<Q", memory))
attempt("stream_create", 0, 0)
attempt("event_record", event, stream)
attempt("module_load", PTX)
attempt("memory_free", memory)
attempt("host_unregister", page)
attempt("host_register", page, 4096)
attempt("context_activate", context)
attempt("context_destroy", context)
print(json.dumps(results), flush=True)
os._exit(0)
'''
#: Calls that belong to no context, or end it: they may succeed or fail, but only with a CUresult.
OUTSIDE = ("host_register", "host_unregister", "context_activate", "context_destroy")


@pytest.mark.parametrize(
    ("kernel", "offset", "result"),
    [
        ("store", "none", ILLEGAL_ADDRESS),
        ("store", "2", MISALIGNED_ADDRESS),
        ("stop", "0", LAUNCH_FAILED),
    ],
)
@pytest.mark.usefixtures("executor")
def test_fault_is_what_every_later_call_says(
    request: pytest.FixtureRequest, kernel: str, offset: str, result: int
) -> None:
    name = request.node.callspec.params["executor"]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, name, kernel, offset],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    outside = {call: results.pop(call) for call in OUTSIDE}
    assert results == dict.fromkeys(results, result)
    assert set(outside.values()) <= {0, result}, done.stderr
