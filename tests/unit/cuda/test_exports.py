"""The library exports the CUDA driver API, each symbol as its table says, and nothing else."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path

import pytest

from vgpu_stub.abi import driver_api
from vgpu_stub.abi.driver_api import ID_LIMIT, State, entry_points
from vgpu_stub.abi.function_names import FUNCTION_NAMES

NOT_SUPPORTED = 801


def output(*command: str | Path) -> str:
    return subprocess.run(
        [str(part) for part in command], check=True, capture_output=True, text=True
    ).stdout


def defined(path: Path) -> set[str]:
    return {line.split()[-1] for line in output("nm", "-g", "--defined-only", path).splitlines()}


def test_exports_exactly_the_symbols_of_the_table(build: Path) -> None:
    exported = {
        line.split()[-1]
        for line in output("nm", "-D", "--defined-only", build / "libcuda.so.1").splitlines()
    }
    assert exported == {entry.symbol for entry in entry_points()}


def test_symbols_carry_no_version(build: Path) -> None:
    dynamic = output("readelf", "-W", "--dyn-syms", build / "libcuda.so.1")
    assert re.search(r" cuInit$", dynamic, re.MULTILINE)


def test_is_found_by_its_soname_and_needs_only_libc(build: Path) -> None:
    dynamic = output("readelf", "-dW", build / "libcuda.so.1")
    assert re.findall(r"SONAME.*\[(.*)\]", dynamic) == ["libcuda.so.1"]
    assert set(re.findall(r"NEEDED.*\[(.*)\]", dynamic)) <= {"libc.so.6", "ld-linux-x86-64.so.2"}


def test_implemented_symbols_are_written_in_c_and_refused_ones_generated(build: Path) -> None:
    objects = build / "driver"
    generated = defined(objects / "proc_address.o")
    written = set[str]().union(
        *(defined(path) for path in objects.glob("*.o") if path.name != "proc_address.o")
    )
    implemented = {e.symbol for e in entry_points() if e.state is not State.REFUSED}
    refused = {e.symbol for e in entry_points() if e.state is State.REFUSED}
    assert {name for name in written if re.match(r"cu[A-Z]", name)} == implemented
    assert {name for name in generated if re.match(r"cu[A-Z]", name)} == refused


def test_every_refused_function_says_not_supported(library: ctypes.CDLL) -> None:
    results = {
        entry.symbol: getattr(library, entry.symbol)()
        for entry in entry_points()
        if entry.state is State.REFUSED
    }
    assert {symbol for symbol, result in results.items() if result != NOT_SUPPORTED} == set()
    assert len(results) > 300


def test_ids_name_every_symbol_and_fit_the_counters() -> None:
    assert {entry.id: entry.symbol for entry in entry_points()} == FUNCTION_NAMES
    assert max(FUNCTION_NAMES) < ID_LIMIT


def test_a_note_on_a_refused_function_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "driver_api.csv"
    lines = driver_api.TABLE.read_text().splitlines()
    refused = next(line for line in lines if ",refused," in line)
    table.write_text("\n".join([lines[0], f"{refused}no arrays"]) + "\n")
    monkeypatch.setattr(driver_api, "TABLE", table)
    with pytest.raises(ValueError, match=f"refused .*{refused.split(',')[0]}"):
        entry_points.__wrapped__()
