// SPDX-License-Identifier: MIT
/*
 * Stream capture: while a stream captures, its work becomes nodes of a graph
 * instead of commands. Everything about it is decided here; the device hears of a
 * captured graph when it is instantiated (docs/decisions/0005-*.md).
 */
#include <stdlib.h>

#include "graph.h"

atomic_uint vgpu_captures;
static struct vgpu_capture *first; /* vgpu_graph_lock; with all fields of captures */

static CUresult leave(CUresult status)
{
	return vgpu_leave_graphs(status);
}

void vgpu_capture_invalidate(struct vgpu_capture *capture)
{
	capture->invalidated = true;
}

static bool is_blocking(const struct vgpu_stream *stream)
{
	return !(stream->flags & CU_STREAM_NON_BLOCKING);
}

static void stop_stream(struct vgpu_stream *stream)
{
	stream->capture = NULL;
	if (stream->leaves) {
		vgpu_set_free(stream->leaves);
		free(stream->leaves);
		stream->leaves = NULL;
	}
}

static CUresult start_stream(struct vgpu_stream *stream, struct vgpu_capture *capture,
			     const struct vgpu_node_set *leaves)
{
	CUresult status = CUDA_SUCCESS;

	stream->leaves = calloc(1, sizeof(*stream->leaves));
	if (!stream->leaves)
		return CUDA_ERROR_OUT_OF_MEMORY;
	stream->capture = capture;
	if (leaves)
		status = vgpu_set_add_all(stream->leaves, leaves);
	if (status != CUDA_SUCCESS)
		stop_stream(stream);
	return status;
}

static void stop_one(void *object, void *data)
{
	struct vgpu_stream *stream = object;

	if (stream->capture == data)
		stop_stream(stream);
}

/* Ends a capture; its graph stays. */
void vgpu_capture_end(struct vgpu_capture *capture)
{
	struct vgpu_capture **link = &first;

	vgpu_streams_each(stop_one, capture);
	while (*link != capture)
		link = &(*link)->next;
	*link = capture->next;
	capture->graph->capturing = false;
	free(capture);
	atomic_fetch_sub(&vgpu_captures, 1);
}

void vgpu_capture_abandon(struct vgpu_capture *capture)
{
	struct vgpu_graph *graph = capture->to_graph ? NULL : capture->graph;

	vgpu_capture_end(capture);
	if (graph)
		vgpu_graph_destroy(graph);
}

CUresult vgpu_capture_begin(struct vgpu_stream *stream, CUstreamCaptureMode mode,
			    struct vgpu_graph *graph, const struct vgpu_node_set *dependencies)
{
	struct vgpu_capture *capture = calloc(1, sizeof(*capture));
	CUresult status = capture ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;

	if (status == CUDA_SUCCESS && !graph)
		status = vgpu_graph_create(&capture->graph);
	if (status != CUDA_SUCCESS) {
		free(capture);
		return status;
	}
	if (graph)
		capture->graph = graph;
	capture->to_graph = graph;
	capture->id = vgpu_unique();
	capture->mode = mode;
	capture->thread = pthread_self();
	capture->origin = stream;
	capture->graph->capturing = true;
	capture->next = first;
	first = capture;
	atomic_fetch_add(&vgpu_captures, 1);
	status = start_stream(stream, capture, dependencies);
	if (status != CUDA_SUCCESS)
		vgpu_capture_abandon(capture);
	return status;
}

static struct vgpu_capture *find(uint64_t id)
{
	struct vgpu_capture *capture = first;

	while (capture && capture->id != id)
		capture = capture->next;
	return capture;
}

/* Captures that the legacy stream would have to wait for. */

struct implicit {
	const struct vgpu_context *context;
	bool invalidate;
	bool found;
};

static void look_for_blocking(void *object, void *data)
{
	struct vgpu_stream *stream = object;
	struct implicit *implicit = data;

	if (!stream->capture || stream->object.context != implicit->context || !is_blocking(stream))
		return;
	implicit->found = true;
	if (implicit->invalidate)
		vgpu_capture_invalidate(stream->capture);
}

CUresult vgpu_capture_check_legacy(const struct vgpu_context *context, bool invalidating)
{
	struct implicit implicit = { .context = context, .invalidate = invalidating };

	vgpu_streams_each(look_for_blocking, &implicit);
	return implicit.found ? CUDA_ERROR_STREAM_CAPTURE_IMPLICIT : CUDA_SUCCESS;
}

CUresult vgpu_capture_admit(struct vgpu_stream_ref *ref, bool work)
{
	struct vgpu_capture *capture;

	pthread_mutex_lock(&vgpu_graph_lock);
	if (!ref->stream)
		return leave(vgpu_capture_check_legacy(ref->context, true));
	capture = ref->stream->capture;
	if (!capture)
		return leave(CUDA_SUCCESS);
	if (capture->invalidated)
		return leave(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
	if (!work) {
		vgpu_capture_invalidate(capture);
		return leave(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	}
	ref->capturing = true;
	return leave(CUDA_SUCCESS);
}

/* Whether a capture keeps the calling thread from unsafe calls. */
static bool prohibits(const struct vgpu_capture *capture, CUstreamCaptureMode thread_mode)
{
	bool own = pthread_equal(capture->thread, pthread_self());

	if (thread_mode == CU_STREAM_CAPTURE_MODE_RELAXED ||
	    capture->mode == CU_STREAM_CAPTURE_MODE_RELAXED)
		return false;
	return own || (thread_mode == CU_STREAM_CAPTURE_MODE_GLOBAL &&
		       capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL);
}

CUresult vgpu_capture_check_unsafe(void)
{
	struct vgpu_thread *thread;
	CUresult status = CUDA_SUCCESS;

	if (!atomic_load_explicit(&vgpu_captures, memory_order_relaxed))
		return CUDA_SUCCESS;
	thread = vgpu_thread();
	if (!thread)
		return CUDA_ERROR_OUT_OF_MEMORY;
	pthread_mutex_lock(&vgpu_graph_lock);
	for (struct vgpu_capture *capture = first; capture; capture = capture->next) {
		if (prohibits(capture, thread->capture_mode)) {
			vgpu_capture_invalidate(capture);
			status = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
		}
	}
	return leave(status);
}

CUresult vgpu_capture_check_context(struct vgpu_context *context)
{
	CUresult status = CUDA_SUCCESS;

	if (!atomic_load_explicit(&vgpu_captures, memory_order_relaxed))
		return CUDA_SUCCESS;
	pthread_mutex_lock(&vgpu_graph_lock);
	for (struct vgpu_capture *capture = first; capture; capture = capture->next) {
		if (capture->origin->object.context == context) {
			vgpu_capture_invalidate(capture);
			status = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
		}
	}
	return leave(status);
}

CUresult vgpu_capture_check_event(const struct vgpu_event_capture *recorded)
{
	struct vgpu_capture *capture;

	if (!recorded->id)
		return vgpu_capture_check_unsafe();
	pthread_mutex_lock(&vgpu_graph_lock);
	capture = find(recorded->id);
	if (capture)
		vgpu_capture_invalidate(capture);
	return leave(CUDA_ERROR_CAPTURED_EVENT);
}

/* The lock is held. */
static void forget_event(struct vgpu_event_capture *recorded)
{
	if (recorded->leaves) {
		vgpu_set_free(recorded->leaves);
		free(recorded->leaves);
	}
	*recorded = (struct vgpu_event_capture){ 0 };
}

void vgpu_capture_forget_event(struct vgpu_event_capture *recorded)
{
	if (!recorded->id)
		return;
	pthread_mutex_lock(&vgpu_graph_lock);
	forget_event(recorded);
	pthread_mutex_unlock(&vgpu_graph_lock);
}

void vgpu_capture_forget_stream(struct vgpu_stream *stream)
{
	struct vgpu_capture *capture;

	if (!atomic_load_explicit(&vgpu_captures, memory_order_relaxed))
		return;
	pthread_mutex_lock(&vgpu_graph_lock);
	capture = stream->capture;
	if (capture && capture->origin == stream) {
		vgpu_capture_abandon(capture);
	} else if (capture) {
		vgpu_capture_invalidate(capture);
		stop_stream(stream);
	}
	leave(CUDA_SUCCESS);
}

void vgpu_captures_forget(struct vgpu_context *context, uint64_t context_id)
{
	struct vgpu_capture *next;

	pthread_mutex_lock(&vgpu_graph_lock);
	for (struct vgpu_capture *capture = first; capture; capture = next) {
		const struct vgpu_object *origin = &capture->origin->object;

		next = capture->next;
		if (origin->context == context && origin->context_id == context_id)
			vgpu_capture_abandon(capture);
	}
	leave(CUDA_SUCCESS);
}

/* Work of a capturing stream. The lock is held from begin_node() to end_node(). */

static CUresult begin_node(const struct vgpu_stream_ref *ref, CUgraphNodeType type,
			   struct vgpu_node **node)
{
	struct vgpu_capture *capture = ref->stream->capture;

	if (!capture) /* another thread has ended it meanwhile */
		return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	if (capture->invalidated)
		return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	return vgpu_node_add(capture->graph, type, ref->stream->leaves, node);
}

/* Keeps the node, or takes it away again when its contents could not be set. */
static CUresult end_node(const struct vgpu_stream_ref *ref, struct vgpu_node *node, CUresult status)
{
	if (status != CUDA_SUCCESS) {
		vgpu_node_remove(node);
		vgpu_capture_invalidate(ref->stream->capture);
		return status;
	}
	ref->stream->leaves->count = 0;
	return vgpu_set_add(ref->stream->leaves, node);
}

CUresult vgpu_capture_kernel(const struct vgpu_stream_ref *ref, const struct vgpu_launch *launch,
			     const void *packed)
{
	struct vgpu_node *node;
	CUresult status;

	pthread_mutex_lock(&vgpu_graph_lock);
	status = begin_node(ref, CU_GRAPH_NODE_TYPE_KERNEL, &node);
	if (status == CUDA_SUCCESS)
		status = end_node(ref, node, vgpu_node_set_launch(node, launch, packed));
	return leave(status);
}

CUresult vgpu_capture_command(const struct vgpu_stream_ref *ref, const void *command, size_t bytes)
{
	struct vgpu_node *node;
	CUresult status;

	pthread_mutex_lock(&vgpu_graph_lock);
	status = begin_node(ref, CU_GRAPH_NODE_TYPE_KERNEL, &node);
	if (status == CUDA_SUCCESS) {
		vgpu_node_run_in(node, ref->context);
		status = end_node(ref, node, vgpu_node_set_command(node, command, bytes));
	}
	return leave(status);
}

CUresult vgpu_capture_copy(const struct vgpu_stream_ref *ref, const CUDA_MEMCPY3D *copy)
{
	struct vgpu_node *node;
	CUresult status;

	pthread_mutex_lock(&vgpu_graph_lock);
	status = begin_node(ref, CU_GRAPH_NODE_TYPE_MEMCPY, &node);
	if (status == CUDA_SUCCESS)
		status = end_node(ref, node, vgpu_node_set_copy(node, ref->context, copy));
	return leave(status);
}

CUresult vgpu_capture_memset(const struct vgpu_stream_ref *ref,
			     const CUDA_MEMSET_NODE_PARAMS *parameters)
{
	struct vgpu_node *node;
	CUresult status;

	pthread_mutex_lock(&vgpu_graph_lock);
	status = begin_node(ref, CU_GRAPH_NODE_TYPE_MEMSET, &node);
	if (status == CUDA_SUCCESS)
		status = end_node(ref, node, vgpu_node_set_memset(node, ref->context, parameters));
	return leave(status);
}

/* vgpu_graph_lock is held: cuGraphLaunch() in a capturing stream adds a child graph. */
CUresult vgpu_capture_graph_launch(const struct vgpu_stream_ref *ref,
				   const struct vgpu_graph *graph)
{
	struct vgpu_node *node;
	CUresult status = begin_node(ref, CU_GRAPH_NODE_TYPE_GRAPH, &node);

	return status == CUDA_SUCCESS ? end_node(ref, node, vgpu_node_set_child(node, graph))
				      : status;
}

CUresult vgpu_capture_host_function(const struct vgpu_stream_ref *ref, CUhostFn function,
				    void *data)
{
	CUDA_HOST_NODE_PARAMS parameters = { .fn = function, .userData = data };
	struct vgpu_node *node;
	CUresult status;

	pthread_mutex_lock(&vgpu_graph_lock);
	status = begin_node(ref, CU_GRAPH_NODE_TYPE_HOST, &node);
	if (status == CUDA_SUCCESS)
		status = end_node(ref, node, vgpu_node_set_host(node, &parameters));
	return leave(status);
}

static CUresult capture_event_node(const struct vgpu_stream_ref *ref, CUgraphNodeType type,
				   CUevent event)
{
	struct vgpu_node *node;
	CUresult status = begin_node(ref, type, &node);

	return status == CUDA_SUCCESS ? end_node(ref, node, vgpu_node_set_event(node, event))
				      : status;
}

CUresult vgpu_capture_event_record(const struct vgpu_stream_ref *ref, CUevent event,
				   struct vgpu_event_capture *recorded, unsigned int flags)
{
	const struct vgpu_capture *capture;
	CUresult status;

	if (flags & ~(unsigned int)CU_EVENT_RECORD_EXTERNAL)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&vgpu_graph_lock);
	if (flags)
		return leave(capture_event_node(ref, CU_GRAPH_NODE_TYPE_EVENT_RECORD, event));
	capture = ref->stream->capture;
	if (!capture || capture->invalidated)
		return leave(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
	forget_event(recorded);
	recorded->leaves = calloc(1, sizeof(*recorded->leaves));
	if (!recorded->leaves)
		return leave(CUDA_ERROR_OUT_OF_MEMORY);
	recorded->id = capture->id;
	status = vgpu_set_add_all(recorded->leaves, ref->stream->leaves);
	if (status != CUDA_SUCCESS)
		forget_event(recorded);
	return leave(status);
}

/* The stream comes to depend on the capture that an event was recorded in. */
static CUresult join(const struct vgpu_stream_ref *ref, const struct vgpu_event_capture *recorded)
{
	struct vgpu_capture *other = find(recorded->id);
	struct vgpu_stream *stream = ref->stream;

	if (!other) {
		if (stream && stream->capture)
			vgpu_capture_invalidate(stream->capture);
		return CUDA_ERROR_CAPTURED_EVENT;
	}
	if (other->invalidated)
		return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	if (!stream) {
		vgpu_capture_invalidate(other);
		return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
	}
	if (!stream->capture)
		return start_stream(stream, other, recorded->leaves);
	if (stream->capture != other) {
		vgpu_capture_invalidate(stream->capture);
		vgpu_capture_invalidate(other);
		return CUDA_ERROR_STREAM_CAPTURE_MERGE;
	}
	return vgpu_set_add_all(stream->leaves, recorded->leaves);
}

CUresult vgpu_capture_event_wait(const struct vgpu_stream_ref *ref, CUevent event,
				 const struct vgpu_event_capture *recorded, unsigned int flags,
				 bool *captured)
{
	*captured = ref->capturing || recorded->id;
	if (flags & ~(unsigned int)CU_EVENT_WAIT_EXTERNAL || (flags && !ref->capturing))
		return CUDA_ERROR_INVALID_VALUE;
	if (!*captured)
		return CUDA_SUCCESS;
	pthread_mutex_lock(&vgpu_graph_lock);
	if (flags)
		return leave(capture_event_node(ref, CU_GRAPH_NODE_TYPE_WAIT_EVENT, event));
	if (recorded->id)
		return leave(join(ref, recorded));
	if (ref->stream->capture)
		vgpu_capture_invalidate(ref->stream->capture);
	return leave(CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
}
