"""Routines of cuBLAS on every executor, against numpy in double precision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vgpu_host.executors.base import GraphOperation
from vgpu_host.executors.blas import (
    BlasCall,
    ComputeType,
    DataType,
    Diagonal,
    Fill,
    Operation,
    Routine,
    Side,
)

from .blas_calls import (
    EMPTY,
    EPSILON,
    Array,
    Matrices,
    operated,
    packed,
    random_array,
    scalar,
    with_operands,
)
from .conftest import Device

pytestmark = pytest.mark.device

#: A and B, C, compute type: the table of cublasGemmEx().
COMBINATIONS = [
    (DataType.R_16F, DataType.R_16F, ComputeType.F16),
    (DataType.R_16F, DataType.R_16F, ComputeType.F32),
    (DataType.R_16F, DataType.R_32F, ComputeType.F32),
    (DataType.R_16BF, DataType.R_16BF, ComputeType.F32),
    (DataType.R_16BF, DataType.R_32F, ComputeType.F32),
    (DataType.R_8I, DataType.R_32F, ComputeType.F32),
    (DataType.R_8I, DataType.R_32I, ComputeType.I32),
    (DataType.R_32F, DataType.R_32F, ComputeType.F32),
    (DataType.R_32F, DataType.R_32F, ComputeType.F32_PEDANTIC),
    (DataType.C_32F, DataType.C_32F, ComputeType.F32),
    (DataType.R_64F, DataType.R_64F, ComputeType.F64),
    (DataType.C_64F, DataType.C_64F, ComputeType.F64),
]
#: A unit of rounding beyond the format's: sums in another order.
SUM_ERROR = {ComputeType.F16: 2.0**-11, ComputeType.F64: 2.0**-53}
M, N, K = 8, 12, 20


#: cuBLAS may add parts of a product in these formats (CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_...).
REDUCED = {DataType.R_16F, DataType.R_16BF}


def gemm_error(
    device: Device, expected: Array, magnitude: Array, kind: DataType, compute: ComputeType
) -> Array:
    """Largest error of a product of K terms whose absolute values add up to `magnitude`."""
    in_parts = kind in REDUCED and "software" not in device.executor.describe().name
    rounded = magnitude if in_parts else np.abs(expected)
    return EPSILON[kind] * rounded + 4 * K * SUM_ERROR.get(compute, 2.0**-24) * magnitude


def check_gemm(
    device: Device,
    kind: DataType,
    c_kind: DataType,
    compute: ComputeType,
    operations: tuple[Operation, Operation],
    *,
    alpha: complex = 1,
    beta: complex = 0,
    batch: int = 1,
    pointer_arrays: bool = False,
    pad: int = 0,
) -> None:
    a_shape = (M, K) if operations[0] is Operation.N else (K, M)
    b_shape = (K, N) if operations[1] is Operation.N else (N, K)
    a = random_array(1, (batch, *a_shape), kind)
    b = random_array(2, (batch, *b_shape), kind)
    c = random_array(3, (batch, M, N), c_kind)
    on_device = [
        Matrices(device, *each, pad, 8 * pad) for each in ((a, kind), (b, kind), (c, c_kind))
    ]
    call = replace(
        EMPTY,
        compute_type=compute,
        m=M,
        n=N,
        k=K,
        a_operation=operations[0],
        b_operation=operations[1],
        pointer_arrays=pointer_arrays,
    )
    call = with_operands(call, *on_device)
    call = replace(call, alpha=scalar(alpha, call.alpha_type), beta=scalar(beta, call.beta_type))
    device.executor.blas(call, None)
    exact = np.complex128 if kind.complex else np.float64
    left, right = operated(a.astype(exact), operations[0]), operated(b.astype(exact), operations[1])
    expected = alpha * (left @ right) + beta * c.astype(exact)
    magnitude = np.abs(alpha) * (np.abs(left) @ np.abs(right)) + np.abs(beta) * np.abs(c)
    error = np.abs(on_device[2].values() - expected)
    assert (error <= gemm_error(device, expected, magnitude, c_kind, compute)).all()


@pytest.mark.parametrize("b_operation", Operation)
@pytest.mark.parametrize("a_operation", Operation)
@pytest.mark.parametrize(("kind", "c_kind", "compute"), COMBINATIONS)
def test_gemm_of_every_type_and_operation(
    device: Device,
    kind: DataType,
    c_kind: DataType,
    compute: ComputeType,
    a_operation: Operation,
    b_operation: Operation,
) -> None:
    check_gemm(device, kind, c_kind, compute, (a_operation, b_operation))


@pytest.mark.parametrize("pointer_arrays", [False, True])
@pytest.mark.parametrize(("kind", "c_kind", "compute"), COMBINATIONS)
def test_gemm_of_a_batch_with_scalars_and_room_between_columns(
    device: Device, kind: DataType, c_kind: DataType, compute: ComputeType, pointer_arrays: bool
) -> None:
    if kind is DataType.R_8I and pointer_arrays:
        pytest.skip("cuBLAS multiplies bytes in strided batches only")
    alpha, beta = (2 - 1j, -3 + 0.5j) if kind.complex else (2, -3)
    check_gemm(
        device,
        kind,
        c_kind,
        compute,
        (Operation.N, Operation.T),
        alpha=alpha,
        beta=beta,
        batch=3,
        pointer_arrays=pointer_arrays,
        pad=4,
    )


def gemm_of_ones(device: Device, k: int, c: Array) -> tuple[Matrices, BlasCall]:
    rows, columns = c.shape
    ones = Matrices(device, np.ones((1, rows, max(k, 1)), np.float32), DataType.R_32F)
    others = Matrices(device, np.ones((1, max(k, 1), columns), np.float32), DataType.R_32F)
    result = Matrices(device, c[np.newaxis], DataType.R_32F)
    one = scalar(1, DataType.R_32F)
    call = replace(with_operands(EMPTY, ones, others, result), m=rows, n=columns, k=k, alpha=one)
    return result, call


@pytest.mark.parametrize("kind", [DataType.R_16F, DataType.R_32F])
def test_a_batch_may_share_a_matrix(device: Device, kind: DataType) -> None:
    a, b = random_array(6, (1, M, K), kind), random_array(7, (3, K, N), kind)
    operands = [Matrices(device, each, kind) for each in (a, b, np.zeros((3, M, N)))]
    call = with_operands(EMPTY, *operands)
    one = scalar(1, DataType.R_32F)
    call = replace(call, m=M, n=N, k=K, batch=3, a_stride=0, alpha=one)
    device.executor.blas(call, None)
    wide = a.astype(np.float64), b.astype(np.float64)
    expected, magnitude = wide[0] @ wide[1], np.abs(wide[0]) @ np.abs(wide[1])
    error = np.abs(operands[2].values() - expected)
    assert (error <= gemm_error(device, expected, magnitude, kind, ComputeType.F32)).all()


def test_beta_0_does_not_read_c(device: Device) -> None:
    result, call = gemm_of_ones(device, 5, np.full((4, 3), np.nan, np.float32))
    device.executor.blas(call, None)
    np.testing.assert_array_equal(result.values()[0], np.full((4, 3), 5, np.float32))


def test_k_0_only_scales_c(device: Device) -> None:
    result, call = gemm_of_ones(device, 0, np.full((4, 3), 6, np.float32))
    device.executor.blas(replace(call, beta=scalar(0.5, DataType.R_32F)), None)
    np.testing.assert_array_equal(result.values()[0], np.full((4, 3), 3, np.float32))


def test_scalars_are_read_on_the_device(device: Device) -> None:
    result, call = gemm_of_ones(device, 5, np.full((4, 3), 6, np.float32))
    scalars = device.upload(packed(np.array([3.0, 0.5]), DataType.R_32F))
    pointers = [(scalars + offset).to_bytes(8, "little").ljust(16, b"\0") for offset in (0, 4)]
    call = replace(call, device_scalars=True, alpha=pointers[0], beta=pointers[1])
    device.executor.blas(call, None)
    np.testing.assert_array_equal(result.values()[0], np.full((4, 3), 18, np.float32))


def test_bfloat16_is_rounded_to_even(device: Device) -> None:
    # 1 + 2**-8 is half way between two bfloat16 numbers, as is 1 + 3 * 2**-8.
    a = Matrices(device, np.array([[[1, 2.0**-8]], [[1, 3 * 2.0**-8]]]), DataType.R_16BF)
    b = Matrices(device, np.ones((2, 2, 1)), DataType.R_16BF)
    c = Matrices(device, np.zeros((2, 1, 1)), DataType.R_16BF)
    call = replace(with_operands(EMPTY, a, b, c), m=1, n=1, k=2, alpha=scalar(1, DataType.R_32F))
    device.executor.blas(call, None)
    assert c.values().ravel().tolist() == [1.0, 1 + 2.0**-6]


def test_nan_and_infinity_keep_their_meaning_when_rounded(device: Device) -> None:
    values = np.array([[[np.nan, 0.0]], [[3e38, 3e38]], [[-3e38, -3e38]]], np.float32)
    for kind in (DataType.R_16BF, DataType.R_16F):
        largest = np.float32(60000) if kind is DataType.R_16F else np.float32(3e38)
        a = Matrices(device, np.clip(values, -largest, largest), kind)
        b = Matrices(device, np.ones((3, 2, 1)), kind)
        c = Matrices(device, np.zeros((3, 1, 1)), kind)
        call = with_operands(EMPTY, a, b, c)
        device.executor.blas(replace(call, m=1, n=1, k=2, alpha=scalar(1, DataType.R_32F)), None)
        found = c.values().ravel()
        assert np.isnan(found[0])
        assert found[1:].tolist() == [np.inf, -np.inf]


def test_work_keeps_the_order_of_its_stream(device: Device) -> None:
    stream = device.executor.stream_create(1, 0)
    device.executor.blas_prepare()
    result, call = gemm_of_ones(device, 7, np.zeros((64, 64), np.float32))
    device.executor.memset(result.pointer, 0x40400000, 4, 64 * 64, stream)  # 3.0
    device.executor.blas(replace(call, beta=scalar(1, DataType.R_32F)), stream)
    device.executor.blas(replace(call, beta=scalar(2, DataType.R_32F)), stream)
    device.wait(device.executor.stream_synchronize(stream))
    np.testing.assert_array_equal(result.values()[0], np.full((64, 64), 27, np.float32))
    device.executor.stream_destroy(stream)


@pytest.mark.parametrize("workspace_bytes", [0, 4 << 20])
def test_graph_repeats_its_products(device: Device, workspace_bytes: int) -> None:
    executor = device.executor
    result, call = gemm_of_ones(device, 7, np.zeros((64, 64), np.float32))
    call = replace(call, beta=scalar(2, DataType.R_32F))
    workspace = executor.memory_allocate(workspace_bytes) if workspace_bytes else 0
    call = replace(call, workspace=workspace, workspace_bytes=workspace_bytes)
    executor.blas_prepare()
    operations = [
        GraphOperation((), lambda stream: executor.memset(result.pointer, 0, 4, 64 * 64, stream)),
        GraphOperation((0,), lambda stream: executor.blas(call, stream)),
        GraphOperation((1,), lambda stream: executor.blas(call, stream)),
    ]
    graph = executor.graph_instantiate(operations)
    np.testing.assert_array_equal(result.values()[0], np.zeros((64, 64), np.float32))
    stream = executor.stream_create(1, 0)
    for _ in range(3):
        executor.graph_launch(graph, stream)
    executor.graph_update(graph, [*operations, GraphOperation((2,), operations[2].queue)])
    device.wait(executor.stream_synchronize(stream))
    np.testing.assert_array_equal(result.values()[0], np.full((64, 64), 21, np.float32))
    executor.graph_launch(graph, stream)
    device.wait(executor.stream_synchronize(stream))
    np.testing.assert_array_equal(result.values()[0], np.full((64, 64), 49, np.float32))
    executor.graph_destroy(graph)
    executor.stream_destroy(stream)


@pytest.mark.parametrize("diagonal", Diagonal)
@pytest.mark.parametrize("operation", Operation)
@pytest.mark.parametrize("fill", Fill)
@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("kind", [DataType.R_32F, DataType.R_64F, DataType.C_32F, DataType.C_64F])
def test_trsm_solves_every_kind_of_triangle(
    device: Device, kind: DataType, side: Side, fill: Fill, operation: Operation, diagonal: Diagonal
) -> None:
    m, n, batch = 40, 36, 2
    order = m if side is Side.LEFT else n
    full = random_array(4, (batch, order, order), kind) / order
    full += 2 * np.eye(order, dtype=full.dtype)
    b = random_array(5, (batch, m, n), kind)
    matrices, solution = Matrices(device, full, kind, 3), Matrices(device, b, kind, 5)
    alpha = 2 - 1j if kind.complex else 2
    call = replace(
        EMPTY,
        routine=Routine.TRSM,
        side=side,
        fill=fill,
        a_operation=operation,
        diagonal=diagonal,
        m=m,
        n=n,
        alpha=scalar(alpha, kind),
        pointer_arrays=True,
    )
    device.executor.blas(with_operands(call, matrices, solution), None)
    x = solution.values()
    triangle = np.tril(full) if fill is Fill.LOWER else np.triu(full)
    if diagonal is Diagonal.UNIT:
        triangle = triangle * (1 - np.eye(order)) + np.eye(order)
    matrix = operated(triangle, operation)
    product = matrix @ x if side is Side.LEFT else x @ matrix
    assert np.abs(product - alpha * b).max() < 64 * order * EPSILON[kind]
