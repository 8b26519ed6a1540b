// SPDX-License-Identifier: MIT
/* Code that a program loads itself, and kernels by handle. */
#include <unistd.h>

#include "program.h"

#define COUNT 64u

static float *numbers; /* on the device */

static float scaled(cudaKernel_t kernel, float factor)
{
	unsigned int count = COUNT;
	void *arguments[] = { &numbers, &factor, &count };
	dim3 one = { 1, 1, 1 };
	dim3 block = { COUNT, 1, 1 };
	float words[COUNT] = { [0] = 1, [COUNT - 1] = 1 };

	OK(cudaMemcpy(numbers, words, sizeof(words), cudaMemcpyHostToDevice));
	/* A handle is taken where an address of the program's is. */
	OK(cudaLaunchKernel((const void *)kernel, one, block, arguments, 0, NULL));
	OK(cudaMemcpy(words, numbers, sizeof(words), cudaMemcpyDeviceToHost));
	CHECK(words[0] == words[COUNT - 1]);
	return words[0];
}

static void check_library(cudaLibrary_t library)
{
	cudaKernel_t kernels[8];
	cudaKernel_t kernel;
	unsigned int count = 0;
	size_t bytes = 0;
	void *address = NULL;
	uint32_t word = 77;

	OK(cudaLibraryGetKernelCount(&count, library));
	CHECK(count == 5);
	OK(cudaLibraryEnumerateKernels(kernels, 8, library));
	OK(cudaLibraryGetKernel(&kernel, library, "scale"));
	CHECK(kernel == kernels[0] || kernel == kernels[1] || kernel == kernels[2] ||
	      kernel == kernels[3] || kernel == kernels[4]);
	CHECK(scaled(kernel, 5) == 5);
	FAILS(cudaLibraryGetKernel(&kernel, library, "no_such_kernel"), cudaErrorSymbolNotFound);
	OK(cudaLibraryGetGlobal(&address, &bytes, library, "table"));
	CHECK(bytes == sizeof(table));
	OK(cudaMemcpy(address, &word, 4, cudaMemcpyHostToDevice));
	word = 0;
	OK(cudaMemcpy(&word, address, 4, cudaMemcpyDeviceToHost));
	CHECK(word == 77);
	FAILS(cudaLibraryGetGlobal(&address, &bytes, library, "no_such_variable"),
	      cudaErrorSymbolNotFound);
	OK(cudaLibraryUnload(library));
}

static void check_file(void)
{
	char path[] = "/tmp/vgpu_library_XXXXXX";
	cudaLibrary_t library;
	int file = mkstemp(path);

	CHECK(file >= 0 && write(file, ptx, sizeof(ptx)) == (ssize_t)sizeof(ptx));
	close(file);
	OK(cudaLibraryLoadFromFile(&library, path, NULL, NULL, 0, NULL, NULL, 0));
	unlink(path);
	check_library(library);
}

static void check_registered_kernel(void)
{
	struct cudaFuncAttributes attributes;
	cudaKernel_t kernel;
	cudaKernel_t again;
	uint32_t word = 5;
	uint32_t found[TABLE_WORDS];
	uint32_t *out;
	void *arguments[] = { &out };
	dim3 one = { 1, 1, 1 };
	dim3 block = { TABLE_WORDS, 1, 1 };

	OK(cudaGetKernel(&kernel, (const void *)scale_kernel));
	OK(cudaGetKernel(&again, (const void *)scale_kernel));
	CHECK(kernel == again && scaled(kernel, 9) == 9);
	FAILS(cudaGetKernel(&again, (const void *)unknown_kernel), cudaErrorInvalidDeviceFunction);

	OK(cudaGetKernel(&kernel, (const void *)reverse_kernel));
	OK(cudaKernelSetAttributeForDevice(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
					   2048, 0));
	OK(cudaFuncGetAttributes(&attributes, (const void *)kernel));
	CHECK(attributes.maxDynamicSharedSizeBytes == 2048);

	/* Both ways to a kernel lead to one module: its variables are the same. */
	OK(cudaGetKernel(&kernel, (const void *)look_up_kernel));
	OK(cudaMalloc((void **)&out, sizeof(found)));
	OK(cudaMemcpyToSymbol(table, &word, 4, 12, cudaMemcpyHostToDevice));
	OK(cudaLaunchKernel((const void *)kernel, one, block, arguments, 0, NULL));
	OK(cudaMemcpy(found, out, sizeof(found), cudaMemcpyDeviceToHost));
	CHECK(found[3] == 5 && found[4] == 0);
	OK(cudaFree(out));
}

int main(void)
{
	cudaLibrary_t library;

	OK(cudaMalloc((void **)&numbers, COUNT * sizeof(float)));
	OK(cudaLibraryLoadData(&library, ptx, NULL, NULL, 0, NULL, NULL, 0));
	check_library(library);
	check_file();
	check_registered_kernel();
	OK(cudaFree(numbers));
	return report();
}
