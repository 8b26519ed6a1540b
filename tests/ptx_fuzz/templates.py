"""Straight-line PTX instructions as templates: `mul.wide.u32 l r r` takes two %r and makes a %l.

The letters are register classes of the generator: h r l hold integers of 16, 32 and 64 bits, f d
single and double precision, x z halves (f16, bf16), y w pairs of them, p predicates. `#N` is a
literal below N.
"""

from __future__ import annotations

from collections.abc import Iterator

INTEGERS = {"u16": "h", "s16": "h", "u32": "r", "s32": "r", "u64": "l", "s64": "l"}
BITS = {"b16": "h", "b32": "r", "b64": "l"}
REGISTER_TYPES = {
    "h": "b16", "r": "b32", "l": "b64", "f": "f32", "d": "f64",
    "x": "b16", "z": "b16", "y": "b32", "w": "b32", "p": "pred",
}  # fmt: skip
REGISTER_BITS = {
    "h": 16, "r": 32, "l": 64, "f": 32, "d": 64, "x": 16, "z": 16, "y": 32, "w": 32, "p": 1,
}  # fmt: skip
#: Registers of each class that the statements of a program share.
POOLS = {"h": 4, "r": 6, "l": 4, "f": 4, "d": 3, "x": 3, "z": 2, "y": 2, "w": 2, "p": 4}
_MODES = ("rn", "rz", "rm", "rp")
_WHOLE = ("rni", "rzi", "rmi", "rpi")
_SIGNED_CONDITIONS = ("eq", "ne", "lt", "le", "gt", "ge")
_UNSIGNED_CONDITIONS = (*_SIGNED_CONDITIONS, "lo", "ls", "hi", "hs")
_FLOAT_CONDITIONS = (
    *_SIGNED_CONDITIONS, "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan",
)  # fmt: skip


def _integers() -> Iterator[str]:
    for kind, c in INTEGERS.items():
        for name in ("add", "sub", "mul.lo", "mul.hi", "div", "rem", "min", "max"):
            yield f"{name}.{kind} {c} {c} {c}"
        for name in ("mad.lo", "mad.hi", "sad"):
            yield f"{name}.{kind} {c} {c} {c} {c}"
        if kind[0] == "s":
            yield f"abs.{kind} {c} {c}"
            yield f"neg.{kind} {c} {c}"
    for kind, narrow, wide in (
        ("u16", "h", "r"), ("s16", "h", "r"), ("u32", "r", "l"), ("s32", "r", "l"),
    ):  # fmt: skip
        yield f"mul.wide.{kind} {wide} {narrow} {narrow}"
        yield f"mad.wide.{kind} {wide} {narrow} {narrow} {wide}"
    yield from ("add.sat.s32 r r r", "sub.sat.s32 r r r", "mad.hi.sat.s32 r r r r")
    for half in ("lo", "hi"):
        for kind in ("u32", "s32"):
            yield f"mul24.{half}.{kind} r r r"
            yield f"mad24.{half}.{kind} r r r r"
    yield "mad24.hi.sat.s32 r r r r"
    for a in ("u32", "s32"):
        for b in ("u32", "s32"):
            yield f"dp4a.{a}.{b} r r r r"
            yield f"dp2a.lo.{a}.{b} r r r r"
            yield f"dp2a.hi.{a}.{b} r r r r"


def _bits() -> Iterator[str]:
    for kind, c in BITS.items():
        for name in ("and", "or", "xor"):
            yield f"{name}.{kind} {c} {c} {c}"
        yield f"not.{kind} {c} {c}"
        yield f"cnot.{kind} {c} {c}"
        yield f"shl.{kind} {c} {c} r"
        yield f"shl.{kind} {c} {c} #70"
    for kind, c in {**INTEGERS, **BITS}.items():
        yield f"shr.{kind} {c} {c} r"
        yield f"shr.{kind} {c} {c} #70"
    for name in ("and", "or", "xor"):
        yield f"{name}.pred p p p"
    yield "not.pred p p"
    yield "lop3.b32 r r r r #256"
    yield "lop3.or.b32 r|p r r r #256 p"
    yield "lop3.and.b32 r|p r r r #256 !p"
    for direction in ("l", "r"):
        for mode in ("wrap", "clamp"):
            yield f"shf.{direction}.{mode}.b32 r r r r"
    for kind, c in (("b32", "r"), ("b64", "l")):
        yield f"popc.{kind} r {c}"
        yield f"clz.{kind} r {c}"
        yield f"brev.{kind} {c} {c}"
        yield f"bfi.{kind} {c} {c} {c} r r"
        yield f"bfi.{kind} {c} {c} {c} #70 #70"
    for kind in ("u32", "s32", "u64", "s64"):
        c = INTEGERS[kind]
        yield f"bfind.{kind} r {c}"
        yield f"bfind.shiftamt.{kind} r {c}"
        yield f"bfe.{kind} {c} {c} r r"
        yield f"bfe.{kind} {c} {c} #70 #70"
    for mode in ("wrap", "clamp"):
        yield f"bmsk.{mode}.b32 r r r"
        yield f"bmsk.{mode}.b32 r #40 #40"
        yield f"szext.{mode}.u32 r r r"
        yield f"szext.{mode}.s32 r r #40"
    yield "fns.b32 r r #32 r"
    yield "fns.b32 r r #32 #9"
    yield "prmt.b32 r r r r"
    for mode in ("f4e", "b4e", "rc8", "ecl", "ecr", "rc16"):
        yield f"prmt.b32.{mode} r r r r"


def _single() -> Iterator[str]:
    for ftz in ("", ".ftz"):
        for mode in _MODES:
            for sat in ("", ".sat"):
                for name in ("add", "sub", "mul"):
                    yield f"{name}.{mode}{ftz}{sat}.f32 f f f"
                yield f"fma.{mode}{ftz}{sat}.f32 f f f f"
            yield f"div.{mode}{ftz}.f32 f f f"
            yield f"sqrt.{mode}{ftz}.f32 f f"
            yield f"rcp.{mode}{ftz}.f32 f f"
        for nan in ("", ".NaN"):
            yield f"min{ftz}{nan}.f32 f f f"
            yield f"max{ftz}{nan}.f32 f f f"
        yield f"abs{ftz}.f32 f f"
        yield f"neg{ftz}.f32 f f"
        yield f"add{ftz}.f32 f f f"
        # Approximate, but here correctly rounded.
        yield f"div.approx{ftz}.f32 f f f"
        yield f"div.full{ftz}.f32 f f f"
        yield f"rcp.approx{ftz}.f32 f f"
        yield f"sqrt.approx{ftz}.f32 f f"
        yield f"mul{ftz}.f32 f f f"
        for condition in _FLOAT_CONDITIONS:
            yield f"setp.{condition}{ftz}.f32 p f f"
        yield f"set.lt{ftz}.u32.f32 r f f"
        yield f"set.geu{ftz}.f32.f32 f f f"
        yield f"slct{ftz}.f32.f32 f f f f"
        yield f"slct{ftz}.u64.f32 l l l f"
    for kind in ("finite", "infinite", "number", "notanumber", "normal", "subnormal"):
        yield f"testp.{kind}.f32 p f"
    yield "selp.f32 f f f p"


def _double() -> Iterator[str]:
    for mode in _MODES:
        for name in ("add", "sub", "mul", "div"):
            yield f"{name}.{mode}.f64 d d d"
        yield f"sqrt.{mode}.f64 d d"
        yield f"rcp.{mode}.f64 d d"
    yield from (
        "fma.rn.f64 d d d d",
        "min.f64 d d d",
        "max.f64 d d d",
        "abs.f64 d d",
        "neg.f64 d d",
    )
    for condition in _FLOAT_CONDITIONS:
        yield f"setp.{condition}.f64 p d d"
    for kind in ("finite", "infinite", "number", "notanumber", "normal", "subnormal"):
        yield f"testp.{kind}.f64 p d"
    yield from ("selp.f64 d d d p", "set.le.s32.f64 r d d", "slct.f64.s32 d d d r")


def _half() -> Iterator[str]:
    for kind, c in (("f16", "x"), ("f16x2", "y")):
        for ftz in ("", ".ftz"):
            for sat in ("", ".sat"):
                for name in ("add", "sub", "mul"):
                    yield f"{name}.rn{ftz}{sat}.{kind} {c} {c} {c}"
                yield f"fma.rn{ftz}{sat}.{kind} {c} {c} {c} {c}"
            yield f"fma.rn{ftz}.relu.{kind} {c} {c} {c} {c}"
            for nan in ("", ".NaN"):
                yield f"min{ftz}{nan}.{kind} {c} {c} {c}"
                yield f"max{ftz}{nan}.{kind} {c} {c} {c}"
            yield f"neg{ftz}.{kind} {c} {c}"
            yield f"abs{ftz}.{kind} {c} {c}"
    for ftz in ("", ".ftz"):
        for condition in _FLOAT_CONDITIONS:
            yield f"setp.{condition}{ftz}.f16 p x x"
        yield f"setp.lt{ftz}.f16x2 p|p y y"
        yield f"setp.geu.and{ftz}.f16x2 p|p y y p"
    for kind, c in (("bf16", "z"), ("bf16x2", "w")):
        for name in ("add", "sub", "mul"):
            yield f"{name}.rn.{kind} {c} {c} {c}"
        yield f"fma.rn.{kind} {c} {c} {c} {c}"
        yield f"fma.rn.relu.{kind} {c} {c} {c} {c}"
        for nan in ("", ".NaN"):
            yield f"min{nan}.{kind} {c} {c} {c}"
            yield f"max{nan}.{kind} {c} {c} {c}"
        yield f"neg.{kind} {c} {c}"
        yield f"abs.{kind} {c} {c}"
    for condition in _FLOAT_CONDITIONS:
        yield f"setp.{condition}.bf16 p z z"


def _compare() -> Iterator[str]:
    for kind, c in INTEGERS.items():
        conditions = _SIGNED_CONDITIONS if kind[0] == "s" else _UNSIGNED_CONDITIONS
        for condition in conditions:
            yield f"setp.{condition}.{kind} p {c} {c}"
            yield f"setp.{condition}.{kind} p|p {c} {c}"
        for name in ("and", "or", "xor"):
            yield f"setp.{conditions[2]}.{name}.{kind} p {c} {c} p"
            yield f"setp.{conditions[0]}.{name}.{kind} p|p {c} {c} !p"
        yield f"set.{conditions[3]}.u32.{kind} r {c} {c}"
        yield f"set.{conditions[5]}.or.f32.{kind} f {c} {c} p"
        yield f"selp.{kind} {c} {c} {c} p"
        yield f"slct.{kind}.s32 {c} {c} {c} r"
    for kind, c in BITS.items():
        yield f"setp.eq.{kind} p {c} {c}"
        yield f"setp.ne.{kind} p {c} {c}"
        yield f"selp.{kind} {c} {c} {c} p"


_WIDE = {
    "u8": "hrl",
    "s8": "hrl",
    "u16": "hrl",
    "s16": "hrl",
    "u32": "rl",
    "s32": "rl",
    "u64": "l",
    "s64": "l",
}


def _convert() -> Iterator[str]:
    for source, froms in _WIDE.items():
        for target, tos in _WIDE.items():
            yield f"cvt.{target}.{source} {tos[0]} {froms[0]}"
            yield f"cvt.{target}.{source} {tos[-1]} {froms[-1]}"
            yield f"cvt.sat.{target}.{source} {tos[0]} {froms[0]}"
    floats = {"f32": "f", "f64": "d", "f16": "x"}
    for kind, c in floats.items():
        for other, places in _WIDE.items():
            for mode in _MODES:
                yield f"cvt.{mode}.{kind}.{other} {c} {places[0]}"
            for whole in _WHOLE:
                yield f"cvt.{whole}.{other}.{kind} {places[-1]} {c}"
            yield f"cvt.rn.sat.{kind}.{other} {c} {places[0]}"
        for whole in _WHOLE:
            yield f"cvt.{whole}.{kind}.{kind} {c} {c}"
        yield f"cvt.rni.sat.{kind}.{kind} {c} {c}"
    for mode in _MODES:
        yield f"cvt.{mode}.f32.f64 f d"
        yield f"cvt.{mode}.ftz.f32.f64 f d"
        yield f"cvt.{mode}.f16.f32 x f"
        yield f"cvt.{mode}.f16.f64 x d"
    for whole in _WHOLE:
        yield f"cvt.{whole}.ftz.s32.f32 r f"
        yield f"cvt.{whole}.ftz.f32.f32 f f"
    yield from ("cvt.f64.f32 d f", "cvt.ftz.f64.f32 d f", "cvt.sat.f64.f32 d f", "cvt.f32.f16 f x")
    yield from (
        "cvt.sat.f32.f16 f x",
        "cvt.f64.f16 d x",
        "cvt.sat.f32.f32 f f",
        "cvt.ftz.f32.f32 f f",
    )
    yield from ("cvt.rn.sat.f16.f32 x f", "cvt.rn.relu.f16.f32 x f")
    for mode in ("rn", "rz"):
        yield f"cvt.{mode}.bf16.f32 z f"
        yield f"cvt.{mode}.relu.bf16.f32 z f"
        yield f"cvt.{mode}.f16x2.f32 y f f"
        yield f"cvt.{mode}.relu.f16x2.f32 y f f"
        yield f"cvt.{mode}.bf16x2.f32 w f f"
        yield f"cvt.{mode}.relu.bf16x2.f32 w f f"
    yield "cvt.f32.bf16 f z"
    for integer in ("s32", "u32", "u64", "s16"):
        yield f"cvt.rn.bf16.{integer} z {_WIDE[integer][0]}"
        yield f"cvt.rzi.{integer}.bf16 {_WIDE[integer][-1]} z"


def _moves() -> Iterator[str]:
    yield from (
        "mov.b32 f r",
        "mov.b64 d l",
        "mov.b16 x h",
        "mov.b16 z h",
        "mov.b32 y r",
        "mov.b32 w r",
    )
    yield from (
        "mov.b32 r r",
        "mov.b64 l l",
        "mov.b16 h h",
        "mov.f32 f f",
        "mov.f64 d d",
        "mov.pred p p",
    )
    yield from ("mov.b64 l {r,r}", "mov.b64 {r,r} l", "mov.b32 r {h,h}", "mov.b32 {h,h} r")
    yield from ("mov.b64 l {h,h,h,h}", "mov.b64 {h,h,h,h} l", "mov.b32 y {x,x}", "mov.b32 {x,x} y")
    for special in (
        "tid.x", "tid.y", "ntid.x", "ntid.y", "ctaid.x", "ctaid.y", "nctaid.x", "laneid", "warpid",
        "lanemask_lt", "lanemask_le", "lanemask_gt", "lanemask_ge", "lanemask_eq",
    ):  # fmt: skip
        yield f"mov.u32 r %{special}"


FAMILIES: dict[str, tuple[str, ...]] = {
    "integer": tuple(_integers()),
    "bits": tuple(_bits()),
    "single": tuple(_single()),
    "double": tuple(_double()),
    "half": tuple(_half()),
    "compare": tuple(_compare()),
    "convert": tuple(_convert()),
    "move": tuple(_moves()),
}
