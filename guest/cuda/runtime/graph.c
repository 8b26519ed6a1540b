// SPDX-License-Identifier: MIT
/* Graphs: their life, their nodes' order, and what is made of them. */
#include "internal.h"

_Static_assert(sizeof(cudaGraphEdgeData) == sizeof(CUgraphEdgeData),
	       "the runtime's data of an edge is the driver's");
_Static_assert(sizeof(cudaGraphExecUpdateResultInfo) == sizeof(CUgraphExecUpdateResultInfo),
	       "the runtime's result of an update is the driver's");

cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode)
{
	VGPU_RETURN_DRIVER(cuThreadExchangeStreamCaptureMode((CUstreamCaptureMode *)mode));
}

cudaError_t cudaGraphCreate(cudaGraph_t *graph, unsigned int flags)
{
	VGPU_RETURN_DRIVER(cuGraphCreate(graph, flags));
}

cudaError_t cudaGraphClone(cudaGraph_t *clone, cudaGraph_t graph)
{
	VGPU_RETURN_DRIVER(cuGraphClone(clone, graph));
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
	VGPU_RETURN_DRIVER(cuGraphDestroy(graph));
}

cudaError_t cudaGraphDebugDotPrint(cudaGraph_t graph, const char *path, unsigned int flags)
{
	VGPU_RETURN_DRIVER(cuGraphDebugDotPrint(graph, path, flags));
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count)
{
	VGPU_RETURN_DRIVER(cuGraphGetNodes(graph, nodes, count));
}

cudaError_t cudaGraphGetRootNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count)
{
	VGPU_RETURN_DRIVER(cuGraphGetRootNodes(graph, nodes, count));
}

/* Edges: in CUDA 13 with data, in CUDA 12 in two forms. */

#if CUDART_VERSION >= 13000
cudaError_t cudaGraphGetEdges(cudaGraph_t graph, cudaGraphNode_t *from, cudaGraphNode_t *to,
			      cudaGraphEdgeData *edges, size_t *count)
{
	VGPU_RETURN_DRIVER(cuGraphGetEdges(graph, from, to, (CUgraphEdgeData *)edges, count));
}

cudaError_t cudaGraphNodeGetDependencies(cudaGraphNode_t node, cudaGraphNode_t *dependencies,
					 cudaGraphEdgeData *edges, size_t *count)
{
	VGPU_RETURN_DRIVER(
		cuGraphNodeGetDependencies(node, dependencies, (CUgraphEdgeData *)edges, count));
}

cudaError_t cudaGraphNodeGetDependentNodes(cudaGraphNode_t node, cudaGraphNode_t *dependents,
					   cudaGraphEdgeData *edges, size_t *count)
{
	VGPU_RETURN_DRIVER(
		cuGraphNodeGetDependentNodes(node, dependents, (CUgraphEdgeData *)edges, count));
}

cudaError_t cudaGraphAddDependencies(cudaGraph_t graph, const cudaGraphNode_t *from,
				     const cudaGraphNode_t *to, const cudaGraphEdgeData *edges,
				     size_t count)
{
	VGPU_RETURN_DRIVER(
		cuGraphAddDependencies(graph, from, to, (const CUgraphEdgeData *)edges, count));
}

cudaError_t cudaGraphRemoveDependencies(cudaGraph_t graph, const cudaGraphNode_t *from,
					const cudaGraphNode_t *to, const cudaGraphEdgeData *edges,
					size_t count)
{
	VGPU_RETURN_DRIVER(
		cuGraphRemoveDependencies(graph, from, to, (const CUgraphEdgeData *)edges, count));
}
#else
cudaError_t cudaGraphGetEdges(cudaGraph_t graph, cudaGraphNode_t *from, cudaGraphNode_t *to,
			      size_t *count)
{
	VGPU_RETURN_DRIVER(cuGraphGetEdges(graph, from, to, count));
}

cudaError_t cudaGraphGetEdges_v2(cudaGraph_t graph, cudaGraphNode_t *from, cudaGraphNode_t *to,
				 cudaGraphEdgeData *edges, size_t *count)
{
	VGPU_RETURN_DRIVER(cuGraphGetEdges_v2(graph, from, to, (CUgraphEdgeData *)edges, count));
}

cudaError_t cudaGraphNodeGetDependencies(cudaGraphNode_t node, cudaGraphNode_t *dependencies,
					 size_t *count)
{
	VGPU_RETURN_DRIVER(cuGraphNodeGetDependencies(node, dependencies, count));
}

cudaError_t cudaGraphNodeGetDependencies_v2(cudaGraphNode_t node, cudaGraphNode_t *dependencies,
					    cudaGraphEdgeData *edges, size_t *count)
{
	VGPU_RETURN_DRIVER(
		cuGraphNodeGetDependencies_v2(node, dependencies, (CUgraphEdgeData *)edges, count));
}

cudaError_t cudaGraphNodeGetDependentNodes(cudaGraphNode_t node, cudaGraphNode_t *dependents,
					   size_t *count)
{
	VGPU_RETURN_DRIVER(cuGraphNodeGetDependentNodes(node, dependents, count));
}

cudaError_t cudaGraphNodeGetDependentNodes_v2(cudaGraphNode_t node, cudaGraphNode_t *dependents,
					      cudaGraphEdgeData *edges, size_t *count)
{
	VGPU_RETURN_DRIVER(
		cuGraphNodeGetDependentNodes_v2(node, dependents, (CUgraphEdgeData *)edges, count));
}

cudaError_t cudaGraphAddDependencies(cudaGraph_t graph, const cudaGraphNode_t *from,
				     const cudaGraphNode_t *to, size_t count)
{
	VGPU_RETURN_DRIVER(cuGraphAddDependencies(graph, from, to, count));
}

cudaError_t cudaGraphAddDependencies_v2(cudaGraph_t graph, const cudaGraphNode_t *from,
					const cudaGraphNode_t *to, const cudaGraphEdgeData *edges,
					size_t count)
{
	VGPU_RETURN_DRIVER(
		cuGraphAddDependencies_v2(graph, from, to, (const CUgraphEdgeData *)edges, count));
}

cudaError_t cudaGraphRemoveDependencies(cudaGraph_t graph, const cudaGraphNode_t *from,
					const cudaGraphNode_t *to, size_t count)
{
	VGPU_RETURN_DRIVER(cuGraphRemoveDependencies(graph, from, to, count));
}

cudaError_t cudaGraphRemoveDependencies_v2(cudaGraph_t graph, const cudaGraphNode_t *from,
					   const cudaGraphNode_t *to,
					   const cudaGraphEdgeData *edges, size_t count)
{
	VGPU_RETURN_DRIVER(cuGraphRemoveDependencies_v2(graph, from, to,
							(const CUgraphEdgeData *)edges, count));
}
#endif

/* Nodes of any type. */

cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, enum cudaGraphNodeType *type)
{
	VGPU_RETURN_DRIVER(cuGraphNodeGetType(node, (CUgraphNodeType *)type));
}

cudaError_t cudaGraphNodeFindInClone(cudaGraphNode_t *node, cudaGraphNode_t original,
				     cudaGraph_t clone)
{
	VGPU_RETURN_DRIVER(cuGraphNodeFindInClone(node, original, clone));
}

cudaError_t cudaGraphDestroyNode(cudaGraphNode_t node)
{
	VGPU_RETURN_DRIVER(cuGraphDestroyNode(node));
}

/* Executable graphs. */

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
	VGPU_RETURN_DRIVER(
		cuGraphExecUpdate(instance, graph, (CUgraphExecUpdateResultInfo *)result));
}

cudaError_t cudaGraphExecGetFlags(cudaGraphExec_t instance, unsigned long long *flags)
{
	VGPU_RETURN_DRIVER(cuGraphExecGetFlags(instance, (cuuint64_t *)flags));
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t instance)
{
	VGPU_RETURN_DRIVER(cuGraphExecDestroy(instance));
}
