// SPDX-License-Identifier: MIT
/* Nodes of graphs: what they do. */
#include "internal.h"

_Static_assert(sizeof(struct cudaMemsetParams) == sizeof(CUDA_MEMSET_NODE_PARAMS),
	       "the runtime's description of a fill is the driver's");

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

/* Copies. */

static cudaError_t add_copy(cudaGraphNode_t *node, cudaGraph_t graph,
			    const cudaGraphNode_t *dependencies, size_t count,
			    const struct cudaMemcpy3DParms *wanted)
{
	CUDA_MEMCPY3D box;
	CUcontext context;
	cudaError_t error = vgpu_box(wanted, &box);

	if (error == cudaSuccess)
		error = vgpu_context();
	if (error == cudaSuccess)
		error = vgpu_error(cuCtxGetCurrent(&context));
	if (error == cudaSuccess)
		error = vgpu_error(
			cuGraphAddMemcpyNode(node, graph, dependencies, count, &box, context));
	return vgpu_done(error);
}

/* A row of bytes as a box. */
static struct cudaMemcpy3DParms row(void *to, const void *from, size_t bytes,
				    enum cudaMemcpyKind kind)
{
	return (struct cudaMemcpy3DParms){
		.srcPtr = { (void *)from, bytes, bytes, 1 },
		.dstPtr = { to, bytes, bytes, 1 },
		.extent = { bytes, 1, 1 },
		.kind = kind,
	};
}

cudaError_t cudaGraphAddMemcpyNode(cudaGraphNode_t *node, cudaGraph_t graph,
				   const cudaGraphNode_t *dependencies, size_t count,
				   const struct cudaMemcpy3DParms *wanted)
{
	return add_copy(node, graph, dependencies, count, wanted);
}

cudaError_t cudaGraphAddMemcpyNode1D(cudaGraphNode_t *node, cudaGraph_t graph,
				     const cudaGraphNode_t *dependencies, size_t count, void *to,
				     const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
	struct cudaMemcpy3DParms wanted = row(to, from, bytes, kind);

	return add_copy(node, graph, dependencies, count, &wanted);
}

static cudaError_t set_copy(cudaGraphNode_t node, const struct cudaMemcpy3DParms *wanted)
{
	CUDA_MEMCPY3D box;
	cudaError_t error = vgpu_box(wanted, &box);

	if (error == cudaSuccess)
		error = vgpu_context();
	if (error == cudaSuccess)
		error = vgpu_error(cuGraphMemcpyNodeSetParams(node, &box));
	return vgpu_done(error);
}

cudaError_t cudaGraphMemcpyNodeSetParams(cudaGraphNode_t node,
					 const struct cudaMemcpy3DParms *wanted)
{
	return set_copy(node, wanted);
}

cudaError_t cudaGraphMemcpyNodeSetParams1D(cudaGraphNode_t node, void *to, const void *from,
					   size_t bytes, enum cudaMemcpyKind kind)
{
	struct cudaMemcpy3DParms wanted = row(to, from, bytes, kind);

	return set_copy(node, &wanted);
}

static enum cudaMemcpyKind kind_of(CUmemorytype from, CUmemorytype to)
{
	if (from == CU_MEMORYTYPE_UNIFIED || to == CU_MEMORYTYPE_UNIFIED)
		return cudaMemcpyDefault;
	if (from == CU_MEMORYTYPE_HOST)
		return to == CU_MEMORYTYPE_HOST ? cudaMemcpyHostToHost : cudaMemcpyHostToDevice;
	return to == CU_MEMORYTYPE_HOST ? cudaMemcpyDeviceToHost : cudaMemcpyDeviceToDevice;
}

static void *pointer_of(CUmemorytype type, const void *host, CUdeviceptr device)
{
	return type == CU_MEMORYTYPE_HOST ? (void *)host : (void *)(uintptr_t)device;
}

cudaError_t cudaGraphMemcpyNodeGetParams(cudaGraphNode_t node, struct cudaMemcpy3DParms *found)
{
	CUDA_MEMCPY3D box;
	cudaError_t error = found ? vgpu_context() : cudaErrorInvalidValue;

	if (error == cudaSuccess)
		error = vgpu_error(cuGraphMemcpyNodeGetParams(node, &box));
	if (error != cudaSuccess)
		return vgpu_done(error);
	*found = (struct cudaMemcpy3DParms){
		.srcPos = { box.srcXInBytes, box.srcY, box.srcZ },
		.srcPtr = { pointer_of(box.srcMemoryType, box.srcHost, box.srcDevice), box.srcPitch,
			    box.WidthInBytes, box.srcHeight },
		.dstPos = { box.dstXInBytes, box.dstY, box.dstZ },
		.dstPtr = { pointer_of(box.dstMemoryType, box.dstHost, box.dstDevice), box.dstPitch,
			    box.WidthInBytes, box.dstHeight },
		.extent = { box.WidthInBytes, box.Height, box.Depth },
		.kind = kind_of(box.srcMemoryType, box.dstMemoryType),
	};
	return cudaSuccess;
}

/* Fills. */

cudaError_t cudaGraphAddMemsetNode(cudaGraphNode_t *node, cudaGraph_t graph,
				   const cudaGraphNode_t *dependencies, size_t count,
				   const struct cudaMemsetParams *fill)
{
	CUcontext context;
	cudaError_t error = vgpu_context();

	if (error == cudaSuccess)
		error = vgpu_error(cuCtxGetCurrent(&context));
	if (error == cudaSuccess)
		error = vgpu_error(cuGraphAddMemsetNode(node, graph, dependencies, count,
							(const CUDA_MEMSET_NODE_PARAMS *)fill,
							context));
	return vgpu_done(error);
}

cudaError_t cudaGraphMemsetNodeGetParams(cudaGraphNode_t node, struct cudaMemsetParams *fill)
{
	VGPU_RETURN_DRIVER(cuGraphMemsetNodeGetParams(node, (CUDA_MEMSET_NODE_PARAMS *)fill));
}

cudaError_t cudaGraphMemsetNodeSetParams(cudaGraphNode_t node, const struct cudaMemsetParams *fill)
{
	VGPU_RETURN_DRIVER(cuGraphMemsetNodeSetParams(node, (const CUDA_MEMSET_NODE_PARAMS *)fill));
}

/* The others. */

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
