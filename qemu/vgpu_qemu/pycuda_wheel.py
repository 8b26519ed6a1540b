"""Build pycuda for the guest's Python, which PyPI has only as source.

The guest's own Python runs here through its own loader, so the extension is built for it with this
machine's C++ compiler. CUDA's headers come from NVIDIA's PyPI wheels; the driver library is only
named (its calls are resolved in the guest), so no CUDA and no GPU is needed. The result is kept by
content, apart from the image: it takes a minute, and the image changes more often.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from vgpu_qemu.cache import Cache, content_key
from vgpu_qemu.errors import ImageError
from vgpu_qemu.packages import TRIXIE, Archive
from vgpu_qemu.progress import Progress, silent
from vgpu_qemu.runtime import Runtime, fetch_runtime
from vgpu_qemu.wheels import download_wheels, unpack_wheels

PYTHON = "python3.13"
PYCUDA = "pycuda==2026.1"
CUDA_HEADERS = ("nvidia-cuda-runtime==13.0.96", "nvidia-cuda-profiler-api==13.0.85")
PURE_DEPENDENCIES = ("pytools==2026.1.1", "siphash24==1.9")
"""What pycuda needs besides the packages that the image takes from Debian."""

_RECIPE = 2
"""Raised when the way of building changes, so that the cache builds anew."""

_BUILD_PACKAGES = ["libpython3.13-dev", "python3-numpy", "python3-setuptools", "python3-wheel"]
_SITE_CONFIGURATION = """\
CUDA_INC_DIR = {include!r}
CUDADRV_LIB_DIR = [{stub!r}]
CUDADRV_LIBNAME = ["cuda"]
CUDA_ENABLE_CURAND = False
CXXFLAGS = ["-O1", "-g0", "-w", "-fdebug-prefix-map={work}=.", "-I{python_include}"]
LDFLAGS = ["-s"]
"""


def pycuda_packages(cache: Cache, progress: Progress = silent) -> Path:
    """Return a directory with pycuda and its Python dependencies, for the guest's `sys.path`.

    Raises:
        ImageError: A compiler is missing or the build failed.
        PackageError: What it is built from could not be had.
    """

    def build(directory: Path) -> None:
        with cache.scratch() as work:
            progress("fetching pycuda and CUDA headers", None)
            wheels = work / "wheels"
            fetched = download_wheels(wheels, [*CUDA_HEADERS, *PURE_DEPENDENCIES])
            wheel = _build_wheel(work, wheels, cache, progress)
            directory.mkdir()
            kept = [path for path in fetched if not path.name.startswith("nvidia_")]
            unpack_wheels([wheel, *kept], directory)

    return cache.get("pycuda", pycuda_key(), build)


def pycuda_key() -> str:
    """Return the key of everything that the result depends on.

    Raises:
        ImageError: A compiler is missing.
    """
    compiler = shutil.which("g++")
    if compiler is None:
        raise ImageError("g++ is missing, which builds pycuda; install it: apt-get install g++")
    version = subprocess.run(
        [compiler, "-dumpfullversion"], capture_output=True, text=True, check=True
    ).stdout
    inputs = (PYCUDA, CUDA_HEADERS, PURE_DEPENDENCIES, _BUILD_PACKAGES, _SITE_CONFIGURATION)
    return content_key(_RECIPE, inputs, version)


def _build_wheel(work: Path, wheels: Path, cache: Cache, progress: Progress) -> Path:
    archive = Archive(TRIXIE, cache=cache, progress=progress)
    runtime = fetch_runtime("pycuda-build", _BUILD_PACKAGES, archive, cache)
    progress("building pycuda (about a minute)", None)
    source = _fetch_source(work)
    headers = work / "cuda"
    for wheel in wheels.glob("nvidia_*.whl"):
        with zipfile.ZipFile(wheel) as file:
            file.extractall(headers)
    include = sorted({str(path.parent) for path in headers.glob("**/include/cuda*.h")})
    stub = work / "stub"
    stub.mkdir()
    _step(
        [
            *("gcc", "-shared", "-Wl,-soname,libcuda.so.1", "-x", "c", "/dev/null"),
            *("-o", str(stub / "libcuda.so.1")),
        ],
        "making the link-time libcuda",
    )
    (stub / "libcuda.so").symlink_to("libcuda.so.1")
    (source / "siteconf.py").write_text(
        _SITE_CONFIGURATION.format(
            include=include,
            stub=str(stub),
            work=work,
            python_include=_python_include(work, runtime),
        )
    )
    _step(
        [
            *runtime.command(runtime.root / "usr/bin" / PYTHON),
            *("setup.py", "--quiet", "bdist_wheel", "--dist-dir", str(work)),
        ],
        "building pycuda",
        directory=source,
        environment=_build_environment(),
    )
    wheel = next(work.glob("pycuda-*.whl"))
    _check_loads(wheel, work, runtime)
    return wheel


def _check_loads(wheel: Path, work: Path, runtime: Runtime) -> None:
    """Make sure that the guest's C and C++ libraries are new enough for what was built here."""
    unpacked = work / "check"
    with zipfile.ZipFile(wheel) as file:
        file.extractall(unpacked)
    libraries = f"{work / 'stub'}:{runtime.loader.parent}"
    driver = next(unpacked.glob("pycuda/_driver.*.so"))
    needed = _step(
        [str(runtime.loader), "--library-path", libraries, "--list", str(driver)],
        "loading pycuda with the guest's libraries",
    )
    if "libcuda.so.1" not in needed:
        raise ImageError(f"the built {driver.name} does not load libcuda.so.1:\n{needed}")


def _fetch_source(work: Path) -> Path:
    """Download the source release; pip wants to build its metadata first, which needs nothing."""
    download = work / "sdist"
    _step(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            *("--no-binary", "pycuda", "--dest", str(download), PYCUDA),
        ],
        f"fetching {PYCUDA}",
    )
    shutil.unpack_archive(next(download.glob("pycuda-*.tar.gz")), work, filter="data")
    return next(path for path in work.glob("pycuda-*") if path.is_dir())


def _python_include(work: Path, runtime: Runtime) -> Path:
    """Return a directory with only Python's own multiarch headers.

    The runtime's whole include directory would put its C library's headers before this machine's.
    """
    directory = work / "include"
    link = directory / "x86_64-linux-gnu" / PYTHON
    link.parent.mkdir(parents=True)
    link.symlink_to(runtime.root / "usr/include/x86_64-linux-gnu" / PYTHON)
    return directory


def _build_environment() -> dict[str, str]:
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
        "CC": "gcc",
        "CXX": "g++",
        # Kept although nothing of the stub is used: the extension must name libcuda.so.1.
        "LDSHARED": "gcc -shared -Wl,--no-as-needed",
        "LDCXXSHARED": "g++ -shared -Wl,--no-as-needed",
        "SOURCE_DATE_EPOCH": "1700000000",
        "PYTHONNOUSERSITE": "1",
    }


def _step(
    command: Sequence[str],
    what: str,
    *,
    directory: Path | None = None,
    environment: dict[str, str] | None = None,
) -> str:
    done = subprocess.run(
        command,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).strip().splitlines()[-15:]
        raise ImageError(f"{what} failed (status {done.returncode}):\n" + "\n".join(lines))
    return done.stdout
