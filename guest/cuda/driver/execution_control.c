// SPDX-License-Identifier: MIT
/*
 * The first way to launch kernels, deprecated since CUDA 4 and still used by pycuda:
 * block shape, shared memory and parameters are set on the function, then a grid is
 * launched. What was set is kept with the function; the launch is cuLaunchKernel's.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define MAX_PARAMETER_BYTES 4096

struct vgpu_execution {
	unsigned int block[3];
	unsigned int shared_bytes;
	size_t parameter_bytes;
	uint8_t parameters[MAX_PARAMETER_BYTES];
};

/* Guards what is set on any function; launches copy it out. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static CUresult begin(CUfunction handle, struct vgpu_execution **execution)
{
	struct vgpu_function *function;
	CUresult status = vgpu_check_initialized();

	if (status == CUDA_SUCCESS)
		status = vgpu_function_resolve(handle, &function);
	if (status != CUDA_SUCCESS)
		return status;
	pthread_mutex_lock(&lock);
	if (!function->execution) {
		function->execution = calloc(1, sizeof(*function->execution));
		if (!function->execution) {
			pthread_mutex_unlock(&lock);
			return CUDA_ERROR_OUT_OF_MEMORY;
		}
		for (size_t i = 0; i < 3; i++)
			function->execution->block[i] = 1;
	}
	*execution = function->execution;
	return CUDA_SUCCESS;
}

static CUresult end(CUresult status)
{
	pthread_mutex_unlock(&lock);
	return status;
}

CUresult cuFuncSetBlockShape(CUfunction function, int x, int y, int z)
{
	struct vgpu_execution *execution;
	CUresult status = begin(function, &execution);

	if (status != CUDA_SUCCESS)
		return status;
	if (x <= 0 || y <= 0 || z <= 0)
		return end(CUDA_ERROR_INVALID_VALUE);
	execution->block[0] = (unsigned int)x;
	execution->block[1] = (unsigned int)y;
	execution->block[2] = (unsigned int)z;
	return end(CUDA_SUCCESS);
}

CUresult cuFuncSetSharedSize(CUfunction function, unsigned int bytes)
{
	struct vgpu_execution *execution;
	CUresult status = begin(function, &execution);

	if (status != CUDA_SUCCESS)
		return status;
	execution->shared_bytes = bytes;
	return end(CUDA_SUCCESS);
}

CUresult cuParamSetSize(CUfunction function, unsigned int bytes)
{
	struct vgpu_execution *execution;
	CUresult status = begin(function, &execution);

	if (status != CUDA_SUCCESS)
		return status;
	if (bytes > MAX_PARAMETER_BYTES)
		return end(CUDA_ERROR_INVALID_VALUE);
	execution->parameter_bytes = bytes;
	return end(CUDA_SUCCESS);
}

CUresult cuParamSetv(CUfunction function, int offset, void *value, unsigned int bytes)
{
	struct vgpu_execution *execution;
	CUresult status = begin(function, &execution);

	if (status != CUDA_SUCCESS)
		return status;
	if (offset < 0 || !value || (size_t)offset + bytes > MAX_PARAMETER_BYTES)
		return end(CUDA_ERROR_INVALID_VALUE);
	memcpy(execution->parameters + offset, value, bytes);
	return end(CUDA_SUCCESS);
}

CUresult cuParamSeti(CUfunction function, int offset, unsigned int value)
{
	return cuParamSetv(function, offset, &value, sizeof(value));
}

CUresult cuParamSetf(CUfunction function, int offset, float value)
{
	return cuParamSetv(function, offset, &value, sizeof(value));
}

CUresult cuLaunchGridAsync(CUfunction function, int width, int height, CUstream stream)
{
	struct vgpu_execution *execution, set;
	CUresult status = begin(function, &execution);
	void *extra[5] = { CU_LAUNCH_PARAM_BUFFER_POINTER, set.parameters,
			   CU_LAUNCH_PARAM_BUFFER_SIZE, &set.parameter_bytes, CU_LAUNCH_PARAM_END };

	if (status != CUDA_SUCCESS)
		return status;
	set = *execution;
	end(CUDA_SUCCESS);
	if (width <= 0 || height <= 0)
		return CUDA_ERROR_INVALID_VALUE;
	return cuLaunchKernel(function, (unsigned int)width, (unsigned int)height, 1, set.block[0],
			      set.block[1], set.block[2], set.shared_bytes, stream, NULL, extra);
}

CUresult cuLaunchGrid(CUfunction function, int width, int height)
{
	return cuLaunchGridAsync(function, width, height, NULL);
}

CUresult cuLaunch(CUfunction function)
{
	return cuLaunchGrid(function, 1, 1);
}
