// SPDX-License-Identifier: MIT
/* Launches of kernels. Compiled twice (rules.mk). */
#include "internal.h"

#ifdef CUDA_API_PER_THREAD_DEFAULT_STREAM
#define __cudaLaunchKernel __cudaLaunchKernel_ptsz
#endif

#define BLOCK_THREADS_MAX 1024u /* of every device */
#define GRID_YZ_MAX	  65535u

static bool shape_is_possible(dim3 grid, dim3 block)
{
	uint64_t threads = (uint64_t)block.x * block.y * block.z;

	return grid.x && grid.y && grid.z && grid.y <= GRID_YZ_MAX && grid.z <= GRID_YZ_MAX &&
	       threads && threads <= BLOCK_THREADS_MAX;
}

/* CUDA 12 has an error of its own for shapes; CUDA 13 leaves it at the driver's. */
static cudaError_t outcome(CUresult result, dim3 grid, dim3 block)
{
	if (CUDART_VERSION < 13000 && result == CUDA_ERROR_INVALID_VALUE &&
	    !shape_is_possible(grid, block))
		return cudaErrorInvalidConfiguration;
	return vgpu_error(result);
}

static cudaError_t launch(CUfunction function, dim3 grid, dim3 block, void **arguments,
			  size_t shared_bytes, cudaStream_t stream)
{
	CUresult result;

	if (shared_bytes > UINT32_MAX)
		return cudaErrorInvalidValue;
	result = cuLaunchKernel(function, grid.x, grid.y, grid.z, block.x, block.y, block.z,
				(unsigned int)shared_bytes, stream, arguments, NULL);
	return outcome(result, grid, block);
}

cudaError_t cudaLaunchKernel(const void *host, dim3 grid, dim3 block, void **arguments,
			     size_t shared_bytes, cudaStream_t stream)
{
	CUfunction function;
	cudaError_t error = vgpu_kernel_of(host, &function);

	if (error == cudaSuccess)
		error = launch(function, grid, block, arguments, shared_bytes, stream);
	return vgpu_done(error);
}

cudaError_t cudaLaunchCooperativeKernel(const void *host, dim3 grid, dim3 block, void **arguments,
					size_t shared_bytes, cudaStream_t stream)
{
	CUfunction function;
	cudaError_t error =
		shared_bytes > UINT32_MAX ? cudaErrorInvalidValue : vgpu_kernel_of(host, &function);

	if (error == cudaSuccess)
		error = outcome(cuLaunchCooperativeKernel(
					function, grid.x, grid.y, grid.z, block.x, block.y, block.z,
					(unsigned int)shared_bytes, stream, arguments),
				grid, block);
	return vgpu_done(error);
}

/* What __cudaGetKernel gave, for programs of CUDA 13. */
VGPU_EXPORT cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block,
					   void **arguments, size_t shared_bytes,
					   cudaStream_t stream)
{
	struct vgpu_symbol *symbol = (struct vgpu_symbol *)kernel;
	CUfunction function;
	cudaError_t error = symbol && symbol->binary ? vgpu_kernel(symbol, &function)
						     : cudaErrorInvalidResourceHandle;

	if (error == cudaSuccess)
		error = launch(function, grid, block, arguments, shared_bytes, stream);
	return vgpu_done(error);
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *host,
				void **arguments)
{
	CUlaunchConfig driver;
	CUfunction function;
	cudaError_t error;

	if (!config || (config->numAttrs && !config->attrs))
		return vgpu_done(cudaErrorInvalidValue);
	if (config->dynamicSmemBytes > UINT32_MAX)
		return vgpu_done(cudaErrorInvalidValue);
	_Static_assert(sizeof(cudaLaunchAttribute) == sizeof(CUlaunchAttribute),
		       "the runtime's launch attributes are the driver's");
	driver = (CUlaunchConfig){
		.gridDimX = config->gridDim.x,
		.gridDimY = config->gridDim.y,
		.gridDimZ = config->gridDim.z,
		.blockDimX = config->blockDim.x,
		.blockDimY = config->blockDim.y,
		.blockDimZ = config->blockDim.z,
		.sharedMemBytes = (unsigned int)config->dynamicSmemBytes,
		.hStream = config->stream,
		.attrs = (CUlaunchAttribute *)config->attrs,
		.numAttrs = config->numAttrs,
	};
	error = vgpu_kernel_of(host, &function);
	if (error == cudaSuccess)
		error = outcome(cuLaunchKernelEx(&driver, function, arguments, NULL),
				config->gridDim, config->blockDim);
	return vgpu_done(error);
}
