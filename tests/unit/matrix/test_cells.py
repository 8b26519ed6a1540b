"""Cells: the product with what is excluded and included, by names that stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from vgpu_stub.matrix.cells import Cell, make_cells, select
from vgpu_stub.matrix.file import MatrixError, load_matrix


def cells_of(tmp_path: Path, text: str) -> list[Cell]:
    path = tmp_path / "matrix.toml"
    path.write_text(text, encoding="utf-8")
    return make_cells(load_matrix(path))


def names(cells: list[Cell]) -> list[str]:
    return [cell.name for cell in cells]


def test_a_name_has_what_differs_from_the_usual_in_its_place(tmp_path: Path) -> None:
    text = """
    [axes]
    kernels = "6.1"
    flavours = ["plain", "debug"]
    images = ["cuda", "llm"]
    """
    assert names(cells_of(tmp_path, text)) == [
        "6.1/software/sm_61/no-faults/smoke",
        "6.1/software/sm_61/no-faults/smoke@llm",
        "6.1+debug/software/sm_61/no-faults/smoke",
        "6.1+debug/software/sm_61/no-faults/smoke@llm",
    ]


def test_a_name_stays_when_an_axis_gains_values(tmp_path: Path) -> None:
    few = cells_of(tmp_path, "[axes]\nkernels = '6.1'")
    many = cells_of(tmp_path, "[axes]\nkernels = ['7.2', '6.1']\nprofiles = ['sm_90', 'sm_61']")
    assert set(names(few)) < set(names(many))


def test_a_physical_gpu_has_one_profile(tmp_path: Path) -> None:
    text = "[axes]\nexecutors = ['software', 'cuda']\nprofiles = ['sm_61', 'sm_90']"
    assert names(cells_of(tmp_path, text)) == [
        "6.12/software/sm_61/no-faults/smoke",
        "6.12/software/sm_90/no-faults/smoke",
        "6.12/cuda/physical/no-faults/smoke",
    ]


def test_excluded_cells_go_and_included_ones_come(tmp_path: Path) -> None:
    text = """
    [axes]
    kernels = ["6.1", "6.12", "7.2"]
    profiles = ["sm_61", "sm_90"]
    [[exclude]]
    kernel = "6.*"
    profile = "sm_90"
    [[exclude]]
    kernel = "7.2"
    [[include]]
    kernel = "7.2"
    flavour = "debug"
    """
    assert names(cells_of(tmp_path, text)) == [
        "6.1/software/sm_61/no-faults/smoke",
        "6.12/software/sm_61/no-faults/smoke",
        "7.2+debug/software/sm_61/no-faults/smoke",
    ]


def test_excluding_everything_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MatrixError, match="every cell is excluded"):
        cells_of(tmp_path, "[[exclude]]\ncommand = '*'")


def test_cells_are_chosen_by_patterns_in_their_order(tmp_path: Path) -> None:
    cells = cells_of(tmp_path, "[axes]\nkernels = ['6.1', '6.12', '7.2']")
    chosen = select(cells, ["7.2/*", "6.1/*"])
    assert names(chosen) == [
        "6.1/software/sm_61/no-faults/smoke",
        "7.2/software/sm_61/no-faults/smoke",
    ]
    with pytest.raises(MatrixError, match=r"no cell matches '5\*'; --list shows"):
        select(cells, ["5*"])


def test_a_cell_expects_what_its_parts_expect(tmp_path: Path) -> None:
    text = """
    [matrix]
    expected = "a"
    timeout = 7
    [axes]
    commands = "x"
    [commands.x]
    run = "true"
    expected = ["b"]
    """
    (cell,) = cells_of(tmp_path, text)
    assert (cell.expected, cell.timeout) == (("a", "b"), 7.0)
