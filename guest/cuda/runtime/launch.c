// SPDX-License-Identifier: MIT
/* Kernels: launches, attributes and occupancy. */
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

VGPU_EXPORT cudaError_t cudaLaunchKernel_ptsz(const void *host, dim3 grid, dim3 block,
					      void **arguments, size_t shared_bytes,
					      cudaStream_t stream)
{
	return cudaLaunchKernel(host, grid, block, arguments, shared_bytes,
				stream ? stream : cudaStreamPerThread);
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

VGPU_EXPORT cudaError_t __cudaLaunchKernel_ptsz(cudaKernel_t kernel, dim3 grid, dim3 block,
						void **arguments, size_t shared_bytes,
						cudaStream_t stream)
{
	return __cudaLaunchKernel(kernel, grid, block, arguments, shared_bytes,
				  stream ? stream : cudaStreamPerThread);
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

VGPU_EXPORT cudaError_t cudaLaunchKernelExC_ptsz(const cudaLaunchConfig_t *config, const void *host,
						 void **arguments)
{
	cudaLaunchConfig_t own;

	if (!config)
		return vgpu_done(cudaErrorInvalidValue);
	own = *config;
	if (!own.stream)
		own.stream = cudaStreamPerThread;
	return cudaLaunchKernelExC(&own, host, arguments);
}

cudaError_t cudaLaunchCooperativeKernel(const void *host, dim3 grid, dim3 block, void **arguments,
					size_t shared_bytes, cudaStream_t stream)
{
	CUfunction function;
	cudaError_t error = vgpu_kernel_of(host, &function);

	if (error == cudaSuccess && (empty(grid, block) || shared_bytes > UINT32_MAX))
		error = cudaErrorInvalidConfiguration;
	if (error == cudaSuccess)
		error = vgpu_error(cuLaunchCooperativeKernel(
			function, grid.x, grid.y, grid.z, block.x, block.y, block.z,
			(unsigned int)shared_bytes, stream, arguments));
	return vgpu_done(error);
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, const void *host)
{
	CUfunction function;
	cudaError_t error;
	int value;

	if (!attributes)
		return vgpu_done(cudaErrorInvalidValue);
	error = vgpu_kernel_of(host, &function);
	if (error != cudaSuccess)
		return vgpu_done(error);
	*attributes = (struct cudaFuncAttributes){ 0 };
#define READ(field, attribute)                                                                     \
	do {                                                                                       \
		CUresult result = cuFuncGetAttribute(&value, attribute, function);                 \
                                                                                                   \
		if (result != CUDA_SUCCESS)                                                        \
			return vgpu_driver_done(result);                                           \
		attributes->field = (typeof(attributes->field))value;                              \
	} while (0)
	READ(sharedSizeBytes, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES);
	READ(constSizeBytes, CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES);
	READ(localSizeBytes, CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES);
	READ(maxThreadsPerBlock, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
	READ(numRegs, CU_FUNC_ATTRIBUTE_NUM_REGS);
	READ(ptxVersion, CU_FUNC_ATTRIBUTE_PTX_VERSION);
	READ(binaryVersion, CU_FUNC_ATTRIBUTE_BINARY_VERSION);
	READ(cacheModeCA, CU_FUNC_ATTRIBUTE_CACHE_MODE_CA);
	READ(maxDynamicSharedSizeBytes, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
	READ(preferredShmemCarveout, CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT);
#undef READ
	return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *host, enum cudaFuncAttribute attribute, int value)
{
	CUfunction function;
	cudaError_t error = vgpu_kernel_of(host, &function);

	if (error == cudaSuccess)
		error = vgpu_error(
			cuFuncSetAttribute(function, (CUfunction_attribute)attribute, value));
	return vgpu_done(error);
}

cudaError_t cudaFuncSetCacheConfig(const void *host, enum cudaFuncCache config)
{
	CUfunction function;
	cudaError_t error = vgpu_kernel_of(host, &function);

	if (error == cudaSuccess)
		error = vgpu_error(cuFuncSetCacheConfig(function, (CUfunc_cache)config));
	return vgpu_done(error);
}

cudaError_t cudaFuncGetName(const char **name, const void *host)
{
	struct vgpu_symbol *symbol = vgpu_symbol_find(host);

	if (!name)
		return vgpu_done(cudaErrorInvalidValue);
	if (!symbol || symbol->variable)
		return vgpu_done(cudaErrorInvalidDeviceFunction);
	*name = symbol->name;
	return cudaSuccess;
}

cudaError_t cudaGetFuncBySymbol(cudaFunction_t *function, const void *host)
{
	CUfunction found;
	cudaError_t error = function ? vgpu_kernel_of(host, &found) : cudaErrorInvalidValue;

	if (error == cudaSuccess)
		*function = (cudaFunction_t)found;
	return vgpu_done(error);
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *host,
								   int block_threads,
								   size_t shared_bytes,
								   unsigned int flags)
{
	CUfunction function;
	cudaError_t error = vgpu_kernel_of(host, &function);

	if (error == cudaSuccess)
		error = vgpu_error(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
			blocks, function, block_threads, shared_bytes, flags));
	return vgpu_done(error);
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *host,
							  int block_threads, size_t shared_bytes)
{
	return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
		blocks, host, block_threads, shared_bytes, cudaOccupancyDefault);
}

cudaError_t cudaOccupancyAvailableDynamicSMemPerBlock(size_t *bytes, const void *host, int blocks,
						      int block_threads)
{
	CUfunction function;
	cudaError_t error = vgpu_kernel_of(host, &function);

	if (error == cudaSuccess)
		error = vgpu_error(cuOccupancyAvailableDynamicSMemPerBlock(bytes, function, blocks,
									   block_threads));
	return vgpu_done(error);
}
