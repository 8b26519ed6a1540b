"""Run llama.cpp's test-backend-ops on the device, op by op, and count what fails.

Each op runs in a process of its own; ops with many cases are split by their first parameters.
Results are appended to a file of JSON lines, from which an interrupted run goes on. What follows
`--` is the command to run, by default test-backend-ops of the image `llm`.

    python bench/backend_ops.py [--ops REGEX] [--jobs 1] [--limit SECONDS] [--results FILE]
        [--json] [-- COMMAND...]
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import re
import signal
import subprocess
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

TEST_PROGRAM = "/usr/libexec/x86_64-linux-gnu/ggml/test-backend-ops"
#: One case of MUL_MAT takes 13 GB of device memory, most of it in one piece.
COMMAND = [
    *("vgpu-stub", "exec", "--executor", "software", "--gpu-memory", "24G"),
    *("--image", "llm", "--", TEST_PROGRAM),
]
#: Parts of an op have at most so many cases where its parameters allow it.
PART = 200
#: What a llama model runs, first.
FIRST = [
    "MUL_MAT",
    "RMS_NORM",
    "ROPE",
    "SOFT_MAX",
    "GET_ROWS",
    "SET_ROWS",
    "CPY",
    "CONT",
    "ADD",
    "MUL",
    "SWIGLU",
    "ARGMAX",
    "MUL_MAT_ID",
    "FLASH_ATTN_EXT",
    "SILU",
    "GELU",
    "SCALE",
    "NORM",
    "DUP",
    "CONCAT",
    "SUM_ROWS",
    "DIV",
    "SUB",
    "TOP_K",
    "ARGSORT",
    "ADD_ID",
]

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CASE = re.compile(r"^  (\w+\(.*\)): (.*?)(OK|FAIL|not supported.*)\s*$", re.M)


@dataclass(frozen=True)
class Part:
    """Cases of one op; `parameters` is the beginning of theirs, empty for all."""

    op: str
    parameters: str = ""


@dataclass
class Outcome:
    """What became of a part; `end` says why it ended early, if it did."""

    op: str
    parameters: str
    passed: int = 0
    failed: int = 0
    not_supported: int = 0
    seconds: float = 0.0
    end: str = ""
    failures: list[str] = field(default_factory=list)


def list_parts(command: list[str], pattern: str) -> list[Part]:
    """Ask the program which cases there are, and split the ops."""
    listing = subprocess.run(
        [*command, "support", "-b", "CUDA0", "--output", "csv"],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    cases: dict[str, list[list[str]]] = defaultdict(list)
    start = listing.stdout.index('"backend_name"')
    for row in csv.DictReader(io.StringIO(listing.stdout[start:])):
        if re.fullmatch(pattern, row["op_name"]):
            cases[row["op_name"]].append(re.split(r",(?![^\[]*\])", row["op_params"]))
    names = sorted(cases, key=lambda op: (FIRST.index(op) if op in FIRST else len(FIRST), op))
    return [Part(op, begin) for op in names for begin in split(cases[op], 0)]


def split(cases: list[list[str]], depth: int) -> list[str]:
    """Beginnings of parameter lists that part the cases into groups of about `PART`."""
    begin = ",".join(cases[0][:depth])
    if len(cases) <= PART or depth >= min(map(len, cases)):
        return [begin]
    groups: dict[str, list[list[str]]] = defaultdict(list)
    for case in cases:
        groups[case[depth]].append(case)
    return [part for group in groups.values() for part in split(group, depth + 1)]


def run(command: list[str], part: Part, limit: float) -> Outcome:
    outcome = Outcome(part.op, part.parameters)
    chosen = ["-p", f"^{re.escape(part.parameters)}(,|$)"] if part.parameters else []
    start = time.monotonic()
    process = subprocess.Popen(
        [*command, "test", "-b", "CUDA0", "-o", part.op, *chosen],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        output, _ = process.communicate()
        outcome.end = f"stopped after {limit:.0f} s"
    outcome.seconds = round(time.monotonic() - start, 1)
    text = _COLOUR.sub("", output.decode(errors="replace"))
    for case, detail, result in _CASE.findall(text):
        if result == "OK":
            outcome.passed += 1
        elif result == "FAIL":
            outcome.failed += 1
            outcome.failures.append(f"{case}: {detail}".strip())
        else:
            outcome.not_supported += 1
    if process.returncode and not outcome.end and not outcome.failed:
        found = re.search(r"^.*(CUDA error|GGML_ASSERT|vgpu-stub:).*", text, re.M)
        last = found[0] if found else text.strip()[-300:]
        outcome.end = f"ended with {process.returncode}: {last}"
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--ops", default=".*", help="ops whose whole name matches")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--limit", type=float, default=1800, help="seconds for each part")
    parser.add_argument("--results", type=Path, help="file of JSON lines; what passed is not rerun")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("command", nargs="*", default=COMMAND)
    arguments = parser.parse_args()
    outcomes: dict[Part, Outcome] = {}
    if arguments.results and arguments.results.exists():
        for line in arguments.results.read_text().splitlines():
            known = Outcome(**json.loads(line))
            outcomes[Part(known.op, known.parameters)] = known
    parts = list_parts(arguments.command, arguments.ops)
    left = [p for p in parts if p not in outcomes or outcomes[p].failed or outcomes[p].end]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for outcome in pool.map(lambda part: run(arguments.command, part, arguments.limit), left):
            outcomes[Part(outcome.op, outcome.parameters)] = outcome
            if arguments.results:
                with arguments.results.open("a") as file:
                    file.write(json.dumps(asdict(outcome)) + "\n")
    shown = [outcomes[part] for part in parts]
    report(shown, arguments.json)
    return 1 if any(outcome.failed or outcome.end for outcome in shown) else 0


def report(outcomes: list[Outcome], as_json: bool) -> None:
    names = ("passed", "failed", "not_supported", "seconds")
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        for name in names:
            rows[outcome.op][name] += getattr(outcome, name)
            rows["total"][name] += getattr(outcome, name)
    rows["total"] = rows.pop("total")
    if as_json:
        print(json.dumps({"ops": rows, "parts": [asdict(o) for o in outcomes]}, indent=2))
        return
    print(f"{'op':28}{'passed':>8}{'failed':>8}{'not supported':>15}{'seconds':>9}")
    for op, row in rows.items():
        print(
            f"{op:28}{row['passed']:8}{row['failed']:8}{row['not_supported']:15}"
            f"{row['seconds']:9.1f}"
        )
    for outcome in outcomes:
        for failure in outcome.failures:
            print(f"failed: {failure}")
        if outcome.end:
            print(f"{outcome.op}({outcome.parameters}): {outcome.end}")


if __name__ == "__main__":
    raise SystemExit(main())
