"""Reports of a matrix: JSON that is read back, JUnit for CI systems, one HTML page."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from vgpu_stub.matrix.display import result_line
from vgpu_stub.matrix.file import MatrixError
from vgpu_stub.matrix.report_files import write_reports
from vgpu_stub.matrix.results import CellResult, MatrixReport, Verdict, failed_cells

ROW = "6.12/software/sm_61/no-faults"
PASSED = CellResult(
    f"{ROW}/smoke",
    ROW,
    "smoke",
    Verdict.PASS,
    duration_s=31.25,
    boot_s=4.5,
    tests=(
        {"name": "test_a.py::test_x", "outcome": "passed", "duration_s": 0.5, "text": ""},
        {"name": "test_a.py::test_y", "outcome": "skipped", "duration_s": 0.0, "text": "no fan"},
    ),
    kernel_release="6.12.1",
    logs=("console.log",),
    folder="6.12--software--sm_61--no-faults--smoke",
)
OOPSED = CellResult(
    f"{ROW}/evil",
    ROW,
    "evil",
    Verdict.FAIL,
    reason="kernel: oops: BUG: <kernel> NULL pointer",
    status=3,
    problems=(
        {"kind": "oops", "title": "BUG: <kernel>", "line": 7, "time_s": 1.5, "report": "R <&> R"},
    ),
    tests=({"name": "t.py::t", "outcome": "failed", "duration_s": 1, "text": "a\nassert 1 == 2"},),
    faults=({"text": "completion-late:every=7", "seen": 14, "fired": 2},),
    tail={"output.log": "the last <words>"},
)
HUNG = CellResult("7.2/x/y/z/w", "7.2/x/y/z", "w", Verdict.WEDGED, reason="did not end")
BROKEN = CellResult("7.2/x/y/z/e", "7.2/x/y/z", "e", Verdict.ERROR, reason="no headers")
SKIPPED = CellResult("7.2/x/y/z/s", "7.2/x/y/z", "s", Verdict.SKIP, reason="no GPU")
REPORT = MatrixReport(
    "some/matrix.toml",
    "2026-01-01T00:00:00+00:00",
    125.0,
    {"machine": "x86_64, 2 processors"},
    (PASSED, OOPSED, HUNG, BROKEN, SKIPPED),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_reports(REPORT, tmp_path)
    return tmp_path


def test_json_has_everything_and_is_read_back(folder: Path) -> None:
    data = json.loads((folder / "report.json").read_text())
    assert data["counts"] == {"PASS": 1, "FAIL": 1, "WEDGED": 1, "ERROR": 1, "SKIP": 1}
    assert tuple(CellResult.from_json(cell) for cell in data["cells"]) == REPORT.results


def test_failed_cells_can_be_run_again_by_name(folder: Path) -> None:
    assert failed_cells(folder / "report.json") == [OOPSED.name, HUNG.name, BROKEN.name]


@pytest.mark.parametrize("text", ["{}", "[", '{"format": 99}'])
def test_what_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(MatrixError):
        failed_cells(path)


def test_junit_has_a_suite_for_each_cell_and_a_case_for_the_cell_itself(folder: Path) -> None:
    root = ElementTree.parse(folder / "junit.xml").getroot()
    totals = {name: root.attrib[name] for name in ("tests", "failures", "errors", "skipped")}
    assert totals == {"tests": "8", "failures": "3", "errors": "1", "skipped": "2"}
    suites = {suite.attrib["name"]: suite for suite in root}
    cases = suites[OOPSED.name].findall("testcase")
    assert cases[0].attrib["name"] == "evil"
    failure = cases[0].find("failure")
    assert failure is not None
    assert failure.attrib["message"] == "FAIL: kernel: oops: BUG: <kernel> NULL pointer"
    assert failure.text == "R <&> R"
    assert cases[1].find("failure").attrib["message"] == "assert 1 == 2"  # type: ignore[union-attr]
    assert suites[HUNG.name].find("testcase/failure") is not None
    assert suites[BROKEN.name].find("testcase/error") is not None
    assert suites[SKIPPED.name].find("testcase/skipped") is not None


class _Page(HTMLParser):
    """Checks that elements nest, and collects links and identities."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = dict(attrs)
        self.links += [value for value in (values.get("href"), values.get("src")) if value]
        self.ids += [values["id"] or ""] if "id" in values else []
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    page = _Page()
    page.feed(text)
    assert page.open == []
    assert not {"script", "link", "img"} & page.tags
    assert not re.search(r"https?://|@import|url\(", text)
    anchors = {link[1:] for link in page.links if link.startswith("#")}
    assert anchors == set(page.ids)
    assert len(page.ids) == len(REPORT.results)
    files = [link for link in page.links if not link.startswith("#")]
    assert files == ["cells/6.12--software--sm_61--no-faults--smoke/console.log"]


def test_the_page_shows_what_guests_wrote_as_text(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    assert "the last &lt;words&gt;" in text
    assert "R &lt;&amp;&gt; R" in text
    assert "<words>" not in text
    assert "<td><code>completion-late:every=7</code></td><td>14</td><td>2</td>" in text
    assert "2 min 05 s" in text
    assert "color-scheme: light dark" in text


def test_a_line_for_people_has_verdict_name_and_reason() -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(result_line(OOPSED))
    line = console.export_text()
    assert line.startswith(f"FAIL    {ROW}/evil 0.0 s (1 failed) kernel: oops: BUG: <kernel>")
