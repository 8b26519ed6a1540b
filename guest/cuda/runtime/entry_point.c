// SPDX-License-Identifier: MIT
/* The driver's functions by name. Compiled twice (rules.mk). */
#include "internal.h"

#ifdef CUDA_API_PER_THREAD_DEFAULT_STREAM
#define DEFAULT_FLAGS CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM
#else
#define DEFAULT_FLAGS CU_GET_PROC_ADDRESS_DEFAULT
#endif

static cudaError_t find(const char *name, void **function, int version, unsigned long long flags,
			enum cudaDriverEntryPointQueryResult *found)
{
	CUdriverProcAddressQueryResult result = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
	CUresult status;
	cudaError_t error = vgpu_initialize();

	if (error != cudaSuccess)
		return vgpu_done(error);
	if (!name || !*name || !function)
		return vgpu_done(cudaErrorInvalidValue);
	status = cuGetProcAddress(name, function, version,
				  flags == cudaEnableDefault ? DEFAULT_FLAGS : flags, &result);
	/* Where the caller looks at the result, a name that is not there is no error. */
	if (status == CUDA_ERROR_NOT_FOUND && found)
		status = CUDA_SUCCESS;
	if (found)
		*found = (enum cudaDriverEntryPointQueryResult)result;
	return vgpu_driver_done(status);
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **function,
					     unsigned int version, unsigned long long flags,
					     enum cudaDriverEntryPointQueryResult *found)
{
	return find(name, function, (int)version, flags, found);
}

/* The headers of CUDA 13 do not declare it any more; programs of older ones link it. */
VGPU_EXPORT cudaError_t cudaGetDriverEntryPoint(const char *name, void **function,
						unsigned long long flags,
						enum cudaDriverEntryPointQueryResult *found);

cudaError_t cudaGetDriverEntryPoint(const char *name, void **function, unsigned long long flags,
				    enum cudaDriverEntryPointQueryResult *found)
{
	return find(name, function, CUDART_VERSION, flags, found);
}
