// SPDX-License-Identifier: MIT
/*
 * Functions that NVIDIA has deprecated or that its newer headers leave out; programs
 * still link them.
 */
#include "internal.h"

/* The driver's are deprecated too. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

/* Banks of shared memory: no device since Kepler has a choice. */

VGPU_EXPORT cudaError_t cudaDeviceGetSharedMemConfig(enum cudaSharedMemConfig *config);
VGPU_EXPORT cudaError_t cudaDeviceSetSharedMemConfig(enum cudaSharedMemConfig config);
VGPU_EXPORT cudaError_t cudaFuncSetSharedMemConfig(const void *host,
						   enum cudaSharedMemConfig config);

cudaError_t cudaDeviceGetSharedMemConfig(enum cudaSharedMemConfig *config)
{
	VGPU_RETURN_DRIVER(cuCtxGetSharedMemConfig((CUsharedconfig *)config));
}

cudaError_t cudaDeviceSetSharedMemConfig(enum cudaSharedMemConfig config)
{
	VGPU_RETURN_DRIVER(cuCtxSetSharedMemConfig((CUsharedconfig)config));
}

cudaError_t cudaFuncSetSharedMemConfig(const void *host, enum cudaSharedMemConfig config)
{
	CUfunction function;
	cudaError_t error = vgpu_kernel_of(host, &function);

	if (error == cudaSuccess)
		error = vgpu_error(cuFuncSetSharedMemConfig(function, (CUsharedconfig)config));
	else
		error = vgpu_error_before_13(error);
	return vgpu_done(error);
}

#if CUDART_VERSION < 13000
/* Names of before CUDA 4. */

cudaError_t cudaThreadExit(void)
{
	return cudaDeviceReset();
}

cudaError_t cudaThreadSynchronize(void)
{
	return cudaDeviceSynchronize();
}

cudaError_t cudaThreadSetLimit(enum cudaLimit limit, size_t value)
{
	return cudaDeviceSetLimit(limit, value);
}

cudaError_t cudaThreadGetLimit(size_t *value, enum cudaLimit limit)
{
	return cudaDeviceGetLimit(value, limit);
}

cudaError_t cudaThreadGetCacheConfig(enum cudaFuncCache *config)
{
	return cudaDeviceGetCacheConfig(config);
}

cudaError_t cudaThreadSetCacheConfig(enum cudaFuncCache config)
{
	return cudaDeviceSetCacheConfig(config);
}
#endif
