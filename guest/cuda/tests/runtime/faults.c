// SPDX-License-Identifier: MIT
/* Errors: those that pass, those that stay, and what a forked child gets. */
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"

static void check_texts(void)
{
	CHECK(!strcmp(cudaGetErrorName(cudaErrorNoDevice), "cudaErrorNoDevice"));
	CHECK(!strcmp(cudaGetErrorString(cudaErrorNoDevice), "no CUDA-capable device is detected"));
	CHECK(!strcmp(cudaGetErrorString((cudaError_t)123456), "unrecognized error code"));
}

static void check_fork(void)
{
	int status = -1;
	pid_t child = fork();

	if (!child) {
		void *memory;
		cudaError_t error = cudaMalloc(&memory, 16);

		/* Documented: a child cannot use its parent's context. */
		_exit(error == cudaErrorInitializationError ? 0 : (int)error);
	}
	CHECK(waitpid(child, &status, 0) == child);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void check_stray_write(void)
{
	uint64_t address = 0x100;
	void *arguments[] = { &address };
	void *memory;
	dim3 one = { 1, 1, 1 };

	OK(cudaLaunchKernel((const void *)stray_kernel, one, one, arguments, 0, NULL));
	FAILS(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
	FAILS(cudaMalloc(&memory, 16), cudaErrorIllegalAddress);
	FAILS(cudaStreamSynchronize(NULL), cudaErrorIllegalAddress);
	CHECK(cudaPeekAtLastError() == cudaErrorIllegalAddress);
	CHECK(cudaGetLastError() == cudaErrorIllegalAddress);
}

int main(void)
{
	OK(cudaSetDevice(0));
	check_texts();
	check_fork();
	check_stray_write();
	return report();
}
