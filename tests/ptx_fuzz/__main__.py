"""`python -m tests.ptx_fuzz`: run random PTX programs and mutations on the software GPU."""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from pathlib import Path

from .campaign import THOROUGH, Failure, Tally, describe, jobs, reduce, run, write_reproduction
from .workers import Job, Worker


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.ptx_fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=300, help="programs to run")
    parser.add_argument("--seed", type=int, help="of the first program; random by default")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--mutations", nargs="?", type=int, const=-1, default=0,
        help="mutations to run; without a number half as many as programs",
    )  # fmt: skip
    parser.add_argument("--reduce", action="store_true", help="reduce each failure")
    parser.add_argument("--reduce-seconds", type=float, default=120.0)
    parser.add_argument("--output", type=Path, default=Path("fuzz-failures"), metavar="FOLDER",
                        help="where failures are written")  # fmt: skip
    parser.add_argument("--show", action="store_true", help="print the program of the seed")
    parser.add_argument(
        "--case", type=Path, help="judge one file (with --mutations: as a mutation)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser.parse_args()


def _report(tally: Tally) -> None:
    if tally.total % 50 == 0:
        print(describe(tally), file=sys.stderr, flush=True)


def _judge_one(job: Job, arguments: argparse.Namespace) -> int:
    with Worker() as worker:
        judgement = worker.judge(job)
    print(f"{judgement.verdict.value} {judgement.detail}")
    if judgement.verdict.is_failure and arguments.reduce:
        failure = Failure(job, judgement)
        small = reduce(failure, arguments.reduce_seconds)
        print(write_reproduction(failure, small, arguments.output))
    return int(judgement.verdict.is_failure)


def main() -> int:
    """Run the campaign; 1 if anything failed."""
    arguments = _arguments()
    kind = "mutation" if arguments.mutations else "program"
    if arguments.case:
        return _judge_one(Job(kind, text=arguments.case.read_text(), strict=True), arguments)
    seed = arguments.seed if arguments.seed is not None else random.randrange(10**9)
    if arguments.show:
        print(Job(kind, seed).case().write())
        return 0
    print(f"seed {seed}", file=sys.stderr, flush=True)
    mutations = arguments.mutations if arguments.mutations >= 0 else arguments.count // 2
    tally = run(jobs(seed, arguments.count, mutations, THOROUGH), arguments.jobs, _report)
    files = []
    for failure in tally.failures:
        print(failure, file=sys.stderr, flush=True)
        case = failure.job.case()
        if arguments.reduce:
            case = reduce(failure, arguments.reduce_seconds)
        files.append(str(write_reproduction(failure, case, arguments.output)))
        print(f"  {files[-1]}", file=sys.stderr, flush=True)
    if arguments.json:
        result = {
            "seed": seed, "cases": tally.total, "seconds": round(tally.seconds, 1),
            "verdicts": dict(sorted(tally.counts.items())), "failures": files,
        }  # fmt: skip
        print(json.dumps(result, indent=2))
    else:
        print(describe(tally))
    return int(bool(tally.failures))


if __name__ == "__main__":
    sys.exit(main())
