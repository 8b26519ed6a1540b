// SPDX-License-Identifier: MIT
/* Each thread's stack of current contexts. */
#include <stdlib.h>

#include "context.h"

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

CUresult vgpu_push_current(struct vgpu_context *context)
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

CUresult cuCtxPushCurrent_v2(CUcontext handle)
{
	struct vgpu_context *context;
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	context = vgpu_context_from_handle(handle);
	return context ? vgpu_push_current(context) : CUDA_ERROR_INVALID_CONTEXT;
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
		return vgpu_push_current(context);
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
