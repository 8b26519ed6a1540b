// SPDX-License-Identifier: MIT
/* Changes of single nodes of executable graphs; the device gets them before the next launch. */
#include <string.h>

#include "graph.h"

/*
 * One node of an executable graph, named by the node that it was made of. The new
 * contents are set on a node beside the graph first, to compare them.
 */
static CUresult change(CUgraphExec exec_handle, CUgraphNode handle,
		       const CUgraphNodeParams *parameters)
{
	struct vgpu_graph *aside = NULL;
	struct vgpu_node *changed;
	struct vgpu_node *node;
	struct vgpu_exec *exec;
	CUresult status = vgpu_enter_exec(exec_handle, &exec);

	if (status != CUDA_SUCCESS)
		return status;
	node = vgpu_node_in_clone(exec->graph, vgpu_node_from_handle(handle));
	if (!node || node->type != parameters->type)
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	status = vgpu_graph_create(&aside);
	if (status == CUDA_SUCCESS)
		status = vgpu_node_add(aside, node->type, NULL, &changed);
	if (status == CUDA_SUCCESS)
		status = vgpu_node_set_params(changed, parameters);
	if (status == CUDA_SUCCESS &&
	    vgpu_node_compare(node, changed) != CU_GRAPH_EXEC_UPDATE_SUCCESS)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		status = vgpu_node_copy_contents(node, changed);
	if (status == CUDA_SUCCESS)
		exec->changed = true;
	if (aside)
		vgpu_graph_destroy(aside);
	return vgpu_leave_graphs(status);
}

CUresult cuGraphExecNodeSetParams(CUgraphExec exec, CUgraphNode node, CUgraphNodeParams *parameters)
{
	return parameters ? change(exec, node, parameters) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphExecKernelNodeSetParams_v2(CUgraphExec exec, CUgraphNode node,
					   const CUDA_KERNEL_NODE_PARAMS *kernel)
{
	CUgraphNodeParams parameters = { .type = CU_GRAPH_NODE_TYPE_KERNEL };

	if (!kernel)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(&parameters.kernel, kernel, sizeof(*kernel));
	return change(exec, node, &parameters);
}

CUresult cuGraphExecKernelNodeSetParams(CUgraphExec exec, CUgraphNode node,
					const CUDA_KERNEL_NODE_PARAMS_v1 *kernel)
{
	CUgraphNodeParams parameters = { .type = CU_GRAPH_NODE_TYPE_KERNEL };

	if (!kernel)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(&parameters.kernel, kernel, sizeof(*kernel));
	return change(exec, node, &parameters);
}

CUresult cuGraphExecMemcpyNodeSetParams(CUgraphExec exec, CUgraphNode node,
					const CUDA_MEMCPY3D *copy, CUcontext context)
{
	CUgraphNodeParams parameters = { .type = CU_GRAPH_NODE_TYPE_MEMCPY };

	if (!copy)
		return CUDA_ERROR_INVALID_VALUE;
	parameters.memcpy.copyCtx = context;
	parameters.memcpy.copyParams = *copy;
	return change(exec, node, &parameters);
}

CUresult cuGraphExecMemsetNodeSetParams(CUgraphExec exec, CUgraphNode node,
					const CUDA_MEMSET_NODE_PARAMS *fill, CUcontext context)
{
	CUgraphNodeParams parameters = { .type = CU_GRAPH_NODE_TYPE_MEMSET };

	if (!fill)
		return CUDA_ERROR_INVALID_VALUE;
	memcpy(&parameters.memset, fill, sizeof(*fill));
	parameters.memset.ctx = context;
	return change(exec, node, &parameters);
}

CUresult cuGraphExecHostNodeSetParams(CUgraphExec exec, CUgraphNode node,
				      const CUDA_HOST_NODE_PARAMS *host)
{
	CUgraphNodeParams parameters = { .type = CU_GRAPH_NODE_TYPE_HOST };

	if (!host)
		return CUDA_ERROR_INVALID_VALUE;
	parameters.host.fn = host->fn;
	parameters.host.userData = host->userData;
	return change(exec, node, &parameters);
}

CUresult cuGraphExecChildGraphNodeSetParams(CUgraphExec exec, CUgraphNode node, CUgraph child)
{
	CUgraphNodeParams parameters = { .type = CU_GRAPH_NODE_TYPE_GRAPH };

	parameters.graph.graph = child;
	return change(exec, node, &parameters);
}

CUresult cuGraphExecEventRecordNodeSetEvent(CUgraphExec exec, CUgraphNode node, CUevent event)
{
	CUgraphNodeParams parameters = { .type = CU_GRAPH_NODE_TYPE_EVENT_RECORD };

	parameters.eventRecord.event = event;
	return change(exec, node, &parameters);
}

CUresult cuGraphExecEventWaitNodeSetEvent(CUgraphExec exec, CUgraphNode node, CUevent event)
{
	CUgraphNodeParams parameters = { .type = CU_GRAPH_NODE_TYPE_WAIT_EVENT };

	parameters.eventWait.event = event;
	return change(exec, node, &parameters);
}

/* Takes the lock and looks up a node that can be switched off. */
static CUresult enter_switch(CUgraphExec exec_handle, CUgraphNode handle, struct vgpu_exec **exec,
			     struct vgpu_node **node)
{
	CUresult status = vgpu_enter_exec(exec_handle, exec);

	if (status != CUDA_SUCCESS)
		return status;
	*node = vgpu_node_in_clone((*exec)->graph, vgpu_node_from_handle(handle));
	if (*node && ((*node)->type == CU_GRAPH_NODE_TYPE_KERNEL ||
		      (*node)->type == CU_GRAPH_NODE_TYPE_MEMCPY ||
		      (*node)->type == CU_GRAPH_NODE_TYPE_MEMSET))
		return CUDA_SUCCESS;
	return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
}

CUresult cuGraphNodeSetEnabled(CUgraphExec exec_handle, CUgraphNode handle, unsigned int enabled)
{
	struct vgpu_node *node;
	struct vgpu_exec *exec;
	CUresult status = enter_switch(exec_handle, handle, &exec, &node);

	if (status != CUDA_SUCCESS)
		return status;
	exec->changed |= node->disabled != !enabled;
	node->disabled = !enabled;
	return vgpu_leave_graphs(CUDA_SUCCESS);
}

CUresult cuGraphNodeGetEnabled(CUgraphExec exec_handle, CUgraphNode handle, unsigned int *enabled)
{
	struct vgpu_node *node;
	struct vgpu_exec *exec;
	CUresult status = enter_switch(exec_handle, handle, &exec, &node);

	if (status != CUDA_SUCCESS)
		return status;
	if (!enabled)
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	*enabled = !node->disabled;
	return vgpu_leave_graphs(CUDA_SUCCESS);
}
