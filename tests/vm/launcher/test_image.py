"""What the guest image and the kernels' headers offer to those who build on them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from vgpu_qemu import SUPPORTED, Vm, VmConfig, find_kernel

pytestmark = pytest.mark.vm


def test_python_packages_of_the_cuda_image() -> None:
    program = (
        "import numpy, pyudev, pytest, mako, pytools\n"
        "print(len(list(pyudev.Context().list_devices(subsystem='pci'))) > 3)\n"
        "print((numpy.ones((8, 8)) @ numpy.ones((8, 8))).sum())\n"
        "try:\n"
        "    import pycuda.driver\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    with Vm(VmConfig(image="cuda", timeout=100)) as vm:
        done = vm.run(["python3", "-c", program], timeout=60).check()
    assert done.stdout.decode().splitlines() == [
        "True",
        "512.0",
        # pycuda is there and asks for the one library that the overlay of a device brings.
        "libcuda.so.1: cannot open shared object file: No such file or directory",
    ]


@pytest.mark.parametrize("series", SUPPORTED)
def test_module_built_against_the_headers_loads(series: str, tmp_path: Path) -> None:
    kernel = find_kernel(series)
    (tmp_path / "Kbuild").write_text("obj-m := greeter.o\n")
    (tmp_path / "greeter.c").write_text(
        "#include <linux/module.h>\n"
        'static int __init greeter_init(void) { pr_info("greetings\\n"); return 0; }\n'
        "module_init(greeter_init);\n"
        'MODULE_LICENSE("GPL");\n'
        'MODULE_DESCRIPTION("Says hello");\n'
    )
    built = subprocess.run(
        ["make", "-C", str(kernel.headers_dir), f"M={tmp_path}", "W=1", "modules"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (built.returncode, built.stderr) == (0, "")
    driver = tmp_path / "greeter.ko"
    config = VmConfig(kernel=series, image="base", drivers=[driver], timeout=100)
    with Vm(config) as vm:
        done = vm.run("uname -r; dmesg | grep -c 'greetings$'", timeout=60)
    assert done.stdout.decode().splitlines() == [kernel.release, "1"]
