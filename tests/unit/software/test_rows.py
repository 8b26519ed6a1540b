"""Lanes in a row: what is computed as one scalar is what each lane would compute.

Every kernel runs twice, as it is translated and with general code only, and both results are
compared with numpy's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from vgpu_host.executors.software.errors import DeviceFault
from vgpu_host.executors.software.function import Function
from vgpu_host.executors.software.gpu import SoftwareGpu
from vgpu_host.executors.software.index import index_module
from vgpu_host.executors.software.translation import Translation
from vgpu_host.executors.software.translator import Lowering

from .conftest import HEADER, Array, Device

Dim3 = tuple[int, int, int]

REGISTERS = """.reg .pred %p, %q; .reg .b32 %i, %r<20>; .reg .b64 %out, %in, %x, %w<20>;
.reg .f32 %f<20>; .reg .b16 %h<20>;"""


@pytest.fixture(scope="module")
def devices(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Device, Device]]:
    """A GPU that uses rows, and one that does not."""
    folder = tmp_path_factory.mktemp("kernels")
    gpus = [
        SoftwareGpu(
            total_memory=64 << 20,
            threads=1,
            cache_dir=folder,
            watchdog_s=5,
            translation=Translation(general=general),
        )
        for general in (False, True)
    ]
    yield Device(gpus[0]), Device(gpus[1])
    for gpu in gpus:
        gpu.close()


Run = Callable[..., Array]


@pytest.fixture
def run(devices: tuple[Device, Device]) -> Run:
    """Run a kernel of `(out, in)` on both and return what it wrote.

    Args:
        body: PTX; %out and %in are there, %i is the number of the thread in the grid.
        result: shape and type of the output.
        source: the input.
        block, grid: dimensions of the launch.
    """

    def run(
        body: str,
        result: Array,
        source: Array | None = None,
        block: Dim3 = (64, 1, 1),
        grid: Dim3 = (1, 1, 1),
    ) -> Array:
        source = np.zeros(1, np.uint32) if source is None else source
        answers = []
        for device in devices:
            pointers = device.upload(source), device.upload(result)
            function = device.function(_kernel(body))
            function.launch(grid, block, 0, struct.pack("<2Q", pointers[1], pointers[0]))
            answers.append(device.download(pointers[1], result.shape, result.dtype))
            for pointer in pointers:
                device.gpu.free(pointer)
        np.testing.assert_array_equal(*answers)
        return answers[0]

    return run


def _kernel(body: str) -> str:
    return f""".visible .entry f(.param .u64 pout, .param .u64 pin) {{ {REGISTERS}
        ld.param.u64 %out, [pout]; ld.param.u64 %in, [pin];
        mov.u32 %r0, %tid.x; mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x;
        mad.lo.u32 %i, %r1, %r2, %r0;
        {body}
        ret; }}"""


STORE_64 = "mul.wide.u32 %x, %i, 8; add.u64 %x, %x, %out; st.global.u64 [%x], %w0;"
STORE_32 = "mul.wide.u32 %x, %i, 4; add.u64 %x, %x, %out; st.global.u32 [%x], %r10;"


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("add.u32 %r3, %r0, 0x7ffffff0; cvt.s64.s32 %w0, %r3;", "signed"),
        ("sub.u32 %r3, %r0, 16; cvt.u64.u32 %w0, %r3;", "unsigned"),
        ("add.u32 %r3, %r0, 0x7ffffff0; mul.wide.s32 %w0, %r3, 1;", "signed"),
        ("sub.u32 %r3, %r0, 16; mul.wide.u32 %w0, %r3, 1;", "unsigned"),
        ("sub.u32 %r3, %r0, 16; mov.b64 %w1, 0; mad.wide.u32 %w0, %r3, 1, %w1;", "unsigned"),
    ],
)
def test_sums_that_wrap_in_some_lanes_widen_as_they_are(
    run: Run, instruction: str, expected: str
) -> None:
    start = 0x7FFFFFF0 if expected == "signed" else -16
    narrow = (np.arange(64) + start).astype(np.uint32)
    values = narrow.view(np.int32) if expected == "signed" else narrow
    result = run(f"{instruction} {STORE_64}", np.zeros(64, np.int64))
    np.testing.assert_array_equal(result, values.astype(np.int64))


@pytest.mark.parametrize("offset", [5, 0x7FFFFFF0, 0xFFFFFFE8, 0x80000000])
@pytest.mark.parametrize("before", ["", "mov.u64 %w0, 7; " + STORE_64])
def test_sums_with_an_unknown_base_widen_as_they_are(run: Run, offset: int, before: str) -> None:
    result = run(
        before
        + f"mad.lo.u32 %r3, %r1, {offset}, %r0; cvt.s64.s32 %w2, %r3;"
        + f"cvt.u64.u32 %w1, %r3; add.u64 %w0, %w2, %w1; {STORE_64}",
        np.zeros(128, np.int64),
        grid=(2, 1, 1),
    )
    i = np.arange(128)
    narrow = (i // 64 * offset + i % 64).astype(np.uint32)
    np.testing.assert_array_equal(result, narrow.view(np.int32) + narrow.astype(np.int64))


@pytest.mark.parametrize(
    ("instruction", "function"),
    [
        ("shr.u32 %r10, %r0, 2;", lambda t: t >> 2),
        ("shr.s32 %r10, %r0, 31;", lambda t: t >> 31),
        ("and.b32 %r10, %r0, 3;", lambda t: t & 3),
        ("and.b32 %r10, %r0, -4;", lambda t: t & ~3),
        ("and.b32 %r10, %i, 96;", lambda t: t & 96),
        ("or.b32 %r10, %r0, 1;", lambda t: t | 1),
        ("xor.b32 %r10, %r0, 31;", lambda t: t ^ 31),
        ("xor.b32 %r10, %i, 33;", lambda t: t ^ 33),
        ("not.b32 %r10, %r0;", lambda t: ~t),
        ("neg.s32 %r10, %r0;", lambda t: -t),
        ("sub.s32 %r10, 100, %r0;", lambda t: 100 - t),
        ("shl.b32 %r10, %r0, 30;", lambda t: t << 30),
        ("mul.lo.s32 %r10, %r0, -3;", lambda t: t * -3),
        ("add.s32 %r10, %r0, 5; shr.u32 %r10, %r10, 1;", lambda t: t + 5 >> 1),
        ("sub.s32 %r10, %r0, 9; shr.s32 %r10, %r10, 1;", lambda t: t - 9 >> 1),
        ("shl.b32 %r3, %r0, 2; and.b32 %r10, %r3, 28;", lambda t: 4 * t & 28),
        ("mov.u32 %r3, %laneid; mad.lo.s32 %r10, %r3, %r3, %r0;", lambda t: (t % 32) ** 2 + t),
        ("mov.u32 %r3, %laneid; mul.lo.s32 %r10, %r3, %r2;", lambda t: t % 32 * 64),
    ],
)
def test_integer_arithmetic_of_thread_ids(
    run: Run, instruction: str, function: Callable[[Array], Array]
) -> None:
    result = run(instruction + STORE_32, np.zeros(64, np.int32))
    np.testing.assert_array_equal(result, function(np.arange(64)).astype(np.uint32).view(np.int32))


@pytest.mark.parametrize("block", [(32, 3, 1), (64, 2, 2), (48, 2, 1), (7, 5, 3), (31, 1, 1)])
def test_blocks_of_any_shape(run: Run, block: Dim3) -> None:
    threads = block[0] * block[1] * block[2]
    result = run(
        """mov.u32 %r3, %tid.y; mov.u32 %r4, %tid.z; mov.u32 %r5, %ntid.y;
        mad.lo.u32 %r6, %r4, %r5, %r3; mad.lo.u32 %r6, %r6, %r2, %r0;
        mul.wide.u32 %x, %r6, 4; add.u64 %w1, %x, %in; ld.global.u32 %r10, [%w1];
        shl.b32 %r3, %r3, 8; add.u32 %r10, %r10, %r3; add.u64 %x, %x, %out;
        st.global.u32 [%x], %r10;""",
        np.zeros(threads, np.uint32),
        np.arange(threads, dtype=np.uint32) * 100000,
        block,
    )
    y = np.arange(threads) // block[0] % block[1]
    np.testing.assert_array_equal(result, np.arange(threads) * 100000 + y * 256)


@pytest.mark.parametrize("type_", ["u8", "s8", "u16", "s16", "u32", "u64"])
def test_elements_of_any_size(run: Run, type_: str) -> None:
    size = int(type_[1:]) // 8
    dtype = np.dtype(f"{'i' if type_[0] == 's' else 'u'}{size}")
    source = np.random.default_rng(1).integers(
        np.iinfo(dtype).min, np.iinfo(dtype).max, 64, dtype, endpoint=True
    )
    register = {8: "%w1", 4: "%r3"}.get(size, "%h1")
    result = run(
        f"""mul.wide.u32 %x, %i, {size}; add.u64 %w0, %x, %in; add.u64 %x, %x, %out;
        ld.global.{type_} {register}, [%w0]; st.global.{type_} [%x], {register};""",
        np.zeros(64, dtype),
        source,
    )
    np.testing.assert_array_equal(result, source)


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("step", [16, 32, 48])
def test_vectors_of_elements(run: Run, count: int, step: int) -> None:
    source = np.arange(64 * step // 4, dtype=np.uint32)
    items = ", ".join(f"%r{10 + index}" for index in range(count))
    result = run(
        f"""mul.wide.u32 %x, %i, {step}; add.u64 %w0, %x, %in; add.u64 %x, %x, %out;
        ld.global.v{count}.u32 {{{items}}}, [%w0]; add.u32 %r10, %r10, 1;
        st.global.v{count}.u32 [%x], {{{items}}};""",
        np.zeros_like(source),
        source,
    )
    expected = np.zeros_like(source).reshape(64, -1)
    expected[:, :count] = source.reshape(64, -1)[:, :count]
    expected[:, 0] += 1
    np.testing.assert_array_equal(result, expected.ravel())


@pytest.mark.parametrize(
    "index",
    [
        "sub.u32 %r3, 63, %i;",
        "shr.u32 %r3, %i, 3;",
        "mov.u32 %r3, %r1;",
        "shl.b32 %r3, %i, 4;",
        "xor.b32 %r3, %i, 21;",
        "and.b32 %r3, %i, 7;",
        "mul.lo.u32 %r3, %i, 37; and.b32 %r3, %r3, 63;",
    ],
)
def test_loads_of_any_pattern(run: Run, index: str) -> None:
    source = np.random.default_rng(2).integers(0, 2**32, 1024, np.uint32)
    patterns = {
        "sub": lambda i: 63 - i,
        "shr": lambda i: i >> 3,
        "mov": lambda i: 0 * i,
        "shl": lambda i: i << 4,
        "xor": lambda i: i ^ 21,
        "and": lambda i: i & 7,
        "mul": lambda i: i * 37 & 63,
    }
    result = run(
        f"{index} mul.wide.u32 %x, %r3, 4; add.u64 %x, %x, %in; ld.global.u32 %r10, [%x];"
        + STORE_32,
        np.zeros(64, np.uint32),
        source,
    )
    np.testing.assert_array_equal(result, source[patterns[index[:3]](np.arange(64))])


def test_stores_of_lanes_that_share_a_place_leave_one_of_them(run: Run) -> None:
    result = run(
        """shr.u32 %r3, %i, 2; mul.wide.u32 %x, %r3, 4; add.u64 %x, %x, %out;
        st.global.u32 [%x], %i;""",
        np.zeros(16, np.uint32),
    )
    np.testing.assert_array_equal(result // 4, np.arange(16))


def test_shared_memory_in_rows(run: Run) -> None:
    result = run(
        """.shared .align 4 .b8 tile[256]; mov.u32 %r3, tile; shl.b32 %r4, %r0, 2;
        add.u32 %r5, %r3, %r4; mul.lo.u32 %r6, %i, 3; st.shared.u32 [%r5], %r6; bar.sync 0;
        sub.u32 %r7, 252, %r4; add.u32 %r7, %r7, %r3; ld.shared.u32 %r10, [%r7];"""
        + STORE_32,
        np.zeros(128, np.uint32),
        grid=(2, 1, 1),
    )
    i = np.arange(128)
    np.testing.assert_array_equal(result, 3 * (i // 64 * 64 + 63 - i % 64))


def test_addresses_that_a_loop_moves(run: Run) -> None:
    source = np.arange(64 * 9, dtype=np.uint32)
    result = run(
        """mov.u32 %r10, 0; mov.u32 %r3, 0; mul.wide.u32 %x, %i, 4; add.u64 %x, %x, %in;
        LOOP: ld.global.u32 %r4, [%x]; mad.lo.u32 %r10, %r10, 3, %r4; add.u64 %x, %x, 256;
        add.u32 %r3, %r3, 1; setp.lt.u32 %p, %r3, 9; @%p bra LOOP;"""
        + STORE_32,
        np.zeros(64, np.uint32),
        source,
    )
    expected = np.zeros(64, np.uint32)
    for row in source.reshape(9, 64):
        expected = expected * np.uint32(3) + row
    np.testing.assert_array_equal(result, expected)


def test_lanes_of_a_divergent_loop_keep_their_own_addresses(run: Run) -> None:
    source = np.arange(64 * 64, dtype=np.uint32)
    result = run(
        """mov.u32 %r10, 0; mov.u32 %r3, 0; mul.wide.u32 %x, %i, 4; add.u64 %x, %x, %in;
        LOOP: setp.ge.u32 %p, %r3, %i; @%p bra DONE;
        add.u64 %x, %x, 256; add.u32 %r3, %r3, 1; bra LOOP;
        DONE: ld.global.u32 %r10, [%x];"""
        + STORE_32,
        np.zeros(64, np.uint32),
        source,
    )
    i = np.arange(64)
    np.testing.assert_array_equal(result, i + 64 * i)


@pytest.mark.parametrize("base", [0, 0xFFFFFFF0])
def test_a_sum_that_wraps_in_some_lanes_repeats_nothing_that_others_did(
    run: Run, base: int
) -> None:
    source = np.array([base], np.uint32)
    body = """
    ld.global.u32 %r5, [%in]; and.b32 %r6, %r0, 1; setp.eq.u32 %p, %r6, 0;
    @!%p bra ODD;
    red.global.add.u32 [%out], 1;
    bra END;
    ODD: add.u32 %r3, %r0, %r5; mul.wide.u32 %w0, %r3, 4; add.s64 %w1, %out, %w0;
    setp.gt.u32 %q, %r3, 0; setp.lt.and.u32 %q, %r3, 32, %q;
    @%q st.global.u32 [%w1], %r0;
    END:"""
    got = run(body, np.zeros(32, np.uint32), source, block=(32, 1, 1))
    lanes = np.arange(1, 32, 2, dtype=np.uint32)
    expected = np.zeros(32, np.uint32)
    places = lanes + source[0]
    expected[places[places < 32]] = lanes[places < 32]
    expected[0] = 16
    assert got.tolist() == expected.tolist()


LOOPS = {
    "together": "mov.u32 %r5, 5;",
    "one by one": "mov.u32 %r5, %i;",
    "the first lane first": "sub.u32 %r5, 5, %r0; max.s32 %r5, %r5, 0; add.u32 %r5, %r5, 2;",
    "every other": "and.b32 %r5, %r0, 1; shl.b32 %r5, %r5, 2; add.u32 %r5, %r5, 1;",
}
COUNTS = {
    "together": lambda i: np.full(128, 5),
    "one by one": lambda i: i,
    "the first lane first": lambda i: np.maximum(5 - i % 64, 0) + 2,
    "every other": lambda i: (i & 1) * 4 + 1,
}


@pytest.mark.parametrize("loop", LOOPS)
def test_loops_that_lanes_leave(run: Run, loop: str) -> None:
    """Index and address are kept for each lane; the sum, and the index at the end, are read."""
    source = np.arange(128 * 65 * 2, dtype=np.uint32)
    result = run(
        LOOPS[loop]
        + """mov.u32 %r10, 0; mov.u32 %r6, %i; mul.wide.u32 %w1, %i, 4; add.u64 %w1, %w1, %in;
        setp.eq.u32 %p, %r5, 0; @%p bra DONE; mov.u32 %r7, 0;
        LOOP: mul.wide.u32 %w2, %r6, 4; add.u64 %w2, %w2, %in; ld.global.u32 %r4, [%w2];
        ld.global.u32 %r8, [%w1]; and.b32 %r9, %r6, 3; setp.eq.u32 %q, %r9, 2;
        @%q add.u32 %r8, %r8, 7; mad.lo.u32 %r10, %r10, 3, %r4; add.u32 %r10, %r10, %r8;
        add.u32 %r6, %r6, 64; add.u64 %w1, %w1, 260; add.u32 %r7, %r7, 1;
        mul.wide.u32 %x, %i, 4; add.u64 %x, %x, %out; st.global.u32 [%x+512], %r6;
        setp.lt.u32 %p, %r7, %r5; @%p bra LOOP;
        DONE: add.u32 %r10, %r10, %r6;"""
        + STORE_32,
        np.zeros(256, np.uint32),
        source,
        grid=(2, 1, 1),
    )
    i = np.arange(128)
    counts = COUNTS[loop](i)
    index, cursor, total = i.copy(), i.copy(), np.zeros(128, np.int64)
    for step in range(counts.max(initial=0)):
        on = step < counts
        bonus = np.where(index & 3 == 2, 7, 0)
        total = np.where(on, (total * 3 + index + cursor + bonus) & 0xFFFFFFFF, total)
        index, cursor = np.where(on, index + 64, index), np.where(on, cursor + 65, cursor)
    np.testing.assert_array_equal(result[:128], (total + index) & 0xFFFFFFFF)
    np.testing.assert_array_equal(result[128:], np.where(counts > 0, index, 0))


def test_a_loop_over_large_indices(run: Run) -> None:
    """Near the limit beyond which sums may wrap, no lane takes an index for a row."""
    result = run(
        """mad.lo.u32 %r6, %r1, 0x3fffffc0, %r0; mov.u64 %w0, 0; add.u32 %r7, %r0, 3;
        mov.u32 %r8, 0;
        LOOP: cvt.s64.s32 %w2, %r6; shl.b64 %w0, %w0, 1; add.u64 %w0, %w0, %w2;
        and.b32 %r9, %r6, 31; mul.wide.u32 %x, %r9, 4; add.u64 %x, %x, %in;
        ld.global.u32 %r4, [%x]; cvt.u64.u32 %w3, %r4; add.u64 %w0, %w0, %w3;
        add.u32 %r6, %r6, 0x20000000; add.u32 %r8, %r8, 1;
        setp.lt.u32 %p, %r8, %r7; @%p bra LOOP;"""
        + STORE_64,
        np.zeros(128, np.uint64),
        np.arange(32, dtype=np.uint32) * 1000,
        grid=(2, 1, 1),
    )
    i = np.arange(128)
    index, total = (i // 64 * 0x3FFFFFC0 + i % 64).astype(np.uint32), np.zeros(128, np.uint64)
    for step in range(67):
        on = step < i % 64 + 3
        value = index.view(np.int32).astype(np.int64).astype(np.uint64)
        value = total * np.uint64(2) + value + (index & 31).astype(np.uint64) * np.uint64(1000)
        total = np.where(on, value, total)
        index = np.where(on, index + np.uint32(0x20000000), index)
    np.testing.assert_array_equal(result, total)


def test_blocks_of_loops_have_a_version_for_lanes_in_a_row() -> None:
    source = index_module(
        (
            HEADER
            + _kernel(
                """LOOP: mul.wide.u32 %w2, %i, 4; add.u64 %w2, %w2, %in; ld.global.u32 %r4, [%w2];
                add.u32 %i, %i, 64; setp.lt.u32 %p, %i, %r4; @%p bra LOOP;
                mul.wide.u32 %x, %i, 4; add.u64 %x, %x, %out; st.global.u32 [%x], %i;"""
            )
        ).encode()
    )
    analysis = Lowering(source, "f", (), Translation(), in_rows=True).analysis
    (version,) = analysis.versions.values()
    assert version.entry["%i"].offsets == tuple(range(32))
    assert len(version.rows) == 3


def test_predicated_access_at_a_row(run: Run) -> None:
    result = run(
        """mul.wide.u32 %x, %i, 4; add.u64 %w0, %x, %in; add.u64 %x, %x, %out; mov.u32 %r3, 5;
        and.b32 %r4, %i, 3; setp.eq.u32 %p, %r4, 1;
        @%p ld.global.u32 %r3, [%w0]; @!%p st.global.u32 [%x], %i; @%p st.global.u32 [%x], %r3;""",
        np.zeros(64, np.uint32),
        np.arange(64, dtype=np.uint32) + 1000,
    )
    i = np.arange(64)
    np.testing.assert_array_equal(result, np.where(i % 4 == 1, i + 1000, i))


@pytest.mark.parametrize("threads", [39, 40, 41])
def test_only_lanes_that_are_on_can_be_out_of_range(
    devices: tuple[Device, Device], threads: int
) -> None:
    body = """.shared .align 4 .b8 tile[160]; ld.global.u32 %r3, [%in];
        setp.ge.u32 %p, %i, %r3; @%p bra END; mov.u32 %r4, tile; shl.b32 %r5, %i, 2;
        add.u32 %r5, %r5, %r4; st.shared.u32 [%r5], %i; END:"""
    for device in devices:
        function = device.function(_kernel(body))
        limit = device.upload(np.array([threads], np.uint32))

        def launch(function: Function = function, limit: int = limit) -> None:
            function.launch((1, 1, 1), (64, 1, 1), 0, struct.pack("<2Q", limit, limit))

        if threads <= 40:
            launch()
        else:
            with pytest.raises(DeviceFault, match=r"thread \(40, 0, 0\)"):
                launch()


def test_a_misaligned_row_names_its_first_thread(devices: tuple[Device, Device]) -> None:
    for device in devices:
        out = device.zeros(256, np.uint8)
        function = device.function(_kernel(f"mov.u32 %r10, 1; {STORE_32}"))
        with pytest.raises(DeviceFault, match="misaligned"):
            function.launch((1, 1, 1), (32, 1, 1), 0, struct.pack("<2Q", out + 2, out))


def test_contiguous_accesses_are_vector_loads_without_a_gather() -> None:
    source = index_module(
        (
            HEADER
            + _kernel(
                "mul.wide.u32 %x, %i, 4; add.u64 %w0, %x, %in; add.u64 %x, %x, %out;"
                "ld.global.u32 %r3, [%w0]; st.global.u32 [%x], %r3;"
            )
        ).encode()
    )
    lowering = Lowering(source, "f", (), Translation(), in_rows=True)
    assert {"%r0", "%i", "%x", "%w0"} <= lowering.analysis.rows.keys()
    assert lowering.analysis.rows["%x"].offsets == tuple(range(0, 128, 4))
    general = Lowering(source, "f", (), Translation(general=True), in_rows=False)
    assert not general.analysis.rows
