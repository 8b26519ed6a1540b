"""Faults by name: what can go wrong, rules that say when, and who decides that it does now."""

from vgpu_stub.faults.injector import Injector, RuleState
from vgpu_stub.faults.kinds import KINDS, Kind, Parameter
from vgpu_stub.faults.points import Point
from vgpu_stub.faults.rule import FaultRuleError, Rule, Selectors, load_rules

__all__ = [
    "KINDS",
    "FaultRuleError",
    "Injector",
    "Kind",
    "Parameter",
    "Point",
    "Rule",
    "RuleState",
    "Selectors",
    "load_rules",
]
