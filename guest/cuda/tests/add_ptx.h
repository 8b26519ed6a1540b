// SPDX-License-Identifier: MIT
/* A vector addition, and a variable beside it, for programs that want some kernel. */
#ifndef ADD_PTX_H
#define ADD_PTX_H

static const char add_ptx[] =
	".version 6.0\n"
	".target sm_50\n"
	".address_size 64\n"
	".visible .global .align 4 .b8 table[64];\n"
	".visible .entry add(.param .u64 x, .param .u64 y, .param .u64 z, .param .u32 n)\n"
	"{\n"
	"	.reg .pred %p; .reg .b32 %r<8>; .reg .f32 %f<4>; .reg .b64 %d<10>;\n"
	"	ld.param.u64 %d1, [x]; ld.param.u64 %d2, [y]; ld.param.u64 %d3, [z];\n"
	"	ld.param.u32 %r1, [n];\n"
	"	mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mov.u32 %r4, %tid.x;\n"
	"	mad.lo.s32 %r5, %r2, %r3, %r4;\n"
	"	setp.ge.u32 %p, %r5, %r1;\n"
	"	@%p bra DONE;\n"
	"	mul.wide.u32 %d4, %r5, 4;\n"
	"	add.s64 %d5, %d1, %d4; add.s64 %d6, %d2, %d4; add.s64 %d7, %d3, %d4;\n"
	"	ld.global.f32 %f1, [%d5]; ld.global.f32 %f2, [%d6];\n"
	"	add.f32 %f3, %f1, %f2;\n"
	"	st.global.f32 [%d7], %f3;\n"
	"DONE:\n"
	"	ret;\n"
	"}\n";

#endif
