"""Small programs that fuzzing starts from: PTX of our own, and images made of it."""

from __future__ import annotations

from typing import Final

_HEAD: Final = ".version 7.0\n.target sm_60\n.address_size 64\n"

STORE: Final = (
    _HEAD
    + """
.visible .entry store(.param .u64 out, .param .u32 count)
{
    .reg .pred %p<2>; .reg .b32 %r<6>; .reg .b64 %rd<4>;
    ld.param.u64 %rd0, [out];
    ld.param.u32 %r0, [count];
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %ntid.x;
    mov.u32 %r3, %tid.x;
    mad.lo.s32 %r4, %r1, %r2, %r3;
    setp.ge.u32 %p0, %r4, %r0;
    @%p0 bra DONE;
    mul.wide.u32 %rd1, %r4, 4;
    add.s64 %rd2, %rd0, %rd1;
    st.global.u32 [%rd2], %r4;
DONE:
    ret;
}
"""
)

SHARED: Final = (
    _HEAD
    + """
.global .align 4 .u32 counter;
.extern .shared .align 4 .b8 dynamic[];
.visible .entry reverse(.param .u64 data)
{
    .reg .b32 %r<8>; .reg .b64 %rd<8>;
    .shared .align 4 .b8 tile[256];
    ld.param.u64 %rd0, [data];
    mov.u32 %r0, %tid.x;
    and.b32 %r0, %r0, 63;
    mov.u64 %rd1, tile;
    mul.wide.u32 %rd2, %r0, 4;
    add.s64 %rd3, %rd1, %rd2;
    st.shared.u32 [%rd3], %r0;
    bar.sync 0;
    sub.s32 %r1, 63, %r0;
    mul.wide.u32 %rd4, %r1, 4;
    add.s64 %rd4, %rd1, %rd4;
    ld.shared.u32 %r2, [%rd4];
    add.s64 %rd5, %rd0, %rd2;
    st.global.u32 [%rd5], %r2;
    mov.u64 %rd6, counter;
    atom.global.add.u32 %r3, [%rd6], 1;
    ret;
}
.visible .entry trap_now()
{
    trap;
}
.visible .entry spin(.param .u32 rounds)
{
    .reg .pred %p<2>; .reg .b32 %r<3>;
    ld.param.u32 %r0, [rounds];
    min.u32 %r0, %r0, 10000;
LOOP:
    setp.eq.u32 %p0, %r0, 0;
    @%p0 bra END;
    sub.u32 %r0, %r0, 1;
    bra LOOP;
END:
    ret;
}
"""
)

#: A part that uses a function of `CALLED`, to be linked.
CALLER: Final = (
    _HEAD
    + """
.extern .func (.param .b32 result) twice (.param .b32 value);
.visible .entry call_it(.param .u64 out)
{
    .reg .b32 %r<3>; .reg .b64 %rd<2>;
    .param .b32 value; .param .b32 result;
    ld.param.u64 %rd0, [out];
    st.param.b32 [value], 21;
    call (result), twice, (value);
    ld.param.b32 %r0, [result];
    st.global.u32 [%rd0], %r0;
    ret;
}
"""
)

CALLED: Final = (
    _HEAD
    + """
.visible .func (.param .b32 result) twice (.param .b32 value)
{
    .reg .b32 %r<3>;
    ld.param.b32 %r0, [value];
    shl.b32 %r1, %r0, 1;
    st.param.b32 [result], %r1;
    ret;
}
"""
)

#: By name, as operations have them.
PROGRAMS: Final[dict[str, bytes]] = {
    "store": STORE.encode() + b"\0",
    "shared": SHARED.encode() + b"\0",
    "caller": CALLER.encode() + b"\0",
    "called": CALLED.encode() + b"\0",
    "broken": STORE.replace("mad.lo.s32", "mad.low.s32").encode() + b"\0",
    "empty": b"\0",
}

#: Kernels of `PROGRAMS`, and names that are none.
KERNELS: Final = ("store", "reverse", "trap_now", "spin", "call_it", "twice", "none", "")
