"""Instructions of a warp in the reference interpreter: all lanes of the member mask at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .floats import IndeterminateError, Loose
from .integers import reader
from .text import NotUnderstoodError, Statement, number

if TYPE_CHECKING:
    from .threads import Thread

_REDUCTIONS: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "min": min,
    "max": max,
}
OPCODES = frozenset(("shfl", "vote", "match", "redux"))
Group = list["Thread"]


def read(registers: dict[str, int], operand: str) -> int:
    """A register, its complement for `!p`, or a literal."""
    if operand.startswith("!"):
        return 1 - registers[operand[1:]]
    if operand[0].isdigit() or operand[0] == "-":
        return number(operand) & 0xFFFF_FFFF
    return registers[operand]


def members(statement: Statement, registers: dict[str, int]) -> int:
    """The member mask of a lane."""
    return read(registers, statement.operands[-1])


def make(
    statement: Statement, mask_of: Callable[[str], int], registers: dict[str, str]
) -> Callable[[Group], None]:
    """What the instruction does to the lanes that have met."""
    for operand in statement.operands[1:]:
        if not (operand[0].isdigit() or operand[0] == "-" or operand.lstrip("!") in registers):
            raise NotUnderstoodError(statement.text)
    if statement.opcode == "bar":
        return lambda group: None
    function = {"shfl": _shuffle, "vote": _vote, "match": _match, "redux": _reduce}[
        statement.opcode
    ]
    target = statement.operands[0]
    first, _, second = target.partition("|")
    if first not in registers or (second and second not in registers):
        raise NotUnderstoodError(statement.text)

    def run(group: Group) -> None:
        results = function(statement, group)
        for thread, result in zip(group, results, strict=True):
            own = thread.frame.registers
            value, flag = result
            own[first] = value if type(value) is Loose else value & mask_of(first)
            if second:
                own[second] = flag

    return run


def _values(statement: Statement, group: Group, operand: int = 1) -> list[int]:
    values = [read(t.frame.registers, statement.operands[operand]) for t in group]
    if any(type(value) is Loose for value in values):
        raise IndeterminateError("the payload of a NaN")
    return values


def _shuffle(statement: Statement, group: Group) -> list[tuple[int, int]]:
    mode = next(m for m in ("up", "down", "bfly", "idx") if m in statement.modifiers)
    by_lane = {t.index % 32: t for t in group}
    results = []
    for thread in group:
        own = thread.frame.registers
        lane = thread.index % 32
        b, c = read(own, statement.operands[2]) & 31, read(own, statement.operands[3])
        bound, segment = c & 31, c >> 8 & 31
        most, least = lane & segment | bound & ~segment & 31, lane & segment
        pick = {
            "up": lane - b, "down": lane + b, "bfly": lane ^ b, "idx": least | b & ~segment & 31,
        }[mode]  # fmt: skip
        inside = pick >= most if mode == "up" else pick <= most
        if not inside:
            pick = lane
        if pick not in by_lane:
            raise IndeterminateError("shfl from a lane that is not there")
        value = read(by_lane[pick].frame.registers, statement.operands[1])
        results.append((value, int(inside)))
    return results


def _vote(statement: Statement, group: Group) -> list[tuple[int, int]]:
    votes = _values(statement, group)
    if "ballot" in statement.modifiers:
        result = sum(vote << t.index % 32 for vote, t in zip(votes, group, strict=True))
    elif "all" in statement.modifiers:
        result = int(all(votes))
    elif "any" in statement.modifiers:
        result = int(any(votes))
    else:
        result = int(all(votes) or not any(votes))
    return [(result, 0)] * len(group)


def _match(statement: Statement, group: Group) -> list[tuple[int, int]]:
    values = _values(statement, group)
    lanes = [t.index % 32 for t in group]
    if "any" in statement.modifiers:
        return [
            (sum(1 << lane for lane, v in zip(lanes, values, strict=True) if v == value), 0)
            for value in values
        ]
    same = len(set(values)) == 1
    return [(sum(1 << lane for lane in lanes) if same else 0, int(same))] * len(group)


def _reduce(statement: Statement, group: Group) -> list[tuple[int, int]]:
    to_number = reader(statement.modifiers[-1])
    values = [to_number(value) for value in _values(statement, group)]
    result = values[0]
    name = next(n for n in statement.modifiers if n in _REDUCTIONS)
    for value in values[1:]:
        result = _REDUCTIONS[name](result, value)
    return [(result & 0xFFFF_FFFF, 0)] * len(group)
