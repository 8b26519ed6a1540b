"""Kernels of the hostile guest and of its bystanders, as PTX."""

from __future__ import annotations

from typing import Final

#: `add` checks that a channel still computes; the others misbehave.
PTX: Final = b""".version 6.0
.target sm_50
.address_size 64

.visible .entry add(.param .u64 data, .param .u32 amount)
{
    .reg .b64 %rd<4>;
    .reg .b32 %r<4>;
    ld.param.u64 %rd1, [data];
    ld.param.u32 %r1, [amount];
    mov.u32 %r2, %tid.x;
    mul.wide.u32 %rd2, %r2, 4;
    add.s64 %rd3, %rd1, %rd2;
    ld.global.u32 %r3, [%rd3];
    add.u32 %r3, %r3, %r1;
    st.global.u32 [%rd3], %r3;
    ret;
}

.visible .entry store(.param .u64 address)
{
    .reg .b64 %rd<2>;
    .reg .b32 %r<2>;
    ld.param.u64 %rd1, [address];
    mov.u32 %r1, 7;
    st.global.u32 [%rd1], %r1;
    ret;
}

.visible .entry load(.param .u64 address, .param .u64 out)
{
    .reg .b64 %rd<3>;
    .reg .b32 %r<2>;
    ld.param.u64 %rd1, [address];
    ld.param.u64 %rd2, [out];
    ld.global.u32 %r1, [%rd1];
    st.global.u32 [%rd2], %r1;
    ret;
}

.visible .entry stop()
{
    trap;
}

.visible .entry spin(.param .u64 flag)
{
    .reg .b64 %rd<2>;
    .reg .b32 %r<2>;
    .reg .pred %p<2>;
    ld.param.u64 %rd1, [flag];
again:
    ld.volatile.global.u32 %r1, [%rd1];
    setp.eq.u32 %p1, %r1, 0;
    @%p1 bra again;
    ret;
}
"""

#: Prints a line for each thread; its own module, because it needs `vprintf`.
PRINTING_PTX: Final = b""".version 6.0
.target sm_50
.address_size 64

.extern .func (.param .b32 status) vprintf(.param .b64 format, .param .b64 arguments);
.global .align 1 .b8 line[24] = {118,105,108,108,97,105,110,32,119,97,115,32,104,101,114,101,10,0};

.visible .entry talk(.param .u32 times)
{
    .reg .b64 %rd<3>;
    .reg .b32 %r<4>;
    .reg .pred %p<2>;
    ld.param.u32 %r1, [times];
    mov.u32 %r2, 0;
    mov.u64 %rd1, line;
    cvta.global.u64 %rd1, %rd1;
    mov.u64 %rd2, 0;
again:
    {
        .param .b64 format;
        st.param.b64 [format], %rd1;
        .param .b64 arguments;
        st.param.b64 [arguments], %rd2;
        .param .b32 status;
        call.uni (status), vprintf, (format, arguments);
        ld.param.b32 %r3, [status];
    }
    add.u32 %r2, %r2, 1;
    setp.lt.u32 %p1, %r2, %r1;
    @%p1 bra again;
    ret;
}
"""
