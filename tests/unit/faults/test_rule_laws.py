"""Laws of rules: whatever rule can be made, its text and its JSON lead back to it."""

from __future__ import annotations

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vgpu_stub.abi.commands import COMMANDS
from vgpu_stub.faults import KINDS, FaultRuleError, Parameter, Rule
from vgpu_stub.faults.cuda_errors import CUDA_ERRORS
from vgpu_stub.faults.kind import Value
from vgpu_stub.faults.rule import REGISTERS

#: A machine under load draws slowly; that says nothing of rules.
LOADED = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
NUMBERS = st.integers(0, 1 << 40)
SELECTORS: dict[str, st.SearchStrategy[Value]] = {
    "device": st.sampled_from(["gpu0", "gpu9"]),
    "channel": st.integers(0, 126),
    "process": st.text("abcxyz0189_.-", min_size=1, max_size=15),
    "register": st.sampled_from(sorted(REGISTERS)),
    "opcode": st.sampled_from([command.name for command in COMMANDS]),
    "direction": st.sampled_from(["to_device", "to_host"]),
    "after_bytes": NUMBERS,
    "nth": st.integers(1, 1 << 40),
    "every": st.integers(1, 1 << 40),
    "probability": st.floats(0.0, 1.0, exclude_min=True),
    "seed": NUMBERS,
    "after_s": st.floats(0, 1e6),
    "times": NUMBERS,
}


def values_of(parameter: Parameter) -> st.SearchStrategy[Value]:
    if parameter.cuda_error:
        return st.sampled_from(sorted(CUDA_ERRORS))
    if parameter.choices:
        return st.sampled_from(parameter.choices)
    if isinstance(parameter.default, bool):
        return st.booleans()
    if isinstance(parameter.default, int):
        return st.integers(max(0, int(parameter.least)), 1 << 30)
    if isinstance(parameter.default, float):
        return st.floats(parameter.least, 1e9)
    return SELECTORS["process"]


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    kind = KINDS[draw(st.sampled_from(sorted(KINDS)))]
    known = {name: SELECTORS[name] for name in kind.selectors}
    known |= {parameter.name: values_of(parameter) for parameter in kind.parameters}
    chosen = draw(st.sets(st.sampled_from(sorted(known))))
    if "nth" in chosen:
        chosen.discard("every")
    return Rule.make(kind.name, **{name: draw(known[name]) for name in sorted(chosen)})


@LOADED
@given(rules())
def test_text_leads_back_to_the_rule(rule: Rule) -> None:
    assert Rule.parse(str(rule)) == rule


@LOADED
@given(rules())
def test_json_leads_back_to_the_rule(rule: Rule) -> None:
    assert Rule.from_json(json.loads(json.dumps(rule.to_json()))) == rule


@LOADED
@given(st.text(max_size=60))
def test_any_text_is_a_rule_or_refused_with_a_reason(text: str) -> None:
    try:
        Rule.parse(text)
    except FaultRuleError as error:
        assert str(error)


@LOADED
@given(
    st.sampled_from(sorted(KINDS)),
    st.dictionaries(
        st.sampled_from([*sorted(SELECTORS), "delay_ms", "error", "id", "kind", "x"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=9)
        | st.lists(st.none()),
        max_size=4,
    ),
)
def test_any_json_is_a_rule_or_refused_with_a_reason(kind: str, data: dict[str, object]) -> None:
    try:
        Rule.from_json({"kind": kind, **data})
    except FaultRuleError as error:
        assert str(error)
