// SPDX-License-Identifier: MIT
/* What compiled programs do around a launch that is written <<<...>>>. */
#include "internal.h"

struct configuration { /* of a launch written <<<...>>> */
	dim3 grid;
	dim3 block;
	size_t shared_bytes;
	void *stream;
};

#define NESTED 8 /* a launch may compute the arguments of another one */

static _Thread_local struct configuration pushed[NESTED];
static _Thread_local unsigned int depth;

VGPU_EXPORT unsigned int __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared_bytes,
						     struct CUstream_st *stream)
{
	if (depth == NESTED)
		return cudaErrorLaunchFailure;
	pushed[depth++] = (struct configuration){ grid, block, shared_bytes, stream };
	return cudaSuccess;
}

VGPU_EXPORT cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared_bytes,
						   void *stream)
{
	if (!depth)
		return vgpu_done(cudaErrorMissingConfiguration);
	depth--;
	*grid = pushed[depth].grid;
	*block = pushed[depth].block;
	*shared_bytes = pushed[depth].shared_bytes;
	*(void **)stream = pushed[depth].stream;
	return cudaSuccess;
}

/*
 * Programs of CUDA 13 keep a handle for each kernel that they launch: __cudaGetKernel
 * gives it once, __cudaLaunchKernel takes it. Ours is the registered symbol.
 */
VGPU_EXPORT cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *host)
{
	struct vgpu_symbol *symbol = vgpu_symbol_find(host);

	if (!symbol || symbol->variable)
		return vgpu_done(cudaErrorInvalidDeviceFunction);
	*kernel = (cudaKernel_t)symbol;
	return cudaSuccess;
}
