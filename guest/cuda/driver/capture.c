// SPDX-License-Identifier: MIT
/*
 * Stream capture: while a stream captures, its work becomes nodes of a graph
 * instead of commands. Everything about it is decided here; the device hears of a
 * captured graph when it is instantiated (docs/decisions/0005-*.md).
 */
#include <stdlib.h>

#include "graph.h"

struct vgpu_capture {
	uint64_t id;
	CUstreamCaptureMode mode;
	pthread_t thread; /* that began it */
	struct vgpu_stream *origin;
	struct vgpu_graph *graph;
	bool to_graph; /* the graph is the program's already */
	bool invalidated;
	struct vgpu_capture *next;
};

atomic_uint vgpu_captures;
static struct vgpu_capture *first; /* vgpu_graph_lock; with all fields of captures */

static CUresult leave(CUresult status)
{
	return vgpu_leave_graphs(status);
}

static void invalidate(struct vgpu_capture *capture)
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
static void end(struct vgpu_capture *capture)
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

static void abandon(struct vgpu_capture *capture)
{
	struct vgpu_graph *graph = capture->to_graph ? NULL : capture->graph;

	end(capture);
	if (graph)
		vgpu_graph_destroy(graph);
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
		invalidate(stream->capture);
}

static CUresult check_legacy(const struct vgpu_context *context, bool invalidating)
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
		return leave(check_legacy(ref->context, true));
	capture = ref->stream->capture;
	if (!capture)
		return leave(CUDA_SUCCESS);
	if (capture->invalidated)
		return leave(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
	if (!work) {
		invalidate(capture);
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
			invalidate(capture);
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
			invalidate(capture);
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
		invalidate(capture);
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
		abandon(capture);
	} else if (capture) {
		invalidate(capture);
		stop_stream(stream);
	}
	pthread_mutex_unlock(&vgpu_graph_lock);
}

void vgpu_captures_forget(struct vgpu_context *context, uint64_t context_id)
{
	struct vgpu_capture *next;

	pthread_mutex_lock(&vgpu_graph_lock);
	for (struct vgpu_capture *capture = first; capture; capture = next) {
		const struct vgpu_object *origin = &capture->origin->object;

		next = capture->next;
		if (origin->context == context && origin->context_id == context_id)
			abandon(capture);
	}
	pthread_mutex_unlock(&vgpu_graph_lock);
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
		invalidate(ref->stream->capture);
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
			invalidate(stream->capture);
		return CUDA_ERROR_CAPTURED_EVENT;
	}
	if (other->invalidated)
		return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	if (!stream) {
		invalidate(other);
		return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
	}
	if (!stream->capture)
		return start_stream(stream, other, recorded->leaves);
	if (stream->capture != other) {
		invalidate(stream->capture);
		invalidate(other);
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
		invalidate(ref->stream->capture);
	return leave(CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
}

/* What programs call. */

static CUresult check_mode(CUstreamCaptureMode mode)
{
	return (unsigned int)mode <= CU_STREAM_CAPTURE_MODE_RELAXED ? CUDA_SUCCESS
								    : CUDA_ERROR_INVALID_VALUE;
}

/* The lock is held; takes over `graph`, NULL: makes one. */
static CUresult begin(struct vgpu_stream *stream, CUstreamCaptureMode mode,
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
		abandon(capture);
	return status;
}

static CUresult begin_in(CUstream handle, CUstreamCaptureMode mode, struct vgpu_graph *graph,
			 const struct vgpu_node_set *dependencies)
{
	struct vgpu_stream_ref ref;
	CUresult status = vgpu_stream_find(handle, &ref);

	if (status != CUDA_SUCCESS)
		return status;
	if (!ref.stream)
		return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	if (ref.stream->capture)
		return CUDA_ERROR_ILLEGAL_STATE;
	return begin(ref.stream, mode, graph, dependencies);
}

CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode)
{
	CUresult status = vgpu_check_initialized();

	if (status == CUDA_SUCCESS)
		status = check_mode(mode);
	if (status != CUDA_SUCCESS)
		return status;
	pthread_mutex_lock(&vgpu_graph_lock);
	return leave(begin_in(stream, mode, NULL, NULL));
}

CUresult cuStreamBeginCapture_v2_ptsz(CUstream stream, CUstreamCaptureMode mode)
{
	return cuStreamBeginCapture_v2(vgpu_per_thread(stream), mode);
}

CUresult cuStreamBeginCapture(CUstream stream)
{
	return cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
}

CUresult cuStreamBeginCapture_ptsz(CUstream stream)
{
	return cuStreamBeginCapture(vgpu_per_thread(stream));
}

/* The lock is held. Nodes of a program's array, all of that graph. */
static CUresult read_set(const struct vgpu_graph *graph, const CUgraphNode *nodes, size_t count,
			 struct vgpu_node_set *set)
{
	CUresult status = count && !nodes ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;

	for (size_t i = 0; i < count && status == CUDA_SUCCESS; i++) {
		struct vgpu_node *node = vgpu_node_from_handle(nodes[i]);

		status = node && node->graph == graph ? vgpu_set_add(set, node)
						      : CUDA_ERROR_INVALID_VALUE;
	}
	return status;
}

CUresult cuStreamBeginCaptureToGraph(CUstream stream, CUgraph handle,
				     const CUgraphNode *dependencies, const CUgraphEdgeData *data,
				     size_t count, CUstreamCaptureMode mode)
{
	struct vgpu_node_set set = { 0 };
	struct vgpu_graph *graph;
	CUresult status = vgpu_enter_graph(handle, &graph);

	if (status != CUDA_SUCCESS)
		return status;
	status = check_mode(mode);
	if (status == CUDA_SUCCESS && graph->capturing)
		status = CUDA_ERROR_ILLEGAL_STATE;
	if (status == CUDA_SUCCESS)
		status = vgpu_edges_plain(data, count);
	if (status == CUDA_SUCCESS)
		status = read_set(graph, dependencies, count, &set);
	if (status == CUDA_SUCCESS)
		status = begin_in(stream, mode, graph, &set);
	vgpu_set_free(&set);
	return leave(status);
}

CUresult cuStreamBeginCaptureToGraph_ptsz(CUstream stream, CUgraph graph,
					  const CUgraphNode *dependencies,
					  const CUgraphEdgeData *data, size_t count,
					  CUstreamCaptureMode mode)
{
	return cuStreamBeginCaptureToGraph(vgpu_per_thread(stream), graph, dependencies, data,
					   count, mode);
}

/* Whether every leaf of a stream is behind the origin: no work of the capture is left over. */
struct unjoined {
	const struct vgpu_capture *capture;
	bool found;
};

static void look_for_unjoined(void *object, void *data)
{
	const struct vgpu_stream *stream = object;
	struct unjoined *unjoined = data;

	if (stream->capture != unjoined->capture)
		return;
	for (uint32_t i = 0; i < stream->leaves->count; i++)
		unjoined->found |= !stream->leaves->nodes[i]->placed;
}

/* Marks what the origin's leaves follow, directly or not. */
static CUresult mark_joined(const struct vgpu_capture *capture)
{
	const struct vgpu_node_set *leaves = capture->origin->leaves;
	struct vgpu_node_set left = { 0 };
	CUresult status;

	for (struct vgpu_node *node = capture->graph->first; node; node = node->next)
		node->placed = false;
	status = vgpu_set_add_all(&left, leaves);
	while (left.count && status == CUDA_SUCCESS) {
		struct vgpu_node *node = left.nodes[--left.count];

		node->placed = true;
		for (uint32_t i = 0; i < node->dependencies.count && status == CUDA_SUCCESS; i++)
			if (!node->dependencies.nodes[i]->placed)
				status = vgpu_set_add(&left, node->dependencies.nodes[i]);
	}
	vgpu_set_free(&left);
	return status;
}

static CUresult end_capture(struct vgpu_capture *capture, CUgraph *out)
{
	struct unjoined unjoined = { .capture = capture };
	CUresult status;

	*out = NULL;
	if (capture->invalidated) {
		abandon(capture);
		return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	}
	status = mark_joined(capture);
	if (status == CUDA_SUCCESS)
		vgpu_streams_each(look_for_unjoined, &unjoined);
	if (unjoined.found)
		status = CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
	if (status != CUDA_SUCCESS) {
		abandon(capture);
		return status;
	}
	*out = (CUgraph)capture->graph;
	end(capture);
	return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph *out)
{
	struct vgpu_capture *capture;
	struct vgpu_stream_ref ref;
	CUresult status = vgpu_stream_find(handle, &ref);

	if (status != CUDA_SUCCESS)
		return status;
	if (!out)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&vgpu_graph_lock);
	capture = ref.stream ? ref.stream->capture : NULL;
	if (!capture)
		return leave(CUDA_ERROR_ILLEGAL_STATE);
	if (capture->origin != ref.stream) {
		invalidate(capture);
		return leave(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
	}
	if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED &&
	    !pthread_equal(capture->thread, pthread_self()))
		return leave(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
	return leave(end_capture(capture, out));
}

CUresult cuStreamEndCapture_ptsz(CUstream stream, CUgraph *graph)
{
	return cuStreamEndCapture(vgpu_per_thread(stream), graph);
}

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode)
{
	struct vgpu_thread *thread;
	CUstreamCaptureMode before;
	CUresult status = vgpu_check_initialized();

	if (status == CUDA_SUCCESS)
		status = mode ? check_mode(*mode) : CUDA_ERROR_INVALID_VALUE;
	if (status != CUDA_SUCCESS)
		return status;
	thread = vgpu_thread();
	if (!thread)
		return CUDA_ERROR_OUT_OF_MEMORY;
	before = thread->capture_mode;
	thread->capture_mode = *mode;
	*mode = before;
	return CUDA_SUCCESS;
}

/* What cuStreamGetCaptureInfo() of any version tells; members may be NULL. */
struct info {
	CUstreamCaptureStatus *status;
	cuuint64_t *id;
	CUgraph *graph;
	const CUgraphNode **dependencies;
	const CUgraphEdgeData **edges;
	size_t *count;
};

static CUresult get_info(CUstream handle, const struct info *info)
{
	const struct vgpu_capture *capture;
	struct vgpu_stream_ref ref;
	CUresult status = vgpu_stream_find(handle, &ref);

	if (status == CUDA_SUCCESS && (!info->status || (info->edges && !info->dependencies)))
		status = CUDA_ERROR_INVALID_VALUE;
	if (status != CUDA_SUCCESS)
		return status;
	pthread_mutex_lock(&vgpu_graph_lock);
	if (!ref.stream)
		status = check_legacy(ref.context, false);
	if (status != CUDA_SUCCESS)
		return leave(status);
	capture = ref.stream ? ref.stream->capture : NULL;
	*info->status = !capture	       ? CU_STREAM_CAPTURE_STATUS_NONE
			: capture->invalidated ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
					       : CU_STREAM_CAPTURE_STATUS_ACTIVE;
	if (!capture)
		return leave(CUDA_SUCCESS);
	if (info->id)
		*info->id = capture->id;
	if (info->graph)
		*info->graph = (CUgraph)capture->graph;
	if (info->dependencies)
		*info->dependencies = (const CUgraphNode *)ref.stream->leaves->nodes;
	if (info->edges)
		*info->edges = NULL; /* every edge is a plain one */
	if (info->count)
		*info->count = ref.stream->leaves->count;
	return leave(CUDA_SUCCESS);
}

CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status)
{
	return get_info(stream, &(struct info){ .status = status });
}

CUresult cuStreamIsCapturing_ptsz(CUstream stream, CUstreamCaptureStatus *status)
{
	return cuStreamIsCapturing(vgpu_per_thread(stream), status);
}

CUresult cuStreamGetCaptureInfo(CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id)
{
	return get_info(stream, &(struct info){ .status = status, .id = id });
}

CUresult cuStreamGetCaptureInfo_ptsz(CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id)
{
	return cuStreamGetCaptureInfo(vgpu_per_thread(stream), status, id);
}

CUresult cuStreamGetCaptureInfo_v2(CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id,
				   CUgraph *graph, const CUgraphNode **dependencies, size_t *count)
{
	return cuStreamGetCaptureInfo_v3(stream, status, id, graph, dependencies, NULL, count);
}

CUresult cuStreamGetCaptureInfo_v2_ptsz(CUstream stream, CUstreamCaptureStatus *status,
					cuuint64_t *id, CUgraph *graph,
					const CUgraphNode **dependencies, size_t *count)
{
	return cuStreamGetCaptureInfo_v2(vgpu_per_thread(stream), status, id, graph, dependencies,
					 count);
}

CUresult cuStreamGetCaptureInfo_v3(CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id,
				   CUgraph *graph, const CUgraphNode **dependencies,
				   const CUgraphEdgeData **edges, size_t *count)
{
	return get_info(stream, &(struct info){ .status = status,
						.id = id,
						.graph = graph,
						.dependencies = dependencies,
						.edges = edges,
						.count = count });
}

CUresult cuStreamGetCaptureInfo_v3_ptsz(CUstream stream, CUstreamCaptureStatus *status,
					cuuint64_t *id, CUgraph *graph,
					const CUgraphNode **dependencies,
					const CUgraphEdgeData **edges, size_t *count)
{
	return cuStreamGetCaptureInfo_v3(vgpu_per_thread(stream), status, id, graph, dependencies,
					 edges, count);
}

CUresult cuStreamUpdateCaptureDependencies_v2(CUstream handle, CUgraphNode *nodes,
					      const CUgraphEdgeData *data, size_t count,
					      unsigned int flags)
{
	struct vgpu_node_set set = { 0 };
	struct vgpu_stream_ref ref;
	struct vgpu_capture *capture;
	CUresult status = vgpu_stream_find(handle, &ref);

	if (status == CUDA_SUCCESS && flags > CU_STREAM_SET_CAPTURE_DEPENDENCIES)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		status = vgpu_edges_plain(data, count);
	if (status != CUDA_SUCCESS)
		return status;
	pthread_mutex_lock(&vgpu_graph_lock);
	capture = ref.stream ? ref.stream->capture : NULL;
	if (!capture)
		return leave(CUDA_ERROR_ILLEGAL_STATE);
	if (capture->invalidated)
		return leave(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
	status = read_set(capture->graph, nodes, count, &set);
	if (status == CUDA_SUCCESS) {
		if (flags == CU_STREAM_SET_CAPTURE_DEPENDENCIES)
			ref.stream->leaves->count = 0;
		status = vgpu_set_add_all(ref.stream->leaves, &set);
	}
	vgpu_set_free(&set);
	return leave(status);
}

CUresult cuStreamUpdateCaptureDependencies_v2_ptsz(CUstream stream, CUgraphNode *nodes,
						   const CUgraphEdgeData *data, size_t count,
						   unsigned int flags)
{
	return cuStreamUpdateCaptureDependencies_v2(vgpu_per_thread(stream), nodes, data, count,
						    flags);
}

CUresult cuStreamUpdateCaptureDependencies(CUstream stream, CUgraphNode *nodes, size_t count,
					   unsigned int flags)
{
	return cuStreamUpdateCaptureDependencies_v2(stream, nodes, NULL, count, flags);
}

CUresult cuStreamUpdateCaptureDependencies_ptsz(CUstream stream, CUgraphNode *nodes, size_t count,
						unsigned int flags)
{
	return cuStreamUpdateCaptureDependencies(vgpu_per_thread(stream), nodes, count, flags);
}
