// SPDX-License-Identifier: MIT
/* Nodes of graphs that copy or fill. */
#include "internal.h"

_Static_assert(sizeof(struct cudaMemsetParams) == sizeof(CUDA_MEMSET_NODE_PARAMS),
	       "the runtime's description of a fill is the driver's");

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

static cudaError_t set_copy_of_instance(cudaGraphExec_t instance, cudaGraphNode_t node,
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
		error = vgpu_error(cuGraphExecMemcpyNodeSetParams(instance, node, &box, context));
	return vgpu_done(error);
}

cudaError_t cudaGraphExecMemcpyNodeSetParams(cudaGraphExec_t instance, cudaGraphNode_t node,
					     const struct cudaMemcpy3DParms *wanted)
{
	return set_copy_of_instance(instance, node, wanted);
}

cudaError_t cudaGraphExecMemcpyNodeSetParams1D(cudaGraphExec_t instance, cudaGraphNode_t node,
					       void *to, const void *from, size_t bytes,
					       enum cudaMemcpyKind kind)
{
	struct cudaMemcpy3DParms wanted = row(to, from, bytes, kind);

	return set_copy_of_instance(instance, node, &wanted);
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

/* Copies to and from variables. */

static cudaError_t row_to(const void *symbol, const void *from, size_t bytes, size_t offset,
			  enum cudaMemcpyKind kind, struct cudaMemcpy3DParms *wanted)
{
	CUdeviceptr address;
	cudaError_t error = vgpu_part_of(symbol, offset, bytes, &address);

	if (error == cudaSuccess &&
	    (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyHostToHost))
		error = cudaErrorInvalidMemcpyDirection;
	if (error == cudaSuccess)
		*wanted = row((void *)(uintptr_t)address, from, bytes, kind);
	return error;
}

static cudaError_t row_from(void *to, const void *symbol, size_t bytes, size_t offset,
			    enum cudaMemcpyKind kind, struct cudaMemcpy3DParms *wanted)
{
	CUdeviceptr address;
	cudaError_t error = vgpu_part_of(symbol, offset, bytes, &address);

	if (error == cudaSuccess &&
	    (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyHostToHost))
		error = cudaErrorInvalidMemcpyDirection;
	if (error == cudaSuccess)
		*wanted = row(to, (void *)(uintptr_t)address, bytes, kind);
	return error;
}

cudaError_t cudaGraphAddMemcpyNodeToSymbol(cudaGraphNode_t *node, cudaGraph_t graph,
					   const cudaGraphNode_t *dependencies, size_t count,
					   const void *symbol, const void *from, size_t bytes,
					   size_t offset, enum cudaMemcpyKind kind)
{
	struct cudaMemcpy3DParms wanted;
	cudaError_t error = row_to(symbol, from, bytes, offset, kind, &wanted);

	return error == cudaSuccess ? add_copy(node, graph, dependencies, count, &wanted)
				    : vgpu_done(error);
}

cudaError_t cudaGraphAddMemcpyNodeFromSymbol(cudaGraphNode_t *node, cudaGraph_t graph,
					     const cudaGraphNode_t *dependencies, size_t count,
					     void *to, const void *symbol, size_t bytes,
					     size_t offset, enum cudaMemcpyKind kind)
{
	struct cudaMemcpy3DParms wanted;
	cudaError_t error = row_from(to, symbol, bytes, offset, kind, &wanted);

	return error == cudaSuccess ? add_copy(node, graph, dependencies, count, &wanted)
				    : vgpu_done(error);
}

cudaError_t cudaGraphMemcpyNodeSetParamsToSymbol(cudaGraphNode_t node, const void *symbol,
						 const void *from, size_t bytes, size_t offset,
						 enum cudaMemcpyKind kind)
{
	struct cudaMemcpy3DParms wanted;
	cudaError_t error = row_to(symbol, from, bytes, offset, kind, &wanted);

	return error == cudaSuccess ? set_copy(node, &wanted) : vgpu_done(error);
}

cudaError_t cudaGraphMemcpyNodeSetParamsFromSymbol(cudaGraphNode_t node, void *to,
						   const void *symbol, size_t bytes, size_t offset,
						   enum cudaMemcpyKind kind)
{
	struct cudaMemcpy3DParms wanted;
	cudaError_t error = row_from(to, symbol, bytes, offset, kind, &wanted);

	return error == cudaSuccess ? set_copy(node, &wanted) : vgpu_done(error);
}

cudaError_t cudaGraphExecMemcpyNodeSetParamsToSymbol(cudaGraphExec_t instance, cudaGraphNode_t node,
						     const void *symbol, const void *from,
						     size_t bytes, size_t offset,
						     enum cudaMemcpyKind kind)
{
	struct cudaMemcpy3DParms wanted;
	cudaError_t error = row_to(symbol, from, bytes, offset, kind, &wanted);

	return error == cudaSuccess ? set_copy_of_instance(instance, node, &wanted)
				    : vgpu_done(error);
}

cudaError_t cudaGraphExecMemcpyNodeSetParamsFromSymbol(cudaGraphExec_t instance,
						       cudaGraphNode_t node, void *to,
						       const void *symbol, size_t bytes,
						       size_t offset, enum cudaMemcpyKind kind)
{
	struct cudaMemcpy3DParms wanted;
	cudaError_t error = row_from(to, symbol, bytes, offset, kind, &wanted);

	return error == cudaSuccess ? set_copy_of_instance(instance, node, &wanted)
				    : vgpu_done(error);
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

cudaError_t cudaGraphExecMemsetNodeSetParams(cudaGraphExec_t instance, cudaGraphNode_t node,
					     const struct cudaMemsetParams *fill)
{
	CUcontext context;
	cudaError_t error = vgpu_context();

	if (error == cudaSuccess)
		error = vgpu_error(cuCtxGetCurrent(&context));
	if (error == cudaSuccess)
		error = vgpu_error(cuGraphExecMemsetNodeSetParams(
			instance, node, (const CUDA_MEMSET_NODE_PARAMS *)fill, context));
	return vgpu_done(error);
}
