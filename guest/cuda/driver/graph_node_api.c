// SPDX-License-Identifier: MIT
/* The functions that add nodes to graphs and look at or change what nodes do. */
#include <string.h>

#include "graph.h"

/* Keeps a node that was just added, or takes it away again. */
static CUresult finish(struct vgpu_node *node, CUresult status, CUgraphNode *out)
{
	if (status == CUDA_SUCCESS)
		*out = (CUgraphNode)node;
	else
		vgpu_node_remove(node);
	return vgpu_leave_graphs(status);
}

/* Takes the lock and adds an empty node of a type; the lock is held only when it succeeds. */
static CUresult add(CUgraphNode *out, CUgraph graph, CUgraphNodeType type,
		    const CUgraphNode *dependencies, size_t count, struct vgpu_node **node)
{
	CUresult status = vgpu_check_initialized();

	if (status == CUDA_SUCCESS && !out)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status != CUDA_SUCCESS)
		return status;
	pthread_mutex_lock(&vgpu_graph_lock);
	status = vgpu_node_add_to(graph, type, dependencies, count, node);
	return status == CUDA_SUCCESS ? CUDA_SUCCESS : vgpu_leave_graphs(status);
}

/* Takes the lock and looks up a node of a type; the lock is held only when it succeeds. */
static CUresult enter(CUgraphNode handle, CUgraphNodeType type, struct vgpu_node **node)
{
	CUresult status = vgpu_enter_node(handle, node);

	if (status == CUDA_SUCCESS && (*node)->type != type)
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	return status;
}

/* The context that a node shall run in; NULL: the current one. */
CUresult vgpu_node_context(CUcontext handle, struct vgpu_context **context)
{
	if (!handle)
		return vgpu_current(context);
	*context = vgpu_context_from_handle(handle);
	return *context ? vgpu_context_check(*context) : CUDA_ERROR_INVALID_CONTEXT;
}

/* Kernels. */

static CUDA_KERNEL_NODE_PARAMS widen(const CUDA_KERNEL_NODE_PARAMS_v1 *parameters)
{
	CUDA_KERNEL_NODE_PARAMS wide = { 0 };

	memcpy(&wide, parameters, sizeof(*parameters));
	return wide;
}

static_assert(offsetof(CUDA_KERNEL_NODE_PARAMS, kern) >= sizeof(CUDA_KERNEL_NODE_PARAMS_v1),
	      "the newer structure begins with the older one");

CUresult cuGraphAddKernelNode_v2(CUgraphNode *out, CUgraph graph, const CUgraphNode *dependencies,
				 size_t count, const CUDA_KERNEL_NODE_PARAMS *parameters)
{
	struct vgpu_node *node;
	CUresult status;

	if (!parameters)
		return CUDA_ERROR_INVALID_VALUE;
	status = add(out, graph, CU_GRAPH_NODE_TYPE_KERNEL, dependencies, count, &node);
	return status == CUDA_SUCCESS ? finish(node, vgpu_node_set_kernel(node, parameters), out)
				      : status;
}

CUresult cuGraphAddKernelNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *dependencies,
			      size_t count, const CUDA_KERNEL_NODE_PARAMS_v1 *parameters)
{
	CUDA_KERNEL_NODE_PARAMS wide;

	if (!parameters)
		return CUDA_ERROR_INVALID_VALUE;
	wide = widen(parameters);
	return cuGraphAddKernelNode_v2(out, graph, dependencies, count, &wide);
}

CUresult cuGraphKernelNodeGetParams_v2(CUgraphNode handle, CUDA_KERNEL_NODE_PARAMS *parameters)
{
	const struct vgpu_cmd_launch_kernel *command;
	struct vgpu_node *node;
	CUresult status = enter(handle, CU_GRAPH_NODE_TYPE_KERNEL, &node);

	if (status != CUDA_SUCCESS)
		return status;
	if (!parameters)
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	if (!node->kernel.function) /* work of cuBLAS is no kernel of the program */
		return vgpu_leave_graphs(CUDA_ERROR_NOT_SUPPORTED);
	command = (const void *)node->command;
	*parameters = (CUDA_KERNEL_NODE_PARAMS){
		.func = (CUfunction)node->kernel.function,
		.gridDimX = command->grid[0],
		.gridDimY = command->grid[1],
		.gridDimZ = command->grid[2],
		.blockDimX = command->block[0],
		.blockDimY = command->block[1],
		.blockDimZ = command->block[2],
		.sharedMemBytes = command->shared_bytes,
		.kernelParams = node->kernel.parameters,
		.ctx = (CUcontext)node->object.context,
	};
	return vgpu_leave_graphs(CUDA_SUCCESS);
}

CUresult cuGraphKernelNodeGetParams(CUgraphNode node, CUDA_KERNEL_NODE_PARAMS_v1 *parameters)
{
	CUDA_KERNEL_NODE_PARAMS wide;
	CUresult status = cuGraphKernelNodeGetParams_v2(node, parameters ? &wide : NULL);

	if (status == CUDA_SUCCESS)
		memcpy(parameters, &wide, sizeof(*parameters));
	return status;
}

CUresult cuGraphKernelNodeSetParams_v2(CUgraphNode handle,
				       const CUDA_KERNEL_NODE_PARAMS *parameters)
{
	struct vgpu_node *node;
	CUresult status = enter(handle, CU_GRAPH_NODE_TYPE_KERNEL, &node);

	if (status != CUDA_SUCCESS)
		return status;
	return vgpu_leave_graphs(parameters ? vgpu_node_set_kernel(node, parameters)
					    : CUDA_ERROR_INVALID_VALUE);
}

CUresult cuGraphKernelNodeSetParams(CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS_v1 *parameters)
{
	CUDA_KERNEL_NODE_PARAMS wide;

	if (!parameters)
		return CUDA_ERROR_INVALID_VALUE;
	wide = widen(parameters);
	return cuGraphKernelNodeSetParams_v2(node, &wide);
}

/* Copies. */

CUresult cuGraphAddMemcpyNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *dependencies,
			      size_t count, const CUDA_MEMCPY3D *copy, CUcontext handle)
{
	struct vgpu_context *context;
	struct vgpu_node *node;
	CUresult status = add(out, graph, CU_GRAPH_NODE_TYPE_MEMCPY, dependencies, count, &node);

	if (status != CUDA_SUCCESS)
		return status;
	status = copy ? vgpu_node_context(handle, &context) : CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		status = vgpu_node_set_copy(node, context, copy);
	return finish(node, status, out);
}

CUresult cuGraphMemcpyNodeGetParams(CUgraphNode handle, CUDA_MEMCPY3D *copy)
{
	struct vgpu_node *node;
	CUresult status = enter(handle, CU_GRAPH_NODE_TYPE_MEMCPY, &node);

	if (status != CUDA_SUCCESS)
		return status;
	if (!copy)
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	*copy = *node->copy;
	return vgpu_leave_graphs(CUDA_SUCCESS);
}

CUresult cuGraphMemcpyNodeSetParams(CUgraphNode handle, const CUDA_MEMCPY3D *copy)
{
	struct vgpu_node *node;
	CUresult status = enter(handle, CU_GRAPH_NODE_TYPE_MEMCPY, &node);

	if (status != CUDA_SUCCESS)
		return status;
	return vgpu_leave_graphs(copy ? vgpu_node_set_copy(node, node->object.context, copy)
				      : CUDA_ERROR_INVALID_VALUE);
}

/* Fills. */

CUresult cuGraphAddMemsetNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *dependencies,
			      size_t count, const CUDA_MEMSET_NODE_PARAMS *fill, CUcontext handle)
{
	struct vgpu_context *context;
	struct vgpu_node *node;
	CUresult status = add(out, graph, CU_GRAPH_NODE_TYPE_MEMSET, dependencies, count, &node);

	if (status != CUDA_SUCCESS)
		return status;
	status = fill ? vgpu_node_context(handle, &context) : CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		status = vgpu_node_set_memset(node, context, fill);
	return finish(node, status, out);
}

CUresult cuGraphMemsetNodeGetParams(CUgraphNode handle, CUDA_MEMSET_NODE_PARAMS *fill)
{
	struct vgpu_node *node;
	CUresult status = enter(handle, CU_GRAPH_NODE_TYPE_MEMSET, &node);

	if (status != CUDA_SUCCESS)
		return status;
	if (!fill)
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	*fill = node->memset;
	return vgpu_leave_graphs(CUDA_SUCCESS);
}

CUresult cuGraphMemsetNodeSetParams(CUgraphNode handle, const CUDA_MEMSET_NODE_PARAMS *fill)
{
	struct vgpu_node *node;
	CUresult status = enter(handle, CU_GRAPH_NODE_TYPE_MEMSET, &node);

	if (status != CUDA_SUCCESS)
		return status;
	return vgpu_leave_graphs(fill ? vgpu_node_set_memset(node, node->object.context, fill)
				      : CUDA_ERROR_INVALID_VALUE);
}

/* Host functions. */

CUresult cuGraphAddHostNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *dependencies,
			    size_t count, const CUDA_HOST_NODE_PARAMS *parameters)
{
	struct vgpu_node *node;
	CUresult status;

	if (!parameters)
		return CUDA_ERROR_INVALID_VALUE;
	status = add(out, graph, CU_GRAPH_NODE_TYPE_HOST, dependencies, count, &node);
	return status == CUDA_SUCCESS ? finish(node, vgpu_node_set_host(node, parameters), out)
				      : status;
}

CUresult cuGraphHostNodeGetParams(CUgraphNode handle, CUDA_HOST_NODE_PARAMS *parameters)
{
	struct vgpu_node *node;
	CUresult status = enter(handle, CU_GRAPH_NODE_TYPE_HOST, &node);

	if (status != CUDA_SUCCESS)
		return status;
	if (!parameters)
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	*parameters = node->host;
	return vgpu_leave_graphs(CUDA_SUCCESS);
}

CUresult cuGraphHostNodeSetParams(CUgraphNode handle, const CUDA_HOST_NODE_PARAMS *parameters)
{
	struct vgpu_node *node;
	CUresult status = enter(handle, CU_GRAPH_NODE_TYPE_HOST, &node);

	if (status != CUDA_SUCCESS)
		return status;
	return vgpu_leave_graphs(parameters ? vgpu_node_set_host(node, parameters)
					    : CUDA_ERROR_INVALID_VALUE);
}

/* The others. */

CUresult cuGraphAddEmptyNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *dependencies,
			     size_t count)
{
	struct vgpu_node *node;
	CUresult status = add(out, graph, CU_GRAPH_NODE_TYPE_EMPTY, dependencies, count, &node);

	return status == CUDA_SUCCESS ? finish(node, CUDA_SUCCESS, out) : status;
}

CUresult cuGraphAddChildGraphNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *dependencies,
				  size_t count, CUgraph child_handle)
{
	struct vgpu_graph *child;
	struct vgpu_node *node;
	CUresult status = add(out, graph, CU_GRAPH_NODE_TYPE_GRAPH, dependencies, count, &node);

	if (status != CUDA_SUCCESS)
		return status;
	child = vgpu_graph_from_handle(child_handle);
	status = child && child != node->graph ? vgpu_node_set_child(node, child)
					       : CUDA_ERROR_INVALID_VALUE;
	return finish(node, status, out);
}

CUresult cuGraphChildGraphNodeGetGraph(CUgraphNode handle, CUgraph *graph)
{
	struct vgpu_node *node;
	CUresult status = enter(handle, CU_GRAPH_NODE_TYPE_GRAPH, &node);

	if (status != CUDA_SUCCESS)
		return status;
	if (!graph)
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	*graph = (CUgraph)node->child;
	return vgpu_leave_graphs(CUDA_SUCCESS);
}

static CUresult add_event(CUgraphNode *out, CUgraph graph, CUgraphNodeType type,
			  const CUgraphNode *dependencies, size_t count, CUevent event)
{
	struct vgpu_node *node;
	CUresult status = add(out, graph, type, dependencies, count, &node);

	return status == CUDA_SUCCESS ? finish(node, vgpu_node_set_event(node, event), out)
				      : status;
}

static CUresult get_event(CUgraphNode handle, CUgraphNodeType type, CUevent *event)
{
	struct vgpu_node *node;
	CUresult status = enter(handle, type, &node);

	if (status != CUDA_SUCCESS)
		return status;
	if (!event)
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	*event = node->event;
	return vgpu_leave_graphs(CUDA_SUCCESS);
}

static CUresult set_event(CUgraphNode handle, CUgraphNodeType type, CUevent event)
{
	struct vgpu_node *node;
	CUresult status = enter(handle, type, &node);

	return status == CUDA_SUCCESS ? vgpu_leave_graphs(vgpu_node_set_event(node, event))
				      : status;
}

CUresult cuGraphAddEventRecordNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *dependencies,
				   size_t count, CUevent event)
{
	return add_event(out, graph, CU_GRAPH_NODE_TYPE_EVENT_RECORD, dependencies, count, event);
}

CUresult cuGraphEventRecordNodeGetEvent(CUgraphNode node, CUevent *event)
{
	return get_event(node, CU_GRAPH_NODE_TYPE_EVENT_RECORD, event);
}

CUresult cuGraphEventRecordNodeSetEvent(CUgraphNode node, CUevent event)
{
	return set_event(node, CU_GRAPH_NODE_TYPE_EVENT_RECORD, event);
}

CUresult cuGraphAddEventWaitNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *dependencies,
				 size_t count, CUevent event)
{
	return add_event(out, graph, CU_GRAPH_NODE_TYPE_WAIT_EVENT, dependencies, count, event);
}

CUresult cuGraphEventWaitNodeGetEvent(CUgraphNode node, CUevent *event)
{
	return get_event(node, CU_GRAPH_NODE_TYPE_WAIT_EVENT, event);
}

CUresult cuGraphEventWaitNodeSetEvent(CUgraphNode node, CUevent event)
{
	return set_event(node, CU_GRAPH_NODE_TYPE_WAIT_EVENT, event);
}
