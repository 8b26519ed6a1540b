// SPDX-License-Identifier: MIT
/* Lists of a graph's nodes and edges, and changes of its edges. */
#include <string.h>

#include "graph.h"

/* The convention of all lists: without an array the number, else as many as there is room for. */
struct list {
	CUgraphNode *nodes;
	size_t room;
	size_t found;
};

static void list_add(struct list *list, struct vgpu_node *node)
{
	if (list->nodes && list->found < list->room)
		list->nodes[list->found] = (CUgraphNode)node;
	list->found++;
}

static void list_end(struct list *list, size_t *count)
{
	for (size_t i = list->found; list->nodes && i < list->room; i++)
		list->nodes[i] = NULL;
	*count = list->nodes && list->found > list->room ? list->room : list->found;
}

static CUresult list_graph(CUgraph handle, CUgraphNode *out, size_t *count, bool roots_only)
{
	struct vgpu_graph *graph;
	struct list list = { .nodes = out };
	CUresult status = vgpu_enter_graph(handle, &graph);

	if (status != CUDA_SUCCESS)
		return status;
	if (!count)
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	list.room = *count;
	for (struct vgpu_node *node = graph->first; node; node = node->next)
		if (!roots_only || !node->dependencies.count)
			list_add(&list, node);
	list_end(&list, count);
	return vgpu_leave_graphs(CUDA_SUCCESS);
}

CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode *out, size_t *count)
{
	return list_graph(graph, out, count, false);
}

CUresult cuGraphGetRootNodes(CUgraph graph, CUgraphNode *out, size_t *count)
{
	return list_graph(graph, out, count, true);
}

CUresult cuGraphGetEdges_v2(CUgraph handle, CUgraphNode *from, CUgraphNode *to,
			    CUgraphEdgeData *data, size_t *count)
{
	struct vgpu_graph *graph;
	struct list sources = { .nodes = from };
	struct list targets = { .nodes = to };
	CUresult status = vgpu_enter_graph(handle, &graph);

	if (status != CUDA_SUCCESS)
		return status;
	if (!count || !from != !to || (data && !from))
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	sources.room = targets.room = *count;
	for (struct vgpu_node *node = graph->first; node; node = node->next) {
		for (uint32_t i = 0; i < node->dependencies.count; i++) {
			list_add(&sources, node->dependencies.nodes[i]);
			list_add(&targets, node);
		}
	}
	if (data)
		memset(data, 0, *count * sizeof(*data));
	list_end(&sources, count);
	list_end(&targets, count);
	return vgpu_leave_graphs(CUDA_SUCCESS);
}

CUresult cuGraphGetEdges(CUgraph graph, CUgraphNode *from, CUgraphNode *to, size_t *count)
{
	return cuGraphGetEdges_v2(graph, from, to, NULL, count);
}

CUresult cuGraphNodeGetDependencies_v2(CUgraphNode handle, CUgraphNode *out, CUgraphEdgeData *data,
				       size_t *count)
{
	struct vgpu_node *node;
	struct list list = { .nodes = out };
	CUresult status = vgpu_enter_node(handle, &node);

	if (status != CUDA_SUCCESS)
		return status;
	if (!count || (data && !out))
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	list.room = *count;
	if (data)
		memset(data, 0, *count * sizeof(*data));
	for (uint32_t i = 0; i < node->dependencies.count; i++)
		list_add(&list, node->dependencies.nodes[i]);
	list_end(&list, count);
	return vgpu_leave_graphs(CUDA_SUCCESS);
}

CUresult cuGraphNodeGetDependencies(CUgraphNode node, CUgraphNode *out, size_t *count)
{
	return cuGraphNodeGetDependencies_v2(node, out, NULL, count);
}

CUresult cuGraphNodeGetDependentNodes_v2(CUgraphNode handle, CUgraphNode *out,
					 CUgraphEdgeData *data, size_t *count)
{
	struct vgpu_node *node;
	struct list list = { .nodes = out };
	CUresult status = vgpu_enter_node(handle, &node);

	if (status != CUDA_SUCCESS)
		return status;
	if (!count || (data && !out))
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	list.room = *count;
	if (data)
		memset(data, 0, *count * sizeof(*data));
	for (struct vgpu_node *other = node->graph->first; other; other = other->next)
		if (vgpu_set_holds(&other->dependencies, node))
			list_add(&list, other);
	list_end(&list, count);
	return vgpu_leave_graphs(CUDA_SUCCESS);
}

CUresult cuGraphNodeGetDependentNodes(CUgraphNode node, CUgraphNode *out, size_t *count)
{
	return cuGraphNodeGetDependentNodes_v2(node, out, NULL, count);
}

/* Looks both ends of an edge up; they have to be nodes of the graph, and not one node. */
static CUresult edge(const struct vgpu_graph *graph, CUgraphNode from, CUgraphNode to,
		     struct vgpu_node **source, struct vgpu_node **target)
{
	*source = vgpu_node_from_handle(from);
	*target = vgpu_node_from_handle(to);
	if (!*source || !*target || *source == *target || (*source)->graph != graph ||
	    (*target)->graph != graph)
		return CUDA_ERROR_INVALID_VALUE;
	return CUDA_SUCCESS;
}

CUresult cuGraphAddDependencies_v2(CUgraph handle, const CUgraphNode *from, const CUgraphNode *to,
				   const CUgraphEdgeData *data, size_t count)
{
	struct vgpu_node *source;
	struct vgpu_node *target;
	struct vgpu_graph *graph;
	CUresult status = vgpu_enter_graph(handle, &graph);

	if (status != CUDA_SUCCESS)
		return status;
	if (count && (!from || !to))
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	status = vgpu_edges_plain(data, count);
	/* All are checked before any is added. */
	for (size_t i = 0; i < count && status == CUDA_SUCCESS; i++) {
		status = edge(graph, from[i], to[i], &source, &target);
		if (status == CUDA_SUCCESS && vgpu_set_holds(&target->dependencies, source))
			status = CUDA_ERROR_INVALID_VALUE; /* the edge exists */
	}
	for (size_t i = 0; i < count && status == CUDA_SUCCESS; i++) {
		status = edge(graph, from[i], to[i], &source, &target);
		if (status == CUDA_SUCCESS)
			status = vgpu_set_add(&target->dependencies, source);
	}
	return vgpu_leave_graphs(status);
}

CUresult cuGraphAddDependencies(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to,
				size_t count)
{
	return cuGraphAddDependencies_v2(graph, from, to, NULL, count);
}

CUresult cuGraphRemoveDependencies_v2(CUgraph handle, const CUgraphNode *from,
				      const CUgraphNode *to, const CUgraphEdgeData *data,
				      size_t count)
{
	struct vgpu_node *source;
	struct vgpu_node *target;
	struct vgpu_graph *graph;
	CUresult status = vgpu_enter_graph(handle, &graph);

	if (status != CUDA_SUCCESS)
		return status;
	if (count && (!from || !to))
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	status = vgpu_edges_plain(data, count);
	for (size_t i = 0; i < count && status == CUDA_SUCCESS; i++) {
		status = edge(graph, from[i], to[i], &source, &target);
		if (status == CUDA_SUCCESS && !vgpu_set_holds(&target->dependencies, source))
			status = CUDA_ERROR_INVALID_VALUE;
	}
	for (size_t i = 0; i < count && status == CUDA_SUCCESS; i++) {
		status = edge(graph, from[i], to[i], &source, &target);
		if (status == CUDA_SUCCESS)
			vgpu_set_remove(&target->dependencies, source);
	}
	return vgpu_leave_graphs(status);
}

CUresult cuGraphRemoveDependencies(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to,
				   size_t count)
{
	return cuGraphRemoveDependencies_v2(graph, from, to, NULL, count);
}
