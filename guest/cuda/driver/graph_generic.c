// SPDX-License-Identifier: MIT
/* The functions that take CUgraphNodeParams, a union over all types of nodes. */
#include <string.h>

#include "graph.h"

static bool is_zero(const void *bytes, size_t count)
{
	const uint8_t *byte = bytes;

	for (size_t i = 0; i < count; i++)
		if (byte[i])
			return false;
	return true;
}

/* Reserved bytes have to be 0. */
static CUresult check(const CUgraphNodeParams *parameters)
{
	if (!parameters || !is_zero(parameters->reserved0, sizeof(parameters->reserved0)) ||
	    parameters->reserved2)
		return CUDA_ERROR_INVALID_VALUE;
	return CUDA_SUCCESS;
}

static CUDA_KERNEL_NODE_PARAMS kernel_of(const CUgraphNodeParams *parameters)
{
	CUDA_KERNEL_NODE_PARAMS kernel;

	static_assert(sizeof(kernel) == sizeof(parameters->kernel), "the structures are the same");
	memcpy(&kernel, &parameters->kernel, sizeof(kernel));
	return kernel;
}

static CUDA_MEMSET_NODE_PARAMS memset_of(const CUgraphNodeParams *parameters)
{
	CUDA_MEMSET_NODE_PARAMS fill;

	memcpy(&fill, &parameters->memset, sizeof(fill));
	return fill;
}

static_assert(offsetof(CUDA_MEMSET_NODE_PARAMS_v2, ctx) == sizeof(CUDA_MEMSET_NODE_PARAMS),
	      "the newer structure begins with the older one");

CUresult vgpu_node_set_params(struct vgpu_node *node, const CUgraphNodeParams *parameters)
{
	struct vgpu_context *context;
	CUDA_MEMSET_NODE_PARAMS fill;
	CUDA_KERNEL_NODE_PARAMS kernel;
	struct vgpu_graph *child;
	CUresult status;

	switch (node->type) {
	case CU_GRAPH_NODE_TYPE_KERNEL:
		kernel = kernel_of(parameters);
		return vgpu_node_set_kernel(node, &kernel);
	case CU_GRAPH_NODE_TYPE_MEMCPY:
		if (parameters->memcpy.flags || parameters->memcpy.reserved)
			return CUDA_ERROR_INVALID_VALUE;
		status = vgpu_node_context(parameters->memcpy.copyCtx, &context);
		return status == CUDA_SUCCESS
			       ? vgpu_node_set_copy(node, context, &parameters->memcpy.copyParams)
			       : status;
	case CU_GRAPH_NODE_TYPE_MEMSET:
		fill = memset_of(parameters);
		status = vgpu_node_context(parameters->memset.ctx, &context);
		return status == CUDA_SUCCESS ? vgpu_node_set_memset(node, context, &fill) : status;
	case CU_GRAPH_NODE_TYPE_HOST:
		return vgpu_node_set_host(
			node, &(CUDA_HOST_NODE_PARAMS){ .fn = parameters->host.fn,
							.userData = parameters->host.userData });
	case CU_GRAPH_NODE_TYPE_GRAPH:
		child = vgpu_graph_from_handle(parameters->graph.graph);
		if (parameters->graph.ownership != CU_GRAPH_CHILD_GRAPH_OWNERSHIP_CLONE)
			return CUDA_ERROR_NOT_SUPPORTED;
		return child && child != node->graph ? vgpu_node_set_child(node, child)
						     : CUDA_ERROR_INVALID_VALUE;
	case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
		return vgpu_node_set_event(node, parameters->eventRecord.event);
	case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
		return vgpu_node_set_event(node, parameters->eventWait.event);
	case CU_GRAPH_NODE_TYPE_EMPTY:
		return CUDA_SUCCESS;
	default:
		return CUDA_ERROR_NOT_SUPPORTED;
	}
}

CUresult cuGraphAddNode_v3(CUgraphNode *out, CUgraph graph, const CUgraphNode *dependencies,
			   const CUgraphEdgeData *data, size_t count, CUgraphNodeParams *parameters)
{
	struct vgpu_node *node;
	CUresult status = vgpu_check_initialized();

	if (status == CUDA_SUCCESS)
		status = out ? check(parameters) : CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		status = vgpu_edges_plain(data, count);
	if (status != CUDA_SUCCESS)
		return status;
	pthread_mutex_lock(&vgpu_graph_lock);
	status = vgpu_node_add_to(graph, parameters->type, dependencies, count, &node);
	if (status != CUDA_SUCCESS)
		return vgpu_leave_graphs(status);
	status = vgpu_node_set_params(node, parameters);
	if (status == CUDA_SUCCESS)
		*out = (CUgraphNode)node;
	else
		vgpu_node_remove(node);
	return vgpu_leave_graphs(status);
}

CUresult cuGraphAddNode_v2(CUgraphNode *out, CUgraph graph, const CUgraphNode *dependencies,
			   const CUgraphEdgeData *data, size_t count, CUgraphNodeParams *parameters)
{
	return cuGraphAddNode_v3(out, graph, dependencies, data, count, parameters);
}

CUresult cuGraphAddNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *dependencies,
			size_t count, CUgraphNodeParams *parameters)
{
	return cuGraphAddNode_v3(out, graph, dependencies, NULL, count, parameters);
}

CUresult cuGraphNodeSetParams_v2(CUgraphNode handle, CUgraphNodeParams *parameters)
{
	struct vgpu_node *node;
	CUresult status = vgpu_enter_node(handle, &node);

	if (status != CUDA_SUCCESS)
		return status;
	status = check(parameters);
	if (status == CUDA_SUCCESS && parameters->type != node->type)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		status = vgpu_node_set_params(node, parameters);
	return vgpu_leave_graphs(status);
}

CUresult cuGraphNodeSetParams(CUgraphNode node, CUgraphNodeParams *parameters)
{
	return cuGraphNodeSetParams_v2(node, parameters);
}

static CUresult get_params(CUgraphNode handle, CUgraphNodeType type, CUgraphNodeParams *out)
{
	CUDA_HOST_NODE_PARAMS host = { 0 };
	CUDA_KERNEL_NODE_PARAMS kernel;
	CUDA_MEMSET_NODE_PARAMS fill;
	CUresult status;

	switch (type) {
	case CU_GRAPH_NODE_TYPE_KERNEL:
		status = cuGraphKernelNodeGetParams_v2(handle, &kernel);
		memcpy(&out->kernel, &kernel, sizeof(kernel));
		return status;
	case CU_GRAPH_NODE_TYPE_MEMCPY:
		return cuGraphMemcpyNodeGetParams(handle, &out->memcpy.copyParams);
	case CU_GRAPH_NODE_TYPE_MEMSET:
		status = cuGraphMemsetNodeGetParams(handle, &fill);
		memcpy(&out->memset, &fill, sizeof(fill));
		return status;
	case CU_GRAPH_NODE_TYPE_HOST:
		status = cuGraphHostNodeGetParams(handle, &host);
		out->host.fn = host.fn;
		out->host.userData = host.userData;
		return status;
	case CU_GRAPH_NODE_TYPE_GRAPH:
		return cuGraphChildGraphNodeGetGraph(handle, &out->graph.graph);
	case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
		return cuGraphEventRecordNodeGetEvent(handle, &out->eventRecord.event);
	case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
		return cuGraphEventWaitNodeGetEvent(handle, &out->eventWait.event);
	default:
		return CUDA_SUCCESS;
	}
}

CUresult cuGraphNodeGetParams(CUgraphNode handle, CUgraphNodeParams *out)
{
	CUgraphNodeType type;
	CUresult status = cuGraphNodeGetType(handle, &type);

	if (status != CUDA_SUCCESS)
		return status;
	if (!out)
		return CUDA_ERROR_INVALID_VALUE;
	*out = (CUgraphNodeParams){ .type = type };
	return get_params(handle, type, out);
}
