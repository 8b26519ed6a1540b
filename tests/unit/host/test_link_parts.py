"""Parts of a link as guests send them, whole and damaged."""

from __future__ import annotations

import pytest

from vgpu_host.executors.base import CudaError, LinkPart
from vgpu_host.link_parts import read_link_parts
from vgpu_stub.abi import generated as abi


def part(kind: int, name: bytes, image: bytes) -> bytes:
    data = abi.LINK_PART.pack(kind, len(name), len(image)) + name + image
    return data + bytes(-len(data) % 8)


def test_parts_are_read_in_order() -> None:
    data = part(abi.IMAGE_PTX, b"main", b"text") + part(abi.IMAGE_CUBIN, b"", bytes(9))
    expected = [LinkPart("main", False, b"text"), LinkPart("", True, bytes(9))]
    assert read_link_parts(data) == expected
    assert read_link_parts(b"") == []


@pytest.mark.parametrize(
    "data",
    [
        part(abi.IMAGE_PTX, b"main", b"text")[:8],
        part(abi.IMAGE_PTX, b"main", b"text")[:-6],
        part(77, b"main", b"text"),
        part(abi.IMAGE_PTX, b"", b"text") + b"\0",
        abi.LINK_PART.pack(abi.IMAGE_PTX, (1 << 32) - 1, (1 << 64) - 1),
    ],
)
def test_damaged_parts_are_refused(data: bytes) -> None:
    with pytest.raises(CudaError) as caught:
        read_link_parts(data)
    assert caught.value.result == 1
