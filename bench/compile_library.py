"""Translate every kernel of a library's PTX for the software GPU, and count what is refused.

Takes the PTX of one capability out of the fat binaries of an ELF file, and parses and lowers each
kernel. `--compile N` also compiles N of them to machine code, spread evenly over the library, and
`--largest N` those with the most text, which checks the LLVM IR and tells what compiling costs.
Results are appended to a file of JSON lines, from which an interrupted run goes on. Compiled
kernels are kept where `VGPU_STUB_CACHE` says, otherwise nowhere.

    python bench/compile_library.py LIBRARY [--profile sm_61] [--capability 6.1] [--jobs 2]
        [--compile N] [--largest N] [--match REGEX] [--only] [--results FILE] [--images] [--json]
"""

from __future__ import annotations

import argparse
import json
import mmap
import multiprocessing
import os
import re
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from vgpu_host.executors.software.errors import PtxError
from vgpu_host.executors.software.gpu import SoftwareGpu
from vgpu_host.executors.software.index import index_module
from vgpu_host.executors.software.object_cache import default_cache_dir
from vgpu_host.executors.software.profiles import PROFILES
from vgpu_host.executors.software.translation import Translation
from vgpu_host.fat_binary import read_fat_binaries


@dataclass(frozen=True)
class Result:
    """What became of one kernel; `error` is empty when it is all right.

    Attributes:
        ptx_bytes: of its text.
        seconds: of translation.
        compile_seconds: of compilation, 0 when that was not asked for.
        object_bytes: of its machine code.
    """

    image: int
    kernel: str
    ptx_bytes: int
    error: str = ""
    compiled: bool = False
    seconds: float = 0.0
    compile_seconds: float = 0.0
    object_bytes: int = 0


@dataclass(frozen=True)
class Job:
    """An image, the kernels of it to be translated, and those of them to be compiled."""

    number: int
    image: bytes
    profile: str
    kernels: tuple[str, ...]
    compiles: frozenset[str]


def ptx_images(library: Path, architecture: int) -> Iterator[bytes]:
    """The PTX texts for one architecture (61 for 6.1) in the order of the file."""
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for images in read_fat_binaries(data):
            for image in images:
                if image.is_ptx and image.architecture == architecture:
                    yield image.unpack()


def architectures(library: Path) -> list[int]:
    """The architectures for which the library has PTX."""
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        images = (image for images in read_fat_binaries(data) for image in images)
        return sorted({image.architecture for image in images if image.is_ptx})


def kernel_sizes(image: bytes) -> dict[str, int]:
    """Kernels of an image and the bytes of their text."""
    source = index_module(image)
    return {f.name: f.body_end - f.start for f in source.functions.values() if f.is_entry}


def plan(
    images: list[bytes], arguments: argparse.Namespace, done: dict[int, set[str]]
) -> list[Job]:
    """What is to be translated, and what compiled."""
    kernels = [
        (number, name, size)
        for number, image in enumerate(images)
        for name, size in kernel_sizes(image).items()
        if re.search(arguments.match, name)
    ]
    evenly = range(arguments.compile)
    chosen = {kernels[index * len(kernels) // arguments.compile][:2] for index in evenly}
    by_size = sorted(kernels, key=lambda kernel: -kernel[2])
    chosen |= {kernel[:2] for kernel in by_size[: arguments.largest]}
    names: dict[int, list[str]] = defaultdict(list)
    for number, name, _ in kernels:
        wanted = not arguments.only or (number, name) in chosen
        if wanted and name not in done.get(number, ()):
            names[number].append(name)
    return [
        Job(
            number,
            images[number],
            arguments.profile,
            tuple(found),
            frozenset(name for name in found if (number, name) in chosen),
        )
        for number, found in names.items()
    ]


def translate(job: Job) -> list[Result]:
    results = []
    sizes = kernel_sizes(job.image)
    with ExitStack() as stack:
        if "VGPU_STUB_CACHE" in os.environ:
            cache = default_cache_dir()
        else:
            cache = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        gpu = SoftwareGpu(
            total_memory=64 << 20,
            threads=1,
            translation=Translation(PROFILES[job.profile]),
            cache_dir=cache,
        )
        stack.callback(gpu.close)
        module = gpu.load_module(job.image)
        key = gpu.cache.module_key(job.image, gpu.translation)
        in_rows = gpu.translation.uses_rows
        for name in job.kernels:
            compiles = name in job.compiles
            start = translated = time.perf_counter()
            error, size = "", 0
            try:
                function = module.get_function(name)
                translated = time.perf_counter()
                if compiles:
                    function.compile()
            except PtxError as refusal:
                error = refusal.log
            end = time.perf_counter()
            if compiles and not error and (code := gpu.cache.load_code(key, name, in_rows)):
                size = len(code.image)
            results.append(
                Result(
                    job.number,
                    name,
                    sizes[name],
                    error,
                    compiles,
                    round(translated - start, 3),
                    round(end - translated, 3),
                    size,
                )
            )
    return results


def family(error: str) -> str:
    """The reason without kernel, line and registers, so that equal reasons count as one."""
    error = re.sub(r"^\S+: (line \d+: )?", "", error)
    error = re.sub(r"%\w+", "%r", error)
    return error[:160]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("library", type=Path)
    parser.add_argument("--profile", choices=PROFILES, help="the device, by default for the PTX")
    parser.add_argument("--capability", help="of the PTX, by default the profile's")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--compile", type=int, default=0, metavar="N", help="compile N, evenly")
    parser.add_argument("--largest", type=int, default=0, metavar="N", help="compile the N largest")
    parser.add_argument("--only", action="store_true", help="leave out what is not compiled")
    parser.add_argument("--match", default="", help="only kernels whose name matches")
    parser.add_argument("--results", type=Path, help="file of JSON lines; what is in it is done")
    parser.add_argument("--images", action="store_true", help="report each image too")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.capability is None:
        arguments.profile = arguments.profile or next(iter(PROFILES))
        arguments.capability = ".".join(map(str, PROFILES[arguments.profile].capability))
    major, _, minor = arguments.capability.partition(".")
    capability = (int(major), int(minor))
    if arguments.profile is None:
        # The smallest device that takes the images.
        arguments.profile = next(p.name for p in PROFILES.values() if p.capability >= capability)
    images = list(ptx_images(arguments.library, capability[0] * 10 + capability[1]))
    if not images:
        found = ", ".join(f"{a // 10}.{a % 10}" for a in architectures(arguments.library))
        parser.error(f"no PTX for {arguments.capability} in it, but for {found or 'none'}")
    known: list[Result] = []
    if arguments.results and arguments.results.exists():
        lines = arguments.results.read_text().splitlines()
        known = [Result(**json.loads(line)) for line in lines]
    done: dict[int, set[str]] = {}
    for result in known:
        done.setdefault(result.image, set()).add(result.kernel)
    jobs = plan(images, arguments, done)
    with multiprocessing.get_context("forkserver").Pool(arguments.jobs) as pool:
        for results in pool.imap_unordered(translate, jobs):
            known += results
            if arguments.results:
                with arguments.results.open("a") as file:
                    file.writelines(json.dumps(asdict(result)) + "\n" for result in results)
    report(known, arguments.images, arguments.json)
    return 1 if any(result.error for result in known) else 0


def summary(results: list[Result]) -> dict[str, object]:
    """Counts and seconds of some kernels."""
    compiled = [result for result in results if result.compiled and not result.error]
    total: dict[str, object] = {
        "kernels": len(results),
        "ok": sum(not result.error for result in results),
        "compiled": len(compiled),
        "translate_seconds": round(sum(result.seconds for result in results), 1),
    }
    if compiled:
        seconds = [result.compile_seconds for result in compiled]
        total |= {
            "compile_seconds": round(sum(seconds), 1),
            "compile_median": round(statistics.median(seconds), 3),
            "compile_max": max(seconds),
            "object_bytes": sum(result.object_bytes for result in compiled),
        }
    return total


def report(results: list[Result], with_images: bool, as_json: bool) -> None:
    reasons = Counter(family(result.error) for result in results if result.error)
    slowest = sorted(results, key=lambda result: -result.compile_seconds)[:10]
    images: dict[int, list[Result]] = defaultdict(list)
    for result in results:
        images[result.image].append(result)
    each = {number: summary(images[number]) for number in sorted(images)} if with_images else {}
    total = {
        **summary(results),
        "refused": dict(reasons.most_common()),
        "slowest": [asdict(result) for result in slowest if result.compiled],
        "images": each,
    }
    if as_json:
        print(json.dumps(total, indent=2))
        return
    for number, figures in each.items():
        print(f"image {number}: " + ", ".join(f"{k} {v}" for k, v in figures.items()))
    print(", ".join(f"{name} {figure}" for name, figure in summary(results).items()))
    for result in slowest:
        if result.compiled:
            print(f"{result.compile_seconds:6.2f} s {result.object_bytes:8} bytes {result.kernel}")
    for reason, count in reasons.most_common():
        print(f"{count:6} {reason}")


if __name__ == "__main__":
    raise SystemExit(main())
