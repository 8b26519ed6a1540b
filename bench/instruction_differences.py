"""Runs the instruction table on an executor and says how each instruction compares.

On the physical GPU (`--executor cuda`) this measures how the hardware differs from the references
that the software GPU is tested against; `--json FILE` keeps the result. Several such files make the
page docs/software-gpu-differences.md:

    export PYTHONPATH=.:host
    python bench/instruction_differences.py --json software.json
    python bench/instruction_differences.py --executor cuda --json gpu.json
    python bench/instruction_differences.py --write docs/software-gpu-differences.md \\
        software.json gpu.json

It needs this repository, numpy and what the executor needs, and nothing built.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.instructions import atomics
from tests.instructions.differences import document
from tests.instructions.program import Machine, reason
from tests.instructions.rows import Outcome
from tests.instructions.table import by_opcode
from vgpu_host.executors.base import CudaError
from vgpu_host.executors.options import (
    ExecutorOptions,
    make_executor,
    why_no_gpu,
)

EXAMPLES = 6


def describe(outcome: Outcome) -> dict[str, Any]:
    """An outcome for JSON."""
    row = outcome.row
    return {
        "name": row.name,
        "operands": len(row.operands),
        "wrong": len(outcome.wrong),
        "ulps": outcome.ulps,
        "bound": row.tolerance.text if row.tolerance else "",
        "worst": str(outcome.worst) if outcome.worst else "",
        "examples": [str(difference) for difference in outcome.wrong[:EXAMPLES]],
    }


def run(machine: Machine, opcodes: set[str]) -> dict[str, list[Any]]:
    """Run the table; results by what they are."""
    rows: list[Any] = []
    refused: list[Any] = []
    for opcode, members in by_opcode().items():
        if opcodes and opcode not in opcodes:
            continue
        outcomes, failures = machine.run_rows(members)
        rows += [describe(outcome) for outcome in outcomes]
        refused += [{"name": row.name, "why": why} for row, why in failures.items()]
        wrong = sum(bool(outcome.wrong) for outcome in outcomes)
        print(f"{opcode}: {len(outcomes)} rows, {wrong} differ, {len(failures)} refused")
    orders: list[Any] = []
    for atomic in atomics.atomics():
        if opcodes and "atom" not in opcodes:
            continue
        try:
            orders.append(
                {"name": atomic.name, "problems": atomics.run(machine, atomic)[:EXAMPLES]}
            )
        except CudaError as error:
            refused.append({"name": atomic.name, "why": reason(error)})
    return {"rows": rows, "atomics": orders, "refused": refused}


def main() -> int:
    """Run, or write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--executor", choices=("software", "cuda"), default="software")
    parser.add_argument("--only", default="", help="opcodes, separated by commas")
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("--write", type=Path, help="write the page from results of earlier runs")
    parser.add_argument("results", nargs="*", type=Path, help="results for --write")
    arguments = parser.parse_args()
    if arguments.write:
        results = [json.loads(path.read_text()) for path in arguments.results]
        arguments.write.write_text(document(results))
        return 0
    if arguments.executor == "cuda" and (why := why_no_gpu()):
        print(f"no physical GPU: {why}", file=sys.stderr)
        return 1
    executor = make_executor(
        ExecutorOptions(arguments.executor, memory_bytes=1 << 28, profile="sm_90")
    )
    device = executor.describe()
    opcodes = {name for name in arguments.only.split(",") if name}
    result = {
        "executor": arguments.executor,
        "device": device.name,
        "capability": ".".join(map(str, device.compute_capability)),
        "driver": device.driver_version,
        "host": platform.machine(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "command": " ".join(["python bench/instruction_differences.py", *sys.argv[1:]]),
        **run(Machine(executor), opcodes),
    }
    executor.close()
    differ = [row for row in result["rows"] if row["wrong"]]
    print(f"{len(result['rows'])} rows, {len(differ)} differ, {len(result['refused'])} refused")
    for row in differ:
        print(f"  {row['name']}: {row['wrong']} of {row['operands']}: {row['examples'][0]}")
    for item in result["refused"]:
        print(f"  {item['name']} is refused: {item['why']}")
    for item in result["atomics"]:
        if item["problems"]:
            print(f"  {item['name']}: {item['problems'][0]}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
