/* SPDX-License-Identifier: MIT */
/*
 * What nvcc puts around device code, written by hand: a fat binary with one PTX image,
 * registered as compiled programs register it. The test programs run on any libcudart,
 * NVIDIA's too.
 */
#ifndef VGPU_TESTS_RUNTIME_PROGRAM_H
#define VGPU_TESTS_RUNTIME_PROGRAM_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <cuda_runtime_api.h>

#define TABLE_WORDS 64u

static const char ptx[] =
	".version 6.0\n"
	".target sm_50\n"
	".address_size 64\n"
	".visible .global .align 4 .b8 table[256];\n"
	".visible .const .align 4 .b8 offsets[256];\n"
	".extern .shared .align 4 .b8 room[];\n"
	/* data[i] *= factor */
	".visible .entry scale(.param .u64 data, .param .f32 factor, .param .u32 n)\n"
	"{\n"
	"	.reg .pred %p; .reg .b32 %r<8>; .reg .f32 %f<4>; .reg .b64 %d<10>;\n"
	"	ld.param.u64 %d1, [data]; ld.param.f32 %f1, [factor]; ld.param.u32 %r1, [n];\n"
	"	mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mov.u32 %r4, %tid.x;\n"
	"	mad.lo.s32 %r5, %r2, %r3, %r4;\n"
	"	setp.ge.u32 %p, %r5, %r1;\n"
	"	@%p bra DONE;\n"
	"	mul.wide.u32 %d2, %r5, 4;\n"
	"	add.s64 %d3, %d1, %d2;\n"
	"	ld.global.f32 %f2, [%d3];\n"
	"	mul.f32 %f3, %f1, %f2;\n"
	"	st.global.f32 [%d3], %f3;\n"
	"DONE:\n"
	"	ret;\n"
	"}\n"
	/* out[i] = table[i] + offsets[i] */
	".visible .entry look_up(.param .u64 out)\n"
	"{\n"
	"	.reg .b32 %r<8>; .reg .b64 %d<10>;\n"
	"	ld.param.u64 %d1, [out];\n"
	"	mov.u32 %r1, %tid.x;\n"
	"	mul.wide.u32 %d2, %r1, 4;\n"
	"	mov.u64 %d3, table; add.s64 %d4, %d3, %d2; ld.global.u32 %r2, [%d4];\n"
	"	mov.u64 %d5, offsets; add.s64 %d6, %d5, %d2; ld.const.u32 %r3, [%d6];\n"
	"	add.u32 %r4, %r2, %r3;\n"
	"	add.s64 %d7, %d1, %d2; st.global.u32 [%d7], %r4;\n"
	"	ret;\n"
	"}\n"
	/* Reverses a block's words through shared memory of the launch. */
	".visible .entry reverse(.param .u64 data)\n"
	"{\n"
	"	.reg .b32 %r<12>; .reg .b64 %d<10>;\n"
	"	ld.param.u64 %d1, [data];\n"
	"	mov.u32 %r1, %tid.x; mov.u32 %r2, %ntid.x;\n"
	"	mul.wide.u32 %d2, %r1, 4; add.s64 %d3, %d1, %d2;\n"
	"	ld.global.u32 %r3, [%d3];\n"
	"	mov.u32 %r4, room; shl.b32 %r5, %r1, 2; add.u32 %r6, %r4, %r5;\n"
	"	st.shared.u32 [%r6], %r3;\n"
	"	bar.sync 0;\n"
	"	sub.u32 %r7, %r2, %r1; sub.u32 %r7, %r7, 1;\n"
	"	shl.b32 %r8, %r7, 2; add.u32 %r9, %r4, %r8;\n"
	"	ld.shared.u32 %r10, [%r9];\n"
	"	st.global.u32 [%d3], %r10;\n"
	"	ret;\n"
	"}\n"
	/* Each block adds its number and 1 to the cell, waits for all, and writes what it finds
	   there. The words for that lie where NVIDIA's headers have them: behind the first of a
	   workspace. */
	".visible .entry together(.param .u64 cell, .param .u64 out)\n"
	"{\n"
	"	.reg .pred %p<3>; .reg .b32 %r<12>; .reg .b64 %d<10>;\n"
	"	ld.param.u64 %d1, [cell]; ld.param.u64 %d2, [out];\n"
	"	mov.u32 %r1, %ctaid.x; mov.u32 %r2, %nctaid.x; mov.u32 %r3, %tid.x;\n"
	"	mov.u32 %r4, %envreg1; mov.u32 %r5, %envreg2; mov.b64 %d3, {%r5, %r4};\n"
	"	mul.wide.u32 %d4, %r1, 4; add.s64 %d5, %d2, %d4;\n"
	"	setp.ne.u32 %p1, %r3, 0;\n"
	"	@%p1 bra WAITED;\n"
	"	add.u32 %r6, %r1, 1; red.global.add.u32 [%d1], %r6;\n"
	"	membar.gl;\n"
	"	setp.eq.u32 %p2, %r1, 0; sub.u32 %r7, 0x80000001, %r2; selp.u32 %r7, %r7, 1, %p2;\n"
	"	atom.add.u32 %r8, [%d3 + 4], %r7;\n"
	"WAIT:\n"
	"	ld.volatile.u32 %r9, [%d3 + 4]; xor.b32 %r9, %r9, %r8;\n"
	"	setp.ge.s32 %p2, %r9, 0;\n"
	"	@%p2 bra WAIT;\n"
	"	membar.gl;\n"
	"WAITED:\n"
	"	bar.sync 0;\n"
	"	ld.volatile.global.u32 %r10, [%d1]; st.global.u32 [%d5], %r10;\n"
	"	ret;\n"
	"}\n"
	/* Writes to an address that nobody has. */
	".visible .entry stray(.param .u64 address)\n"
	"{\n"
	"	.reg .b32 %r<2>; .reg .b64 %d<2>;\n"
	"	ld.param.u64 %d1, [address]; mov.u32 %r1, 1; st.global.u32 [%d1], %r1;\n"
	"	ret;\n"
	"}\n";

/* A fat binary: its header, and one entry with its own. */
static struct {
	uint32_t magic;
	uint16_t version;
	uint16_t header_bytes;
	uint64_t bytes;
	uint16_t kind; /* 1: PTX */
	uint16_t entry_version;
	uint32_t entry_bytes;
	uint64_t payload_bytes;
	uint32_t compressed_bytes;
	uint32_t options_offset; /* in the entry */
	uint16_t minor, major;	 /* of the PTX ISA */
	uint32_t capability;
	uint64_t name;
	uint64_t flags;
	uint64_t reserved;
	uint64_t unpacked_bytes;
	uint64_t text_offset; /* in the entry: of the options, which are none */
	uint64_t options;
	char text[(sizeof(ptx) + 7) / 8 * 8];
} fat_binary = {
	.magic = 0xba55ed50,
	.version = 1,
	.header_bytes = 16,
	.kind = 1,
	.entry_version = 0x101,
	.entry_bytes = 80,
	.payload_bytes = sizeof(fat_binary.text),
	.options_offset = 64,
	.text_offset = 72,
	.major = 6,
	.capability = 50,
	.flags = 0x11, /* 64 bits, for Linux */
};

static struct {
	uint32_t magic;
	uint32_t version;
	const void *data;
	const void *name;
} wrapper = { 0x466243b1, 1, &fat_binary, NULL };

/* What programs know kernels and variables by. */
static void scale_kernel(void)
{
}
static void look_up_kernel(void)
{
}
static void reverse_kernel(void)
{
}
static void together_kernel(void)
{
}
static void stray_kernel(void)
{
}
__attribute__((unused)) static void unknown_kernel(void)
{
}
static uint32_t table[TABLE_WORDS];
static uint32_t offsets[TABLE_WORDS];
__attribute__((unused)) static uint32_t unknown_variable;

void **__cudaRegisterFatBinary(void *wrapper);
void __cudaRegisterFatBinaryEnd(void **handle);
void __cudaUnregisterFatBinary(void **handle);
void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name,
			    int thread_limit, uint3 *thread, uint3 *block, dim3 *block_dim,
			    dim3 *grid_dim, int *warp);
void __cudaRegisterVar(void **handle, char *host, char *device, const char *name, int external,
		       size_t bytes, int constant, int global);
unsigned int __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared_bytes,
					 struct CUstream_st *stream);
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared_bytes, void *stream);

static void **registered;

static void register_kernel(void (*host)(void), const char *name)
{
	__cudaRegisterFunction(registered, (const char *)host, (char *)name, name, -1, NULL, NULL,
			       NULL, NULL, NULL);
}

static void register_variable(void *host, const char *name, size_t bytes, int constant)
{
	__cudaRegisterVar(registered, host, (char *)name, name, 0, bytes, constant, 0);
}

__attribute__((constructor)) static void register_program(void)
{
	memcpy(fat_binary.text, ptx, sizeof(ptx));
	fat_binary.bytes = sizeof(fat_binary) - 16;
	registered = __cudaRegisterFatBinary(&wrapper);
	register_kernel(scale_kernel, "scale");
	register_kernel(look_up_kernel, "look_up");
	register_kernel(reverse_kernel, "reverse");
	register_kernel(stray_kernel, "stray");
	register_kernel(together_kernel, "together");
	register_variable(table, "table", sizeof(table), 0);
	register_variable(offsets, "offsets", sizeof(offsets), 1);
	__cudaRegisterFatBinaryEnd(registered);
}

__attribute__((destructor)) static void unregister_program(void)
{
	__cudaUnregisterFatBinary(registered);
}

/* Where CUDA 12 and 13 differ. */
#if CUDART_VERSION < 13000
#define NO_KERNEL cudaErrorInvalidDeviceFunction /* of cudaFuncSetCacheConfig and its like */
#define BAD_SHAPE cudaErrorInvalidConfiguration
#else
#define NO_KERNEL cudaErrorInvalidResourceHandle
#define BAD_SHAPE cudaErrorInvalidValue
#endif

/* Checks: each failure is one line on standard error and is counted. */

static unsigned int failures;

static void expect(cudaError_t got, cudaError_t wanted, const char *what, int line)
{
	if (got == wanted)
		return;
	failures++;
	fprintf(stderr, "line %d: %s: %s (%d), expected %d\n", line, what, cudaGetErrorName(got),
		(int)got, (int)wanted);
	if (wanted == cudaSuccess)
		exit(1);
}

#define OK(CALL)	    expect(CALL, cudaSuccess, #CALL, __LINE__)
#define FAILS(CALL, WANTED) expect(CALL, WANTED, #CALL, __LINE__)
#define CHECK(CONDITION)                                                                           \
	do {                                                                                       \
		if (!(CONDITION)) {                                                                \
			failures++;                                                                \
			fprintf(stderr, "line %d: not true: %s\n", __LINE__, #CONDITION);          \
		}                                                                                  \
	} while (0)

/* Ends a program: says what came of it. */
__attribute__((unused)) static int report(void)
{
	if (failures)
		fprintf(stderr, "%u checks failed\n", failures);
	else
		puts("passed");
	return failures != 0;
}

/* Scales `count` numbers on the device. */
__attribute__((unused)) static cudaError_t launch_scale(float *data, float factor, unsigned int n,
							cudaStream_t stream)
{
	void *arguments[] = { &data, &factor, &n };

	return cudaLaunchKernel((const void *)scale_kernel, (dim3){ (n + 127) / 128, 1, 1 },
				(dim3){ 128, 1, 1 }, arguments, 0, stream);
}

#endif /* VGPU_TESTS_RUNTIME_PROGRAM_H */
