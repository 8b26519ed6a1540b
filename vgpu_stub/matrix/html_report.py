"""Renders a matrix report as one HTML page that needs nothing else, in light and dark."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Final

from vgpu_stub.matrix.results import CellResult, MatrixReport, Verdict

_TEMPLATE: Final = Path(__file__).with_name("report.html")


def render_html(report: MatrixReport) -> str:
    """The page."""
    template = Template(_TEMPLATE.read_text(encoding="utf-8"))
    host = "".join(
        f"<div><dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd></div>"
        for name, value in report.host.items()
    )
    return template.substitute(
        title=escape(Path(report.matrix).name),
        verdict="passed" if report.is_good else "failed",
        started=escape(report.started),
        duration=_duration(report.duration_s),
        badges=_badges(report.counts),
        host=host,
        grid=_grid(report.results),
        details="".join(_details(result) for result in report.results),
    )


def _badges(counts: Mapping[Verdict, int]) -> str:
    return "".join(
        f'<span class="badge {verdict.lower()}"><b>{number}</b> {verdict}</span>'
        for verdict, number in counts.items()
        if number
    )


def _grid(results: tuple[CellResult, ...]) -> str:
    rows = list(dict.fromkeys(result.row for result in results))
    columns = list(dict.fromkeys(result.column for result in results))
    places = {(result.row, result.column): result for result in results}
    head = "".join(f"<th scope=col>{escape(column)}</th>" for column in columns)
    body = []
    for row in rows:
        entries = "".join(_entry(places.get((row, column))) for column in columns)
        parts = "".join(f"<span>{escape(part)}</span>" for part in row.split("/"))
        body.append(f"<tr><th scope=row>{parts}</th>{entries}</tr>")
    return f"<thead><tr><th></th>{head}</tr></thead><tbody>{''.join(body)}</tbody>"


def _entry(result: CellResult | None) -> str:
    if result is None:
        return "<td class=none></td>"
    counts = result.test_counts
    note = f"{counts.get('passed', 0)}/{len(result.tests)}" if result.tests else ""
    title = escape(result.reason or result.name, quote=True)
    return (
        f'<td><a class="cell {result.verdict.lower()}" href="#{_anchor(result)}" title="{title}">'
        f"<b>{result.verdict}</b><small>{note} {_duration(result.duration_s)}</small></a></td>"
    )


def _details(result: CellResult) -> str:
    facts = {
        "kernel": result.kernel_release,
        "booted in": "" if result.boot_s is None else f"{result.boot_s:.1f} s",
        "took": _duration(result.duration_s),
        "exit status": "" if result.status is None else str(result.status),
        "tests": ", ".join(f"{number} {name}" for name, number in result.test_counts.items()),
    }
    shown = "".join(
        f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>"
        for name, value in facts.items()
        if value
    )
    links = " ".join(
        f'<a href="cells/{escape(result.folder, quote=True)}/{escape(name, quote=True)}">'
        f"{escape(name)}</a>"
        for name in result.logs
    )
    parts = [
        f"<p class=reason>{escape(result.reason)}</p>" if result.reason else "",
        f"<dl>{shown}</dl>" if shown else "",
        "".join(_problem(problem) for problem in result.problems),
        "".join(_failed_test(test) for test in result.tests if test["outcome"] == "failed"),
        _faults(result),
        _tests(result),
        "".join(_block(name, text) for name, text in result.tail.items()),
        f"<p class=links>{links}</p>" if links else "",
    ]
    is_open = "" if result.verdict.is_good else " open"
    return (
        f'<details id="{_anchor(result)}" class="{result.verdict.lower()}"{is_open}>'
        f'<summary><span class="badge {result.verdict.lower()}">{result.verdict}</span>'
        f"<code>{escape(result.name)}</code></summary>{''.join(parts)}</details>"
    )


def _problem(problem: Mapping[str, Any]) -> str:
    title = f"{problem['kind']}: {problem['title']}"
    return _block(title, problem["report"], is_open=True, kind="bad")


def _failed_test(test: Mapping[str, Any]) -> str:
    return _block(test["name"], test["text"] or "(no text)", is_open=True, kind="bad")


def _faults(result: CellResult) -> str:
    if not result.faults:
        return ""
    rows = "".join(
        f"<tr><td><code>{escape(fault['text'])}</code></td><td>{fault['seen']}</td>"
        f"<td>{fault['fired']}</td></tr>"
        for fault in result.faults
    )
    return (
        "<table class=list><tr><th>injected fault</th><th>seen</th><th>fired</th></tr>"
        f"{rows}</table>"
    )


def _tests(result: CellResult) -> str:
    """All tests, the slowest first; folded away."""
    if not result.tests:
        return ""
    ordered = sorted(result.tests, key=lambda test: -float(test["duration_s"]))
    rows = "".join(
        f'<tr><td class="{test["outcome"]}">{test["outcome"]}</td><td>{escape(test["name"])}</td>'
        f"<td>{test['duration_s']:.2f} s</td></tr>"
        for test in ordered
    )
    return (
        f"<details class=fold><summary>{len(ordered)} tests, the slowest first</summary>"
        f"<table class=list>{rows}</table></details>"
    )


def _block(title: str, text: str, *, is_open: bool = False, kind: str = "") -> str:
    opened = " open" if is_open else ""
    return (
        f'<details class="fold {kind}"{opened}><summary>{escape(title)}</summary>'
        f"<pre>{escape(text)}</pre></details>"
    )


def _anchor(result: CellResult) -> str:
    return escape("cell-" + result.name.replace("/", "--"), quote=True)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02} s"
