// SPDX-License-Identifier: MIT
/* The functions that begin and end captures, and tell about them. */
#include <stdlib.h>

#include "graph.h"

static CUresult check_mode(CUstreamCaptureMode mode)
{
	return (unsigned int)mode <= CU_STREAM_CAPTURE_MODE_RELAXED ? CUDA_SUCCESS
								    : CUDA_ERROR_INVALID_VALUE;
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
	return vgpu_capture_begin(ref.stream, mode, graph, dependencies);
}

CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode)
{
	CUresult status = vgpu_check_initialized();

	if (status == CUDA_SUCCESS)
		status = check_mode(mode);
	if (status != CUDA_SUCCESS)
		return status;
	pthread_mutex_lock(&vgpu_graph_lock);
	return vgpu_leave_graphs(begin_in(stream, mode, NULL, NULL));
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
	CUresult status =
		(count && !nodes) || count > graph->count ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;

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
	return vgpu_leave_graphs(status);
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
		vgpu_capture_abandon(capture);
		return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	}
	status = mark_joined(capture);
	if (status == CUDA_SUCCESS)
		vgpu_streams_each(look_for_unjoined, &unjoined);
	if (unjoined.found)
		status = CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
	if (status != CUDA_SUCCESS) {
		vgpu_capture_abandon(capture);
		return status;
	}
	*out = (CUgraph)capture->graph;
	vgpu_capture_end(capture);
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
		return vgpu_leave_graphs(CUDA_ERROR_ILLEGAL_STATE);
	if (capture->origin != ref.stream) {
		vgpu_capture_invalidate(capture);
		return vgpu_leave_graphs(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
	}
	if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED &&
	    !pthread_equal(capture->thread, pthread_self()))
		return vgpu_leave_graphs(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
	return vgpu_leave_graphs(end_capture(capture, out));
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
	struct vgpu_node_set *leaves;
	struct vgpu_stream_ref ref;
	CUresult status = vgpu_stream_find(handle, &ref);

	if (status == CUDA_SUCCESS && (!info->status || (info->edges && !info->dependencies)))
		status = CUDA_ERROR_INVALID_VALUE;
	if (status != CUDA_SUCCESS)
		return status;
	pthread_mutex_lock(&vgpu_graph_lock);
	if (!ref.stream)
		status = vgpu_capture_check_legacy(ref.context, false);
	if (status != CUDA_SUCCESS)
		return vgpu_leave_graphs(status);
	capture = ref.stream ? ref.stream->capture : NULL;
	*info->status = !capture	       ? CU_STREAM_CAPTURE_STATUS_NONE
			: capture->invalidated ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
					       : CU_STREAM_CAPTURE_STATUS_ACTIVE;
	if (!capture)
		return vgpu_leave_graphs(CUDA_SUCCESS);
	if (info->id)
		*info->id = capture->id;
	if (info->graph)
		*info->graph = (CUgraph)capture->graph;
	leaves = ref.stream->leaves;
	if (info->edges) {
		free(leaves->edges);
		leaves->edges = calloc(leaves->count + 1, sizeof(*leaves->edges));
		if (!leaves->edges)
			return vgpu_leave_graphs(CUDA_ERROR_OUT_OF_MEMORY);
		*info->edges = leaves->edges;
	}
	if (info->dependencies)
		*info->dependencies = (const CUgraphNode *)leaves->nodes;
	if (info->count)
		*info->count = leaves->count;
	return vgpu_leave_graphs(CUDA_SUCCESS);
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
		return vgpu_leave_graphs(CUDA_ERROR_ILLEGAL_STATE);
	if (capture->invalidated)
		return vgpu_leave_graphs(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
	status = read_set(capture->graph, nodes, count, &set);
	if (status == CUDA_SUCCESS) {
		if (flags == CU_STREAM_SET_CAPTURE_DEPENDENCIES)
			ref.stream->leaves->count = 0;
		status = vgpu_set_add_all(ref.stream->leaves, &set);
	}
	vgpu_set_free(&set);
	return vgpu_leave_graphs(status);
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
