// SPDX-License-Identifier: MIT
/*
 * cuGraphExecUpdate: all nodes of an executable graph become those of another graph
 * of the same shape. What CUDA does not allow to change is refused here.
 */
#include "graph.h"

/* Whether what a node does may become what the other does. */
CUgraphExecUpdateResult vgpu_node_compare(const struct vgpu_node *node,
					  const struct vgpu_node *other)
{
	if (node->type != other->type)
		return CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED;
	switch (node->type) {
	case CU_GRAPH_NODE_TYPE_KERNEL:
		return node->object.context == other->object.context
			       ? CU_GRAPH_EXEC_UPDATE_SUCCESS
			       : CU_GRAPH_EXEC_UPDATE_ERROR_UNSUPPORTED_FUNCTION_CHANGE;
	case CU_GRAPH_NODE_TYPE_MEMCPY:
		return node->copy->srcMemoryType == other->copy->srcMemoryType &&
				       node->copy->dstMemoryType == other->copy->dstMemoryType
			       ? CU_GRAPH_EXEC_UPDATE_SUCCESS
			       : CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
	case CU_GRAPH_NODE_TYPE_MEMSET:
		/* Of a rectangle only address and value may change. */
		return (node->memset.height <= 1 && other->memset.height <= 1) ||
				       (node->memset.width == other->memset.width &&
					node->memset.height == other->memset.height &&
					node->memset.elementSize == other->memset.elementSize &&
					node->memset.pitch == other->memset.pitch)
			       ? CU_GRAPH_EXEC_UPDATE_SUCCESS
			       : CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
	default:
		return CU_GRAPH_EXEC_UPDATE_SUCCESS;
	}
}

static CUgraphExecUpdateResult refuse(CUgraphExecUpdateResultInfo *info,
				      CUgraphExecUpdateResult result, struct vgpu_node *node,
				      struct vgpu_node *from)
{
	*info = (CUgraphExecUpdateResultInfo){ .result = result,
					       .errorNode = (CUgraphNode)node,
					       .errorFromNode = (CUgraphNode)from };
	return result;
}

/* Nodes are paired in the order in which they were added. */
static CUgraphExecUpdateResult compare(struct vgpu_graph *graph, struct vgpu_graph *changed,
				       CUgraphExecUpdateResultInfo *info)
{
	struct vgpu_node *other = changed->first;
	uint32_t place = 0;

	if (graph->count != changed->count)
		return refuse(info, CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, NULL, NULL);
	for (struct vgpu_node *node = graph->first; node; node = node->next, other = other->next)
		node->place = other->place = place++;
	other = changed->first;
	for (struct vgpu_node *node = graph->first; node; node = node->next, other = other->next) {
		CUgraphExecUpdateResult result;

		if (node->dependencies.count != other->dependencies.count)
			return refuse(info, CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, other,
				      NULL);
		for (uint32_t i = 0; i < node->dependencies.count; i++)
			if (node->dependencies.nodes[i]->place !=
			    other->dependencies.nodes[i]->place)
				return refuse(info, CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED,
					      other, other->dependencies.nodes[i]);
		result = vgpu_node_compare(node, other);
		if (result != CU_GRAPH_EXEC_UPDATE_SUCCESS)
			return refuse(info, result, other, NULL);
	}
	other = changed->first;
	for (struct vgpu_node *node = graph->first; node; node = node->next, other = other->next)
		if (node->type == CU_GRAPH_NODE_TYPE_GRAPH &&
		    compare(node->child, other->child, info) != CU_GRAPH_EXEC_UPDATE_SUCCESS)
			return info->result;
	return CU_GRAPH_EXEC_UPDATE_SUCCESS;
}

/* After compare(): what the nodes do, and what they are named after, becomes that of `changed`. */
static CUresult adopt(struct vgpu_graph *graph, struct vgpu_graph *changed)
{
	struct vgpu_node *other = changed->first;
	CUresult status = CUDA_SUCCESS;

	for (struct vgpu_node *node = graph->first; node && status == CUDA_SUCCESS;
	     node = node->next, other = other->next)
		status = vgpu_node_copy_contents(node, other);
	return status;
}

CUresult cuGraphExecUpdate_v2(CUgraphExec handle, CUgraph changed_handle,
			      CUgraphExecUpdateResultInfo *info)
{
	struct vgpu_graph *changed;
	struct vgpu_exec *exec;
	CUresult status = vgpu_enter_exec(handle, &exec);

	if (status != CUDA_SUCCESS)
		return status;
	changed = vgpu_graph_from_handle(changed_handle);
	if (!info || !changed || changed->capturing)
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	*info = (CUgraphExecUpdateResultInfo){ .result = CU_GRAPH_EXEC_UPDATE_SUCCESS };
	if (compare(exec->graph, changed, info) != CU_GRAPH_EXEC_UPDATE_SUCCESS)
		return vgpu_leave_graphs(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE);
	exec->changed = true; /* until it was sent */
	status = adopt(exec->graph, changed);
	if (status == CUDA_SUCCESS)
		status = vgpu_exec_send(exec);
	if (status != CUDA_SUCCESS)
		info->result = CU_GRAPH_EXEC_UPDATE_ERROR;
	return vgpu_leave_graphs(status);
}

CUresult cuGraphExecUpdate(CUgraphExec exec, CUgraph graph, CUgraphNode *failed,
			   CUgraphExecUpdateResult *result)
{
	CUgraphExecUpdateResultInfo info = { .result = CU_GRAPH_EXEC_UPDATE_ERROR };
	CUresult status;

	if (!result)
		return CUDA_ERROR_INVALID_VALUE;
	status = cuGraphExecUpdate_v2(exec, graph, &info);
	*result = info.result;
	if (failed)
		*failed = info.errorNode;
	return status;
}
