// SPDX-License-Identifier: MIT
/* Events. */
#include <string.h>

#include "internal.h"

struct event {
	struct vgpu_object object;
	unsigned int flags;
	struct vgpu_event_capture recorded;
};

static struct vgpu_pool events = {
	.name = "event",
	.object_bytes = 64,
	.capacity = 1u << 20,
	.lock = PTHREAD_MUTEX_INITIALIZER,
};

static_assert(sizeof(struct event) <= 64, "an event fits its pool");

#define EVENT_FLAGS (CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS)

static CUresult resolve(CUevent handle, struct event **event)
{
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	*event = (void *)handle;
	if (!vgpu_pool_holds(&events, handle))
		return CUDA_ERROR_INVALID_HANDLE;
	if (!vgpu_object_alive(&(*event)->object))
		return CUDA_ERROR_CONTEXT_IS_DESTROYED;
	return vgpu_context_check((*event)->object.context);
}

CUresult vgpu_event_find(CUevent handle, struct vgpu_object **object)
{
	struct event *event;
	CUresult status = resolve(handle, &event);

	if (status == CUDA_SUCCESS)
		*object = &event->object;
	return status;
}

struct forgotten {
	struct vgpu_context *context;
	uint64_t context_id;
};

static void forget_one(void *object, void *data)
{
	struct event *event = object;
	struct forgotten *forgotten = data;

	if (event->object.context == forgotten->context &&
	    event->object.context_id == forgotten->context_id) {
		vgpu_capture_forget_event(&event->recorded);
		vgpu_pool_give(&events, event);
	}
}

void vgpu_events_forget(struct vgpu_context *context, uint64_t context_id)
{
	struct forgotten forgotten = { context, context_id };

	vgpu_pool_each(&events, forget_one, &forgotten);
}

CUresult cuEventCreate(CUevent *out, unsigned int flags)
{
	struct vgpu_cmd_event_create command;
	struct vgpu_context *context;
	struct vgpu_reply reply;
	struct event *event;
	CUresult status = vgpu_current(&context);

	if (status != CUDA_SUCCESS)
		return status;
	if (!out || flags & ~(unsigned int)EVENT_FLAGS)
		return CUDA_ERROR_INVALID_VALUE;
	if (flags & CU_EVENT_INTERPROCESS)
		return CUDA_ERROR_NOT_SUPPORTED;
	event = vgpu_pool_take(&events);
	if (!event)
		return CUDA_ERROR_OUT_OF_MEMORY;
	command = vgpu_encode_event_create(vgpu_context_handle(context), flags);
	status = vgpu_context_call(context, &command, sizeof(command), NULL, 0, &reply);
	if (status == CUDA_SUCCESS)
		status = vgpu_handle_of(&reply, &event->object.remote);
	if (status != CUDA_SUCCESS) {
		vgpu_pool_give(&events, event);
		return status;
	}
	event->object.context = context;
	event->object.context_id = atomic_load(&context->id);
	event->flags = flags;
	*out = (CUevent)event;
	return CUDA_SUCCESS;
}

CUresult cuEventDestroy_v2(CUevent handle)
{
	struct vgpu_cmd_event_destroy command;
	struct event *event = (void *)handle;
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	if (!vgpu_pool_holds(&events, handle))
		return CUDA_ERROR_INVALID_HANDLE;
	if (vgpu_object_alive(&event->object)) {
		command = vgpu_encode_event_destroy(vgpu_context_handle(event->object.context),
						    event->object.remote);
		status = vgpu_submit(&command, sizeof(command));
	}
	vgpu_capture_forget_event(&event->recorded);
	vgpu_pool_give(&events, event);
	return status;
}

CUresult cuEventDestroy(CUevent handle)
{
	return cuEventDestroy_v2(handle);
}

CUresult cuEventRecordWithFlags(CUevent handle, CUstream stream, unsigned int flags)
{
	struct vgpu_cmd_event_record command;
	struct vgpu_stream_ref ref;
	struct event *event;
	CUresult status = vgpu_stream_resolve_work(stream, &ref);

	if (status == CUDA_SUCCESS)
		status = resolve(handle, &event);
	if (status != CUDA_SUCCESS)
		return status;
	if (event->object.context != ref.context)
		return CUDA_ERROR_INVALID_HANDLE;
	if (ref.capturing)
		return vgpu_capture_event_record(&ref, handle, &event->recorded, flags);
	if (flags) /* CU_EVENT_RECORD_EXTERNAL has a meaning in captures alone */
		return CUDA_ERROR_INVALID_VALUE;
	vgpu_capture_forget_event(&event->recorded);
	command = vgpu_encode_event_record(vgpu_context_handle(ref.context), event->object.remote,
					   ref.remote);
	return vgpu_submit(&command, sizeof(command));
}

CUresult cuEventRecordWithFlags_ptsz(CUevent handle, CUstream stream, unsigned int flags)
{
	return cuEventRecordWithFlags(handle, vgpu_per_thread(stream), flags);
}

CUresult cuEventRecord(CUevent handle, CUstream stream)
{
	return cuEventRecordWithFlags(handle, stream, CU_EVENT_RECORD_DEFAULT);
}

CUresult cuEventRecord_ptsz(CUevent handle, CUstream stream)
{
	return cuEventRecordWithFlags(handle, vgpu_per_thread(stream), CU_EVENT_RECORD_DEFAULT);
}

CUresult cuEventQuery(CUevent handle)
{
	struct vgpu_cmd_event_query command;
	struct vgpu_ticket ticket;
	struct vgpu_reply reply;
	struct event *event;
	CUresult status = resolve(handle, &event);

	if (status == CUDA_SUCCESS)
		status = vgpu_capture_check_event(&event->recorded);
	if (status != CUDA_SUCCESS)
		return status;
	command = vgpu_encode_event_query(vgpu_context_handle(event->object.context),
					  event->object.remote);
	status = vgpu_submit_ticket(&command, sizeof(command), NULL, 0, 0, &ticket);
	if (status != CUDA_SUCCESS)
		return status;
	return vgpu_context_note(event->object.context, vgpu_wait(&ticket, &reply));
}

CUresult cuEventSynchronize(CUevent handle)
{
	struct vgpu_cmd_event_synchronize command;
	struct vgpu_reply reply;
	struct event *event;
	CUresult deferred;
	CUresult status = resolve(handle, &event);

	if (status == CUDA_SUCCESS)
		status = vgpu_capture_check_event(&event->recorded);
	if (status != CUDA_SUCCESS)
		return status;
	command = vgpu_encode_event_synchronize(vgpu_context_handle(event->object.context),
						event->object.remote);
	status = vgpu_context_call(event->object.context, &command, sizeof(command), NULL, 0,
				   &reply);
	vgpu_output_print();
	deferred = vgpu_context_take_deferred(event->object.context);
	return status == CUDA_SUCCESS ? deferred : status;
}

CUresult cuEventElapsedTime_v2(float *milliseconds, CUevent start_handle, CUevent end_handle)
{
	struct vgpu_cmd_event_elapsed_time command;
	struct vgpu_reply reply;
	struct event *start;
	struct event *end;
	uint32_t bits;
	CUresult status = resolve(start_handle, &start);

	if (status == CUDA_SUCCESS)
		status = resolve(end_handle, &end);
	if (status == CUDA_SUCCESS && (start->recorded.id || end->recorded.id))
		status = CUDA_ERROR_CAPTURED_EVENT;
	if (status != CUDA_SUCCESS)
		return status;
	if (!milliseconds)
		return CUDA_ERROR_INVALID_VALUE;
	if (start->object.context != end->object.context ||
	    (start->flags | end->flags) & CU_EVENT_DISABLE_TIMING)
		return CUDA_ERROR_INVALID_HANDLE;
	command = vgpu_encode_event_elapsed_time(vgpu_context_handle(start->object.context),
						 start->object.remote, end->object.remote);
	status = vgpu_context_call(start->object.context, &command, sizeof(command), NULL, 0,
				   &reply);
	if (status == CUDA_SUCCESS) {
		bits = (uint32_t)reply.result[0];
		memcpy(milliseconds, &bits, sizeof(bits));
	}
	return status;
}

CUresult cuEventElapsedTime(float *milliseconds, CUevent start, CUevent end)
{
	return cuEventElapsedTime_v2(milliseconds, start, end);
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent handle, unsigned int flags)
{
	struct vgpu_cmd_stream_wait_event command;
	struct vgpu_stream_ref ref;
	struct event *event;
	bool captured;
	CUresult status = vgpu_stream_resolve_work(stream, &ref);

	if (status == CUDA_SUCCESS)
		status = resolve(handle, &event);
	if (status == CUDA_SUCCESS)
		status = vgpu_capture_event_wait(&ref, handle, &event->recorded, flags, &captured);
	if (status != CUDA_SUCCESS || captured)
		return status;
	if (event->object.context != ref.context) {
		/* The device orders within one context; wait here for the other one. */
		return cuEventSynchronize(handle);
	}
	command = vgpu_encode_stream_wait_event(vgpu_context_handle(ref.context), ref.remote,
						event->object.remote, flags);
	return vgpu_submit(&command, sizeof(command));
}

CUresult cuStreamWaitEvent_ptsz(CUstream stream, CUevent handle, unsigned int flags)
{
	return cuStreamWaitEvent(vgpu_per_thread(stream), handle, flags);
}
