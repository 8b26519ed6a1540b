// SPDX-License-Identifier: MIT
/* Kernels as functions: attributes and occupancy. */
#include "internal.h"

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
	else
		error = vgpu_error_before_13(error);
	return vgpu_done(error);
}

cudaError_t cudaFuncGetName(const char **name, const void *host)
{
	struct vgpu_symbol *symbol = vgpu_symbol_find(host);

	if (!name)
		return vgpu_done(cudaErrorInvalidValue);
	if (!symbol || symbol->variable)
		return vgpu_done(cudaErrorInvalidResourceHandle);
	*name = symbol->name;
	return cudaSuccess;
}

cudaError_t cudaGetFuncBySymbol(cudaFunction_t *function, const void *host)
{
	struct vgpu_symbol *symbol = vgpu_symbol_find(host);
	CUfunction found;
	cudaError_t error;

	if (!function)
		return vgpu_done(cudaErrorInvalidValue);
	if (!symbol || symbol->variable)
		return vgpu_done(cudaErrorInvalidDeviceFunction);
	error = vgpu_kernel(symbol, &found);
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

cudaError_t cudaFuncGetParamInfo(const void *host, size_t index, size_t *offset, size_t *bytes)
{
	CUfunction function;
	cudaError_t error = vgpu_kernel_of(host, &function);

	if (error == cudaSuccess)
		error = vgpu_error(cuFuncGetParamInfo(function, index, offset, bytes));
	return vgpu_done(error);
}
