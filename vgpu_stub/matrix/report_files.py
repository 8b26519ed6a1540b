"""Writes the reports of a matrix: JSON for programs, JUnit XML for CI systems, HTML for people."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

from vgpu_stub.harness.ktap import xml_text
from vgpu_stub.matrix.html_report import render_html
from vgpu_stub.matrix.results import CellResult, MatrixReport, Verdict

JSON_NAME = "report.json"
JUNIT_NAME = "junit.xml"
HTML_NAME = "report.html"


def write_reports(report: MatrixReport, folder: Path) -> None:
    """Write all three into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report.to_json(), indent=1, ensure_ascii=False)
    (folder / JSON_NAME).write_text(text + "\n", encoding="utf-8")
    (folder / HTML_NAME).write_text(render_html(report), encoding="utf-8")
    tree = ElementTree.ElementTree(junit_tree(report))
    ElementTree.indent(tree)
    tree.write(folder / JUNIT_NAME, encoding="utf-8", xml_declaration=True)


def junit_tree(report: MatrixReport) -> ElementTree.Element:
    """One suite for each cell: its tests, and a case of the cell's name for the cell itself."""
    root = ElementTree.Element("testsuites", name=Path(report.matrix).name)
    for result in report.results:
        _suite(root, result, report.started)
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(suite.attrib[name]) for suite in root)))
    root.set("time", f"{report.duration_s:.3f}")
    return root


def _suite(root: ElementTree.Element, result: CellResult, started: str) -> None:
    counts = result.test_counts
    failed, error = result.verdict in (Verdict.FAIL, Verdict.WEDGED), result.verdict
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        name=result.name,
        tests=str(len(result.tests) + 1),
        failures=str(counts.get("failed", 0) + int(failed)),
        errors=str(int(error is Verdict.ERROR)),
        skipped=str(counts.get("skipped", 0) + int(error is Verdict.SKIP)),
        time=f"{result.duration_s:.3f}",
        timestamp=started,
    )
    cell = ElementTree.SubElement(
        suite,
        "testcase",
        classname=result.row.replace("/", "."),
        name=result.column,
        time=f"{result.duration_s:.3f}",
    )
    if not result.verdict.is_good:
        kind = "error" if result.verdict is Verdict.ERROR else "failure"
        message = f"{result.verdict}: {result.reason}"
        element = ElementTree.SubElement(cell, kind, message=xml_text(message))
        element.text = xml_text("\n\n".join(problem["report"] for problem in result.problems))
    elif result.verdict is Verdict.SKIP:
        ElementTree.SubElement(cell, "skipped", message=xml_text(result.reason))
    for test in result.tests:
        file, _, name = test["name"].rpartition("::")
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=f"{result.name}.{file.removesuffix('.py')}".replace("/", "."),
            name=xml_text(name),
            time=f"{test['duration_s']:.3f}",
        )
        if test["outcome"] == "failed":
            last = (test["text"].strip().splitlines() or ["failed"])[-1]
            failure = ElementTree.SubElement(case, "failure", message=xml_text(last))
            failure.text = xml_text(test["text"])
        elif test["outcome"] == "skipped":
            ElementTree.SubElement(case, "skipped", message=xml_text(test["text"]))
    if output := result.tail.get("output.log"):
        ElementTree.SubElement(suite, "system-out").text = xml_text(output)
