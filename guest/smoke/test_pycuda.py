"""pycuda on our libcuda.so.1: the same kernels, checked against numpy."""

import numpy as np
import pycuda.driver as driver
import pytest


@pytest.fixture(scope="module")
def context():
    driver.init()
    made = driver.Device(0).make_context()
    yield made
    made.pop()
    made.detach()


def test_vector_add_gives_what_numpy_gives(context, ptx):
    count = 5003
    a, b = np.random.default_rng(2).standard_normal((2, count)).astype(np.float32)
    total = np.zeros_like(a)
    kernel = driver.module_from_file(str(ptx("vector_add"))).get_function("vector_add")
    kernel(
        driver.In(a),
        driver.In(b),
        driver.Out(total),
        np.uint32(count),
        block=(128, 1, 1),
        grid=(-(-count // 128), 1),
    )
    assert np.array_equal(total, a + b)


def test_matrix_multiply_gives_what_numpy_gives(context, ptx):
    rows, columns, inner = 65, 47, 33
    rng = np.random.default_rng(3)
    a = rng.standard_normal((rows, inner)).astype(np.float32)
    b = rng.standard_normal((inner, columns)).astype(np.float32)
    c = np.full((rows, columns), np.nan, np.float32)
    kernel = driver.module_from_file(str(ptx("matrix_multiply"))).get_function("matrix_multiply")
    kernel(
        driver.In(a),
        driver.In(b),
        driver.Out(c),
        np.int32(rows),
        np.int32(columns),
        np.int32(inner),
        block=(16, 16, 1),
        grid=(-(-columns // 16), -(-rows // 16)),
    )
    assert np.allclose(c, a.astype(np.float64) @ b, rtol=1e-5, atol=1e-5)


def test_device_memory_is_copied_there_and_back(context):
    values = np.random.default_rng(4).integers(0, 1 << 32, 100_003, np.uint32)
    pointer = driver.mem_alloc(values.nbytes)
    driver.memcpy_htod(pointer, values)
    back = np.empty_like(values)
    driver.memcpy_dtoh(back, pointer)
    assert np.array_equal(back, values)


def test_events_measure_time(context):
    start, end = driver.Event(), driver.Event()
    start.record()
    end.record()
    end.synchronize()
    assert 0 <= start.time_till(end) < 60_000
