"""Instructions that came after 6.1: atomics of halves and vectors, clusters, policies of caches."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from vgpu_host.executors.software.errors import PtxError

from .conftest import Array, Device


def bf16(values: Array) -> Array:
    """Floats that bfloat16 holds exactly, as their bits."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    assert not (bits & 0xFFFF).any()
    return (bits >> 16).astype(np.uint16)


def from_bf16(bits: Array) -> Array:
    return (bits.astype(np.uint32) << 16).view(np.float32)


KERNEL = """
.visible .entry f(.param .u64 pin, .param .u64 pcells, .param .u64 pout) {{
  .shared .align 16 .b8 tile[64];
  .reg .pred %p<4>; .reg .b32 %i, %r<20>; .reg .b64 %in, %cells, %out, %x<9>;
  .reg .b16 %h<20>; .reg .f32 %f<20>;
  mov.u32 %i, %tid.x; ld.param.u64 %in, [pin]; ld.param.u64 %cells, [pcells];
  ld.param.u64 %out, [pout]; mad.wide.u32 %in, %i, {bytes}, %in;
  mad.wide.u32 %out, %i, {bytes}, %out;
  {body}
  ret;
}}"""


def update(
    device: Device, body: str, given: Array, cells: Array, threads: int
) -> tuple[Array, Array]:
    """Run a block over rows of input; returns the cells after it, and what each thread got."""
    size = given.nbytes // threads
    pointers = [device.upload(given), device.upload(cells), device.zeros(given.nbytes, np.uint8)]
    function = device.function(KERNEL.format(bytes=size, body=body))
    function.launch((1, 1, 1), (threads, 1, 1), 0, struct.pack("<3Q", *pointers))
    after = device.download(pointers[1], cells.shape, cells.dtype)
    got = device.download(pointers[2], given.shape, given.dtype)
    for pointer in pointers:
        device.gpu.free(pointer)
    return after, got


@pytest.mark.parametrize("space", ["global", "shared"])
@pytest.mark.parametrize("kind", ["f16", "bf16", "f16x2", "bf16x2"])
def test_atomics_of_halves(hopper: Device, space: str, kind: str) -> None:
    packed = kind.endswith("x2")
    width = 2 if packed else 1
    rng = np.random.default_rng(5)
    numbers = rng.integers(-4, 5, (48, width)).astype(np.float32) / 2
    start = np.array([[1.5, -0.5][:width]], np.float32)
    brain = kind.startswith("b")
    given, cells = (bf16(a) if brain else a.astype(np.float16) for a in (numbers, start))
    register, type_ = ("%r1", "b32") if packed else ("%h1", "b16")
    result = "%r2" if packed else "%h2"
    place = "[tile]" if space == "shared" else "[%cells]"
    move = f"ld.global.{type_} {register}, [%cells]; st.shared.{type_} [tile], {register};"
    back = f"ld.shared.{type_} {register}, [tile]; st.global.{type_} [%cells], {register};"
    body = (move + "bar.sync 0;") if space == "shared" else ""
    body += f"ld.global.{type_} {register}, [%in];"
    body += f"atom.{space}.add.noftz.{kind} {result}, {place}, {register};"
    body += f"st.global.{type_} [%out], {result};"
    body += ("bar.sync 0;" + back) if space == "shared" else ""
    after, got = update(hopper, body, given, cells, 48)
    running = start[0]
    for row in range(48):
        seen = from_bf16(got[row]) if brain else got[row].astype(np.float32)
        assert seen.tolist() == running.tolist()
        running = running + numbers[row]
    end = from_bf16(after[0]) if brain else after[0].astype(np.float32)
    assert end.tolist() == running.tolist()


@pytest.mark.parametrize(
    ("operation", "kind", "count"),
    [
        ("add", "f32", 2),
        ("add", "f32", 4),
        *(
            (operation, kind, count)
            for operation in ("add", "min", "max")
            for kind, counts in (("f16", (2, 4, 8)), ("bf16x2", (2, 4)))
            for count in counts
        ),
    ],
)
def test_reductions_of_vectors(hopper: Device, operation: str, kind: str, count: int) -> None:
    width = count * (2 if kind.endswith("x2") else 1)
    rng = np.random.default_rng(count)
    numbers = rng.integers(-8, 9, (40, width)).astype(np.float32) / 2
    start = np.arange(width, dtype=np.float32)[None] - 1
    convert = {"f32": np.float32, "f16": np.float16}.get(kind)
    given, cells = (a.astype(convert) if convert else bf16(a) for a in (numbers, start))
    letter, type_ = {"f32": ("f", "f32"), "f16": ("h", "b16"), "bf16x2": ("r", "b32")}[kind]
    size = {"f32": 4, "f16": 2, "bf16x2": 4}[kind]
    names = [f"%{letter}{index}" for index in range(count)]
    body = "".join(
        f"ld.global.{type_} {name}, [%in+{index * size}];" for index, name in enumerate(names)
    )
    noftz = "" if kind == "f32" else ".noftz"
    body += f"red.relaxed.gpu.global.v{count}.{kind}.{operation}{noftz} [%cells], "
    body += "{" + ", ".join(names) + "};"
    after, _ = update(hopper, body, given, cells, 40)
    found = after.astype(np.float32) if convert else from_bf16(after)
    every = np.concatenate([start, numbers])
    expected = {"add": every.sum(0), "min": every.min(0), "max": every.max(0)}[operation]
    assert found[0].tolist() == expected.tolist()


def test_a_vector_atomic_returns_what_was_there(hopper: Device) -> None:
    given = np.ones((32, 2), np.float32) * [1, 2]
    body = "ld.global.v2.f32 {%f1, %f2}, [%in];"
    body += "atom.global.v2.f32.add {%f3, %f4}, [%cells], {%f1, %f2};"
    body += "st.global.v2.f32 [%out], {%f3, %f4};"
    cells = np.array([10, 20], np.float32)
    after, got = update(hopper, body, given.astype(np.float32), cells, 32)
    assert after.tolist() == [42, 84]
    assert got.tolist() == [[10 + t, 20 + 2 * t] for t in range(32)]


def test_cache_policies_change_nothing(hopper: Device) -> None:
    body = """.reg .b64 %policy, %q;
      createpolicy.fractional.L2::evict_last.b64 %policy, 1.0;
      createpolicy.fractional.L2::evict_first.L2::evict_unchanged.b64 %q, 0.5;
      ld.global.L1::evict_last.L2::cache_hint.v2.b32 {%r1, %r2}, [%in], %policy;
      ld.global.nc.L1::no_allocate.L2::256B.b32 %r3, [%in];
      add.u32 %r1, %r1, %r3;
      atom.global.add.L2::cache_hint.u32 %r4, [%cells], %r1, %q;
      st.global.L1::evict_first.L2::cache_hint.v2.b32 [%out], {%r2, %r1}, %policy;
      prefetch.global.L2::evict_last [%in]; discard.global.L2 [%in], 128;
      applypriority.global.L2::evict_normal [%in], 128;"""
    given = np.arange(64, dtype=np.uint32).reshape(32, 2)
    after, got = update(hopper, body, given, np.zeros(1, np.uint32), 32)
    assert got.tolist() == [[2 * t + 1, 4 * t] for t in range(32)]
    assert after[0] == sum(4 * t for t in range(32))


def test_a_cluster_has_one_block(hopper: Device) -> None:
    body = """setp.eq.u32 %p1, %i, 0; mov.u32 %r9, tile;
      mov.u32 %r1, %clusterid.x; mov.u32 %r2, %ctaid.x; sub.u32 %r1, %r1, %r2;
      mov.u32 %r2, %nclusterid.x; mov.u32 %r3, %cluster_ctarank; mov.u32 %r4, %cluster_nctarank;
      mov.u32 %r5, %cluster_ctaid.x; mov.u32 %r6, %cluster_nctaid.y;
      mad.lo.u32 %r1, %r1, 10, %r2; mad.lo.u32 %r1, %r1, 10, %r3; mad.lo.u32 %r1, %r1, 10, %r4;
      mad.lo.u32 %r1, %r1, 10, %r5; mad.lo.u32 %r1, %r1, 10, %r6;
      mapa.shared::cluster.u32 %r8, %r9, 0; getctarank.shared::cluster.u32 %r7, %r8;
      add.u32 %r1, %r1, %r7;
      @%p1 st.shared::cluster.u32 [%r8+4], %r1;
      barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;
      ld.shared::cta.u32 %r2, [tile+4]; cvt.u64.u32 %x1, %r9; cvta.shared::cluster.u64 %x1, %x1;
      isspacep.shared::cluster %p2, %x1; selp.u32 %r3, 1000000, 0, %p2;
      mapa.u64 %x2, %x1, 0; ld.u32 %r4, [%x2+4]; sub.u32 %r4, %r4, %r2; add.u32 %r3, %r3, %r4;
      add.u32 %r2, %r2, %r3; st.global.u32 [%out], %r2;"""
    _, got = update(hopper, body, np.zeros(96, np.uint32), np.zeros(1, np.uint32), 96)
    assert got.tolist() == [1010101] * 96


def test_a_kernel_for_larger_clusters_is_refused(hopper: Device) -> None:
    hopper.function(".visible .entry f() .reqnctapercluster 1, 1, 1 { ret; }")
    with pytest.raises(PtxError) as caught:
        hopper.function(".visible .entry f() .reqnctapercluster 2, 1, 1 { ret; }")
    assert "a cluster has one block: .reqnctapercluster 2, 1, 1" in caught.value.log


def test_one_lane_is_elected(hopper: Device) -> None:
    body = """elect.sync %r1|%p1, -1; selp.u32 %r2, 100, 0, %p1; add.u32 %r1, %r1, %r2;
      setp.ge.u32 %p2, %i, 40; @!%p2 bra JOIN;
      elect.sync %r3|%p1, 0xffffff00; selp.u32 %r2, 100, 0, %p1; add.u32 %r1, %r3, %r2;
      JOIN: st.global.u32 [%out], %r1;"""
    _, got = update(hopper, body, np.zeros(64, np.uint32), np.zeros(1, np.uint32), 64)
    first = [100, *[0] * 31]
    second = [100, *[0] * 7, 108, *[8] * 23]
    assert got.tolist() == first + second


@pytest.mark.parametrize("kind", ["u16x2", "s16x2"])
@pytest.mark.parametrize("operation", ["add", "min", "max", "min.relu", "max.relu"])
def test_pairs_of_integers(hopper: Device, kind: str, operation: str) -> None:
    edges = [0, 1, 2, 0x7FFE, 0x7FFF, 0x8000, 0x8001, 0xFFFE, 0xFFFF]
    pairs = np.array([[a, b] for a in edges for b in edges], np.uint16)
    a = pairs.copy().view(np.uint32).reshape(-1)
    b = pairs[:, ::-1].copy().view(np.uint32).reshape(-1)
    if operation.endswith("relu") and kind == "u16x2":
        with pytest.raises(PtxError, match="relu is of s32 and s16x2"):
            hopper.run_lanes(f"{operation}.{kind} %d, %a, %b;", [a, b], np.uint32)
        return
    got = hopper.run_lanes(f"{operation}.{kind} %d, %a, %b;", [a, b], np.uint32)
    x, y = (v.view(np.int16 if kind[0] == "s" else np.uint16).astype(np.int64) for v in (a, b))
    name, _, relu = operation.partition(".")
    expected = {"add": np.add, "min": np.minimum, "max": np.maximum}[name](x, y)
    if relu:
        expected = np.maximum(expected, 0)
    assert got.view(np.uint16).tolist() == (expected & 0xFFFF).tolist()


@pytest.mark.parametrize("operation", ["min", "max"])
def test_extremes_that_are_not_negative(hopper: Device, operation: str) -> None:
    edges = [0, 1, -1, 5, -5, (1 << 31) - 1, -(1 << 31)]
    a = np.array([x for x in edges for _ in edges], np.int32)
    b = np.array([y for _ in edges for y in edges], np.int32)
    got = hopper.run_lanes(f"{operation}.relu.s32 %d, %a, %b;", [a, b], np.int32)
    function = {"min": np.minimum, "max": np.maximum}[operation]
    assert got.tolist() == np.maximum(function(a, b), 0).tolist()
