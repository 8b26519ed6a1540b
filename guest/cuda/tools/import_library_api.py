"""Brings the table of a library's API up to date with NVIDIA's libraries.

`vgpu_stub/abi/<name>_api.csv` lists the symbols of one of the libraries in `library_api`. Names
come from the dynamic symbol tables of NVIDIA's own libraries, one for each version; states and
notes of symbols that the table already has are kept, new symbols get the state `refused`.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
from collections import defaultdict
from pathlib import Path

from vgpu_stub.abi.library_api import LIBRARIES

COLUMNS = ("symbol", "versions", "state", "note")


def exported(path: Path) -> set[str]:
    """Functions that a shared library exports, without their version nodes."""
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", str(path)], check=True, capture_output=True, text=True
    ).stdout
    fields = [line.split() for line in listed.splitlines()]
    return {name.split("@")[0] for _, kind, name in fields if kind in "TW"}


def main() -> None:
    """Merge the libraries' symbols into the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=[library.name for library in LIBRARIES])
    parser.add_argument(
        "libraries", nargs="+", metavar="VERSION=PATH", help="NVIDIA's library of that version"
    )
    arguments = parser.parse_args()
    library = next(library for library in LIBRARIES if library.name == arguments.name)
    versions: dict[str, list[str]] = defaultdict(list)
    for version, _, path in (given.partition("=") for given in arguments.libraries):
        for symbol in exported(Path(path)):
            versions[symbol].append(version)
    old: dict[str, dict[str, str]] = {}
    if library.table.exists():
        with library.table.open(newline="") as file:
            old = {row["symbol"]: row for row in csv.DictReader(file)}
    with library.table.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for symbol in sorted(versions.keys() | old.keys()):
            row = old.get(symbol, {"symbol": symbol, "state": "refused", "note": ""})
            found = {*versions[symbol], *row.get("versions", "").split()}
            writer.writerow({**row, "versions": " ".join(sorted(found, key=int))})
    print(f"{len(versions.keys() | old.keys())} symbols")


if __name__ == "__main__":
    main()
