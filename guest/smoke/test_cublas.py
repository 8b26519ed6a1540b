"""cuBLAS through libcublas.so.13 with ctypes: products that numpy confirms."""

import ctypes
from ctypes import byref, c_float, c_int, c_void_p

import numpy as np
import pytest

NO_TRANSPOSE, TRANSPOSE = 0, 1


@pytest.fixture(scope="module")
def blas(cuda):
    """The library and a handle."""
    loaded, handle = ctypes.CDLL("libcublas.so.13"), c_void_p()
    assert loaded.cublasCreate_v2(byref(handle)) == 0
    yield loaded, handle
    assert loaded.cublasDestroy_v2(handle) == 0


def test_the_version_is_one_that_programs_take(blas):
    loaded, handle = blas
    version = c_int()
    assert loaded.cublasGetVersion_v2(handle, byref(version)) == 0
    assert version.value >= 120000


@pytest.mark.parametrize("operation", [NO_TRANSPOSE, TRANSPOSE])
def test_sgemm_gives_what_numpy_gives(cuda, blas, operation):
    loaded, handle = blas
    rows, columns, inner = 37, 29, 53
    rng = np.random.default_rng(5)
    a = rng.standard_normal((rows, inner)).astype(np.float32)
    b = rng.standard_normal((inner, columns)).astype(np.float32)
    stored = a if operation == NO_TRANSPOSE else a.T
    # The library counts columns first.
    a_device = cuda.upload(np.asfortranarray(stored).ravel(order="F"))
    b_device = cuda.upload(b.ravel(order="F"))
    c_device = cuda.zeros(4 * rows * columns)
    one, zero = c_float(1), c_float(0)
    status = loaded.cublasSgemm_v2(
        handle,
        operation,
        NO_TRANSPOSE,
        rows,
        columns,
        inner,
        byref(one),
        c_void_p(a_device.pointer),
        stored.shape[0],
        c_void_p(b_device.pointer),
        inner,
        byref(zero),
        c_void_p(c_device.pointer),
        rows,
    )
    assert status == 0
    got = c_device.download(rows * columns, np.float32).reshape((rows, columns), order="F")
    np.testing.assert_allclose(got, a @ b, rtol=1e-4, atol=1e-4)


def test_axpy_and_dot_and_nrm2(cuda, blas):
    loaded, handle = blas
    a, b = np.random.default_rng(6).standard_normal((2, 1001)).astype(np.float32)
    x, y = (cuda.upload(array) for array in (a, b))
    px, py, count = c_void_p(x.pointer), c_void_p(y.pointer), a.size
    scale, result = c_float(2.5), c_float()
    assert loaded.cublasSaxpy_v2(handle, count, byref(scale), px, 1, py, 1) == 0
    expected = 2.5 * a + b
    np.testing.assert_allclose(y.download(count, np.float32), expected, rtol=1e-5)
    assert loaded.cublasSdot_v2(handle, count, px, 1, py, 1, byref(result)) == 0
    assert result.value == pytest.approx(float(a @ expected), rel=1e-4, abs=1e-3)
    assert loaded.cublasSnrm2_v2(handle, count, px, 1, byref(result)) == 0
    assert result.value == pytest.approx(float(np.linalg.norm(a)), rel=1e-5)


def test_a_leading_dimension_that_is_too_small_is_refused(cuda, blas):
    loaded, handle = blas
    buffer, one = cuda.zeros(4096), c_float(1)
    p = c_void_p(buffer.pointer)
    shape = (8, 8, 8)
    status = loaded.cublasSgemm_v2(
        handle, NO_TRANSPOSE, NO_TRANSPOSE, *shape, byref(one), p, 4, p, 8, byref(one), p, 8
    )
    assert status == 7  # CUBLAS_STATUS_INVALID_VALUE
