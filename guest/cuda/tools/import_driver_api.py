"""Brings the tables of the driver API up to date with the headers of a CUDA toolkit.

`vgpu_stub/abi/driver_api.csv` lists the symbols, `driver_signatures.csv` their parameters.

Names of symbols and their parameters come from the preprocessed `cuda.h` (and its GL, EGL and VDPAU
companions), versions from the `PFN_<name>_v<version>` types of `cudaTypedefs.h`. Ids and states of
symbols that the table already has are kept; new symbols get the next free ids and the state
`refused`.
"""

from __future__ import annotations

import argparse
import csv
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TABLE = ROOT / "vgpu_stub/abi/driver_api.csv"
SIGNATURES = ROOT / "vgpu_stub/abi/driver_signatures.csv"
HEADERS = ("cuda.h", "cudaGL.h", "cudaEGL.h", "cudaVDPAU.h")
TYPEDEFS = (
    "cudaTypedefs.h",
    "cudaGLTypedefs.h",
    "cudaEGLTypedefs.h",
    "cudaVDPAUTypedefs.h",
    "cudaProfilerTypedefs.h",
)
#: Headers of other projects that the companions include; their types do not matter here.
FOREIGN = ("GL/gl.h", "EGL/egl.h", "EGL/eglext.h", "vdpau/vdpau.h")
#: Declared by cudaProfiler.h, which the runtime's wheel lacks.
PROFILER = {
    "cuProfilerInitialize": (
        "const char *configFile, const char *outputFile, CUoutput_mode outputMode"
    ),
    "cuProfilerStart": "void",
    "cuProfilerStop": "void",
}
COLUMNS = ("symbol", "name", "version", "per_thread", "state", "id", "note")

_DECLARED = re.compile(r"\bCUresult\s+(cu[A-Z]\w*)\s*\(([^;]*)\)\s*;")
_TYPE = re.compile(r"\*PFN_(cu[A-Z]\w*?)_v(\d+)(_ptds|_ptsz)?\)")
_VARIANT = re.compile(r"^(cu\w*?)(?:_v(\d+))?(_ptds|_ptsz)?$")


def declared_functions(include: Path) -> dict[str, str]:
    """Every function that the headers declare, in any of its ABI variants, and its parameters."""
    functions = dict(PROFILER)
    with tempfile.TemporaryDirectory() as folder:
        for name in FOREIGN:
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.touch()
        for header in HEADERS:
            # Variants under the name of their symbol come last: there `cuX` is the oldest one.
            for internal in ([], ["-D__CUDA_API_VERSION_INTERNAL"]):
                text = subprocess.run(
                    [
                        "gcc",
                        "-E",
                        "-P",
                        "-I",
                        folder,
                        "-I",
                        str(include),
                        *internal,
                        str(include / header),
                    ],
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout
                for symbol, parameters in _DECLARED.findall(text):
                    functions[symbol] = re.sub(r"\s+", " ", parameters).strip()
    return functions


def declared_versions(include: Path) -> dict[tuple[str, bool], list[int]]:
    """Versions of each API name, ascending; the key's flag is true for per-thread variants."""
    versions: dict[tuple[str, bool], set[int]] = defaultdict(set)
    for header in TYPEDEFS:
        for name, version, suffix in _TYPE.findall((include / header).read_text()):
            versions[name, bool(suffix)].add(int(version))
    return {key: sorted(found) for key, found in versions.items()}


def _variant(symbol: str) -> tuple[str, int, bool]:
    match = _VARIANT.match(symbol)
    assert match
    return match[1], int(match[2] or 1), bool(match[3])


def rows(include: Path) -> list[dict[str, str]]:
    """The table's lines for the toolkit at `include`, ids and states not yet given."""
    versions = declared_versions(include)
    symbols = set(declared_functions(include))
    groups: dict[tuple[str, bool], list[tuple[int, str]]] = defaultdict(list)
    for symbol in symbols:
        name, number, per_thread = _variant(symbol)
        groups[name, per_thread].append((number, symbol))
    table = []
    for (name, per_thread), variants in groups.items():
        known = versions.get((name, per_thread), [])
        ordered = sorted(variants)
        if len(known) != len(ordered):
            print(f"check by hand: {name}: {ordered} against {known}", file=sys.stderr)
        for index, (_, symbol) in enumerate(ordered):
            version = known[min(index, len(known) - 1)] if known else 0
            table.append(
                {
                    "symbol": symbol,
                    "name": name,
                    "version": str(version),
                    "per_thread": str(int(per_thread)),
                }
            )
    return sorted(table, key=lambda row: (row["name"], row["symbol"]))


def main() -> None:
    """Merge the headers' symbols into the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("include", type=Path, help="folder with cuda.h and cudaTypedefs.h")
    include = parser.parse_args().include
    old: dict[str, dict[str, str]] = {}
    if TABLE.exists():
        with TABLE.open(newline="") as file:
            old = {row["symbol"]: row for row in csv.DictReader(file)}
    new = {row["symbol"]: row for row in rows(include)}
    next_id = max((int(row["id"]) for row in old.values()), default=-1) + 1
    for symbol, row in new.items():
        if symbol in old:
            row.update(old[symbol])
            continue
        row.update(state="refused", id=str(next_id))
        next_id += 1
    merged = sorted({**old, **new}.values(), key=lambda row: (row["name"], row["symbol"]))
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(merged)
    with SIGNATURES.open("w", newline="") as file:
        signatures = csv.writer(file, lineterminator="\n")
        signatures.writerow(("symbol", "parameters"))
        signatures.writerows(sorted(declared_functions(include).items()))
    print(f"{len(merged)} symbols, ids below {next_id}")


if __name__ == "__main__":
    main()
