// SPDX-License-Identifier: MIT
/* The last error of each thread, and calls that are not supported. */
#include "internal.h"
#include "vgpu_stub_export.h"

static _Thread_local cudaError_t last;

cudaError_t vgpu_done(cudaError_t error)
{
	/* Not being ready is an answer, not an error. */
	if (error != cudaSuccess && error != cudaErrorNotReady)
		last = error;
	return error;
}

cudaError_t cudaGetLastError(void)
{
	cudaError_t error = last;

	last = cudaSuccess;
	return error;
}

cudaError_t cudaPeekAtLastError(void)
{
	return last;
}

int vgpu_runtime_refuse(const char *symbol)
{
	const CUuuid id = VGPU_EXPORT_ID;
	const void *table;

	if (cuGetExportTable(&table, &id) == CUDA_SUCCESS)
		((const struct vgpu_export *)table)->refuse(symbol);
	return vgpu_done(cudaErrorNotSupported);
}
