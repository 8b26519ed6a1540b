// SPDX-License-Identifier: MIT
/*
 * Libraries and kernels, code that belongs to no context, against a real device or
 * natively: names without a context, one kernel in two contexts, attributes, errors.
 * Exit status 0: all passed.
 */
#include <stdbool.h>
#include <string.h>

#include "expect.h"

/* Two kernels and a variable: *out = term + addend. */
static char ptx[] = ".version 6.0\n"
		    ".target sm_50\n"
		    ".address_size 64\n"
		    ".visible .global .align 4 .u32 addend = 40;\n"
		    ".visible .entry nothing()\n"
		    "{\n"
		    "	ret;\n"
		    "}\n"
		    ".visible .entry put(.param .u64 out, .param .u32 term)\n"
		    "{\n"
		    "	.reg .b32 %r<4>; .reg .b64 %d<2>;\n"
		    "	ld.param.u64 %d1, [out]; ld.param.u32 %r1, [term];\n"
		    "	ld.global.u32 %r2, [addend];\n"
		    "	add.u32 %r3, %r1, %r2;\n"
		    "	st.global.u32 [%d1], %r3;\n"
		    "	ret;\n"
		    "}\n";

static unsigned int run(CUfunction function, unsigned int term)
{
	unsigned int value = 0;
	CUdeviceptr out;
	void *parameters[] = { &out, &term };

	OK(cuMemAlloc(&out, sizeof(value)));
	OK(cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL));
	OK(cuMemcpyDtoH(&value, out, sizeof(value)));
	OK(cuMemFree(out));
	return value;
}

static void check_without_context(CUlibrary library)
{
	CUkernel kernels[4] = { NULL, NULL, NULL, NULL };
	CUlibrary owner;
	unsigned int count;
	CUkernel kernel;
	const char *name;
	CUmodule module;

	OK(cuLibraryGetKernelCount(&count, library));
	CHECK(count == 2);
	OK(cuLibraryEnumerateKernels(kernels, 4, library));
	CHECK(kernels[0] && kernels[1] && kernels[0] != kernels[1] && !kernels[2]);
	OK(cuLibraryGetKernel(&kernel, library, "put"));
	CHECK(kernel == kernels[0] || kernel == kernels[1]);
	OK(cuKernelGetName(&name, kernel));
	CHECK(!strcmp(name, "put"));
	OK(cuKernelGetLibrary(&owner, kernel));
	CHECK(owner == library);
	FAILS(cuLibraryGetKernel(&kernel, library, "pu"), CUDA_ERROR_NOT_FOUND);
	FAILS(cuLibraryGetModule(&module, library), CUDA_ERROR_INVALID_CONTEXT);
}

static void check_in_context(CUlibrary library, unsigned int addend)
{
	unsigned int value = 0;
	size_t bytes, offset;
	CUdeviceptr address;
	CUfunction function;
	CUkernel kernel;
	CUmodule module;
	int threads;

	OK(cuLibraryGetKernel(&kernel, library, "put"));
	/* Where a function is wanted a kernel will do. */
	CHECK(run((CUfunction)kernel, 2) == addend + 2);
	OK(cuKernelGetFunction(&function, kernel));
	CHECK(run(function, 3) == addend + 3);
	OK(cuKernelGetParamInfo(kernel, 1, &offset, &bytes));
	CHECK(offset == 8 && bytes == 4);
	FAILS(cuKernelGetParamInfo(kernel, 2, &offset, &bytes), CUDA_ERROR_INVALID_VALUE);
	OK(cuKernelGetAttribute(&threads, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, kernel, 0));
	CHECK(threads >= 32 && threads <= 1024);
	OK(cuLibraryGetGlobal(&address, &bytes, library, "addend"));
	CHECK(bytes == sizeof(value));
	OK(cuMemcpyDtoH(&value, address, sizeof(value)));
	CHECK(value == addend);
	FAILS(cuLibraryGetGlobal(&address, &bytes, library, "nothing_like_it"),
	      CUDA_ERROR_NOT_FOUND);
	OK(cuLibraryGetModule(&module, library));
	OK(cuModuleGetFunction(&function, module, "put"));
	CHECK(run(function, 4) == addend + 4);
}

static void check_attributes(CUlibrary library, CUcontext second)
{
	CUkernel kernel;
	int bytes;

	OK(cuLibraryGetKernel(&kernel, library, "nothing"));
	OK(cuKernelSetAttribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 1024, kernel, 0));
	OK(cuKernelGetAttribute(&bytes, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, kernel,
				0));
	CHECK(bytes == 1024);
	OK(cuCtxPushCurrent(second));
	OK(cuKernelGetAttribute(&bytes, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, kernel,
				0));
	CHECK(bytes == 1024);
	OK(cuCtxPopCurrent(NULL));
}

int main(void)
{
	unsigned int changed = 100;
	CUcontext first, second;
	CUdeviceptr address;
	CUlibrary library;
	CUdevice device;

	FAILS(cuLibraryLoadData(&library, ptx, NULL, NULL, 0, NULL, NULL, 0),
	      CUDA_ERROR_NOT_INITIALIZED);
	OK(cuInit(0));
	OK(cuDeviceGet(&device, 0));
	OK(cuLibraryLoadData(&library, ptx, NULL, NULL, 0, NULL, NULL, 0));
	/* Nobody promised to keep the text. */
	memset(ptx, 'x', sizeof(ptx) - 1);
	check_without_context(library);
	OK(cuDevicePrimaryCtxRetain(&first, device));
	OK(cuCtxSetCurrent(first));
	check_in_context(library, 40);
	/* Each context has variables of its own. */
	OK(cuLibraryGetGlobal(&address, NULL, library, "addend"));
	OK(cuMemcpyHtoD(address, &changed, sizeof(changed)));
	check_in_context(library, 100);
	OK(cuCtxCreate(&second, NULL, 0, device));
	check_in_context(library, 40);
	OK(cuCtxPopCurrent(NULL));
	check_in_context(library, 100);
	check_attributes(library, second);
	OK(cuCtxDestroy(second));
	check_in_context(library, 100);
	OK(cuLibraryUnload(library));
	FAILS(cuLibraryLoadData(&library, NULL, NULL, NULL, 0, NULL, NULL, 0),
	      CUDA_ERROR_INVALID_VALUE);
	FAILS(cuLibraryLoadFromFile(&library, "/nonexistent", NULL, NULL, 0, NULL, NULL, 0),
	      CUDA_ERROR_FILE_NOT_FOUND);
	OK(cuDevicePrimaryCtxRelease(device));
	return report();
}
