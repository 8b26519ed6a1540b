// SPDX-License-Identifier: MIT
/*
 * The linker, against a real device or natively: texts that need each other, files, logs, and
 * what is refused when. Exit status 0: all passed.
 */
#include <string.h>
#include <unistd.h>

#include "expect.h"

#define HEADER ".version 6.0\n.target sm_50\n.address_size 64\n"

/* *out = 2 * term + bias, of which only the kernel is here. */
static char program[] =
	HEADER ".extern .func (.param .b32 r) twice (.param .b32 a);\n"
	       ".extern .global .u32 bias;\n"
	       ".visible .entry put(.param .u64 out, .param .u32 term)\n"
	       "{\n"
	       "	.reg .b32 %r<4>; .reg .b64 %d<2>; .param .b32 a; .param .b32 r;\n"
	       "	ld.param.u64 %d1, [out]; ld.param.u32 %r1, [term];\n"
	       "	st.param.b32 [a], %r1; call (r), twice, (a); ld.param.b32 %r2, [r];\n"
	       "	ld.global.u32 %r3, [bias]; add.u32 %r2, %r2, %r3;\n"
	       "	st.global.u32 [%d1], %r2;\n"
	       "	ret;\n"
	       "}\n";
static char library[] = HEADER ".visible .global .u32 bias = 100;\n"
			       ".visible .func (.param .b32 r) twice (.param .b32 a)\n"
			       "{\n"
			       "	.reg .b32 %v; ld.param.b32 %v, [a]; add.u32 %v, %v, %v; "
			       "st.param.b32 [r], %v; ret;\n"
			       "}\n";
static char broken[] = HEADER ".visible .entry nothing() { nonsense; }\n";

static void add(CUlinkState state, char *text, const char *name)
{
	OK(cuLinkAddData(state, CU_JIT_INPUT_PTX, text, strlen(text) + 1, name, 0, NULL, NULL));
}

static unsigned int run(CUmodule module, unsigned int term)
{
	unsigned int value = 0;
	CUfunction function;
	CUdeviceptr out;
	void *parameters[] = { &out, &term };

	OK(cuModuleGetFunction(&function, module, "put"));
	OK(cuMemAlloc(&out, sizeof(value)));
	OK(cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL));
	OK(cuMemcpyDtoH(&value, out, sizeof(value)));
	OK(cuMemFree(out));
	return value;
}

static void check_image(void)
{
	CUdeviceptr address;
	CUlinkState state;
	CUlibrary loaded;
	CUmodule module;
	CUkernel kernel;
	size_t bytes;
	void *image;

	OK(cuLinkCreate(0, NULL, NULL, &state));
	add(state, program, "program.ptx");
	add(state, library, NULL);
	FAILS(cuLinkComplete(state, NULL, &bytes), CUDA_ERROR_INVALID_VALUE);
	OK(cuLinkComplete(state, &image, &bytes));
	CHECK(bytes > 0);
	FAILS(cuLinkComplete(state, &image, &bytes), CUDA_ERROR_INVALID_HANDLE);
	FAILS(cuLinkAddData(state, CU_JIT_INPUT_PTX, library, sizeof(library), NULL, 0, NULL, NULL),
	      CUDA_ERROR_INVALID_VALUE);
	OK(cuModuleLoadData(&module, image));
	CHECK(run(module, 21) == 142);
	OK(cuModuleGetGlobal(&address, &bytes, module, "bias"));
	CHECK(bytes == 4);
	OK(cuModuleUnload(module));
	OK(cuLibraryLoadData(&loaded, image, NULL, NULL, 0, NULL, NULL, 0));
	OK(cuLinkDestroy(state));
	OK(cuLibraryGetKernel(&kernel, loaded, "put"));
	OK(cuLibraryGetModule(&module, loaded));
	CHECK(run(module, 1) == 102);
	OK(cuLibraryUnload(loaded));
}

static void check_files_and_images(void)
{
	char path[] = "/tmp/link-XXXXXX.ptx";
	CUlinkState first, second;
	size_t bytes, more;
	CUmodule module;
	CUresult status;
	FILE *file;
	void *image;

	file = fdopen(mkstemps(path, 4), "w");
	CHECK(file && fputs(library, file) >= 0 && fclose(file) == 0);
	OK(cuLinkCreate(0, NULL, NULL, &first));
	FAILS(cuLinkAddFile(first, CU_JIT_INPUT_PTX, "/nonexistent.ptx", 0, NULL, NULL),
	      CUDA_ERROR_FILE_NOT_FOUND);
	OK(cuLinkAddFile(first, CU_JIT_INPUT_PTX, path, 0, NULL, NULL));
	unlink(path);
	OK(cuLinkComplete(first, &image, &bytes));
	OK(cuLinkCreate(0, NULL, NULL, &second));
	/* A linked text can be linked again; a cubin cannot, which a physical GPU makes of it. */
	status = cuLinkAddData(second, CU_JIT_INPUT_CUBIN, image, bytes, "library", 0, NULL, NULL);
	OK(cuLinkDestroy(first));
	if (status == CUDA_SUCCESS) {
		add(second, program, NULL);
		status = cuLinkComplete(second, &image, &more);
	}
	if (status == CUDA_SUCCESS) {
		OK(cuModuleLoadData(&module, image));
		CHECK(run(module, 5) == 110);
		OK(cuModuleUnload(module));
	} else {
		CHECK(status == CUDA_ERROR_NO_BINARY_FOR_GPU);
	}
	OK(cuLinkDestroy(second));
}

static void check_logs(void)
{
	static char log[4096], info[64] = "before";
	CUjit_option options[] = { CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
				   CU_JIT_INFO_LOG_BUFFER, CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES };
	void *values[] = { log, (void *)sizeof(log), info, (void *)sizeof(info) };
	CUlinkState state;
	CUresult status;
	void *image;

	OK(cuLinkCreate(4, options, values, &state));
	add(state, program, "program.ptx");
	FAILS(cuLinkComplete(state, &image, NULL), CUDA_ERROR_INVALID_SOURCE);
	CHECK(!strcmp(log, "error   : Undefined reference to 'twice' in 'program.ptx'\n"
			   "error   : Undefined reference to 'bias' in 'program.ptx'"));
	CHECK((size_t)values[1] == strlen(log));
	OK(cuLinkDestroy(state));

	values[1] = (void *)sizeof(log);
	OK(cuLinkCreate(2, options, values, &state));
	add(state, library, "one");
	status = cuLinkAddData(state, CU_JIT_INPUT_PTX, library, sizeof(library), "two", 0, NULL,
			       NULL);
	CHECK(status == CUDA_SUCCESS || status == CUDA_ERROR_INVALID_SOURCE); /* natively at once */
	FAILS(cuLinkComplete(state, &image, NULL), CUDA_ERROR_INVALID_SOURCE);
	CHECK(strstr(log, "Multiple definition of 'twice' in 'two', first defined in 'one'"));
	OK(cuLinkDestroy(state));

	/* A kernel that cannot be run is refused by the linker natively, here when it is used. */
	values[1] = (void *)sizeof(log);
	OK(cuLinkCreate(2, options, values, &state));
	status =
		cuLinkAddData(state, CU_JIT_INPUT_PTX, broken, sizeof(broken), NULL, 0, NULL, NULL);
	CHECK(status == CUDA_SUCCESS || status == CUDA_ERROR_INVALID_PTX);
	OK(cuLinkDestroy(state));
}

static void check_arguments(void)
{
	CUjit_option option = CU_JIT_ERROR_LOG_BUFFER;
	CUlinkState state;
	void *image;

	FAILS(cuLinkCreate(0, NULL, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
	FAILS(cuLinkCreate(1, NULL, NULL, &state), CUDA_ERROR_INVALID_VALUE);
	FAILS(cuLinkCreate(1, &option, NULL, &state), CUDA_ERROR_INVALID_VALUE);
	FAILS(cuLinkDestroy(NULL), CUDA_ERROR_INVALID_HANDLE);
	FAILS(cuLinkComplete(NULL, &image, NULL), CUDA_ERROR_INVALID_HANDLE);
	FAILS(cuLinkAddData(NULL, CU_JIT_INPUT_PTX, program, sizeof(program), NULL, 0, NULL, NULL),
	      CUDA_ERROR_INVALID_HANDLE);
	OK(cuLinkCreate(0, NULL, NULL, &state));
	FAILS(cuLinkAddData(state, CU_JIT_INPUT_PTX, NULL, 8, NULL, 0, NULL, NULL),
	      CUDA_ERROR_INVALID_VALUE);
	FAILS(cuLinkAddData(state, CU_JIT_INPUT_PTX, program, 0, NULL, 0, NULL, NULL),
	      CUDA_ERROR_INVALID_VALUE);
	FAILS(cuLinkAddData(state, (CUjitInputType)77, program, sizeof(program), NULL, 0, NULL,
			    NULL),
	      CUDA_ERROR_INVALID_VALUE);
	FAILS(cuLinkAddFile(state, CU_JIT_INPUT_PTX, NULL, 0, NULL, NULL),
	      CUDA_ERROR_INVALID_VALUE);
	OK(cuLinkComplete(state, &image, NULL)); /* of nothing */
	OK(cuLinkDestroy(state));
}

int main(void)
{
	CUlinkState state;
	CUcontext context;
	CUdevice device;

	FAILS(cuLinkCreate(0, NULL, NULL, &state), CUDA_ERROR_NOT_INITIALIZED);
	OK(cuInit(0));
	OK(cuDeviceGet(&device, 0));
	FAILS(cuLinkCreate(0, NULL, NULL, &state), CUDA_ERROR_INVALID_CONTEXT);
	OK(cuDevicePrimaryCtxRetain(&context, device));
	OK(cuCtxSetCurrent(context));
	check_image();
	check_files_and_images();
	check_logs();
	check_arguments();
	OK(cuDevicePrimaryCtxRelease(device));
	return report();
}
