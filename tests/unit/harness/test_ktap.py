"""KTAP becomes results, JUnit and counts; tests that never reported fail."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from vgpu_stub.harness.ktap import KtapReader, Outcome, TestResult, count, write_junit
from vgpu_stub.harness.smoke import planned_tests

STREAM = b"""\
KTAP version 1
1..4
# duration 0.125
ok 1 test_ring.py::test_a_nop_comes_back
# call:
# E   assert 1 == 2
# duration 0.250
not ok 2 test_ring.py::test_mapping[a # sign]
ok 3 test_sensors.py::test_fan # SKIP no fan
a line of somebody else
ok 4 test_end.py::test_last
"""


def read(stream: bytes, piece: int = 7) -> KtapReader:
    reader = KtapReader()
    for start in range(0, len(stream), piece):
        reader.feed(stream[start : start + piece])
    reader.close()
    return reader


def test_each_line_is_a_result_with_its_explanation() -> None:
    assert read(STREAM).results == [
        TestResult("test_ring.py::test_a_nop_comes_back", Outcome.PASSED, 0.125),
        TestResult(
            "test_ring.py::test_mapping[a # sign]",
            Outcome.FAILED,
            0.25,
            "call:\nE   assert 1 == 2",
        ),
        TestResult("test_sensors.py::test_fan", Outcome.SKIPPED, 0.0, "no fan"),
        TestResult("test_end.py::test_last", Outcome.PASSED),
    ]


def test_results_and_other_lines_are_told_as_they_come() -> None:
    names: list[str] = []
    texts: list[str] = []
    reader = KtapReader(on_result=lambda result: names.append(result.name), on_text=texts.append)
    reader.feed(STREAM[: STREAM.index(b"not ok")])
    assert names == ["test_ring.py::test_a_nop_comes_back"]
    reader.feed(STREAM[STREAM.index(b"not ok") :])
    assert len(names) == 4
    assert texts == ["a line of somebody else"]


def test_a_run_that_ends_early_has_failed() -> None:
    cut = STREAM[: STREAM.index(b"ok 3")]
    results = read(cut).results
    assert (results[-1].name, results[-1].outcome) == ("plan", Outcome.FAILED)
    assert results[-1].text == (
        "4 tests were planned and 2 reported; the last was test_ring.py::test_mapping[a # sign]"
    )


def test_a_run_without_a_plan_has_failed() -> None:
    (result,) = read(b"ImportError: no module named ktap\n").results
    assert result.outcome is Outcome.FAILED
    assert "before they said how many" in result.text


def test_junit_has_counts_times_and_texts(tmp_path: Path) -> None:
    path = tmp_path / "new" / "junit.xml"
    results = [*read(STREAM).results, TestResult("x", Outcome.FAILED, 1.0, "bell \x07 rings")]
    write_junit(path, "smoke", results)
    suite = ElementTree.parse(path).getroot().find("testsuite")
    assert suite is not None
    assert suite.attrib == {
        "name": "smoke",
        "tests": "5",
        "failures": "2",
        "errors": "0",
        "skipped": "1",
        "time": "1.375",
    }
    cases = suite.findall("testcase")
    assert cases[0].attrib == {
        "classname": "test_ring",
        "name": "test_a_nop_comes_back",
        "time": "0.125",
    }
    failure = cases[1].find("failure")
    assert failure is not None
    assert (failure.attrib["message"], failure.text) == (
        "E   assert 1 == 2",
        "call:\nE   assert 1 == 2",
    )
    assert count(results) == {"passed": 2, "failed": 2, "skipped": 1}


def test_the_plan_names_each_test_once_in_the_order_of_files() -> None:
    tests = planned_tests()
    assert len(tests) == len(set(tests)) >= 140
    files = [test.split("::")[0] for test in tests]
    assert files == sorted(files)
