"""The linker: what NVIDIA's answers for the same texts, and a text that computes the same.

Results, and the logs of undefined and multiple names, are those of an H200 with driver 580.
"""

from __future__ import annotations

import struct

import numpy as np
import pytest

from vgpu_host.executors.software.errors import PtxError
from vgpu_host.executors.software.linker import link
from vgpu_host.executors.software.profiles import PROFILES

from .conftest import HEADER, Device

INVALID_IMAGE, INVALID_PTX, INVALID_SOURCE, NO_BINARY = 200, 218, 300, 209

#: Calls what another text defines, and reads its variable.
MAIN = """
.extern .func (.param .b32 r) twice (.param .b32 a);
.extern .global .u32 bias;
.visible .entry f(.param .u64 out) {
    .reg .b64 %o; .reg .b32 %v, %w; .param .b32 a; .param .b32 r;
    ld.param.u64 %o, [out]; mov.u32 %v, 21; st.param.b32 [a], %v; call (r), twice, (a);
    ld.param.b32 %v, [r]; ld.global.u32 %w, [bias]; add.u32 %v, %v, %w; st.global.u32 [%o], %v; ret;
}
"""
LIBRARY = """
.visible .global .u32 bias = 100;
.func (.param .b32 r) hidden (.param .b32 a) {
    .reg .b32 %v; ld.param.b32 %v, [a]; add.u32 %v, %v, %v; st.param.b32 [r], %v; ret;
}
.visible .func (.param .b32 r) twice (.param .b32 a) {
    .reg .b32 %v; .param .b32 b; .param .b32 s; ld.param.b32 %v, [a]; st.param.b32 [b], %v;
    call (s), hidden, (b); ld.param.b32 %v, [s]; st.param.b32 [r], %v; ret;
}
"""


def function(linkage: str, value: int) -> str:
    """A function `w` that returns a number."""
    return (
        f"{linkage} .func (.param .b32 r) w () {{ .reg .b32 %v; mov.u32 %v, {value};"
        " st.param.b32 [r], %v; ret; }\n"
    )


def caller(name: str) -> str:
    """A kernel that stores what `w` returns."""
    return (
        f".visible .entry {name}(.param .u64 out) {{ .reg .b64 %o; .reg .b32 %v; .param .b32 r;"
        " ld.param.u64 %o, [out]; call (r), w, (); ld.param.b32 %v, [r]; st.global.u32 [%o], %v;"
        " ret; }\n"
    )


def reader(name: str) -> str:
    """A kernel that stores the variable `x`."""
    return (
        f".visible .entry {name}(.param .u64 out) {{ .reg .b64 %o; .reg .b32 %v;"
        " ld.param.u64 %o, [out]; ld.global.u32 %v, [x]; st.global.u32 [%o], %v; ret; }\n"
    )


def linked(*texts: str) -> bytes:
    parts = [("", (HEADER + text).encode() + b"\0") for text in texts]
    return link(parts, PROFILES["sm_61"])


def results(device: Device, image: bytes, *kernels: str) -> list[int]:
    """What kernels store that have one parameter, where to store it."""
    module = device.gpu.load_module(image)
    values = []
    for name in kernels:
        out = device.zeros(1, np.uint32)
        module.get_function(name).launch((1, 1, 1), (1, 1, 1), 0, struct.pack("<Q", out))
        values.append(int(device.download(out, 1, np.uint32)[0]))
    return values


def refused(*texts: str) -> tuple[int, str]:
    with pytest.raises(PtxError) as caught:
        linked(*texts)
    return caught.value.result, caught.value.log


@pytest.mark.parametrize("texts", [(MAIN, LIBRARY), (LIBRARY, MAIN)])
def test_externals_are_found_in_any_order(device: Device, texts: tuple[str, str]) -> None:
    image = linked(*texts)
    assert results(device, image, "f") == [142]
    assert device.gpu.load_module(image).get_global("bias")[1] == 4


def test_private_names_may_be_those_of_others(device: Device) -> None:
    one = ".global .u32 x = 1;\n" + function("", 10) + reader("a") + caller("b")
    two = ".global .u32 x = 2;\n" + function("", 20) + reader("c") + caller("d")
    public = ".visible .global .u32 x = 3;\n" + function(".visible", 30) + reader("e")
    expected = [1, 10, 2, 20, 3]
    assert results(device, linked(one, two, public), *"abcde") == expected
    assert results(device, linked(public, two, one), *"abcde") == expected


def test_weak_definitions_give_way(device: Device) -> None:
    weak = function(".weak", 7)
    assert results(device, linked(weak + caller("f"), function(".visible", 9)), "f") == [9]
    assert results(device, linked(function(".visible", 9), weak + caller("f")), "f") == [9]
    assert results(device, linked(weak + caller("f"), function(".weak", 8)), "f") == [7]


def test_dynamic_shared_memory_is_one(device: Device) -> None:
    text = ".extern .shared .align 4 .b8 memory[];\n"
    text += ".visible .entry {0}(.param .u64 out) {{ .reg .b64 %o; .reg .b32 %v;"
    text += " ld.param.u64 %o, [out]; st.shared.u32 [memory], {1}; ld.shared.u32 %v, [memory];"
    text += " st.global.u32 [%o], %v; ret; }}\n"
    module = device.gpu.load_module(linked(text.format("f", 5), text.format("g", 6)))
    out = device.zeros(1, np.uint32)
    for name, expected in (("f", 5), ("g", 6)):
        module.get_function(name).launch((1, 1, 1), (1, 1, 1), 4, struct.pack("<Q", out))
        assert int(device.download(out, 1, np.uint32)[0]) == expected


def test_the_newest_target_and_version_of_all_count() -> None:
    texts = [
        b".version 7.0\n.target sm_61\n.address_size 64\n.entry f() { ret; }",
        b".version 8.8\n.target sm_90a\n.address_size 64\n.entry g() { ret; }",
        b".version 8.0\n.target sm_90\n.address_size 64\n.entry h() { ret; }",
    ]
    image = link([("", text) for text in texts], PROFILES["sm_90"])
    assert image.startswith(b".version 8.8\n.target sm_90a\n.address_size 64\n")


def test_a_single_text_stays_as_it_is() -> None:
    text = (HEADER + "// a comment\n" + LIBRARY).encode()
    assert link([("lib", text + b"\0")], PROFILES["sm_61"]) == text


def test_an_empty_link_is_an_empty_module(device: Device) -> None:
    assert device.gpu.load_module(link([], PROFILES["sm_61"])).function_names() == ()


def test_undefined_names_are_refused_where_they_are_used() -> None:
    result, log = refused(MAIN)
    assert result == INVALID_SOURCE
    assert log.splitlines() == [
        "error   : Undefined reference to 'twice' in 'Input 1'",
        "error   : Undefined reference to 'bias' in 'Input 1'",
    ]
    unused = ".extern .func (.param .b32 r) twice (.param .b32 a);\n.entry f() { ret; }"
    assert b".entry f" in linked(unused)


def test_what_the_device_provides_is_no_undefined_name() -> None:
    text = """.extern .func (.param .b32 r) vprintf (.param .b64 a, .param .b64 b);
    .entry f() { .param .b32 r; .param .b64 a; .param .b64 b; call (r), vprintf, (a, b); ret; }"""
    assert b"vprintf" in linked(text)


@pytest.mark.parametrize(
    ("texts", "log"),
    [
        (
            (MAIN, LIBRARY, LIBRARY),
            "error   : Multiple definition of 'bias' in 'Input 3', first defined in 'Input 2'\n"
            "error   : Multiple definition of 'twice' in 'Input 3', first defined in 'Input 2'",
        ),
        (
            (".entry f() { ret; }", ".visible .entry f() { ret; }"),
            "error   : Multiple definition of 'f' in 'Input 2', first defined in 'Input 1'",
        ),
        (
            (".extern .global .u64 x;" + reader("f"), ".visible .global .u32 x = 1;"),
            "error   : Size doesn't match for 'x' in 'Input 1', defined in 'Input 2'",
        ),
        (
            (".extern .func (.param .b32 r) w (.param .b32 a);", function(".visible", 1)),
            "error   : Prototype doesn't match for 'w' in 'Input 1', defined in 'Input 2'",
        ),
    ],
)
def test_texts_that_do_not_fit_together(texts: tuple[str, ...], log: str) -> None:
    assert refused(*texts) == (INVALID_SOURCE, log)


@pytest.mark.parametrize(
    ("image", "result", "reason"),
    [
        (b"hello", INVALID_IMAGE, "lib.ptx: not PTX"),
        (b"", INVALID_IMAGE, "lib.ptx: "),
        (HEADER.encode() + b"nonsense;", INVALID_PTX, "lib.ptx: line 4"),
        (
            HEADER.encode() + b".func f(.param > a) { ret; }",
            INVALID_PTX,
            "lib.ptx: unsupported variable declaration: ",
        ),
        (HEADER.replace("sm_61", "sm_100").encode(), NO_BINARY, "lib.ptx: .target sm_100"),
    ],
)
def test_parts_that_are_refused(image: bytes, result: int, reason: str) -> None:
    with pytest.raises(PtxError) as caught:
        link([("main.ptx", (HEADER + MAIN).encode()), ("lib.ptx", image)], PROFILES["sm_61"])
    assert caught.value.result == result
    assert caught.value.log.startswith(reason)
