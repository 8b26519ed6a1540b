"""Which kernel a name stands for, and what its image holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from vgpu_qemu.boot_image import boot_image, compressed_payload
from vgpu_qemu.cache import Cache
from vgpu_qemu.errors import ImageError, KernelError
from vgpu_qemu.initrd import load_order
from vgpu_qemu.kernels import Kernel, find_kernel, newest


def bz_image(release: str = "6.9.1-test") -> bytes:
    """Return the parts of a boot image that tell its release."""
    image = bytearray(0x1000)
    image[0x202:0x206] = b"HdrS"
    image[0x20E:0x210] = (0x300).to_bytes(2, "little")
    text = f"{release} (builder) #1".encode() + b"\0"
    image[0x500 : 0x500 + len(text)] = text
    return bytes(image)


def test_newest_compares_numbers_not_text() -> None:
    names = ["linux-image-7.2.9+deb13-cloud-amd64", "linux-image-7.2.12+deb13-cloud-amd64"]
    assert newest(names) == "linux-image-7.2.12+deb13-cloud-amd64"


def test_local_image_tells_its_release(tmp_path: Path) -> None:
    path = tmp_path / "bzImage"
    path.write_bytes(bz_image())
    assert find_kernel(str(path)) == Kernel("6.9.1-test", path)


def test_local_image_is_booted_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "bzImage"
    path.write_bytes(bz_image())
    assert boot_image(find_kernel(str(path)), cache=Cache(tmp_path)) == path


def test_file_that_is_no_kernel_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(b"MZ" + bytes(4096))
    with pytest.raises(KernelError, match="no Linux x86 boot image"):
        find_kernel(str(path))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="No such file"):
        find_kernel(str(tmp_path / "none"))


def test_built_tree_has_headers_and_its_image(tmp_path: Path) -> None:
    image = tmp_path / "arch/x86/boot/bzImage"
    image.parent.mkdir(parents=True)
    image.write_bytes(bz_image())
    with pytest.raises(KernelError, match=r"has no Module\.symvers: build it with"):
        find_kernel(str(tmp_path))
    (tmp_path / "Module.symvers").touch()
    assert find_kernel(str(tmp_path)) == Kernel("6.9.1-test", image, None, tmp_path)


def test_unknown_series_lists_the_known_ones() -> None:
    with pytest.raises(KernelError, match=r"6\.1, 6\.12, 7\.2"):
        find_kernel("5.10")


@pytest.mark.parametrize(
    ("magic", "tool"), [(b"\x02\x21\x4c\x18", "lz4"), (b"\x28\xb5\x2f\xfd", "zstd")]
)
def test_payload_is_cut_out_without_its_size_field(magic: bytes, tool: str) -> None:
    image = bytearray(0x1000)
    image[0x1F1] = 3
    image[0x248:0x24C] = (0x40).to_bytes(4, "little")
    image[0x24C:0x250] = (12).to_bytes(4, "little")
    image[0x840:0x84C] = magic + b"DATA" + b"SIZE"
    assert compressed_payload(bytes(image)) == (tool, magic + b"DATA")


def test_unknown_compression_is_refused() -> None:
    with pytest.raises(KernelError, match="neither lz4 nor zstd"):
        compressed_payload(bytes(0x1000))


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    drivers = tmp_path / "kernel" / "drivers"
    drivers.mkdir(parents=True)
    for name, depends in {"virtio-blk": "", "erofs": "libcrc32c", "libcrc32c": "crc-core"}.items():
        (drivers / f"{name}.ko").write_bytes(b"ELF\0depends=" + depends.encode() + b"\0name=x\0")
    (tmp_path / "modules.builtin").write_text("kernel/lib/crc-core.ko\nkernel/fs/ext4.ko\n")
    return tmp_path


def test_modules_come_after_what_they_depend_on(modules: Path) -> None:
    order = load_order(modules, ["virtio_blk", "erofs", "ext4"])
    assert list(order) == ["virtio_blk", "libcrc32c", "erofs"]


def test_module_that_the_kernel_lacks_is_an_error(modules: Path) -> None:
    with pytest.raises(ImageError, match="has no module btrfs"):
        load_order(modules, ["btrfs"])
