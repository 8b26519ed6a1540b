"""The kernel image that QEMU starts: decompressed on this machine instead of in the guest.

Under emulation the kernel takes most of a second to decompress itself. Debian's kernels can also be
entered as a plain ELF file (PVH), so theirs is unpacked here, once.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from vgpu_qemu.cache import Cache, content_key
from vgpu_qemu.errors import KernelError
from vgpu_qemu.image import image_tools
from vgpu_qemu.kernels import Kernel
from vgpu_qemu.progress import Progress, silent

_SECTOR = 512
_SETUP_SECTORS = 0x1F1
_PAYLOAD_OFFSET = 0x248
_PAYLOAD_LENGTH = 0x24C
_DEFAULT_SETUP_SECTORS = 4
_SIZE_FIELD = 4
_TOOLS = {b"\x02\x21\x4c\x18": "lz4", b"\x28\xb5\x2f\xfd": "zstd"}
"""Magic of the payload's compression, and what decompresses it."""


def boot_image(kernel: Kernel, *, cache: Cache, progress: Progress = silent) -> Path:
    """Return the file to boot: the decompressed kernel, or the image as it is for a local one.

    Whether a local kernel has the PVH entry is not known, so it is left to decompress itself.
    """
    if kernel.modules_dir is None:
        return kernel.vmlinuz
    key = f"{kernel.release}-{content_key(str(kernel.vmlinuz))}"

    def build(path: Path) -> None:
        progress(f"decompressing kernel {kernel.release}", None)
        tool, data = compressed_payload(kernel.vmlinuz.read_bytes())
        tools = image_tools(cache, progress)
        command = [*tools.command(tools.root / "usr/bin" / tool), "-dc"]
        done = subprocess.run(command, input=data, capture_output=True, check=False)
        if done.returncode != 0 or not done.stdout.startswith(b"\x7fELF"):
            reason = done.stderr.decode(errors="replace").strip()
            raise KernelError(f"{kernel.vmlinuz} holds no kernel that {tool} unpacks: {reason}")
        path.write_bytes(done.stdout)

    return cache.get("vmlinux", key, build)


def compressed_payload(image: bytes) -> tuple[str, bytes]:
    """Return what decompresses a bzImage's kernel, and the compressed bytes.

    The fields are those of Linux' Documentation/arch/x86/boot.rst; the kernel's build appends the
    decompressed size to the payload, which is no part of the compressed stream.

    Raises:
        KernelError: The compression is not known.
    """

    def field(offset: int) -> int:
        return int.from_bytes(image[offset : offset + 4], "little")

    start = ((image[_SETUP_SECTORS] or _DEFAULT_SETUP_SECTORS) + 1) * _SECTOR
    start += field(_PAYLOAD_OFFSET)
    payload = image[start : start + field(_PAYLOAD_LENGTH)]
    tool = _TOOLS.get(payload[:4])
    if tool is None:
        known = " nor ".join(_TOOLS.values())
        raise KernelError(f"kernel payload starts with {payload[:4].hex()}: neither {known}")
    return tool, payload[:-_SIZE_FIELD]
