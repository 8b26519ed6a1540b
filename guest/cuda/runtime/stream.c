// SPDX-License-Identifier: MIT
/* Streams, events, captures and graphs: the driver's, under the runtime's names. */
#include "internal.h"

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned int flags, int priority)
{
	VGPU_RETURN_DRIVER(cuStreamCreateWithPriority(stream, flags, priority));
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int flags)
{
	VGPU_RETURN_DRIVER(cuStreamCreate(stream, flags));
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
	return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
	VGPU_RETURN_DRIVER(cuStreamDestroy(stream));
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
	VGPU_RETURN_DRIVER(cuStreamSynchronize(stream));
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
	VGPU_RETURN_DRIVER(cuStreamQuery(stream));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int flags)
{
	VGPU_RETURN_DRIVER(cuStreamWaitEvent(stream, event, flags));
}

cudaError_t cudaStreamGetFlags(cudaStream_t stream, unsigned int *flags)
{
	VGPU_RETURN_DRIVER(cuStreamGetFlags(stream, flags));
}

cudaError_t cudaStreamGetPriority(cudaStream_t stream, int *priority)
{
	VGPU_RETURN_DRIVER(cuStreamGetPriority(stream, priority));
}

cudaError_t cudaStreamGetId(cudaStream_t stream, unsigned long long *id)
{
	VGPU_RETURN_DRIVER(cuStreamGetId(stream, id));
}

cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t callback, void *data,
				  unsigned int flags)
{
	VGPU_RETURN_DRIVER(cuStreamAddCallback(stream, (CUstreamCallback)callback, data, flags));
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data)
{
	VGPU_RETURN_DRIVER(cuLaunchHostFunc(stream, function, data));
}

/* Events. */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags)
{
	VGPU_RETURN_DRIVER(cuEventCreate(event, flags));
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
	return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
	VGPU_RETURN_DRIVER(cuEventDestroy(event));
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
	VGPU_RETURN_DRIVER(cuEventRecord(event, stream));
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned int flags)
{
	VGPU_RETURN_DRIVER(cuEventRecordWithFlags(event, stream, flags));
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
	VGPU_RETURN_DRIVER(cuEventQuery(event));
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
	VGPU_RETURN_DRIVER(cuEventSynchronize(event));
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end)
{
	VGPU_RETURN_DRIVER(cuEventElapsedTime(milliseconds, start, end));
}

/* Captures and graphs. */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
	VGPU_RETURN_DRIVER(cuStreamBeginCapture(stream, (CUstreamCaptureMode)mode));
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
	VGPU_RETURN_DRIVER(cuStreamEndCapture(stream, graph));
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status)
{
	VGPU_RETURN_DRIVER(cuStreamIsCapturing(stream, (CUstreamCaptureStatus *)status));
}

cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode)
{
	VGPU_RETURN_DRIVER(cuThreadExchangeStreamCaptureMode((CUstreamCaptureMode *)mode));
}

cudaError_t cudaGraphCreate(cudaGraph_t *graph, unsigned int flags)
{
	VGPU_RETURN_DRIVER(cuGraphCreate(graph, flags));
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
	VGPU_RETURN_DRIVER(cuGraphDestroy(graph));
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count)
{
	VGPU_RETURN_DRIVER(cuGraphGetNodes(graph, nodes, count));
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *instance, cudaGraph_t graph,
				 unsigned long long flags)
{
	VGPU_RETURN_DRIVER(cuGraphInstantiate(instance, graph, flags));
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *instance, cudaGraph_t graph,
					  unsigned long long flags)
{
	return cudaGraphInstantiate(instance, graph, flags);
}

cudaError_t cudaGraphExecUpdate(cudaGraphExec_t instance, cudaGraph_t graph,
				cudaGraphExecUpdateResultInfo *result)
{
	_Static_assert(sizeof(*result) == sizeof(CUgraphExecUpdateResultInfo),
		       "the runtime's result of an update is the driver's");
	VGPU_RETURN_DRIVER(
		cuGraphExecUpdate(instance, graph, (CUgraphExecUpdateResultInfo *)result));
}

cudaError_t cudaGraphUpload(cudaGraphExec_t instance, cudaStream_t stream)
{
	VGPU_RETURN_DRIVER(cuGraphUpload(instance, stream));
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t instance, cudaStream_t stream)
{
	VGPU_RETURN_DRIVER(cuGraphLaunch(instance, stream));
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t instance)
{
	VGPU_RETURN_DRIVER(cuGraphExecDestroy(instance));
}
