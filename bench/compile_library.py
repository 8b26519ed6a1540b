"""Translate every kernel of a library's PTX for the software GPU, and count what is refused.

Takes the PTX of one capability out of the fat binaries of an ELF file, and parses and lowers each
kernel; `--compile N` also compiles every N-th to machine code, which checks the LLVM IR. Results
are appended to a file of JSON lines, from which an interrupted run goes on.

    python bench/compile_library.py LIBRARY [--capability 6.1] [--jobs 2] [--compile N]
        [--match REGEX] [--results FILE] [--json]
"""

from __future__ import annotations

import argparse
import json
import mmap
import multiprocessing
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from vgpu_host.executors.software import SoftwareGpu
from vgpu_host.executors.software.errors import PtxError
from vgpu_host.executors.software.profiles import PROFILES
from vgpu_host.executors.software.translation import Translation
from vgpu_host.fat_binary import read_fat_binaries


@dataclass(frozen=True)
class Result:
    """What became of one kernel; `error` is empty when it is all right."""

    image: int
    kernel: str
    error: str = ""
    compiled: bool = False
    seconds: float = 0.0


def ptx_images(library: Path, architecture: int) -> Iterator[bytes]:
    """The PTX texts for one architecture (61 for 6.1) in the order of the file."""
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for images in read_fat_binaries(data):
            for image in images:
                if image.is_ptx and image.architecture == architecture:
                    yield image.unpack()


def translate(job: tuple[int, bytes, tuple[int, int], int, str, frozenset[str]]) -> list[Result]:
    number, image, capability, every, match, done = job
    # The smallest device that takes the image.
    profile = next(p for p in PROFILES.values() if p.capability >= capability)
    results = []
    with tempfile.TemporaryDirectory() as cache:
        gpu = SoftwareGpu(
            total_memory=64 << 20,
            threads=1,
            translation=Translation(profile),
            cache_dir=Path(cache),
        )
        module = gpu.load_module(image)
        for index, name in enumerate(module.function_names()):
            if name in done or not re.search(match, name):
                continue
            compiles = every > 0 and (index + number) % every == 0
            start = time.perf_counter()
            try:
                function = module.get_function(name)
                if compiles:
                    function.compile()
                error = ""
            except PtxError as refusal:
                error = refusal.log
            seconds = round(time.perf_counter() - start, 3)
            results.append(Result(number, name, error, compiles, seconds))
        gpu.close()
    return results


def family(error: str) -> str:
    """The reason without kernel, line and registers, so that equal reasons count as one."""
    error = re.sub(r"^\S+: (line \d+: )?", "", error)
    error = re.sub(r"%\w+", "%r", error)
    return error[:160]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("library", type=Path)
    parser.add_argument("--capability", default="6.1")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--compile", type=int, default=0, metavar="N", help="compile every N-th")
    parser.add_argument("--match", default="", help="only kernels whose name matches")
    parser.add_argument("--results", type=Path, help="file of JSON lines; what is in it is done")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    major, _, minor = arguments.capability.partition(".")
    capability = (int(major), int(minor))
    known: list[Result] = []
    if arguments.results and arguments.results.exists():
        lines = arguments.results.read_text().splitlines()
        known = [Result(**json.loads(line)) for line in lines]
    done: dict[int, set[str]] = {}
    for result in known:
        done.setdefault(result.image, set()).add(result.kernel)
    jobs = (
        (i, image, capability, arguments.compile, arguments.match, frozenset(done.get(i, ())))
        for i, image in enumerate(ptx_images(arguments.library, capability[0] * 10 + capability[1]))
    )
    with multiprocessing.get_context("forkserver").Pool(arguments.jobs) as pool:
        for results in pool.imap_unordered(translate, jobs):
            known += results
            if arguments.results:
                with arguments.results.open("a") as file:
                    file.writelines(json.dumps(asdict(result)) + "\n" for result in results)
    report(known, arguments.json)
    return 1 if any(result.error for result in known) else 0


def report(results: list[Result], as_json: bool) -> None:
    reasons = Counter(family(result.error) for result in results if result.error)
    total = {
        "kernels": len(results),
        "ok": sum(not result.error for result in results),
        "compiled": sum(result.compiled and not result.error for result in results),
        "refused": dict(reasons.most_common()),
    }
    if as_json:
        print(json.dumps(total, indent=2))
        return
    print(f"{total['ok']} of {total['kernels']} kernels taken, {total['compiled']} compiled")
    for reason, count in reasons.most_common():
        print(f"{count:6} {reason}")


if __name__ == "__main__":
    raise SystemExit(main())
