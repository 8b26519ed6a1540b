// SPDX-License-Identifier: MIT
/* The primary context of the device: made when it is first retained, and never freed. */
#include "context.h"

static pthread_mutex_t primary_lock = PTHREAD_MUTEX_INITIALIZER;
static struct vgpu_context *primary;  /* primary_lock */
static unsigned int primary_retained; /* primary_lock */
static unsigned int primary_flags;    /* primary_lock */

CUresult cuDevicePrimaryCtxRetain(CUcontext *out, CUdevice device)
{
	CUresult status = vgpu_check_device(device);

	if (status != CUDA_SUCCESS)
		return status;
	if (!out)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&primary_lock);
	if (!primary) {
		primary = vgpu_context_take();
		if (primary)
			primary->primary = true;
		else
			status = CUDA_ERROR_OUT_OF_MEMORY;
	}
	if (status == CUDA_SUCCESS && !atomic_load(&primary->id))
		status = vgpu_context_make(primary, primary_flags);
	if (status == CUDA_SUCCESS) {
		primary_retained++;
		*out = (CUcontext)primary;
	}
	pthread_mutex_unlock(&primary_lock);
	return status;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
	CUresult status = vgpu_check_device(device);

	if (status != CUDA_SUCCESS)
		return status;
	pthread_mutex_lock(&primary_lock);
	if (!primary_retained)
		status = CUDA_ERROR_INVALID_CONTEXT;
	else if (--primary_retained == 0 && atomic_load(&primary->id))
		status = vgpu_context_destroy(primary);
	pthread_mutex_unlock(&primary_lock);
	return status;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device)
{
	return cuDevicePrimaryCtxRelease_v2(device);
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice device)
{
	CUresult status = vgpu_check_device(device);

	if (status != CUDA_SUCCESS)
		return status;
	pthread_mutex_lock(&primary_lock);
	if (primary && atomic_load(&primary->id)) {
		status = vgpu_context_destroy(primary);
		/* Whoever retained it goes on with an empty context, as after a real reset. */
		if (status == CUDA_SUCCESS && primary_retained)
			status = vgpu_context_make(primary, primary_flags);
	}
	pthread_mutex_unlock(&primary_lock);
	return status;
}

CUresult cuDevicePrimaryCtxReset(CUdevice device)
{
	return cuDevicePrimaryCtxReset_v2(device);
}

CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned int flags)
{
	CUresult status = vgpu_check_device(device);

	if (status == CUDA_SUCCESS)
		status = vgpu_context_check_flags(flags);
	if (status != CUDA_SUCCESS)
		return status;
	pthread_mutex_lock(&primary_lock);
	primary_flags = flags;
	if (primary)
		primary->flags = flags;
	pthread_mutex_unlock(&primary_lock);
	return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxSetFlags(CUdevice device, unsigned int flags)
{
	return cuDevicePrimaryCtxSetFlags_v2(device, flags);
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned int *flags, int *active)
{
	CUresult status = vgpu_check_device(device);

	if (status != CUDA_SUCCESS)
		return status;
	if (!flags || !active)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&primary_lock);
	*flags = primary_flags;
	*active = primary && atomic_load(&primary->id);
	pthread_mutex_unlock(&primary_lock);
	return CUDA_SUCCESS;
}
