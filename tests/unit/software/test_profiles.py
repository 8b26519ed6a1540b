"""What each profile of the software GPU says of itself, takes, and lets a block have."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vgpu_host.executors.software.errors import PtxError
from vgpu_host.executors.software.gpu import SoftwareGpu
from vgpu_host.executors.software.profiles import DEFAULT_PROFILE, PROFILES, profile_for
from vgpu_host.executors.software.translation import Translation

from .conftest import Device

NO_BINARY = 209
KIB = 1024


@pytest.fixture(params=PROFILES)
def one(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Device]:
    """A software GPU of each profile in turn."""
    gpu = SoftwareGpu(
        total_memory=1 << 24,
        threads=1,
        cache_dir=tmp_path,
        translation=Translation(PROFILES[request.param]),
    )
    yield Device(gpu)
    gpu.close()


#: Of the table of technical specifications in the CUDA C++ programming guide, by number of
#: CUdevice_attribute: capability, shared memory of a multiprocessor, of a block that asks for it
#: and what the system keeps from it, threads and blocks of a multiprocessor.
SPECIFICATIONS = {
    "sm_61": {75: 6, 76: 1, 81: 96 * KIB, 97: 48 * KIB, 111: 0, 39: 2048, 106: 32},
    "sm_75": {75: 7, 76: 5, 81: 64 * KIB, 97: 64 * KIB, 111: 0, 39: 1024, 106: 16},
    "sm_80": {75: 8, 76: 0, 81: 164 * KIB, 97: 163 * KIB, 111: KIB, 39: 2048, 106: 32},
    "sm_90": {75: 9, 76: 0, 81: 228 * KIB, 97: 227 * KIB, 111: KIB, 39: 2048, 106: 32},
}


def test_attributes_are_those_of_the_capability(one: Device) -> None:
    attributes = one.gpu.attributes()
    expected = SPECIFICATIONS[one.gpu.translation.profile.name]
    assert {number: attributes[number] for number in expected} == expected
    # The same on all of them: shared memory of a block that asks for nothing, registers.
    assert [attributes[number] for number in (8, 12, 82)] == [48 * KIB, 65536, 65536]


LAST_WORD = """.version 7.0
.target sm_61
.address_size 64
.extern .shared .align 16 .b8 dynamic[];
.visible .entry f(.param .u64 out, .param .u32 place) {
  .shared .align 4 .b8 fixed[1024];
  .reg .b32 %i, %v; .reg .b64 %a, %s;
  mov.u32 %v, 77; st.shared.u32 [fixed+1020], 5;
  ld.param.u32 %i, [place]; cvt.u64.u32 %a, %i;
  mov.u64 %s, dynamic; add.u64 %s, %s, %a;
  st.shared.u32 [%s], %v; bar.sync 0; ld.shared.u32 %v, [%s];
  ld.shared.u32 %i, [fixed+1020]; add.u32 %v, %v, %i;
  ld.param.u64 %a, [out]; st.global.u32 [%a], %v;
  ret;
}"""


def test_a_block_uses_all_the_shared_memory_that_it_may_ask_for(one: Device) -> None:
    function = one.gpu.load_module(LAST_WORD.encode()).get_function("f")
    most = one.gpu.translation.profile.shared_optin - 1024
    assert function.shared_optin == most
    out = one.zeros(1, np.uint32)
    function.launch((1, 1, 1), (32, 1, 1), most, struct.pack("<QI", out, most - 4))
    assert one.download(out, 1, np.uint32)[0] == 82
    with pytest.raises(ValueError, match="bytes of shared memory exceed"):
        function.launch((1, 1, 1), (32, 1, 1), most + 1, struct.pack("<QI", out, 0))


@pytest.mark.parametrize(
    ("target", "least"),
    [
        ("sm_50", "sm_61"),
        ("sm_61", "sm_61"),
        ("sm_70", "sm_75"),
        ("sm_75", "sm_75"),
        ("sm_80", "sm_80"),
        ("sm_80a", "sm_80"),
        ("sm_86", "sm_90"),
        ("sm_90", "sm_90"),
        ("sm_90a", "sm_90"),
        ("sm_90f", None),
        ("sm_100", None),
        ("sm_100a", None),
        ("sm_120f", None),
    ],
)
def test_a_target_is_refused_with_the_profile_that_takes_it(
    one: Device, target: str, least: str | None
) -> None:
    image = f".version 8.0\n.target {target}\n.address_size 64\n.entry f() {{ ret; }}".encode()
    found = profile_for(target)
    assert (found.name if found else None) == least
    own = one.gpu.translation.profile
    exactly = target.endswith("a")
    assert own.takes(target) == bool(
        found and (own == found if exactly else own.capability >= found.capability)
    )
    if own.takes(target):
        assert one.gpu.load_module(image).function_names() == ("f",)
        return
    with pytest.raises(PtxError) as caught:
        one.gpu.load_module(image)
    assert caught.value.result == NO_BINARY
    needs = f"--profile {least}" if least else "a profile that does not exist"
    log = f".target {target} needs {needs}; this device is {own.name}"
    assert caught.value.log == log


def test_the_default_is_the_first() -> None:
    assert next(iter(PROFILES)) == DEFAULT_PROFILE
