// SPDX-License-Identifier: MIT
/* Launches of kernels. Compiled twice (rules.mk). */
#include "internal.h"

#ifdef CUDA_API_PER_THREAD_DEFAULT_STREAM
#define __cudaLaunchKernel __cudaLaunchKernel_ptsz
#endif

/* Dimensions that are 0 are the runtime's own error; the driver has none for it. */
static bool empty(dim3 grid, dim3 block)
{
	return !grid.x || !grid.y || !grid.z || !block.x || !block.y || !block.z;
}

static cudaError_t launch(CUfunction function, dim3 grid, dim3 block, void **arguments,
			  size_t shared_bytes, cudaStream_t stream)
{
	CUresult result;

	if (empty(grid, block) || shared_bytes > UINT32_MAX)
		return cudaErrorInvalidConfiguration;
	result = cuLaunchKernel(function, grid.x, grid.y, grid.z, block.x, block.y, block.z,
				(unsigned int)shared_bytes, stream, arguments, NULL);
	/* What the driver calls an invalid value is a shape that the device does not take. */
	return result == CUDA_ERROR_INVALID_VALUE ? cudaErrorInvalidConfiguration
						  : vgpu_error(result);
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

/* What __cudaGetKernel gave, for programs of CUDA 13. */
VGPU_EXPORT cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block,
					   void **arguments, size_t shared_bytes,
					   cudaStream_t stream)
{
	struct vgpu_symbol *symbol = (struct vgpu_symbol *)kernel;
	CUfunction function;
	cudaError_t error = symbol && symbol->binary ? vgpu_kernel(symbol, &function)
						     : cudaErrorInvalidDeviceFunction;

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
	if (empty(config->gridDim, config->blockDim) || config->dynamicSmemBytes > UINT32_MAX)
		return vgpu_done(cudaErrorInvalidConfiguration);
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
		error = vgpu_error(cuLaunchKernelEx(&driver, function, arguments, NULL));
	return vgpu_done(error);
}
