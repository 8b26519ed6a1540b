"""Inference of a language model that stays on the device, and the proof of it by counters.

    python3 llm_resident MODEL.gguf --prompt-tokens 64 --tokens 128

The whole forward pass runs in kernels of this workload; weights are uploaded once. The verdict is
RESIDENT, or says why not, and so does the exit status (1). `--defect` reproduces what real programs
do wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from device import Device, DeviceError
from model import Model
from operations import DEFECTS, Operations
from pool import SHARE, BufferPool, PoolExhaustedError
from reference import Reference
from timeline import Sampler, write_plot
from verdict import Verdict, judge
from weights import ModelError, ModelFile, Uploader

_PTX: Final = Path(__file__).resolve().parent.parent / "build" / "llm_resident.ptx"
_TOLERANCE: Final = 1e-3
#: Steps that are queued before the oldest one's token is waited for.
_AHEAD: Final = 2


@dataclass(frozen=True)
class Run:
    """What came out of a run."""

    tokens: list[int]
    load_s: float
    first_token_s: float
    decode_s: float
    busy_share: float
    busy: list[tuple[float, float]]
    logits_bytes: int
    logits: Any


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="llm_resident", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", type=Path, help="GGUF file of a llama model")
    parser.add_argument("--prompt-tokens", type=int, default=16, metavar="N")
    parser.add_argument("--tokens", type=int, default=32, metavar="N", help="tokens to generate")
    parser.add_argument(
        "--temperature", type=float, default=0.0, help="0 (default): the best token"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the prompt and of draws")
    parser.add_argument(
        "--decode-at-load", action="store_true", help="keep weights as halves, not as blocks"
    )
    parser.add_argument(
        "--memory-share", type=float, default=SHARE, help="part that the pool may hold"
    )
    parser.add_argument("--no-graph", action="store_true", help="launch every kernel by itself")
    parser.add_argument("--logits", action="store_true", help="fetch the logits of every token")
    parser.add_argument("--check", action="store_true", help="compare tokens with numpy's")
    parser.add_argument(
        "--defect",
        action="append",
        default=[],
        choices=DEFECTS,
        help="\n".join(f"{name}: {text}" for name, text in DEFECTS.items()),
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="memory and use over time")
    options = parser.parse_args()
    if options.prompt_tokens < 1 or options.tokens < 1:
        parser.error("a prompt and an answer have a token at least")
    if options.check and options.temperature:
        parser.error("--check compares the best tokens; a temperature draws others")
    if not 0 < options.memory_share <= 1:
        parser.error("--memory-share is a part, from 0 to 1")
    return options


def _generate(device: Device, model: Model, options: argparse.Namespace, sampler: Sampler) -> Run:
    loaded = time.perf_counter()
    random = np.random.default_rng(options.seed)
    prompt = random.integers(3, model.shape.vocabulary, options.prompt_tokens).tolist()
    count = options.tokens
    marks = [(device.event(), device.event()) for _ in range(count)]
    arrived = [device.event() for _ in range(count)]
    tokens = device.pinned(4 * count).view(np.int32)
    logits: list[Any] = []

    def enter(phase: str) -> None:
        device.phase = phase
        sampler.look()

    def fetch(number: int) -> None:
        device.hold(device.copies, marks[number][1])
        device.download(tokens[number : number + 1], model.chosen(number), device.copies)
        device.record(arrived[number], device.copies)
        if options.logits:
            logits.append(model.read_logits())

    enter("prompt")
    began = time.perf_counter()
    device.record(marks[0][0])
    model.prompt(prompt)
    device.record(marks[0][1])
    fetch(0)
    device.wait_for(arrived[0])
    first = time.perf_counter()
    if not options.defect and not options.no_graph and not _on_host(model):
        enter("capture")
        model.capture()
    enter("decode")
    decoding = time.perf_counter()
    for number in range(1, count):
        if "reupload" in options.defect:
            model.upload_weights_again()
        device.record(marks[number][0])
        model.step()
        device.record(marks[number][1])
        fetch(number)
        if number > _AHEAD:
            device.wait_for(arrived[number - _AHEAD])
    device.wait(device.copies)
    ended = time.perf_counter()
    enter("end")
    zero = began - sampler.start
    busy = [
        (zero + device.elapsed(marks[0][0], begin), zero + device.elapsed(marks[0][0], end))
        for begin, end in marks
    ]
    worked = sum(end - begin for begin, end in busy[1:])
    return Run(
        tokens.tolist(),
        loaded - sampler.start,
        first - began,
        ended - decoding,
        min(worked / (ended - decoding), 1.0) if count > 1 else 0.0,
        busy,
        4 * model.shape.vocabulary * (count - 1) if options.logits else 0,
        (prompt, logits),
    )


def _on_host(model: Model) -> bool:
    return any(tensor.device == "cpu" for tensor in model.tensors())


def _check(file: ModelFile, run: Run) -> dict[str, Any]:
    """Compare with numpy: tokens, and logits where they were fetched."""
    prompt, logits = run.logits
    tokens, expected = Reference(file).generate(prompt, len(run.tokens))
    result: dict[str, Any] = {"tokens_right": tokens == run.tokens, "expected": tokens}
    if logits:
        pairs = zip(logits, expected, strict=True)
        deviation = max(float(np.abs(got - want).max() / np.abs(want).max()) for got, want in pairs)
        result |= {"logits_deviation": deviation, "logits_right": deviation <= _TOLERANCE}
    return result


def _report(
    device: Device, pool: BufferPool, run: Run, do: Operations, verdict: Verdict, shape: Any
) -> dict[str, Any]:
    decode = device.phases["decode"] if "decode" in device.phases else device.phases["prompt"]
    made = max(len(run.tokens) - 1, 1)
    return {
        "verdict": verdict.code,
        "reason": verdict.reason,
        "device": device.name,
        "shape": asdict(shape),
        "tokens": run.tokens,
        "load_s": run.load_s,
        "first_token_s": run.first_token_s,
        "tokens_per_s": (len(run.tokens) - 1) / run.decode_s,
        "busy_share": run.busy_share,
        "bytes_per_token": decode.moved_bytes / made,
        "launches_per_token": decode.launches / made,
        "kernels_per_token": decode.kernels / made,
        "waits_per_token": decode.waits / made,
        "allocations_per_token": decode.allocations / made,
        "operations_on_device": do.on_device,
        "fallbacks": [
            {"operation": name, "reason": reason, "count": count}
            for (name, reason), count in do.fallbacks.items()
        ],
        "pool": {
            "cap": pool.cap,
            "held": pool.held,
            "high_water": pool.high_water,
            "hits": pool.hits,
            "misses": pool.misses,
        },
        "phases": {
            name: {**asdict(traffic), "moved_bytes": traffic.moved_bytes}
            for name, traffic in device.phases.items()
        },
    }


def _print(report: dict[str, Any]) -> None:
    rows: Sequence[tuple[str, str]] = (
        ("device", report["device"]),
        ("load", f"{report['load_s']:.2f} s"),
        ("first token", f"{report['first_token_s']:.3f} s"),
        ("decode", f"{report['tokens_per_s']:.1f} tokens/s"),
        ("device busy", f"{report['busy_share']:.0%} of the time"),
        (
            "memory",
            f"{report['pool']['high_water'] / 1e6:.1f} MB of {report['pool']['cap'] / 1e6:.0f}",
        ),
        (
            "a token",
            f"{report['bytes_per_token']:.1f} bytes, {report['launches_per_token']:.1f} launches"
            f" ({report['kernels_per_token']:.0f} kernels), {report['waits_per_token']:.1f} waits",
        ),
        (
            "on the host",
            ", ".join(
                f"{row['count']} {row['operation']} ({row['reason']})"
                for row in report["fallbacks"]
            )
            or "no operation",
        ),
        ("verdict", f"{report['verdict']}: {report['reason']}"),
    )
    for name, text in rows:
        print(f"{name:<12} {text}")
    if "check" in report:
        same = report["check"]["tokens_right"]
        print(f"{'numpy':<12} {'the same tokens' if same else 'OTHER TOKENS'}")


def main() -> int:
    """Load, prompt, decode, judge."""
    options = _options()
    try:
        file = ModelFile(options.model)
        with Device() as device:
            device.phase = "load"
            _, total = device.memory()
            pool = BufferPool(int(total * options.memory_share), device.allocate, device.free)
            with Sampler(lambda: (device.phase, pool.used, pool.held)) as sampler:
                do = Operations(device, device.module(_PTX), pool, set(options.defect))
                uploader = Uploader(device, do.kernel, pool, decoded=options.decode_at_load)
                model = Model(
                    device,
                    file,
                    uploader,
                    do,
                    pool,
                    context=options.prompt_tokens + options.tokens,
                    temperature=options.temperature,
                    seed=options.seed,
                )
                run = _generate(device, model, options, sampler)
            decode = device.phases.get("decode", device.phases["prompt"])
            verdict = judge(
                decode, max(options.tokens - 1, 1), do.fallbacks, run.busy_share, run.logits_bytes
            )
            report = _report(device, pool, run, do, verdict, file.shape)
    except (OSError, ModelError, DeviceError, PoolExhaustedError) as error:
        print(f"llm_resident: {error}", file=sys.stderr)
        return 2
    right = True
    if options.check:
        report["check"] = _check(file, run)
        right = report["check"]["tokens_right"] and report["check"].get("logits_right", True)
    if options.plot:
        title = f"{options.model.name} on {report['device']}: {verdict.code}"
        write_plot(options.plot, sampler.samples, run.busy, title)
    if options.json:
        print(json.dumps(report))
    else:
        _print(report)
    return 0 if verdict.resident and right else 1


if __name__ == "__main__":
    sys.exit(main())
