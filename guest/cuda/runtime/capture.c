// SPDX-License-Identifier: MIT
/* Captures of streams, and launches of graphs. Compiled twice (rules.mk). */
#include "internal.h"

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
	VGPU_RETURN_DRIVER(cuStreamBeginCapture(stream, (CUstreamCaptureMode)mode));
}

cudaError_t cudaStreamBeginCaptureToGraph(cudaStream_t stream, cudaGraph_t graph,
					  const cudaGraphNode_t *dependencies,
					  const cudaGraphEdgeData *edges, size_t count,
					  enum cudaStreamCaptureMode mode)
{
	VGPU_RETURN_DRIVER(cuStreamBeginCaptureToGraph(stream, graph, dependencies,
						       (const CUgraphEdgeData *)edges, count,
						       (CUstreamCaptureMode)mode));
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
	VGPU_RETURN_DRIVER(cuStreamEndCapture(stream, graph));
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status)
{
	VGPU_RETURN_DRIVER(cuStreamIsCapturing(stream, (CUstreamCaptureStatus *)status));
}

#if CUDART_VERSION >= 13000
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, enum cudaStreamCaptureStatus *status,
				     unsigned long long *id, cudaGraph_t *graph,
				     const cudaGraphNode_t **dependencies,
				     const cudaGraphEdgeData **edges, size_t *count)
{
	VGPU_RETURN_DRIVER(cuStreamGetCaptureInfo(stream, (CUstreamCaptureStatus *)status,
						  (cuuint64_t *)id, graph, dependencies,
						  (const CUgraphEdgeData **)edges, count));
}

cudaError_t cudaStreamUpdateCaptureDependencies(cudaStream_t stream, cudaGraphNode_t *dependencies,
						const cudaGraphEdgeData *edges, size_t count,
						unsigned int flags)
{
	VGPU_RETURN_DRIVER(cuStreamUpdateCaptureDependencies(
		stream, dependencies, (const CUgraphEdgeData *)edges, count, flags));
}
#else
/* CUDA 12 has three forms of the one and two of the other. */
cudaError_t cudaStreamGetCaptureInfo_v3(cudaStream_t stream, enum cudaStreamCaptureStatus *status,
					unsigned long long *id, cudaGraph_t *graph,
					const cudaGraphNode_t **dependencies,
					const cudaGraphEdgeData **edges, size_t *count)
{
	VGPU_RETURN_DRIVER(cuStreamGetCaptureInfo_v3(stream, (CUstreamCaptureStatus *)status,
						     (cuuint64_t *)id, graph, dependencies,
						     (const CUgraphEdgeData **)edges, count));
}

/* The header makes this cudaStreamGetCaptureInfo_v2. */
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, enum cudaStreamCaptureStatus *status,
				     unsigned long long *id, cudaGraph_t *graph,
				     const cudaGraphNode_t **dependencies, size_t *count)
{
	VGPU_RETURN_DRIVER(cuStreamGetCaptureInfo(stream, (CUstreamCaptureStatus *)status,
						  (cuuint64_t *)id, graph, dependencies, count));
}

#undef cudaStreamGetCaptureInfo
#ifdef CUDA_API_PER_THREAD_DEFAULT_STREAM
#define cudaStreamGetCaptureInfo cudaStreamGetCaptureInfo_ptsz
#endif
VGPU_EXPORT cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream,
						 enum cudaStreamCaptureStatus *status,
						 unsigned long long *id);

cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, enum cudaStreamCaptureStatus *status,
				     unsigned long long *id)
{
	VGPU_RETURN_DRIVER(cuStreamGetCaptureInfo(stream, (CUstreamCaptureStatus *)status,
						  (cuuint64_t *)id, NULL, NULL, NULL));
}

cudaError_t cudaStreamUpdateCaptureDependencies(cudaStream_t stream, cudaGraphNode_t *dependencies,
						size_t count, unsigned int flags)
{
	VGPU_RETURN_DRIVER(cuStreamUpdateCaptureDependencies(stream, dependencies, count, flags));
}

cudaError_t cudaStreamUpdateCaptureDependencies_v2(cudaStream_t stream,
						   cudaGraphNode_t *dependencies,
						   const cudaGraphEdgeData *edges, size_t count,
						   unsigned int flags)
{
	VGPU_RETURN_DRIVER(cuStreamUpdateCaptureDependencies_v2(
		stream, dependencies, (const CUgraphEdgeData *)edges, count, flags));
}
#endif

cudaError_t cudaGraphInstantiateWithParams(cudaGraphExec_t *instance, cudaGraph_t graph,
					   cudaGraphInstantiateParams *parameters)
{
	_Static_assert(sizeof(*parameters) == sizeof(CUDA_GRAPH_INSTANTIATE_PARAMS),
		       "the runtime's parameters are the driver's");
	VGPU_RETURN_DRIVER(cuGraphInstantiateWithParams(
		instance, graph, (CUDA_GRAPH_INSTANTIATE_PARAMS *)parameters));
}

cudaError_t cudaGraphUpload(cudaGraphExec_t instance, cudaStream_t stream)
{
	VGPU_RETURN_DRIVER(cuGraphUpload(instance, stream));
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t instance, cudaStream_t stream)
{
	VGPU_RETURN_DRIVER(cuGraphLaunch(instance, stream));
}
