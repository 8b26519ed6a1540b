// SPDX-License-Identifier: MIT
/* Nodes of graphs: kernels, functions of the host, events, other graphs. */
#include "internal.h"

/* Kernels. */

static cudaError_t kernel(const struct cudaKernelNodeParams *wanted, CUDA_KERNEL_NODE_PARAMS *node)
{
	CUfunction function;
	cudaError_t error =
		wanted ? vgpu_kernel_of(wanted->func, &function) : cudaErrorInvalidValue;

	if (error != cudaSuccess)
		return error;
	*node = (CUDA_KERNEL_NODE_PARAMS){
		.func = function,
		.gridDimX = wanted->gridDim.x,
		.gridDimY = wanted->gridDim.y,
		.gridDimZ = wanted->gridDim.z,
		.blockDimX = wanted->blockDim.x,
		.blockDimY = wanted->blockDim.y,
		.blockDimZ = wanted->blockDim.z,
		.sharedMemBytes = wanted->sharedMemBytes,
		.kernelParams = wanted->kernelParams,
		.extra = wanted->extra,
	};
	return cudaSuccess;
}

cudaError_t cudaGraphAddKernelNode(cudaGraphNode_t *node, cudaGraph_t graph,
				   const cudaGraphNode_t *dependencies, size_t count,
				   const struct cudaKernelNodeParams *wanted)
{
	CUDA_KERNEL_NODE_PARAMS parameters;
	cudaError_t error = kernel(wanted, &parameters);

	if (error == cudaSuccess)
		error = vgpu_error(
			cuGraphAddKernelNode(node, graph, dependencies, count, &parameters));
	return vgpu_done(error);
}

cudaError_t cudaGraphKernelNodeSetParams(cudaGraphNode_t node,
					 const struct cudaKernelNodeParams *wanted)
{
	CUDA_KERNEL_NODE_PARAMS parameters;
	cudaError_t error = kernel(wanted, &parameters);

	if (error == cudaSuccess)
		error = vgpu_error(cuGraphKernelNodeSetParams(node, &parameters));
	return vgpu_done(error);
}

cudaError_t cudaGraphExecKernelNodeSetParams(cudaGraphExec_t instance, cudaGraphNode_t node,
					     const struct cudaKernelNodeParams *wanted)
{
	CUDA_KERNEL_NODE_PARAMS parameters;
	cudaError_t error = kernel(wanted, &parameters);

	if (error == cudaSuccess)
		error = vgpu_error(cuGraphExecKernelNodeSetParams(instance, node, &parameters));
	return vgpu_done(error);
}

cudaError_t cudaGraphKernelNodeGetParams(cudaGraphNode_t node, struct cudaKernelNodeParams *found)
{
	CUDA_KERNEL_NODE_PARAMS parameters;
	cudaError_t error = found ? vgpu_context() : cudaErrorInvalidValue;

	if (error == cudaSuccess)
		error = vgpu_error(cuGraphKernelNodeGetParams(node, &parameters));
	if (error != cudaSuccess)
		return vgpu_done(error);
	*found = (struct cudaKernelNodeParams){
		.func = (void *)vgpu_host_of(parameters.func),
		.gridDim = { parameters.gridDimX, parameters.gridDimY, parameters.gridDimZ },
		.blockDim = { parameters.blockDimX, parameters.blockDimY, parameters.blockDimZ },
		.sharedMemBytes = parameters.sharedMemBytes,
		.kernelParams = parameters.kernelParams,
		.extra = parameters.extra,
	};
	/* A kernel that was added through the driver has no name in the program. */
	return found->func ? cudaSuccess : vgpu_done(cudaErrorInvalidDeviceFunction);
}

/* Functions of the host. */

_Static_assert(sizeof(struct cudaHostNodeParams) == sizeof(CUDA_HOST_NODE_PARAMS),
	       "the runtime's description of a host function is the driver's");

cudaError_t cudaGraphAddHostNode(cudaGraphNode_t *node, cudaGraph_t graph,
				 const cudaGraphNode_t *dependencies, size_t count,
				 const struct cudaHostNodeParams *function)
{
	VGPU_RETURN_DRIVER(cuGraphAddHostNode(node, graph, dependencies, count,
					      (const CUDA_HOST_NODE_PARAMS *)function));
}

cudaError_t cudaGraphHostNodeGetParams(cudaGraphNode_t node, struct cudaHostNodeParams *function)
{
	VGPU_RETURN_DRIVER(cuGraphHostNodeGetParams(node, (CUDA_HOST_NODE_PARAMS *)function));
}

cudaError_t cudaGraphHostNodeSetParams(cudaGraphNode_t node,
				       const struct cudaHostNodeParams *function)
{
	VGPU_RETURN_DRIVER(cuGraphHostNodeSetParams(node, (const CUDA_HOST_NODE_PARAMS *)function));
}

cudaError_t cudaGraphExecHostNodeSetParams(cudaGraphExec_t instance, cudaGraphNode_t node,
					   const struct cudaHostNodeParams *function)
{
	VGPU_RETURN_DRIVER(cuGraphExecHostNodeSetParams(instance, node,
							(const CUDA_HOST_NODE_PARAMS *)function));
}

/* The others. */

cudaError_t cudaGraphNodeGetEnabled(cudaGraphExec_t instance, cudaGraphNode_t node,
				    unsigned int *enabled)
{
	VGPU_RETURN_DRIVER(cuGraphNodeGetEnabled(instance, node, enabled));
}

cudaError_t cudaGraphNodeSetEnabled(cudaGraphExec_t instance, cudaGraphNode_t node,
				    unsigned int enabled)
{
	VGPU_RETURN_DRIVER(cuGraphNodeSetEnabled(instance, node, enabled));
}

cudaError_t cudaGraphExecChildGraphNodeSetParams(cudaGraphExec_t instance, cudaGraphNode_t node,
						 cudaGraph_t child)
{
	VGPU_RETURN_DRIVER(cuGraphExecChildGraphNodeSetParams(instance, node, child));
}

cudaError_t cudaGraphAddEmptyNode(cudaGraphNode_t *node, cudaGraph_t graph,
				  const cudaGraphNode_t *dependencies, size_t count)
{
	VGPU_RETURN_DRIVER(cuGraphAddEmptyNode(node, graph, dependencies, count));
}

cudaError_t cudaGraphAddChildGraphNode(cudaGraphNode_t *node, cudaGraph_t graph,
				       const cudaGraphNode_t *dependencies, size_t count,
				       cudaGraph_t child)
{
	VGPU_RETURN_DRIVER(cuGraphAddChildGraphNode(node, graph, dependencies, count, child));
}

cudaError_t cudaGraphChildGraphNodeGetGraph(cudaGraphNode_t node, cudaGraph_t *graph)
{
	VGPU_RETURN_DRIVER(cuGraphChildGraphNodeGetGraph(node, graph));
}

cudaError_t cudaGraphAddEventRecordNode(cudaGraphNode_t *node, cudaGraph_t graph,
					const cudaGraphNode_t *dependencies, size_t count,
					cudaEvent_t event)
{
	VGPU_RETURN_DRIVER(cuGraphAddEventRecordNode(node, graph, dependencies, count, event));
}

cudaError_t cudaGraphEventRecordNodeGetEvent(cudaGraphNode_t node, cudaEvent_t *event)
{
	VGPU_RETURN_DRIVER(cuGraphEventRecordNodeGetEvent(node, event));
}

cudaError_t cudaGraphEventRecordNodeSetEvent(cudaGraphNode_t node, cudaEvent_t event)
{
	VGPU_RETURN_DRIVER(cuGraphEventRecordNodeSetEvent(node, event));
}

cudaError_t cudaGraphAddEventWaitNode(cudaGraphNode_t *node, cudaGraph_t graph,
				      const cudaGraphNode_t *dependencies, size_t count,
				      cudaEvent_t event)
{
	VGPU_RETURN_DRIVER(cuGraphAddEventWaitNode(node, graph, dependencies, count, event));
}

cudaError_t cudaGraphEventWaitNodeGetEvent(cudaGraphNode_t node, cudaEvent_t *event)
{
	VGPU_RETURN_DRIVER(cuGraphEventWaitNodeGetEvent(node, event));
}

cudaError_t cudaGraphEventWaitNodeSetEvent(cudaGraphNode_t node, cudaEvent_t event)
{
	VGPU_RETURN_DRIVER(cuGraphEventWaitNodeSetEvent(node, event));
}

cudaError_t cudaGraphExecEventRecordNodeSetEvent(cudaGraphExec_t instance, cudaGraphNode_t node,
						 cudaEvent_t event)
{
	VGPU_RETURN_DRIVER(cuGraphExecEventRecordNodeSetEvent(instance, node, event));
}

cudaError_t cudaGraphExecEventWaitNodeSetEvent(cudaGraphExec_t instance, cudaGraphNode_t node,
					       cudaEvent_t event)
{
	VGPU_RETURN_DRIVER(cuGraphExecEventWaitNodeSetEvent(instance, node, event));
}
