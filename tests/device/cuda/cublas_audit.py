"""Calls every function of libcublas that claims to work, and checks what it did with numpy.

    vgpu-stub exec -- python tests/device/cuda/cublas_audit.py SONAME

Prints the names of the functions that it called, as JSON. Order-4 problems, column-major.
"""

from __future__ import annotations

import ctypes
import json
import sys
from ctypes import byref, c_int, c_int64, c_longlong, c_size_t, c_uint64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "guest/workloads"))

from cuda_driver import Buffer, Driver

Array = NDArray[Any]

N = 4
BATCH = 3
LEFT, UPPER, LOWER, PLAIN, TRANSPOSED, ADJOINT, NON_UNIT = 0, 1, 0, 0, 1, 2, 0
TYPES = {"S": np.float32, "D": np.float64, "C": np.complex64, "Z": np.complex128, "H": np.float16}
REAL = {"S": np.float32, "D": np.float64, "C": np.float32, "Z": np.float64}
#: cudaDataType
NUMBERS = {"S": 0, "D": 1, "H": 2, "C": 4, "Z": 5}
COMPUTE_32F = 68
DEFAULT_ALGORITHM = -1


class Enum(int):
    """An argument that is an int in the functions with 64-bit sizes too."""


class Library:
    """libcublas with a handle; `called` has the names of the functions that were checked."""

    def __init__(self, soname: str, driver: Driver) -> None:
        self._library = ctypes.CDLL(soname)
        self._driver = driver
        self.called: set[str] = set()
        self.suffix = ""
        self._handle = c_void_p()
        self._random = np.random.default_rng(1)
        self.plain("cublasCreate_v2", byref(self._handle))
        assert self._handle.value

    def plain(self, name: str, *arguments: object) -> None:
        """Call a function that takes no handle, by its whole name."""
        self.called.add(name)
        status = getattr(self._library, name)(*arguments)
        assert status == 0, f"{name}: status {status}"

    def text(self, name: str, *arguments: object) -> str:
        """Call a function that returns a string."""
        self.called.add(name)
        function = getattr(self._library, name)
        function.restype = ctypes.c_char_p
        found: bytes = function(*arguments)
        return found.decode()

    def __call__(self, name: str, *arguments: object) -> None:
        """Call a function with the handle; ints are sizes of the width that the suffix says."""
        size = c_int64 if self.suffix else c_int
        converted = []
        for argument in arguments:
            if isinstance(argument, Enum):
                converted.append(c_int(argument))
            elif isinstance(argument, int):
                converted.append(size(argument))
            elif isinstance(argument, Buffer):
                converted.append(c_void_p(argument.pointer))
            elif isinstance(argument, np.generic):
                converted.append(argument.tobytes())
            else:
                converted.append(argument)
        self.plain(f"cublas{name}{self.suffix}", self._handle, *converted)

    def random(self, letter: str, *shape: int) -> Array:
        """Values of a type."""
        values = self._random.uniform(-1, 1, shape or (N, N))
        if letter in "CZ":
            values = values + 1j * self._random.uniform(-1, 1, shape or (N, N))
        return values.astype(TYPES[letter])

    def upload(self, *arrays: Array) -> Buffer:
        """Column-major matrices, or vectors, one behind the other."""
        flat = [np.asarray(each).ravel(order="F") for each in arrays]
        return self._driver.upload(np.concatenate(flat))

    def pointers(self, buffer: Buffer, count: int = BATCH) -> Buffer:
        """Device pointers to the parts of a buffer."""
        step = buffer.size // count
        places = [buffer.pointer + step * i for i in range(count)]
        return self._driver.upload(np.array(places, np.uint64))

    def download(self, buffer: Buffer, letter: str) -> Array:
        """All values of a buffer."""
        kind = TYPES[letter]
        return buffer.download(buffer.size // np.dtype(kind).itemsize, kind)

    def close(self) -> None:
        """Destroy the handle."""
        self.plain("cublasDestroy_v2", self._handle)


def close_to(found: Array, expected: Array, letter: str) -> bool:
    precision = float(np.finfo(TYPES[letter]).eps) * 64
    scale = max(float(np.abs(expected).max()), 1.0)
    return bool(np.abs(np.asarray(found) - expected).max() <= precision * scale)


def check(cublas: Library, buffer: Buffer, expected: Array, letter: str) -> None:
    wanted = np.asarray(expected).ravel(order="F")
    found = cublas.download(buffer, letter)
    assert close_to(found, wanted, letter), f"{letter}: {found} is not {wanted}"


def one(letter: str, value: complex) -> Any:
    """A scalar of a type; half has float scalars only in the functions named Ex."""
    return TYPES[letter](value if letter in "CZ" else value.real)


def check_products(cublas: Library, letter: str, prefix: str, after: str, mixed: str) -> None:
    """A gemm, its two batches, and the function named Ex where there is one."""
    a, b, c = (cublas.random(letter, BATCH, N, N) for _ in range(3))
    expected = 2 * (a @ b) - c
    alpha, beta = one(letter, 2), one(letter, -1)
    sizes = (Enum(PLAIN), Enum(PLAIN), N, N, N)
    first, second = cublas.upload(*a), cublas.upload(*b)
    kind = Enum(NUMBERS[letter])
    stride = c_longlong(N * N)

    target = cublas.upload(*c[:1])
    cublas(f"{prefix}{after}", *sizes, alpha, first, N, second, N, beta, target, N)
    check(cublas, target, expected[0], letter)
    if mixed:
        target = cublas.upload(*c[:1])
        cublas(mixed, *sizes, alpha, first, kind, N, second, kind, N, beta, target, kind, N)
        check(cublas, target, expected[0], letter)
    if prefix == "Zgemm3m":
        return
    target = cublas.upload(*c)
    arrays = [cublas.pointers(each) for each in (first, second, target)]
    tail = (N, beta, arrays[2], N, BATCH)
    cublas(f"{prefix}Batched", *sizes, alpha, arrays[0], N, arrays[1], *tail)
    check(cublas, target, np.stack(expected, axis=2), letter)
    target = cublas.upload(*c)
    operands = (alpha, first, N, stride, second, N, stride, beta, target, N, stride, BATCH)
    cublas(f"{prefix}StridedBatched", *sizes, *operands)
    check(cublas, target, np.stack(expected, axis=2), letter)


def check_products_of_any_type(cublas: Library) -> None:
    a, b, c = (cublas.random("H", BATCH, N, N) for _ in range(3))
    expected = (2 * (a.astype(np.float32) @ b) - c).astype(np.float32)
    alpha, beta = np.float32(2), np.float32(-1)
    sizes = (Enum(PLAIN), Enum(PLAIN), N, N, N, alpha)
    half, stride = Enum(NUMBERS["H"]), c_longlong(N * N)
    end = (Enum(COMPUTE_32F), Enum(DEFAULT_ALGORITHM))
    first, second, target = (cublas.upload(*each) for each in (a, b, c[:1]))
    cublas("GemmEx", *sizes, first, half, N, second, half, N, beta, target, half, N, *end)
    check(cublas, target, expected[0], "H")
    target = cublas.upload(*c)
    x, y, z = (cublas.pointers(each) for each in (first, second, target))
    cublas("GemmBatchedEx", *sizes, x, half, N, y, half, N, beta, z, half, N, BATCH, *end)
    check(cublas, target, np.stack(expected, axis=2), "H")
    target = cublas.upload(*c)
    operands = (first, half, N, stride, second, half, N, stride, beta, target, half, N, stride)
    cublas("GemmStridedBatchedEx", *sizes, *operands, BATCH, *end)
    check(cublas, target, np.stack(expected, axis=2), "H")


def hermitian_of(a: Array) -> Array:
    """The Hermitian matrix in the lower triangle."""
    strict = np.tril(a, -1)
    return strict + strict.conj().T + np.diag(a.diagonal().real)


def symmetric_of(a: Array) -> Array:
    """The symmetric matrix in the lower triangle."""
    return np.tril(a) + np.tril(a, -1).T


def lower_of(new: Array, old: Array) -> Array:
    """`new` in the lower triangle, `old` above it."""
    return np.tril(new) + np.triu(old, 1)


def check_matrices(cublas: Library, letter: str) -> None:
    """Level 3 for one type."""
    a, b, c = (cublas.random(letter) for _ in range(3))
    alpha, beta = one(letter, 2 - 1j), one(letter, -1 + 0.5j)
    first, second = cublas.upload(a), cublas.upload(b)
    lower = Enum(LOWER)

    def run(name: str, expected: Array, *arguments: object) -> None:
        target = cublas.upload(c)
        cublas(f"{letter}{name}", *arguments, target, N)
        check(cublas, target, expected, letter)

    both = (alpha, first, N, second, N, beta)
    run("symm_v2", alpha * (symmetric_of(a) @ b) + beta * c, Enum(LEFT), lower, N, N, *both)
    plain = (lower, Enum(PLAIN), N, N)
    update = alpha * (a @ a.T) + beta * c
    run("syrk_v2", lower_of(update, c), *plain, alpha, first, N, beta)
    update = alpha * (a @ b.T + b @ a.T) + beta * c
    run("syr2k_v2", lower_of(update, c), *plain, *both)
    run("syrkx", lower_of(alpha * (a @ b.T) + beta * c, c), *plain, *both)
    if letter in "CZ":
        c[:] = hermitian_of(c)
        real = REAL[letter]
        two, minus = real(2), real(-1)
        run("hemm_v2", alpha * (hermitian_of(a) @ b) + beta * c, Enum(LEFT), lower, N, N, *both)
        update = 2 * (a @ a.conj().T) - c
        run("herk_v2", lower_of(update, c), *plain, two, first, N, minus)
        update = alpha * (a @ b.conj().T)
        operands = (alpha, first, N, second, N, minus)
        run("her2k_v2", lower_of(update + update.conj().T - c, c), *plain, *operands)
        operands = (one(letter, 2), first, N, first, N, minus)
        run("herkx", lower_of(2 * (a @ a.conj().T) - c, c), *plain, *operands)
    sides = (Enum(LEFT), Enum(UPPER), Enum(ADJOINT), Enum(NON_UNIT), N, N)
    triangle = np.triu(a).conj().T
    run("trmm_v2", alpha * (triangle @ b), *sides, alpha, first, N, second, N)
    operands = (Enum(TRANSPOSED), Enum(PLAIN), N, N, alpha, first, N, beta, second, N)
    run("geam", alpha * a.T + beta * b, *operands)
    run("dgmm", np.diag(b[:, 0]) @ a, Enum(LEFT), N, N, first, N, second, 1)

    well = (a / N + 2 * np.eye(N)).astype(a.dtype)
    solution = alpha * np.linalg.solve(np.triu(well).conj().T, b)
    systems, targets = cublas.upload(well, well, well), cublas.upload(b, b, b)
    cublas(f"{letter}trsmBatched", *sides, alpha, cublas.pointers(systems), N,
           cublas.pointers(targets), N, BATCH)  # fmt: skip
    check(cublas, targets, np.stack([solution] * BATCH, axis=2), letter)
    target = cublas.upload(b)
    cublas(f"{letter}trsm_v2", *sides, alpha, systems, N, target, N)
    check(cublas, target, solution, letter)


def check_matrices_with_vectors(cublas: Library, letter: str) -> None:
    """Level 2 for one type."""
    a, (x, y) = cublas.random(letter), cublas.random(letter, 2, N)
    a = (a / N + 2 * np.eye(N)).astype(a.dtype)
    alpha, beta = one(letter, 2 - 1j), one(letter, -1 + 0.5j)
    matrix, vector = cublas.upload(a), cublas.upload(x)
    lower, upper = Enum(LOWER), Enum(UPPER)

    def run(name: str, expected: Array, start: Array, *arguments: object, tail: int = 1) -> None:
        target = cublas.upload(start)
        cublas(f"{letter}{name}", *arguments, target, tail)
        check(cublas, target, expected, letter)

    product = alpha * (a @ x) + beta * y
    sizes = (Enum(PLAIN), N, N, alpha)
    run("gemv_v2", product, y, *sizes, matrix, N, vector, 1, beta)
    target = cublas.upload(y)
    pointers = [cublas.pointers(each, 1) for each in (matrix, vector, target)]
    cublas(f"{letter}gemvBatched", *sizes, pointers[0], N, pointers[1], 1, beta, pointers[2], 1, 1)
    check(cublas, target, product, letter)
    target = cublas.upload(y, y)
    strides = [c_longlong(stride) for stride in (0, 0, N)]
    cublas(f"{letter}gemvStridedBatched", *sizes, matrix, N, strides[0], vector, 1, strides[1],
           beta, target, 1, strides[2], 2)  # fmt: skip
    check(cublas, target, np.stack([product, product], axis=1), letter)
    with_vector = (lower, N, alpha, matrix, N, vector, 1, beta)
    run("symv_v2", alpha * (symmetric_of(a) @ x) + beta * y, y, *with_vector)
    sides = (upper, Enum(TRANSPOSED), Enum(NON_UNIT), N, matrix, N)
    run("trmv_v2", np.triu(a).T @ y, y, *sides)
    run("trsv_v2", np.linalg.solve(np.triu(a).T, y), y, *sides)
    other = cublas.upload(y)
    outer = (N, N, alpha, vector, 1, other, 1)
    update = alpha * np.outer(x, y) + a
    run("geru_v2" if letter in "CZ" else "ger_v2", update, a, *outer, tail=N)
    if letter in "CZ":
        run("gerc_v2", alpha * np.outer(x, y.conj()) + a, a, *outer, tail=N)
        run("hemv_v2", alpha * (hermitian_of(a) @ x) + beta * y, y, *with_vector)


def check_vectors(cublas: Library, letter: str) -> None:
    """Level 1 for one type."""
    x, y = cublas.random(letter, 2, N)
    alpha = one(letter, 2 - 1j)
    first, second = cublas.upload(x), cublas.upload(y)
    cublas(f"{letter}axpy_v2", N, alpha, first, 1, second, 1)
    check(cublas, second, alpha * x + y, letter)
    cublas(f"{letter}copy_v2", N, first, 1, second, -1)
    check(cublas, second, x[::-1], letter)
    cublas(f"{letter}swap_v2", N, first, 1, second, 1)
    check(cublas, first, x[::-1], letter)
    check(cublas, second, x, letter)
    cublas(f"{letter}scal_v2", N, alpha, second, 1)
    check(cublas, second, alpha * x, letter)
    if letter in "CZ":
        scaled = cublas.upload(x)
        half = REAL[letter](0.5)
        cublas("Csscal_v2" if letter == "C" else "Zdscal_v2", N, half, scaled, 1)
        check(cublas, scaled, x / 2, letter)
    first, second = cublas.upload(x), cublas.upload(y)

    def gives(name: str, expected: Any, kind: type, *arguments: object) -> None:
        result = np.zeros(1, kind)
        cublas(name, N, *arguments, result.ctypes.data_as(c_void_p))
        assert np.allclose(result[0], expected, rtol=1e-5), f"{name}: {result[0]} not {expected}"

    pair, kind, real = (first, 1, second, 1), TYPES[letter], REAL[letter]
    sizes = np.abs(x.real) + np.abs(x.imag)
    if letter in "CZ":
        gives(f"{letter}dotu_v2", x @ y, kind, *pair)
        gives(f"{letter}dotc_v2", x.conj() @ y, kind, *pair)
    else:
        gives(f"{letter}dot_v2", x @ y, kind, *pair)
    real_letters = {"S": "S", "D": "D", "C": "Sc", "Z": "Dz"}[letter]
    gives(f"{real_letters}nrm2_v2", np.linalg.norm(x), real, first, 1)
    gives(f"{real_letters}asum_v2", sizes.sum(), real, first, 1)
    index = np.int64 if cublas.suffix else np.int32
    gives(f"I{letter.lower()}amax_v2", sizes.argmax() + 1, index, first, 1)
    gives(f"I{letter.lower()}amin_v2", sizes.argmin() + 1, index, first, 1)


def check_half_vectors(cublas: Library) -> None:
    """Level 1 with the type of each argument given: half, computed in float."""
    x, y = cublas.random("H", 2, N)
    first, second = cublas.upload(x), cublas.upload(y)
    half, single = Enum(NUMBERS["H"]), Enum(NUMBERS["S"])
    two, result = np.float32(2), np.zeros(1, np.float16)
    target = result.ctypes.data_as(c_void_p)
    wide = [each.astype(np.float32) for each in (x, y)]
    for name in ("DotEx", "DotcEx"):
        cublas(name, N, first, half, 1, second, half, 1, target, half, single)
        assert np.isclose(result[0], wide[0] @ wide[1], rtol=2e-3)
    cublas("Nrm2Ex", N, first, half, 1, target, half, single)
    assert np.isclose(result[0], np.linalg.norm(wide[0]), rtol=2e-3)
    cublas("AxpyEx", N, two, single, first, half, 1, second, half, 1, single)
    check(cublas, second, 2 * x + y, "H")
    cublas("ScalEx", N, two, single, first, half, 1, single)
    check(cublas, first, 2 * x, "H")


def check_copies(cublas: Library, driver: Driver) -> None:
    """Vectors and matrices between host and device; the asynchronous ones on a stream."""
    size = c_int64 if cublas.suffix else c_int
    stream = c_void_p()
    driver.call("cuStreamCreate", byref(stream), 1)
    host = np.arange(24, dtype=np.float32)
    address = host.ctypes.data_as(c_void_p)
    for way, tail in (("", ()), ("Async", (stream,))):
        device = driver.zeros(host.nbytes)
        pointer, back = c_void_p(device.pointer), np.zeros(24, np.float32)
        target = back.ctypes.data_as(c_void_p)
        end = f"{way}{cublas.suffix}"
        vector = [size(each) for each in (6, 4)]
        cublas.plain(f"cublasSetVector{end}", *vector, address, size(3), pointer, size(2), *tail)
        cublas.plain(f"cublasGetVector{end}", *vector, pointer, size(2), target, size(1), *tail)
        driver.call("cuStreamSynchronize", stream)
        assert back[:6].tolist() == host[:18:3].tolist()
        matrix = [size(each) for each in (2, 3, 4)]
        cublas.plain(f"cublasSetMatrix{end}", *matrix, address, size(5), pointer, size(4), *tail)
        cublas.plain(f"cublasGetMatrix{end}", *matrix, pointer, size(4), target, size(2), *tail)
        driver.call("cuStreamSynchronize", stream)
        assert back[:6].tolist() == [0, 1, 5, 6, 10, 11]
    driver.call("cuStreamDestroy_v2", stream)


def check_settings(cublas: Library, driver: Driver, major: int) -> None:
    """What a handle keeps."""
    for name, value in (("MathMode", 3), ("PointerMode_v2", 1), ("AtomicsMode", 1)):
        found = c_int(77)
        cublas(f"Get{name}", byref(found))
        assert found.value == 0
        cublas(f"Set{name}", Enum(value))
        cublas(f"Get{name}", byref(found))
        assert found.value == value
        cublas(f"Set{name}", Enum(0))
    stream, current = c_void_p(), c_void_p()
    driver.call("cuStreamCreate", byref(stream), 1)
    cublas("SetStream_v2", stream)
    cublas("GetStream_v2", byref(current))
    assert current.value == stream.value
    cublas("SetWorkspace_v2", driver.allocate(1 << 16), c_size_t(1 << 16))
    cublas("SetStream_v2", c_void_p(0))
    driver.call("cuStreamDestroy_v2", stream)
    version, properties = c_int(), [c_int() for _ in range(3)]
    cublas("GetVersion_v2", byref(version))
    for number, value in enumerate(properties):
        cublas.plain("cublasGetProperty", number, byref(value))
    high, middle, low = (value.value for value in properties)
    assert high == major
    assert version.value == high * 10000 + middle * 100 + low
    cublas.called.add("cublasGetCudartVersion")
    assert ctypes.CDLL(sys.argv[1]).cublasGetCudartVersion() // 1000 == major
    assert cublas.text("cublasGetStatusName", 15) == "CUBLAS_STATUS_NOT_SUPPORTED"
    assert "not supported" in cublas.text("cublasGetStatusString", 15)


def check_log(cublas: Library) -> None:
    """The logger's callback and file."""
    lines: list[bytes] = []
    listener = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(lines.append)
    cublas.plain("cublasSetLoggerCallback", listener)
    found = c_uint64()
    cublas.plain("cublasGetLoggerCallback", byref(found))
    assert found.value == ctypes.cast(listener, c_void_p).value
    cublas.plain("cublasLoggerConfigure", 1, 0, 0, b"/dev/null")
    check_vectors(cublas, "S")
    cublas.plain("cublasSetLoggerCallback", None)
    cublas.plain("cublasLoggerConfigure", 0, 0, 0, None)
    assert any(b"AXPY: m=0 n=4" in line for line in lines)


def main() -> int:
    major = int(sys.argv[1].rsplit(".", 1)[1])
    with Driver() as driver:
        cublas = Library(sys.argv[1], driver)
        check_settings(cublas, driver, major)
        for suffix in ("", "_64"):
            cublas.suffix = suffix
            for letter, mixed in (("S", "SgemmEx"), ("D", ""), ("C", "CgemmEx"), ("Z", "")):
                check_products(cublas, letter, f"{letter}gemm", "_v2", mixed)
                check_matrices(cublas, letter)
                check_matrices_with_vectors(cublas, letter)
                check_vectors(cublas, letter)
            check_products(cublas, "H", "Hgemm", "", "")
            check_products(cublas, "C", "Cgemm3m", "", "Cgemm3mEx")
            check_products(cublas, "Z", "Zgemm3m", "", "")
            check_products_of_any_type(cublas)
            check_half_vectors(cublas)
            check_copies(cublas, driver)
        cublas.suffix = ""
        check_log(cublas)
        cublas.close()
        print(json.dumps(sorted(cublas.called)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
