"""Rules as people write them, and what they are told when they write them wrongly."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from vgpu_stub.abi.generated import Opcode
from vgpu_stub.faults import KINDS, FaultRuleError, Rule, Selectors, load_rules
from vgpu_stub.faults.cuda_errors import CUDA_ERRORS, cuda_error, cuda_error_name
from vgpu_stub.faults.rule import opcodes_of


def test_a_line_a_table_and_python_make_the_same_rule(tmp_path: Path) -> None:
    file = tmp_path / "faults.toml"
    file.write_text(
        '[[fault]]\nkind = "completion-late"\nopcode = "LAUNCH_KERNEL"\nnth = 3\ndelay_ms = 50\n'
    )
    made = Rule.make("completion-late", opcode="LAUNCH_KERNEL", nth=3, delay_ms=50)
    assert made == Rule(
        "completion-late", Selectors(opcode="LAUNCH_KERNEL", nth=3), {"delay_ms": 50.0}
    )
    assert Rule.parse("completion-late:opcode=LAUNCH_KERNEL,nth=3,delay_ms=50") == made
    assert load_rules(file) == [made]


@pytest.mark.parametrize(
    "text",
    [
        "completion-lost",
        "completion-late:delay_ms=1.5,every=2,process=python3",
        "command-error:channel=2,probability=0.25,seed=7,error=2,mode=async",
        "ring-slow:times=0,after_s=0.5,device=gpu1",
    ],
)
def test_text_and_json_lead_back_to_the_rule(text: str) -> None:
    rule = Rule.parse(text)
    assert Rule.parse(str(rule)) == rule
    assert Rule.from_json(rule.to_json()) == rule


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("completion-lots", "there is no fault 'completion-lots'; near are completion-lost"),
        ("completion-lost:opcod=NOP", "completion-lost has no 'opcod'; it has opcode"),
        ("completion-lost:opcode=LAUNCH_KERNL", "near are LAUNCH_KERNEL"),
        ("completion-lost:nth=0", "nth is at least 1"),
        ("completion-lost:nth=x", "nth is a whole number, not 'x'"),
        ("completion-lost:nth", "write nth=VALUE"),
        ("completion-lost:nth=1,nth=2", "says nth twice"),
        ("completion-lost:nth=2,every=2", "say one of them"),
        ("completion-lost:probability=1.5", "above 0 and at most 1"),
        ("completion-lost:channel=200", "channels go from 0 to"),
        ("completion-late:delay_ms=-1", "delay_ms is at least 0"),
        ("command-error:mode=later", "mode is sync or async, not 'later'"),
        ("command-error:error=ILLEGAL_ADRESS", "near are CUDA_ERROR_ILLEGAL_ADDRESS"),
        ("data-corrupted:direction=up", "direction is to_device or to_host, not 'up'"),
        ("worker-slow-start:opcode=NOP", "worker-slow-start has no 'opcode'"),
    ],
)
def test_a_wrong_rule_is_refused_with_what_would_be_right(text: str, hint: str) -> None:
    with pytest.raises(FaultRuleError) as refused:
        Rule.parse(text)
    assert hint in str(refused.value)


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ('[[fault]]\nkind = "completion-lost"\n[[fault]]\nkind = "x"\n', "fault 2: there is no"),
        ('kind = "completion-lost"\n', "write each fault as a [[fault]] table; found kind"),
        ("[[fault]]\nnth = 1\n", "fault 1: a fault needs a kind"),
        ("[[fault\n", "faults.toml: "),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(tmp_path: Path, content: str, hint: str) -> None:
    file = tmp_path / "faults.toml"
    file.write_text(content)
    with pytest.raises(FaultRuleError) as refused:
        load_rules(file)
    assert hint in str(refused.value)


def test_channel_zero_is_a_channel() -> None:
    rule = Rule.from_json(Rule.parse("completion-lost:channel=0").to_json())
    assert rule.selectors.channel == 0
    assert not rule.matches(channel=1)


def test_cuda_functions_select_every_command_that_carries_them() -> None:
    assert opcodes_of("cuLaunchKernel") == {Opcode.LAUNCH_KERNEL}
    assert opcodes_of("cuMemcpyHtoD_v2") == {Opcode.COPY_HOST_TO_DEVICE, Opcode.COPY_INLINE}
    assert opcodes_of("nop") == {Opcode.NOP}


def test_selectors_must_all_match() -> None:
    rule = Rule.parse("completion-lost:device=gpu0,channel=1,process=python3,opcode=NOP")
    event = {"device": "gpu0", "channel": 1, "process": "python3", "pid": 7, "opcode": Opcode.NOP}
    assert rule.matches(**event)
    for name, value in [("device", "gpu1"), ("channel", 2), ("process", "sh"), ("opcode", None)]:
        assert not rule.matches(**{**event, name: value})
    assert Rule.parse("completion-lost:process=7").matches(**event)


def test_a_kind_is_about_its_commands_unless_an_opcode_is_selected() -> None:
    assert Rule.parse("out-of-memory").matches(opcode=Opcode.MEMORY_ALLOCATE)
    assert not Rule.parse("out-of-memory").matches(opcode=Opcode.NOP)
    assert Rule.parse("launch-timeout:opcode=NOP").matches(opcode=Opcode.NOP)
    assert not Rule.parse("launch-timeout:opcode=NOP").matches(opcode=Opcode.LAUNCH_KERNEL)


def test_allocations_are_selected_by_what_they_add_up_to() -> None:
    rule = Rule.parse("out-of-memory:after_bytes=1000")
    assert not rule.matches(opcode=Opcode.MEMORY_ALLOCATE, bytes=1000)
    assert rule.matches(opcode=Opcode.MEMORY_ALLOCATE, bytes=1001)


def test_cuda_errors_are_known_by_name_and_number() -> None:
    assert cuda_error("CUDA_ERROR_OUT_OF_MEMORY") == cuda_error("out_of_memory") == cuda_error("2")
    assert {cuda_error(cuda_error_name(number)) for number in CUDA_ERRORS.values()} == set(
        CUDA_ERRORS.values()
    )
    with pytest.raises(ValueError, match="no CUDA error"):
        cuda_error("0")


def test_kinds_describe_themselves() -> None:
    for name, kind in KINDS.items():
        assert name == kind.name == name.lower()
        assert "_" not in name
        assert kind.summary.endswith(".")
        assert kind.guest_sees
        assert set(kind.selectors) <= {field.name for field in fields(Selectors)}
        names = [parameter.name for parameter in kind.parameters]
        assert not set(names) & set(kind.selectors)
        Rule.make(name)  # every kind has sensible defaults


def test_a_register_is_selected_by_its_name() -> None:
    rule = Rule.parse("register-stuck:register=STATUS,value=5")
    assert rule.matches(register="STATUS")
    assert not rule.matches(register="MAGIC")
    with pytest.raises(FaultRuleError, match="near are STATUS"):
        Rule.parse("register-stuck:register=STATSU")
