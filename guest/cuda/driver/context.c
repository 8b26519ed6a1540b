// SPDX-License-Identifier: MIT
/*
 * Life and errors of contexts. Objects of contexts are never reused, so a stale
 * handle is always recognised.
 */
#include "context.h"

#define CONTEXT_API_VERSION 3020u

static struct vgpu_pool contexts = {
	.name = "context",
	.object_bytes = 128,
	.capacity = 1u << 16,
	.lock = PTHREAD_MUTEX_INITIALIZER,
};

static_assert(sizeof(struct vgpu_context) <= 128, "a context fits its pool");

static pthread_mutex_t references_lock = PTHREAD_MUTEX_INITIALIZER;

struct vgpu_context *vgpu_context_take(void)
{
	return vgpu_pool_take(&contexts);
}

struct vgpu_context *vgpu_context_from_handle(CUcontext handle)
{
	struct vgpu_context *context = (void *)handle;

	if (!vgpu_pool_holds(&contexts, handle) || !atomic_load(&context->id))
		return NULL;
	return context;
}

bool vgpu_object_alive(const struct vgpu_object *object)
{
	return atomic_load(&object->context->id) == object->context_id;
}

CUresult vgpu_context_check(struct vgpu_context *context)
{
	int status = atomic_load_explicit(&context->error, memory_order_relaxed);

	return status ? (CUresult)status : CUDA_SUCCESS;
}

CUresult vgpu_context_note(struct vgpu_context *context, CUresult status)
{
	int none = 0;

	if (vgpu_error_is_sticky(status))
		atomic_compare_exchange_strong(&context->error, &none, (int)status);
	return status;
}

CUresult vgpu_context_take_deferred(struct vgpu_context *context)
{
	return (CUresult)atomic_exchange(&context->deferred, 0);
}

CUresult vgpu_context_call(struct vgpu_context *context, void *command, size_t bytes,
			   const void *tail, size_t tail_bytes, struct vgpu_reply *reply)
{
	return vgpu_context_note(context, vgpu_call(command, bytes, tail, tail_bytes, reply));
}

CUresult vgpu_context_make(struct vgpu_context *context, unsigned int flags)
{
	struct vgpu_cmd_context_create command = vgpu_encode_context_create(0, flags);
	struct vgpu_reply reply;
	CUresult status = vgpu_call(&command, sizeof(command), NULL, 0, &reply);

	if (status == CUDA_SUCCESS)
		status = vgpu_handle_of(&reply, &context->object.remote);
	if (status == CUDA_SUCCESS && context->object.remote > UINT16_MAX)
		status = CUDA_ERROR_UNKNOWN;
	if (status != CUDA_SUCCESS)
		return status;
	context->object.context = context;
	context->flags = flags;
	context->api_version = CONTEXT_API_VERSION;
	context->references = 1;
	atomic_store(&context->synchronization_policy, CU_SYNC_POLICY_AUTO);
	atomic_store(&context->error, 0);
	atomic_store(&context->deferred, 0);
	context->object.context_id = vgpu_unique();
	atomic_store(&context->id, context->object.context_id);
	return CUDA_SUCCESS;
}

CUresult vgpu_context_destroy(struct vgpu_context *context)
{
	struct vgpu_cmd_context_destroy command =
		vgpu_encode_context_destroy(vgpu_context_handle(context));
	uint64_t id = atomic_load(&context->id);
	struct vgpu_reply reply;
	CUresult status;

	vgpu_host_functions_wait_all(context);
	if (!atomic_compare_exchange_strong(&context->id, &id, 0))
		return CUDA_ERROR_INVALID_CONTEXT;
	vgpu_captures_forget(context, id);
	vgpu_graphs_forget(context, id);
	vgpu_streams_forget(context, id);
	vgpu_events_forget(context, id);
	vgpu_modules_forget(context, id);
	vgpu_allocations_forget(context, id);
	status = vgpu_call(&command, sizeof(command), NULL, 0, &reply);
	vgpu_output_print();
	/* An error of the context's own work does not keep it alive. */
	return vgpu_error_is_sticky(status) && vgpu_channel_error() == CUDA_SUCCESS ? CUDA_SUCCESS
										    : status;
}

CUresult vgpu_context_check_flags(unsigned int flags)
{
	unsigned int scheduling = flags & CU_CTX_SCHED_MASK;

	if (flags & ~(unsigned int)CU_CTX_FLAGS_MASK)
		return CUDA_ERROR_INVALID_VALUE;
	if (flags & (CU_CTX_COREDUMP_ENABLE | CU_CTX_USER_COREDUMP_ENABLE))
		return CUDA_ERROR_NOT_SUPPORTED;
	return scheduling & (scheduling - 1) ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult vgpu_check_device(CUdevice device)
{
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	return device == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

static CUresult create(CUcontext *out, unsigned int flags, CUdevice device)
{
	struct vgpu_context *context;
	CUresult status = vgpu_check_device(device);

	if (status == CUDA_SUCCESS)
		status = out ? vgpu_context_check_flags(flags) : CUDA_ERROR_INVALID_VALUE;
	if (status != CUDA_SUCCESS)
		return status;
	context = vgpu_pool_take(&contexts);
	if (!context)
		return CUDA_ERROR_OUT_OF_MEMORY;
	status = vgpu_context_make(context, flags);
	if (status == CUDA_SUCCESS)
		status = vgpu_push_current(context);
	if (status == CUDA_SUCCESS)
		*out = (CUcontext)context;
	else
		vgpu_pool_give(&contexts, context);
	return status;
}

CUresult cuCtxCreate(CUcontext *context, unsigned int flags, CUdevice device)
{
	return create(context, flags, device);
}

CUresult cuCtxCreate_v2(CUcontext *context, unsigned int flags, CUdevice device)
{
	return create(context, flags, device);
}

CUresult cuCtxCreate_v3(CUcontext *context, CUexecAffinityParam *parameters, int count,
			unsigned int flags, CUdevice device)
{
	if (parameters || count)
		return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
	return create(context, flags, device);
}

CUresult cuCtxCreate_v4(CUcontext *context, CUctxCreateParams *parameters, unsigned int flags,
			CUdevice device)
{
	if (parameters && parameters->numExecAffinityParams)
		return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
	if (parameters && parameters->cigParams)
		return CUDA_ERROR_NOT_SUPPORTED;
	return create(context, flags, device);
}

CUresult cuCtxDestroy_v2(CUcontext handle)
{
	struct vgpu_context *context;
	struct vgpu_thread *thread;
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	context = vgpu_context_from_handle(handle);
	if (!context || context->primary)
		return CUDA_ERROR_INVALID_CONTEXT;
	thread = vgpu_thread();
	if (thread && thread->depth && thread->stack[thread->depth - 1] == context)
		thread->depth--;
	return vgpu_context_destroy(context);
}

CUresult cuCtxDestroy(CUcontext handle)
{
	return cuCtxDestroy_v2(handle);
}

CUresult cuCtxAttach(CUcontext *out, unsigned int flags)
{
	struct vgpu_context *context;
	CUresult status = vgpu_current(&context);

	if (status != CUDA_SUCCESS)
		return status;
	if (!out || flags)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&references_lock);
	context->references++;
	pthread_mutex_unlock(&references_lock);
	*out = (CUcontext)context;
	return CUDA_SUCCESS;
}

CUresult cuCtxDetach(CUcontext handle)
{
	struct vgpu_context *context;
	CUresult status = vgpu_current_any(&context);
	bool last;

	if (status != CUDA_SUCCESS)
		return status;
	if ((CUcontext)context != handle || context->primary)
		return CUDA_ERROR_INVALID_CONTEXT;
	pthread_mutex_lock(&references_lock);
	last = --context->references == 0;
	pthread_mutex_unlock(&references_lock);
	return last ? cuCtxDestroy_v2(handle) : CUDA_SUCCESS;
}
