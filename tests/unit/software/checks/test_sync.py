"""The barrier checker: planted errors are found where they are, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from vgpu_host.findings import Finding

from .conftest import CheckedDevice, make_device

TIMEOUT = 702


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


def test_a_barrier_for_a_part_of_a_warp(barrier_device: CheckedDevice) -> None:
    source = """__global__ void f(int *p)
{
    if (threadIdx.x & 1)
        __syncthreads();
    p[threadIdx.x] = 1;
}"""
    found = only(barrier_device.cuda(source, 1, 64, barrier_device.zeros(64)))
    assert (found.check, found.kind, found.count) == ("sync", "diverged-warp", 32)
    assert found.message.endswith(
        "lanes " + ", ".join(map(str, range(0, 32, 2))) + " are elsewhere"
    )
    assert found.access.thread == (1, 0, 0)
    assert found.other
    assert found.other.thread == (0, 0, 0)
    assert found.access.instruction.startswith("bar.sync")
    assert found.access.source.endswith("f.cu:4")


def test_threads_that_end_while_others_wait(barrier_device: CheckedDevice) -> None:
    source = """__global__ void f(int *p, int n)
{
    if (threadIdx.x >= n)
        return;
    __syncthreads();
    p[threadIdx.x] = 1;
}"""
    out = barrier_device.zeros(96)
    found = only(barrier_device.cuda(source, 1, 96, out, 40))
    assert found.kind == "exited-threads"
    assert found.other
    assert found.other.thread in ((40, 0, 0), (64, 0, 0))
    found = only(barrier_device.cuda(source, 1, 96, out, 64))
    assert (found.kind, found.count) == ("exited-threads", 1)
    assert barrier_device.cuda(source, 1, 96, out, 96) == []


def test_from_70_on_barriers_do_not_wait_for_threads_that_have_ended(tmp_path: Path) -> None:
    source = """__global__ void f(int *p, int n)
{
    if (threadIdx.x >= n)
        return;
    __syncthreads();
    p[threadIdx.x] = 1;
}"""
    device = make_device(tmp_path, "sync", "sm_75")
    out = device.zeros(96)
    assert device.cuda(source, 1, 96, out, 40) == []
    assert device.cuda(source, 1, 96, out, 64) == []
    device.gpu.close()


def test_warps_at_different_barriers(barrier_device: CheckedDevice) -> None:
    source = """__global__ void f(int *p)
{
    if (threadIdx.x < 32) {
        p[threadIdx.x] = 1;
        __syncthreads();
    } else {
        p[threadIdx.x] = 2;
        __syncthreads();
        p[threadIdx.x] = 3;
    }
}"""
    findings = barrier_device.cuda(source, 1, 64, barrier_device.zeros(64))
    assert {finding.kind for finding in findings} == {"different-barriers"}
    assert findings[0].other
    lines = {findings[0].access.source[-2:], findings[0].other.source[-2:]}
    assert lines == {":5", ":8"}


def test_a_loop_whose_length_differs(barrier_device: CheckedDevice) -> None:
    source = """__global__ void f(int *p)
{
    for (int i = threadIdx.x; i < 100; i += 64) {
        p[i] = i;
        __syncthreads();
    }
}"""
    findings = barrier_device.cuda(source, 1, 64, barrier_device.zeros(128))
    assert {finding.kind for finding in findings} & {"diverged-warp", "exited-threads"}
    whole = source.replace("100", "128")
    assert barrier_device.cuda(whole, 1, 64, barrier_device.zeros(128)) == []


@pytest.mark.parametrize("call", ["__shfl_sync(~0u, x, 3)", "__ballot_sync(~0u, x & 1)"])
def test_a_mask_that_names_lanes_which_are_elsewhere(
    barrier_device: CheckedDevice, call: str
) -> None:
    source = f"""__global__ void f(int *p)
{{
    int x = threadIdx.x;
    if (x >= 10)
        x = {call};
    p[threadIdx.x] = x;
}}"""
    found = only(barrier_device.cuda(source, 1, 32, barrier_device.zeros(32)))
    assert (found.kind, found.count) == ("absent-lanes", 22)
    assert found.message.endswith("lanes 0-9 are elsewhere")
    assert found.access.source.endswith("f.cu:5")


def test_lanes_that_never_come_to_a_warp_barrier(barrier_device: CheckedDevice) -> None:
    source = """__global__ void f(int *p, int n)
{
    int i = threadIdx.x;
    do {
        p[i] = i;
        __syncwarp();
    } while (++i < threadIdx.x + (threadIdx.x < n ? 2 : 1));
}"""
    out = barrier_device.zeros(64)
    found = only(barrier_device.cuda(source, 1, 32, out, 8))
    assert found.kind == "absent-lanes"
    assert barrier_device.cuda(source, 1, 32, out, 32) == []


def test_a_mask_without_the_lane_itself(barrier_device: CheckedDevice) -> None:
    source = """__global__ void f(int *p, int mask)
{
    p[threadIdx.x] = __shfl_sync(mask, threadIdx.x, 3);
}"""
    out = barrier_device.zeros(32)
    found = only(barrier_device.cuda(source, 1, 32, out, 0xFFFF))
    assert (found.kind, found.count) == ("omitted-lane", 16)
    assert (found.access.thread, found.other) == ((16, 0, 0), None)
    assert barrier_device.cuda(source, 1, 16, out, 0xFFFF) == []


def test_masks_that_fit_are_clean(barrier_device: CheckedDevice) -> None:
    source = """__global__ void f(int *p)
{
    int x = threadIdx.x;
    unsigned here = __ballot_sync(~0u, x % 3 == 0);
    if (x % 3 == 0) {
        x += __shfl_xor_sync(here, x, 0);
        __syncwarp(here);
        x = __reduce_add_sync_of(here, x);
    }
    p[threadIdx.x] = x;
}""".replace("__reduce_add_sync_of", "__any_sync")
    assert barrier_device.cuda(source, 1, 32, barrier_device.zeros(32)) == []


def test_lanes_that_have_ended_may_be_named(barrier_device: CheckedDevice) -> None:
    source = """__global__ void f(int *p)
{
    if (threadIdx.x >= 20)
        return;
    p[threadIdx.x] = __shfl_sync(~0u, threadIdx.x, 3);
}"""
    assert barrier_device.cuda(source, 1, 32, barrier_device.zeros(32)) == []


def test_a_barrier_that_waits_for_more_threads_than_come(barrier_device: CheckedDevice) -> None:
    source = """__global__ void f(int *p)
{
    asm volatile("bar.sync 1, 96;" ::: "memory");
    p[threadIdx.x] = 1;
}"""
    found = only(barrier_device.cuda(source, 1, 64, barrier_device.zeros(64)))
    assert (found.check, found.kind) == ("sync", "deadlock")
    assert barrier_device.fault == TIMEOUT
    assert barrier_device.cuda(source, 1, 96, barrier_device.zeros(96)) == []
