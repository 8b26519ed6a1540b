"""Matrix files: read in full, or refused with the place and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from vgpu_stub.matrix.file import MatrixError, load_matrix

ROOT = Path(__file__).resolve().parents[3]


def load(tmp_path: Path, text: str):  # type: ignore[no-untyped-def]
    path = tmp_path / "matrix.toml"
    path.write_text(text, encoding="utf-8")
    return load_matrix(path)


def test_an_empty_file_runs_the_smoke_tests_once(tmp_path: Path) -> None:
    matrix = load(tmp_path, "")
    assert matrix.axes == {
        "kernels": ("6.12",),
        "flavours": ("plain",),
        "executors": ("software",),
        "profiles": ("sm_61",),
        "faults": ("no-faults",),
        "images": ("cuda",),
        "commands": ("smoke",),
    }
    assert matrix.commands["smoke"].smoke == ""


def test_tables_say_what_values_mean(tmp_path: Path) -> None:
    (tmp_path / "more.toml").write_text('[[fault]]\nkind = "worker-crash"\nnth = 2\n')
    matrix = load(
        tmp_path,
        """
        [matrix]
        memory = 2048
        accel = "tcg"
        expected = ["nobody cared"]
        [axes]
        kernels = ["6.1", "mine"]
        flavours = "strict"
        faults = ["crash"]
        commands = ["list", "host"]
        [kernels.mine]
        path = "linux"
        [flavours.strict]
        arguments = ["panic_on_warn=1"]
        [faults.crash]
        file = "more.toml"
        rules = "completion-lost:opcode=LAUNCH_KERNEL,nth=3"
        expected = "device error"
        [commands.list]
        run = ["ls", "/dev"]
        status = 2
        timeout = 10
        [commands.host]
        pytest = ["tests/test_mine.py", "-k", "ring"]
        """,
    )
    assert (matrix.settings.memory, matrix.settings.accel) == (2048, "tcg")
    assert matrix.settings.expected == ("nobody cared",)
    assert matrix.kernels["mine"].source == str(tmp_path / "linux")
    assert matrix.flavours["strict"].arguments == ("panic_on_warn=1",)
    crash = matrix.faults["crash"]
    assert [rule.kind for rule in crash.rules] == ["worker-crash", "completion-lost"]
    assert crash.expected == ("device error",)
    listing = matrix.commands["list"]
    assert (listing.run, listing.status, listing.timeout) == (("ls", "/dev"), 2, 10.0)
    assert matrix.commands["host"].pytest == ("tests/test_mine.py", "-k", "ring")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[axes]\nkernel = '6.1'", r"\[axes\]: there is no 'kernel'; did you mean 'kernels'\?"),
        ("[axes]\nkernels = '6.13'", r"\[axes\] kernels: there is no '6.13'; did you mean '6.1"),
        ("[axes]\nkernels = []", r"\[axes\] kernels: is empty"),
        ("[axes]\nprofiles = [61]", r"\[axes\] profiles: is a string or a list of strings"),
        ("[matrix]\nmemory = 'much'", r"\[matrix\] memory: is a number of at least 1, not 'much'"),
        ("[matrix]\nsaved = 1", r"\[matrix\] saved: is true or false, not 1"),
        ("[matrix]\naccel = 'fast'", r"accel: 'fast': use auto, kvm or tcg"),
        ("[kernels.mine]", r"\[kernels.mine\]: wants path"),
        ("[faults.none]", r"\[faults.none\]: has no faults"),
        ("[faults.x]\nrules = 'completion-lots'", r"\[faults.x\]: .*completion-lost"),
        ("[faults.x]\nfile = 'absent.toml'", r"\[faults.x\]: .*absent.toml"),
        ("[commands.x]\nrun = 'a'\nsmoke = ''", r"\[commands.x\]: wants one of smoke, run and"),
        ("[commands.'a b']\nrun = 'a'", r"\[commands.a b\]: a name has letters"),
        ("[[exclude]]", r"\[\[exclude\]\] 1: names no axis"),
        ("[[include]]\nprofile = 'sm_62'", r"\[\[include\]\] 1 profile: there is no 'sm_62'"),
        ("[matrix]\nexpected = '('", r"\[matrix\] expected: '\(': "),
        ("axes = !", r"matrix.toml: .*line 1"),
    ],
)
def test_mistakes_are_refused_with_their_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(MatrixError, match=message):
        load(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MatrixError, match=r"absent.toml: No such file"):
        load_matrix(tmp_path / "absent.toml")


def test_the_example_is_right() -> None:
    assert len(load_matrix(ROOT / "examples/matrix.toml").axes["kernels"]) == 3
