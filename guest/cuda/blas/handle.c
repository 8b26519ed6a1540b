// SPDX-License-Identifier: MIT
/* Handles: what cublasCreate makes and the settings it keeps. */
#include <stdlib.h>

#include "internal.h"

#define MAGIC		    0x53414c4275706776ull
#define WORKSPACE_ALIGNMENT 256

bool blas_handle_alive(cublasHandle_t handle)
{
	return handle && handle->magic == MAGIC;
}

CUBLAS_EXPORT cublasStatus_t cublasCreate_v2(cublasHandle_t *out)
{
	struct cublasContext *handle;
	CUresult result;

	if (!out)
		return CUBLAS_STATUS_INVALID_VALUE;
	*out = NULL;
	blas_log_from_environment();
	if (!blas_driver() || blas_require_context() != CUDA_SUCCESS)
		return CUBLAS_STATUS_NOT_INITIALIZED;
	handle = calloc(1, sizeof(*handle));
	if (!handle)
		return CUBLAS_STATUS_ALLOC_FAILED;
	handle->magic = MAGIC;
	result = cuCtxGetCurrent(&handle->context);
	if (result == CUDA_SUCCESS)
		result = blas_prepare(handle);
	if (result != CUDA_SUCCESS) {
		blas_driver()->log("cublasCreate: the device cannot carry out cuBLAS (CUresult %d)",
				   (int)result);
		free(handle);
		return result == CUDA_ERROR_OUT_OF_MEMORY ? CUBLAS_STATUS_ALLOC_FAILED
							  : CUBLAS_STATUS_NOT_INITIALIZED;
	}
	*out = handle;
	return CUBLAS_STATUS_SUCCESS;
}

/* Waits for the device's work, as cuBLAS does. */
CUBLAS_EXPORT cublasStatus_t cublasDestroy_v2(cublasHandle_t handle)
{
	CUcontext popped;

	if (!blas_handle_alive(handle))
		return CUBLAS_STATUS_NOT_INITIALIZED;
	if (cuCtxPushCurrent(handle->context) == CUDA_SUCCESS) {
		cuCtxSynchronize();
		if (handle->result)
			cuMemFree(handle->result);
		cuCtxPopCurrent(&popped);
	}
	handle->magic = 0;
	free(handle);
	return CUBLAS_STATUS_SUCCESS;
}

CUBLAS_EXPORT cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, CUstream stream)
{
	if (!blas_handle_alive(handle))
		return CUBLAS_STATUS_NOT_INITIALIZED;
	handle->stream = stream;
	handle->workspace = NULL; /* as cuBLAS documents it */
	handle->workspace_bytes = 0;
	return CUBLAS_STATUS_SUCCESS;
}

CUBLAS_EXPORT cublasStatus_t cublasGetStream_v2(cublasHandle_t handle, CUstream *stream)
{
	if (!blas_handle_alive(handle))
		return CUBLAS_STATUS_NOT_INITIALIZED;
	if (!stream)
		return CUBLAS_STATUS_INVALID_VALUE;
	*stream = handle->stream;
	return CUBLAS_STATUS_SUCCESS;
}

CUBLAS_EXPORT cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void *workspace,
						   size_t bytes)
{
	if (!blas_handle_alive(handle))
		return CUBLAS_STATUS_NOT_INITIALIZED;
	if ((uintptr_t)workspace % WORKSPACE_ALIGNMENT)
		return CUBLAS_STATUS_INVALID_VALUE;
	handle->workspace = workspace;
	handle->workspace_bytes = workspace ? bytes : 0;
	return CUBLAS_STATUS_SUCCESS;
}

CUBLAS_EXPORT cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t handle,
						     cublasPointerMode_t mode)
{
	if (!blas_handle_alive(handle))
		return CUBLAS_STATUS_NOT_INITIALIZED;
	if ((unsigned int)mode > CUBLAS_POINTER_MODE_DEVICE)
		return CUBLAS_STATUS_INVALID_VALUE;
	handle->pointer_mode = mode;
	return CUBLAS_STATUS_SUCCESS;
}

CUBLAS_EXPORT cublasStatus_t cublasGetPointerMode_v2(cublasHandle_t handle,
						     cublasPointerMode_t *mode)
{
	if (!blas_handle_alive(handle))
		return CUBLAS_STATUS_NOT_INITIALIZED;
	if (!mode)
		return CUBLAS_STATUS_INVALID_VALUE;
	*mode = handle->pointer_mode;
	return CUBLAS_STATUS_SUCCESS;
}

CUBLAS_EXPORT cublasStatus_t cublasSetAtomicsMode(cublasHandle_t handle, cublasAtomicsMode_t mode)
{
	if (!blas_handle_alive(handle))
		return CUBLAS_STATUS_NOT_INITIALIZED;
	if ((unsigned int)mode > CUBLAS_ATOMICS_ALLOWED)
		return CUBLAS_STATUS_INVALID_VALUE;
	handle->atomics_mode = mode;
	return CUBLAS_STATUS_SUCCESS;
}

CUBLAS_EXPORT cublasStatus_t cublasGetAtomicsMode(cublasHandle_t handle, cublasAtomicsMode_t *mode)
{
	if (!blas_handle_alive(handle))
		return CUBLAS_STATUS_NOT_INITIALIZED;
	if (!mode)
		return CUBLAS_STATUS_INVALID_VALUE;
	*mode = handle->atomics_mode;
	return CUBLAS_STATUS_SUCCESS;
}

CUBLAS_EXPORT cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode)
{
	unsigned int base = mode & ~(unsigned int)CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;

	if (!blas_handle_alive(handle))
		return CUBLAS_STATUS_NOT_INITIALIZED;
	if (base > CUBLAS_FP32_EMULATED_BF16X9_MATH && base != CUBLAS_FP64_EMULATED_FIXEDPOINT_MATH)
		return CUBLAS_STATUS_INVALID_VALUE;
	handle->math_mode = mode;
	return CUBLAS_STATUS_SUCCESS;
}

CUBLAS_EXPORT cublasStatus_t cublasGetMathMode(cublasHandle_t handle, cublasMath_t *mode)
{
	if (!blas_handle_alive(handle))
		return CUBLAS_STATUS_NOT_INITIALIZED;
	if (!mode)
		return CUBLAS_STATUS_INVALID_VALUE;
	*mode = handle->math_mode;
	return CUBLAS_STATUS_SUCCESS;
}
