// SPDX-License-Identifier: MIT
/* From here to libcuda.so.1: its table, contexts, and commands in stream order. */
#include <pthread.h>
#include <string.h>

#include "internal.h"

#define RESULT_BYTES 16

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const struct vgpu_export *driver;

static void find_driver(void)
{
	static const CUuuid id = VGPU_EXPORT_ID;
	const void *table;

	if (cuGetExportTable(&table, &id) == CUDA_SUCCESS)
		driver = table;
	if (driver && driver->bytes < sizeof(*driver))
		driver = NULL;
}

const struct vgpu_export *blas_driver(void)
{
	pthread_once(&once, find_driver);
	return driver;
}

cublasStatus_t blas_status(CUresult result)
{
	switch (result) {
	case CUDA_SUCCESS:
		return CUBLAS_STATUS_SUCCESS;
	case CUDA_ERROR_OUT_OF_MEMORY:
		return CUBLAS_STATUS_ALLOC_FAILED;
	case CUDA_ERROR_NOT_INITIALIZED:
	case CUDA_ERROR_DEINITIALIZED:
	case CUDA_ERROR_NO_DEVICE:
	case CUDA_ERROR_INVALID_CONTEXT:
	case CUDA_ERROR_CONTEXT_IS_DESTROYED:
		return CUBLAS_STATUS_NOT_INITIALIZED;
	case CUDA_ERROR_INVALID_VALUE:
	case CUDA_ERROR_INVALID_HANDLE:
		return CUBLAS_STATUS_INVALID_VALUE;
	case CUDA_ERROR_NOT_SUPPORTED:
		return CUBLAS_STATUS_NOT_SUPPORTED;
	default:
		return CUBLAS_STATUS_EXECUTION_FAILED;
	}
}

static pthread_mutex_t primary_lock = PTHREAD_MUTEX_INITIALIZER;
static CUcontext primary; /* primary_lock: retained for as long as the process lives */

static CUresult use_primary_context(void)
{
	CUresult result = CUDA_SUCCESS;

	pthread_mutex_lock(&primary_lock);
	if (!primary)
		result = cuDevicePrimaryCtxRetain(&primary, 0);
	pthread_mutex_unlock(&primary_lock);
	return result == CUDA_SUCCESS ? cuCtxSetCurrent(primary) : result;
}

CUresult blas_require_context(void)
{
	CUcontext current;
	CUresult result = cuCtxGetCurrent(&current);

	if (result == CUDA_ERROR_NOT_INITIALIZED) {
		result = cuInit(0);
		if (result == CUDA_SUCCESS)
			result = cuCtxGetCurrent(&current);
	}
	if (result != CUDA_SUCCESS || current)
		return result;
	return use_primary_context();
}

/* The handle's context becomes current, for one call. */
static CUresult enter(cublasHandle_t handle, bool *entered)
{
	CUcontext current;
	CUresult result = cuCtxGetCurrent(&current);

	*entered = false;
	if (result != CUDA_SUCCESS || current == handle->context)
		return result;
	result = cuCtxPushCurrent(handle->context);
	*entered = result == CUDA_SUCCESS;
	return result;
}

static void leave(bool entered)
{
	CUcontext popped;

	if (entered)
		cuCtxPopCurrent(&popped);
}

CUresult blas_prepare(cublasHandle_t handle)
{
	struct vgpu_cmd_blas_prepare command = vgpu_encode_blas_prepare(0);
	bool entered;
	CUresult result = enter(handle, &entered);

	if (result != CUDA_SUCCESS)
		return result;
	result = driver->call(NULL, &command, sizeof(command), NULL, NULL);
	leave(entered);
	return result;
}

size_t blas_type_bytes(cudaDataType type)
{
	switch (type) {
	case CUDA_R_8I:
		return 1;
	case CUDA_R_16F:
	case CUDA_R_16BF:
	case CUDA_C_8I:
		return 2;
	case CUDA_R_32F:
	case CUDA_R_32I:
		return 4;
	case CUDA_R_64F:
	case CUDA_R_64I:
	case CUDA_C_32F:
		return 8;
	case CUDA_C_64F:
		return 16;
	}
	return 0;
}

void blas_set_scalar(cublasHandle_t handle, __u8 place[16], const void *scalar, size_t bytes)
{
	__u64 pointer = blas_address(scalar);

	if (handle->pointer_mode == CUBLAS_POINTER_MODE_DEVICE)
		memcpy(place, &pointer, sizeof(pointer));
	else
		memcpy(place, scalar, bytes);
}

struct vgpu_cmd_blas blas_command(cublasHandle_t handle, __u32 routine)
{
	return (struct vgpu_cmd_blas){
		.header.opcode = VGPU_OP_BLAS,
		.header.slots = VGPU_SLOTS(sizeof(struct vgpu_cmd_blas)),
		.routine = routine,
		.math_mode = handle->math_mode,
		.workspace = blas_address(handle->workspace),
		.workspace_bytes = handle->workspace_bytes,
		.blas_flags = handle->pointer_mode == CUBLAS_POINTER_MODE_DEVICE
				      ? VGPU_BLAS_FLAG_DEVICE_SCALARS
				      : 0,
		.batch = 1,
	};
}

static cublasStatus_t submit(cublasHandle_t handle, struct vgpu_cmd_blas *command)
{
	bool entered;
	CUresult result = enter(handle, &entered);

	if (result != CUDA_SUCCESS)
		return blas_status(result);
	result = driver->submit(handle->stream, command, sizeof(*command), &command->stream);
	leave(entered);
	return blas_status(result);
}

cublasStatus_t blas_submit(cublasHandle_t handle, struct vgpu_cmd_blas *command)
{
	cublasStatus_t status = submit(handle, command);

	if (atomic_load_explicit(&blas_logging, memory_order_relaxed))
		blas_log_command(command, status);
	return status;
}

cublasStatus_t blas_result_memory(cublasHandle_t handle, __u64 *pointer)
{
	CUresult result = CUDA_SUCCESS;
	bool entered;

	if (!handle->result) {
		result = enter(handle, &entered);
		if (result == CUDA_SUCCESS) {
			result = cuMemAlloc(&handle->result, RESULT_BYTES);
			leave(entered);
		}
	}
	*pointer = handle->result;
	return blas_status(result);
}

cublasStatus_t blas_fetch_result(cublasHandle_t handle, void *result, size_t bytes)
{
	bool entered;
	CUresult status = enter(handle, &entered);

	if (status != CUDA_SUCCESS)
		return blas_status(status);
	status = cuMemcpyDtoHAsync(result, handle->result, bytes, handle->stream);
	if (status == CUDA_SUCCESS)
		status = cuStreamSynchronize(handle->stream);
	leave(entered);
	return blas_status(status);
}
