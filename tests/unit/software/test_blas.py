"""What cuBLAS may touch on the software GPU, and what becomes of a context that touched more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from vgpu_host.executors.base import CudaError
from vgpu_host.executors.blas import BlasCall, ComputeType, DataType, Routine
from vgpu_host.executors.software.executor import SoftwareExecutor

ILLEGAL_ADDRESS = 700
NOT_SUPPORTED = 801
MISALIGNED_ADDRESS = 716
FLOAT = DataType.R_32F
ORDER = 16
BYTES = 4 * ORDER * ORDER


@pytest.fixture
def executor() -> Iterator[SoftwareExecutor]:
    made = SoftwareExecutor(total_memory=16 << 20, threads=1)
    made.context_activate(made.context_create(0))
    yield made
    made.close()


@pytest.fixture
def product(executor: SoftwareExecutor) -> BlasCall:
    """The product of two matrices that fill their allocations."""
    a, b, c = (executor.memory_allocate(BYTES) for _ in range(3))
    ones = np.ones((ORDER, ORDER), np.float32).tobytes()
    for pointer in (a, b, c):
        executor.copy_bytes_to_device(pointer, ones, None)
    fields = dict.fromkeys(BlasCall.__dataclass_fields__, 0)
    fields |= {"a_step": ORDER, "b_step": ORDER, "c_step": ORDER, "batch": 1}
    fields |= {"m": ORDER, "n": ORDER, "k": ORDER, "a": a, "b": b, "c": c}
    fields |= {"routine": Routine.GEMM, "a_type": FLOAT, "b_type": FLOAT, "c_type": FLOAT}
    one = np.float32(1).tobytes().ljust(16, b"\0")
    call: BlasCall = BlasCall(**{**fields, "alpha": one, "beta": bytes(16)})  # type: ignore[arg-type]
    return replace(call, compute_type=ComputeType.F32)


def fault_of(executor: SoftwareExecutor, call: BlasCall) -> int:
    with pytest.raises(CudaError) as first:
        executor.blas(call, None)
    with pytest.raises(CudaError) as later:
        executor.memory_allocate(4)
    assert later.value.result == first.value.result, "the fault must end the context"
    return first.value.result


def test_matrices_may_fill_their_allocations(executor: SoftwareExecutor, product: BlasCall) -> None:
    executor.blas(product, None)
    executor.context_synchronize()


@pytest.mark.parametrize("operand", ["a", "b", "c"])
@pytest.mark.parametrize("places", [-4, 4, 1 << 40])
def test_matrix_outside_its_allocation_is_an_illegal_address(
    executor: SoftwareExecutor, product: BlasCall, operand: str, places: int
) -> None:
    moved = replace(product, **{operand: getattr(product, operand) + places})
    assert fault_of(executor, moved) == ILLEGAL_ADDRESS


@pytest.mark.parametrize(
    "changes",
    [
        {"a_step": ORDER + 1},
        {"c_step": 1 << 50},
        {"batch": 2, "c_stride": 1},
        {"batch": 2, "a_stride": -1},
        {"m": 1 << 40},
        {"m": 1 << 20, "c_step": 0},
        {"k": 1 << 40, "a_step": 0, "b_step": 0},
        {"batch": 1 << 40, "a_stride": 0, "b_stride": 0, "c_stride": 0},
        {"device_scalars": True},
        {"pointer_arrays": True},
    ],
)
def test_sizes_beyond_the_allocation_are_an_illegal_address(
    executor: SoftwareExecutor, product: BlasCall, changes: dict[str, int]
) -> None:
    assert fault_of(executor, replace(product, **changes)) == ILLEGAL_ADDRESS


@pytest.mark.parametrize("routine", [Routine.SYMM, Routine.TRMM, Routine.AXPY, Routine.GER])
def test_steps_of_zero_do_not_make_the_host_allocate(
    executor: SoftwareExecutor, product: BlasCall, routine: Routine
) -> None:
    huge = replace(product, routine=routine, m=1 << 20, n=1 << 40, a_step=0, b_step=0, c_step=0)
    assert fault_of(executor, huge) == ILLEGAL_ADDRESS


def test_misaligned_matrix_is_a_misaligned_address(
    executor: SoftwareExecutor, product: BlasCall
) -> None:
    assert fault_of(executor, replace(product, m=2, a=product.a + 2)) == MISALIGNED_ADDRESS


def test_routines_use_as_many_threads_as_the_device(executor: SoftwareExecutor) -> None:
    executor.blas_prepare()
    assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}


@pytest.mark.parametrize(
    "change",
    [
        {"a_type": DataType.C_32F},
        {"c_type": DataType.R_64F},
        {"compute_type": ComputeType.F64},
        {"compute_type": 12345},
        {"routine": Routine.DOT, "c_type": DataType.R_8I},
        {"routine": Routine.SCAL, "c_type": DataType.C_32F},
        {"routine": Routine.AMAX, "c_type": FLOAT},
        {"routine": Routine.SYRK, "a_type": DataType.R_16BF},
    ],
)
def test_types_that_do_not_go_together_are_refused(
    executor: SoftwareExecutor, product: BlasCall, change: dict[str, int]
) -> None:
    with pytest.raises(CudaError) as refused:
        executor.blas(replace(product, **change), None)  # type: ignore[arg-type]
    assert refused.value.result == NOT_SUPPORTED
    executor.blas(product, None)


@pytest.mark.parametrize("name", ["m", "n", "k", "batch"])
@pytest.mark.parametrize("routine", [Routine.GEMM, Routine.SYRK, Routine.TRSM])
def test_sizes_beyond_all_memory_are_an_illegal_address(
    executor: SoftwareExecutor, product: BlasCall, routine: Routine, name: str
) -> None:
    nothing = dict.fromkeys(("m", "n", "k", "batch"), 0)
    call = replace(product, routine=routine, **(nothing | {name: 1 << 62}))
    assert fault_of(executor, call) == ILLEGAL_ADDRESS


def test_product_larger_than_its_result_is_not_computed(
    executor: SoftwareExecutor, product: BlasCall
) -> None:
    wide = replace(product, routine=Routine.SYRK, n=1 << 20, k=0, c_step=1 << 20)
    assert fault_of(executor, wide) == ILLEGAL_ADDRESS


def test_step_that_is_never_taken_may_be_anything(
    executor: SoftwareExecutor, product: BlasCall
) -> None:
    single = replace(product, m=1, n=1, k=1, a_step=1 << 62, b_step=1 << 62, c_step=1 << 62)
    executor.blas(single, None)
    executor.context_synchronize()


def test_empty_batch_of_pointers_solves_nothing(
    executor: SoftwareExecutor, product: BlasCall
) -> None:
    executor.blas(replace(product, routine=Routine.TRSM, batch=0, pointer_arrays=True), None)
    executor.context_synchronize()
