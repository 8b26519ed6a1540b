"""Launch virtual machines with VGPU-STUB devices, and run commands in them.

One machine::

    from vgpu_qemu import OverlayFile, Vm, VmConfig

    config = VmConfig(kernel="6.12", vfio_user_sockets=[socket_path], drivers=[vgpu_stub_ko])
    with Vm(config) as vm:                      # fetches and builds what the cache lacks, boots
        result = vm.run(["lspci", "-nn"])       # or a line for `sh -c`; waits for its end
        print(result.status, result.stdout)     # CommandResult(argv, status, stdout, stderr)
        vm.put(Path("test.py"), "/root/test.py")
        vm.run("python3 test.py", timeout=60, env={"X": "1"}, on_stdout=sys.stdout.buffer.write)
        vm.get("/root/report.xml", Path("report.xml"))
        vm.shell()                              # interactive, on this process's terminal
        vm.qmp.execute("query-status")
        vm.shutdown()                           # orderly; leaving the block just ends it

The caller starts the device servers first and passes their sockets; the first device is at
0000:00:05.0. `VmConfig.drivers` are loaded at start, and `VmConfig.overlay` puts files and
directories of this machine into the guest; both cost milliseconds. `VmConfig.shared_folder`
appears at `/mnt/host`. Errors are `LauncherError` and its kinds in `vgpu_qemu.errors`.

Also of use on their own: `find_kernel("6.1").headers_dir` to build a driver, `find_qemu()`,
`prepare(config)` to fill the cache, `console_progress()` to show people what takes long.
"""

from vgpu_qemu.agent_client import CommandResult, CommandTimeoutError
from vgpu_qemu.binary import QemuBinary, find_qemu
from vgpu_qemu.cache import Cache
from vgpu_qemu.errors import GuestError, LauncherError, VmError, VmTimeoutError
from vgpu_qemu.kernels import DEFAULT_KERNEL, SUPPORTED, Kernel, find_kernel
from vgpu_qemu.overlay import OverlayFile
from vgpu_qemu.progress import Progress, console_progress
from vgpu_qemu.vm import Vm, VmConfig, prepare

__all__ = [
    "DEFAULT_KERNEL",
    "SUPPORTED",
    "Cache",
    "CommandResult",
    "CommandTimeoutError",
    "GuestError",
    "Kernel",
    "LauncherError",
    "OverlayFile",
    "Progress",
    "QemuBinary",
    "Vm",
    "VmConfig",
    "VmError",
    "VmTimeoutError",
    "console_progress",
    "find_kernel",
    "find_qemu",
    "prepare",
]
