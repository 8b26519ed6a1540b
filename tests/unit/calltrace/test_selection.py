"""Which calls `-e` and `--failed` take."""

from __future__ import annotations

import pytest

from vgpu_stub.calltrace.call import TracedCall
from vgpu_stub.calltrace.selection import GROUPS, Selection, SelectionError, plain_name

FUNCTIONS = [
    "cuInit",
    "cuMemAlloc_v2",
    "cuMemcpyHtoD_v2",
    "cuMemcpyAsync_ptsz",
    "cuLaunchKernel",
    "cuGraphLaunch_ptsz",
    "cuCtxSynchronize",
]


def a_call(function: str, error: str = "CUDA_SUCCESS") -> TracedCall:
    return TracedCall(1, 1, 0, 1, function, {}, 0, error)


def chosen(*expressions: str) -> list[str]:
    selection = Selection(expressions)
    return [name for name in FUNCTIONS if selection.wants(a_call(name))]


def test_without_an_expression_all_calls_are_wanted() -> None:
    assert chosen() == FUNCTIONS


@pytest.mark.parametrize(
    ("expression", "functions"),
    [
        ("launch", ["cuLaunchKernel", "cuGraphLaunch_ptsz"]),
        ("cuMem*", ["cuMemAlloc_v2", "cuMemcpyHtoD_v2", "cuMemcpyAsync_ptsz"]),
        ("memory,!cuMemcpy*", ["cuMemAlloc_v2"]),
        ("memory,!copy,cuMemcpyAsync", ["cuMemAlloc_v2", "cuMemcpyAsync_ptsz"]),
        ("cuMemAlloc", ["cuMemAlloc_v2"]),
        ("wait, cuInit", ["cuInit", "cuCtxSynchronize"]),
        ("!memory,!launch", ["cuInit", "cuCtxSynchronize"]),
    ],
)
def test_expression(expression: str, functions: list[str]) -> None:
    assert chosen(expression) == functions


def test_expressions_follow_each_other() -> None:
    assert chosen("memory", "!copy") == ["cuMemAlloc_v2"]


def test_only_failed_calls() -> None:
    selection = Selection(["memory"], failed_only=True)
    assert selection.wants(a_call("cuMemAlloc_v2", "CUDA_ERROR_OUT_OF_MEMORY"))
    assert not selection.wants(a_call("cuMemAlloc_v2"))
    assert not selection.wants(a_call("cuInit", "CUDA_ERROR_NO_DEVICE"))


@pytest.mark.parametrize("word", ["memroy", "", "!", "malloc", "cuMem(*)"])
def test_what_names_nothing_is_refused(word: str) -> None:
    with pytest.raises(SelectionError) as caught:
        Selection([f"launch,{word}"])
    assert all(group in str(caught.value) for group in GROUPS)


def test_a_plain_name_has_no_version() -> None:
    names = ["cuMemAlloc_v2", "cuMemcpyHtoD_v2_ptds", "cuLaunchKernel_ptsz", "cuInit"]
    assert [plain_name(name) for name in names] == [
        "cuMemAlloc",
        "cuMemcpyHtoD",
        "cuLaunchKernel",
        "cuInit",
    ]
