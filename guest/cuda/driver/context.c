// SPDX-License-Identifier: MIT
/*
 * Contexts: the device's primary one and those that cuCtxCreate makes, and each
 * thread's stack of current contexts. Objects of contexts are never reused, so a
 * stale handle is always recognised.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define CONTEXT_API_VERSION 3020u

static struct vgpu_pool contexts = {
	.name = "context",
	.object_bytes = 128,
	.capacity = 1u << 16,
	.lock = PTHREAD_MUTEX_INITIALIZER,
};

static_assert(sizeof(struct vgpu_context) <= 128, "a context fits its pool");

static pthread_mutex_t life_lock = PTHREAD_MUTEX_INITIALIZER;
static struct vgpu_context *primary;  /* life_lock */
static unsigned int primary_retained; /* life_lock */
static unsigned int primary_flags;    /* life_lock */

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

CUresult vgpu_current_any(struct vgpu_context **context)
{
	struct vgpu_thread *thread;
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	thread = vgpu_thread();
	if (!thread)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (!thread->depth || !thread->stack[thread->depth - 1])
		return CUDA_ERROR_INVALID_CONTEXT;
	*context = thread->stack[thread->depth - 1];
	return atomic_load_explicit(&(*context)->id, memory_order_relaxed)
		       ? CUDA_SUCCESS
		       : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

CUresult vgpu_current(struct vgpu_context **context)
{
	CUresult status = vgpu_current_any(context);

	return status == CUDA_SUCCESS ? vgpu_context_check(*context) : status;
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

static CUresult push(struct vgpu_context *context)
{
	struct vgpu_thread *thread = vgpu_thread();

	if (!thread)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (thread->depth == thread->room) {
		uint32_t room = thread->room ? 2 * thread->room : 8;
		void *larger = realloc(thread->stack, room * sizeof(*thread->stack));

		if (!larger)
			return CUDA_ERROR_OUT_OF_MEMORY;
		thread->stack = larger;
		thread->room = room;
	}
	thread->stack[thread->depth++] = context;
	return CUDA_SUCCESS;
}

/* Brings a context to life on the device. */
static CUresult make(struct vgpu_context *context, unsigned int flags)
{
	struct vgpu_cmd_context_create command = vgpu_encode_context_create(0, flags);
	struct vgpu_reply reply;
	CUresult status = vgpu_call(&command, sizeof(command), NULL, 0, &reply);

	if (status != CUDA_SUCCESS)
		return status;
	context->object.remote = (uint32_t)reply.result[0];
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

static CUresult destroy(struct vgpu_context *context)
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

static CUresult check_flags(unsigned int flags)
{
	unsigned int scheduling = flags & CU_CTX_SCHED_MASK;

	if (flags & ~(unsigned int)CU_CTX_FLAGS_MASK)
		return CUDA_ERROR_INVALID_VALUE;
	if (flags & (CU_CTX_COREDUMP_ENABLE | CU_CTX_USER_COREDUMP_ENABLE))
		return CUDA_ERROR_NOT_SUPPORTED;
	return scheduling & (scheduling - 1) ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

static CUresult check_device(CUdevice device)
{
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	return device == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

static CUresult create(CUcontext *out, unsigned int flags, CUdevice device)
{
	struct vgpu_context *context;
	CUresult status = check_device(device);

	if (status == CUDA_SUCCESS)
		status = out ? check_flags(flags) : CUDA_ERROR_INVALID_VALUE;
	if (status != CUDA_SUCCESS)
		return status;
	context = vgpu_pool_take(&contexts);
	if (!context)
		return CUDA_ERROR_OUT_OF_MEMORY;
	status = make(context, flags);
	if (status == CUDA_SUCCESS)
		status = push(context);
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
	return destroy(context);
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
	pthread_mutex_lock(&life_lock);
	context->references++;
	pthread_mutex_unlock(&life_lock);
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
	pthread_mutex_lock(&life_lock);
	last = --context->references == 0;
	pthread_mutex_unlock(&life_lock);
	return last ? cuCtxDestroy_v2(handle) : CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *out, CUdevice device)
{
	CUresult status = check_device(device);

	if (status != CUDA_SUCCESS)
		return status;
	if (!out)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&life_lock);
	if (!primary) {
		primary = vgpu_pool_take(&contexts);
		if (primary)
			primary->primary = true;
		else
			status = CUDA_ERROR_OUT_OF_MEMORY;
	}
	if (status == CUDA_SUCCESS && !atomic_load(&primary->id))
		status = make(primary, primary_flags);
	if (status == CUDA_SUCCESS) {
		primary_retained++;
		*out = (CUcontext)primary;
	}
	pthread_mutex_unlock(&life_lock);
	return status;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
	CUresult status = check_device(device);

	if (status != CUDA_SUCCESS)
		return status;
	pthread_mutex_lock(&life_lock);
	if (!primary_retained)
		status = CUDA_ERROR_INVALID_CONTEXT;
	else if (--primary_retained == 0 && atomic_load(&primary->id))
		status = destroy(primary);
	pthread_mutex_unlock(&life_lock);
	return status;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device)
{
	return cuDevicePrimaryCtxRelease_v2(device);
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice device)
{
	CUresult status = check_device(device);

	if (status != CUDA_SUCCESS)
		return status;
	pthread_mutex_lock(&life_lock);
	if (primary && atomic_load(&primary->id)) {
		status = destroy(primary);
		/* Whoever retained it goes on with an empty context, as after a real reset. */
		if (status == CUDA_SUCCESS && primary_retained)
			status = make(primary, primary_flags);
	}
	pthread_mutex_unlock(&life_lock);
	return status;
}

CUresult cuDevicePrimaryCtxReset(CUdevice device)
{
	return cuDevicePrimaryCtxReset_v2(device);
}

CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned int flags)
{
	CUresult status = check_device(device);

	if (status == CUDA_SUCCESS)
		status = check_flags(flags);
	if (status != CUDA_SUCCESS)
		return status;
	pthread_mutex_lock(&life_lock);
	primary_flags = flags;
	if (primary)
		primary->flags = flags;
	pthread_mutex_unlock(&life_lock);
	return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxSetFlags(CUdevice device, unsigned int flags)
{
	return cuDevicePrimaryCtxSetFlags_v2(device, flags);
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned int *flags, int *active)
{
	CUresult status = check_device(device);

	if (status != CUDA_SUCCESS)
		return status;
	if (!flags || !active)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&life_lock);
	*flags = primary_flags;
	*active = primary && atomic_load(&primary->id);
	pthread_mutex_unlock(&life_lock);
	return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent_v2(CUcontext handle)
{
	struct vgpu_context *context;
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	context = vgpu_context_from_handle(handle);
	return context ? push(context) : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuCtxPushCurrent(CUcontext handle)
{
	return cuCtxPushCurrent_v2(handle);
}

CUresult cuCtxPopCurrent_v2(CUcontext *out)
{
	struct vgpu_thread *thread;
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	thread = vgpu_thread();
	if (!thread || !thread->depth)
		return CUDA_ERROR_INVALID_CONTEXT;
	thread->depth--;
	if (out)
		*out = (CUcontext)thread->stack[thread->depth];
	return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent(CUcontext *out)
{
	return cuCtxPopCurrent_v2(out);
}

CUresult cuCtxSetCurrent(CUcontext handle)
{
	struct vgpu_context *context = NULL;
	struct vgpu_thread *thread;
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	if (handle) {
		context = vgpu_context_from_handle(handle);
		if (!context)
			return CUDA_ERROR_INVALID_CONTEXT;
	}
	thread = vgpu_thread();
	if (!thread)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (!context) {
		if (thread->depth)
			thread->depth--;
		return CUDA_SUCCESS;
	}
	if (!thread->depth)
		return push(context);
	thread->stack[thread->depth - 1] = context;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *out)
{
	struct vgpu_thread *thread;
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	thread = vgpu_thread();
	if (!out || !thread)
		return CUDA_ERROR_INVALID_VALUE;
	*out = thread->depth ? (CUcontext)thread->stack[thread->depth - 1] : NULL;
	return CUDA_SUCCESS;
}

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
		status = check_flags(flags);
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
