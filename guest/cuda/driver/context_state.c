// SPDX-License-Identifier: MIT
/* What is asked of a context and set in it: its limits, flags and preferences, and to wait for it.
 */
#include "context.h"

/* The context that a `_v2` call names, or the current one. */
static CUresult named(CUcontext handle, struct vgpu_context **context)
{
	CUresult status;

	if (!handle)
		return vgpu_current(context);
	status = vgpu_check_initialized();
	if (status != CUDA_SUCCESS)
		return status;
	*context = vgpu_context_from_handle(handle);
	return *context ? vgpu_context_check(*context) : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuCtxGetDevice_v2(CUdevice *device, CUcontext handle)
{
	struct vgpu_context *context;
	CUresult status = named(handle, &context);

	if (status != CUDA_SUCCESS)
		return status;
	if (!device)
		return CUDA_ERROR_INVALID_VALUE;
	*device = 0;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device)
{
	return cuCtxGetDevice_v2(device, NULL);
}

CUresult cuCtxSynchronize_v2(CUcontext handle)
{
	struct vgpu_cmd_context_synchronize command;
	struct vgpu_context *context;
	struct vgpu_reply reply;
	CUresult deferred;
	CUresult status = named(handle, &context);

	if (status == CUDA_SUCCESS)
		status = vgpu_capture_check_context(context);
	if (status == CUDA_SUCCESS)
		status = vgpu_capture_check_unsafe();
	if (status != CUDA_SUCCESS)
		return status;
	vgpu_host_functions_wait_all(context);
	command = vgpu_encode_context_synchronize(vgpu_context_handle(context));
	status = vgpu_context_call(context, &command, sizeof(command), NULL, 0, &reply);
	vgpu_output_print();
	deferred = vgpu_context_take_deferred(context);
	return status == CUDA_SUCCESS ? deferred : status;
}

CUresult cuCtxSynchronize(void)
{
	return cuCtxSynchronize_v2(NULL);
}

CUresult cuCtxSetLimit(CUlimit limit, size_t value)
{
	struct vgpu_cmd_context_set_limit command;
	struct vgpu_context *context;
	struct vgpu_reply reply;
	CUresult status = vgpu_current(&context);

	if (status != CUDA_SUCCESS)
		return status;
	command = vgpu_encode_context_set_limit(vgpu_context_handle(context), limit, value);
	return vgpu_context_call(context, &command, sizeof(command), NULL, 0, &reply);
}

CUresult cuCtxGetLimit(size_t *value, CUlimit limit)
{
	struct vgpu_cmd_context_get_limit command;
	struct vgpu_context *context;
	struct vgpu_reply reply;
	CUresult status = vgpu_current(&context);

	if (status != CUDA_SUCCESS)
		return status;
	if (!value)
		return CUDA_ERROR_INVALID_VALUE;
	command = vgpu_encode_context_get_limit(vgpu_context_handle(context), limit);
	status = vgpu_context_call(context, &command, sizeof(command), NULL, 0, &reply);
	if (status == CUDA_SUCCESS)
		*value = reply.result[0];
	return status;
}

CUresult cuCtxGetFlags(unsigned int *flags)
{
	struct vgpu_context *context;
	CUresult status = vgpu_current(&context);

	if (status == CUDA_SUCCESS && !flags)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		*flags = context->flags;
	return status;
}

CUresult cuCtxSetFlags(unsigned int flags)
{
	struct vgpu_context *context;
	CUresult status = vgpu_current(&context);

	if (status == CUDA_SUCCESS)
		status = vgpu_context_check_flags(flags);
	if (status == CUDA_SUCCESS)
		context->flags = flags;
	return status;
}

CUresult cuCtxGetId(CUcontext handle, unsigned long long *id)
{
	struct vgpu_context *context;
	CUresult status = named(handle, &context);

	if (status == CUDA_SUCCESS && !id)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		*id = atomic_load(&context->id);
	return status;
}

CUresult cuCtxGetApiVersion(CUcontext handle, unsigned int *version)
{
	struct vgpu_context *context;
	CUresult status = named(handle, &context);

	if (status == CUDA_SUCCESS && !version)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		*version = context->api_version;
	return status;
}

/* Cache and bank preferences are hints by definition; a device without the choice keeps them. */
CUresult cuCtxGetCacheConfig(CUfunc_cache *config)
{
	struct vgpu_context *context;
	CUresult status = vgpu_current(&context);

	if (status == CUDA_SUCCESS && !config)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		*config = context->cache_config;
	return status;
}

CUresult cuCtxSetCacheConfig(CUfunc_cache config)
{
	struct vgpu_context *context;
	CUresult status = vgpu_current(&context);

	if (status == CUDA_SUCCESS && (unsigned int)config > CU_FUNC_CACHE_PREFER_EQUAL)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		context->cache_config = config;
	return status;
}

CUresult cuCtxGetSharedMemConfig(CUsharedconfig *config)
{
	struct vgpu_context *context;
	CUresult status = vgpu_current(&context);

	if (status == CUDA_SUCCESS && !config)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		*config = context->shared_config;
	return status;
}

CUresult cuCtxSetSharedMemConfig(CUsharedconfig config)
{
	struct vgpu_context *context;
	CUresult status = vgpu_current(&context);

	if (status == CUDA_SUCCESS &&
	    (unsigned int)config > CU_SHARED_MEM_CONFIG_EIGHT_BYTE_BANK_SIZE)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		context->shared_config = config;
	return status;
}

CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest)
{
	struct vgpu_context *context;
	CUresult status = vgpu_current(&context);

	if (status != CUDA_SUCCESS)
		return status;
	/* Every stream has the same priority: 0 is the documented range of such a device. */
	if (least)
		*least = 0;
	if (greatest)
		*greatest = 0;
	return CUDA_SUCCESS;
}
