// SPDX-License-Identifier: MIT
/* Streams, with the legacy and the per-thread default stream. */
#include <stdlib.h>

#include "internal.h"

static struct vgpu_pool streams = {
	.name = "stream",
	.object_bytes = 128,
	.capacity = 1u << 18,
	.lock = PTHREAD_MUTEX_INITIALIZER,
};

static_assert(sizeof(struct vgpu_stream) <= 128, "a stream fits its pool");

static CUresult create(struct vgpu_context *context, unsigned int flags, int priority,
		       struct vgpu_stream **out)
{
	struct vgpu_cmd_stream_create command =
		vgpu_encode_stream_create(vgpu_context_handle(context), flags, priority);
	struct vgpu_stream *stream;
	struct vgpu_reply reply;
	uint32_t remote;
	CUresult status;

	status = vgpu_context_call(context, &command, sizeof(command), NULL, 0, &reply);
	if (status == CUDA_SUCCESS)
		status = vgpu_handle_of(&reply, &remote);
	if (status != CUDA_SUCCESS)
		return status;
	stream = vgpu_pool_take(&streams);
	if (!stream) {
		struct vgpu_cmd_stream_destroy undo =
			vgpu_encode_stream_destroy(vgpu_context_handle(context), remote);

		vgpu_submit(&undo, sizeof(undo));
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	stream->object.remote = remote;
	stream->object.context = context;
	stream->object.context_id = atomic_load(&context->id);
	stream->unique = vgpu_unique();
	stream->flags = flags;
	stream->priority = priority;
	atomic_store(&stream->synchronization_policy, CU_SYNC_POLICY_AUTO);
	*out = stream;
	return CUDA_SUCCESS;
}

/* The calling thread's own default stream in a context; made at first use. */
static CUresult per_thread_stream(struct vgpu_context *context, struct vgpu_stream **out)
{
	struct vgpu_thread *thread = vgpu_thread();
	uint64_t id = atomic_load(&context->id);
	CUresult status;

	if (!thread)
		return CUDA_ERROR_OUT_OF_MEMORY;
	for (struct vgpu_stream *s = thread->default_streams; s; s = s->next) {
		if (s->object.context == context && s->object.context_id == id) {
			*out = s;
			return CUDA_SUCCESS;
		}
	}
	status = create(context, CU_STREAM_DEFAULT, 0, out);
	if (status != CUDA_SUCCESS)
		return status;
	(*out)->per_thread = true;
	(*out)->next = thread->default_streams;
	thread->default_streams = *out;
	return CUDA_SUCCESS;
}

static void release(struct vgpu_stream *stream)
{
	struct vgpu_cmd_stream_destroy command = vgpu_encode_stream_destroy(
		vgpu_context_handle(stream->object.context), stream->object.remote);

	vgpu_capture_forget_stream(stream);
	if (vgpu_object_alive(&stream->object))
		vgpu_submit(&command, sizeof(command));
	vgpu_pool_give(&streams, stream);
}

void vgpu_thread_release_streams(struct vgpu_thread *thread)
{
	while (thread->default_streams) {
		struct vgpu_stream *stream = thread->default_streams;

		thread->default_streams = stream->next;
		release(stream);
	}
}

struct forgotten {
	struct vgpu_context *context;
	uint64_t context_id;
};

static void forget_one(void *object, void *data)
{
	struct vgpu_stream *stream = object;
	struct forgotten *forgotten = data;

	if (stream->object.context == forgotten->context &&
	    stream->object.context_id == forgotten->context_id && !stream->per_thread)
		vgpu_pool_give(&streams, stream);
}

void vgpu_streams_forget(struct vgpu_context *context, uint64_t context_id)
{
	struct forgotten forgotten = { context, context_id };

	vgpu_pool_each(&streams, forget_one, &forgotten);
}

CUresult vgpu_stream_find(CUstream handle, struct vgpu_stream_ref *ref)
{
	CUresult status = vgpu_current(&ref->context);

	if (status != CUDA_SUCCESS)
		return status;
	ref->stream = NULL;
	ref->capturing = false;
	ref->remote = VGPU_STREAM_LEGACY;
	if (handle == CU_STREAM_PER_THREAD) {
		status = per_thread_stream(ref->context, &ref->stream);
		if (status != CUDA_SUCCESS)
			return status;
	} else if (handle && handle != CU_STREAM_LEGACY) {
		ref->stream = (void *)handle;
		if (!vgpu_pool_holds(&streams, handle) || !vgpu_object_alive(&ref->stream->object))
			return CUDA_ERROR_INVALID_HANDLE;
		ref->context = ref->stream->object.context;
	}
	if (ref->stream)
		ref->remote = ref->stream->object.remote;
	return CUDA_SUCCESS;
}

static CUresult resolve(CUstream handle, struct vgpu_stream_ref *ref, bool work)
{
	CUresult status = vgpu_stream_find(handle, ref);

	if (status == CUDA_SUCCESS && atomic_load_explicit(&vgpu_captures, memory_order_relaxed))
		status = vgpu_capture_admit(ref, work);
	if (status == CUDA_SUCCESS && !ref->capturing &&
	    atomic_load_explicit(&ref->context->host_functions, memory_order_relaxed))
		vgpu_host_functions_wait(ref);
	return status;
}

CUresult vgpu_stream_resolve(CUstream handle, struct vgpu_stream_ref *ref)
{
	return resolve(handle, ref, false);
}

CUresult vgpu_stream_resolve_work(CUstream handle, struct vgpu_stream_ref *ref)
{
	return resolve(handle, ref, true);
}

void vgpu_streams_each(void (*visit)(void *stream, void *data), void *data)
{
	vgpu_pool_each(&streams, visit, data);
}

CUresult cuStreamCreateWithPriority(CUstream *out, unsigned int flags, int priority)
{
	struct vgpu_context *context;
	struct vgpu_stream *stream;
	CUresult status = vgpu_current(&context);

	if (status != CUDA_SUCCESS)
		return status;
	if (!out || flags & ~(unsigned int)CU_STREAM_NON_BLOCKING)
		return CUDA_ERROR_INVALID_VALUE;
	(void)priority; /* clamped to the range, which is 0 to 0 */
	status = create(context, flags, 0, &stream);
	if (status == CUDA_SUCCESS)
		*out = (CUstream)stream;
	return status;
}

CUresult cuStreamCreate(CUstream *out, unsigned int flags)
{
	return cuStreamCreateWithPriority(out, flags, 0);
}

CUresult cuStreamDestroy_v2(CUstream handle)
{
	struct vgpu_stream *stream = (void *)handle;
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	if (!vgpu_pool_holds(&streams, handle))
		return CUDA_ERROR_INVALID_HANDLE;
	if (!vgpu_object_alive(&stream->object)) {
		vgpu_pool_give(&streams, stream);
		return CUDA_ERROR_CONTEXT_IS_DESTROYED;
	}
	release(stream);
	return CUDA_SUCCESS;
}

CUresult cuStreamDestroy(CUstream handle)
{
	return cuStreamDestroy_v2(handle);
}

CUresult cuStreamSynchronize(CUstream handle)
{
	struct vgpu_cmd_stream_synchronize command;
	struct vgpu_stream_ref ref;
	struct vgpu_reply reply;
	CUresult deferred;
	CUresult status = vgpu_stream_resolve(handle, &ref);

	if (status == CUDA_SUCCESS)
		status = vgpu_capture_check_unsafe();
	if (status != CUDA_SUCCESS)
		return status;
	command = vgpu_encode_stream_synchronize(vgpu_context_handle(ref.context), ref.remote);
	status = vgpu_context_call(ref.context, &command, sizeof(command), NULL, 0, &reply);
	vgpu_output_print();
	deferred = vgpu_context_take_deferred(ref.context);
	return status == CUDA_SUCCESS ? deferred : status;
}

CUresult cuStreamSynchronize_ptsz(CUstream handle)
{
	return cuStreamSynchronize(vgpu_per_thread(handle));
}

CUresult cuStreamQuery(CUstream handle)
{
	struct vgpu_cmd_stream_query command;
	struct vgpu_stream_ref ref;
	struct vgpu_ticket ticket;
	struct vgpu_reply reply;
	CUresult status = vgpu_stream_find(handle, &ref);

	if (status == CUDA_SUCCESS && atomic_load_explicit(&vgpu_captures, memory_order_relaxed))
		status = vgpu_capture_admit(&ref, false);
	if (status == CUDA_SUCCESS)
		status = vgpu_capture_check_unsafe();
	if (status != CUDA_SUCCESS)
		return status;
	if (atomic_load(&ref.context->host_functions) && vgpu_host_functions_pending(&ref))
		return CUDA_ERROR_NOT_READY;
	command = vgpu_encode_stream_query(vgpu_context_handle(ref.context), ref.remote);
	status = vgpu_submit_ticket(&command, sizeof(command), NULL, 0, 0, &ticket);
	if (status != CUDA_SUCCESS)
		return status;
	status = vgpu_context_note(ref.context, vgpu_wait(&ticket, &reply));
	return status == CUDA_SUCCESS ? vgpu_context_take_deferred(ref.context) : status;
}

CUresult cuStreamQuery_ptsz(CUstream handle)
{
	return cuStreamQuery(vgpu_per_thread(handle));
}

CUresult cuStreamGetFlags(CUstream handle, unsigned int *flags)
{
	struct vgpu_stream_ref ref;
	CUresult status = vgpu_stream_find(handle, &ref);

	if (status == CUDA_SUCCESS && !flags)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		*flags = ref.stream ? ref.stream->flags : CU_STREAM_DEFAULT;
	return status;
}

CUresult cuStreamGetFlags_ptsz(CUstream handle, unsigned int *flags)
{
	return cuStreamGetFlags(vgpu_per_thread(handle), flags);
}

CUresult cuStreamGetPriority(CUstream handle, int *priority)
{
	struct vgpu_stream_ref ref;
	CUresult status = vgpu_stream_find(handle, &ref);

	if (status == CUDA_SUCCESS && !priority)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		*priority = ref.stream ? ref.stream->priority : 0;
	return status;
}

CUresult cuStreamGetPriority_ptsz(CUstream handle, int *priority)
{
	return cuStreamGetPriority(vgpu_per_thread(handle), priority);
}

CUresult cuStreamGetId(CUstream handle, unsigned long long *id)
{
	struct vgpu_stream_ref ref;
	CUresult status = vgpu_stream_find(handle, &ref);

	if (status == CUDA_SUCCESS && !id)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		*id = ref.stream ? ref.stream->unique : atomic_load(&ref.context->id);
	return status;
}

CUresult cuStreamGetId_ptsz(CUstream handle, unsigned long long *id)
{
	return cuStreamGetId(vgpu_per_thread(handle), id);
}

CUresult cuStreamGetCtx(CUstream handle, CUcontext *context)
{
	struct vgpu_stream_ref ref;
	CUresult status = vgpu_stream_find(handle, &ref);

	if (status == CUDA_SUCCESS && !context)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		*context = (CUcontext)ref.context;
	return status;
}

CUresult cuStreamGetCtx_ptsz(CUstream handle, CUcontext *context)
{
	return cuStreamGetCtx(vgpu_per_thread(handle), context);
}

CUresult cuStreamGetDevice(CUstream handle, CUdevice *device)
{
	struct vgpu_stream_ref ref;
	CUresult status = vgpu_stream_find(handle, &ref);

	if (status == CUDA_SUCCESS && !device)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		*device = 0;
	return status;
}

CUresult cuStreamGetDevice_ptsz(CUstream handle, CUdevice *device)
{
	return cuStreamGetDevice(vgpu_per_thread(handle), device);
}
