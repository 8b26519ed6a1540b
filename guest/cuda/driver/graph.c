// SPDX-License-Identifier: MIT
/* Graphs, their nodes and edges. */
#include <stdlib.h>
#include <string.h>

#include "graph.h"

pthread_mutex_t vgpu_graph_lock = PTHREAD_MUTEX_INITIALIZER;

static uint32_t graphs_made; /* vgpu_graph_lock */
static uint64_t nodes_made;  /* vgpu_graph_lock */

static struct vgpu_pool graphs = {
	.name = "graph",
	.object_bytes = 128,
	.capacity = 1u << 18,
	.lock = PTHREAD_MUTEX_INITIALIZER,
};

static struct vgpu_pool nodes = {
	.name = "graph node",
	.object_bytes = 192,
	.capacity = 1u << 22,
	.lock = PTHREAD_MUTEX_INITIALIZER,
};

static_assert(sizeof(struct vgpu_graph) <= 128, "a graph fits its pool");
static_assert(sizeof(struct vgpu_node) <= 192, "a node fits its pool");

bool vgpu_set_holds(const struct vgpu_node_set *set, const struct vgpu_node *node)
{
	for (uint32_t i = 0; i < set->count; i++)
		if (set->nodes[i] == node)
			return true;
	return false;
}

CUresult vgpu_set_add(struct vgpu_node_set *set, struct vgpu_node *node)
{
	if (vgpu_set_holds(set, node))
		return CUDA_SUCCESS;
	if (set->count == set->room) {
		uint32_t room = set->room ? 2 * set->room : 2;
		void *larger = realloc(set->nodes, room * sizeof(*set->nodes));

		if (!larger)
			return CUDA_ERROR_OUT_OF_MEMORY;
		set->nodes = larger;
		set->room = room;
	}
	set->nodes[set->count++] = node;
	return CUDA_SUCCESS;
}

CUresult vgpu_set_add_all(struct vgpu_node_set *set, const struct vgpu_node_set *more)
{
	CUresult status = CUDA_SUCCESS;

	for (uint32_t i = 0; i < more->count && status == CUDA_SUCCESS; i++)
		status = vgpu_set_add(set, more->nodes[i]);
	return status;
}

void vgpu_set_remove(struct vgpu_node_set *set, const struct vgpu_node *node)
{
	for (uint32_t i = 0; i < set->count; i++) {
		if (set->nodes[i] == node) {
			memmove(&set->nodes[i], &set->nodes[i + 1],
				(set->count - i - 1) * sizeof(*set->nodes));
			set->count--;
			return;
		}
	}
}

void vgpu_set_free(struct vgpu_node_set *set)
{
	free(set->nodes);
	free(set->edges);
	*set = (struct vgpu_node_set){ 0 };
}

struct vgpu_graph *vgpu_graph_from_handle(CUgraph handle)
{
	return vgpu_pool_holds(&graphs, handle) ? (void *)handle : NULL;
}

struct vgpu_node *vgpu_node_from_handle(CUgraphNode handle)
{
	return vgpu_pool_holds(&nodes, handle) ? (void *)handle : NULL;
}

CUresult vgpu_graph_create(struct vgpu_graph **out)
{
	struct vgpu_graph *graph = vgpu_pool_take(&graphs);

	if (!graph)
		return CUDA_ERROR_OUT_OF_MEMORY;
	graph->last = &graph->first;
	graph->id = ++graphs_made;
	*out = graph;
	return CUDA_SUCCESS;
}

static void discard_node(struct vgpu_node *node)
{
	vgpu_node_clear(node);
	vgpu_set_free(&node->dependencies);
	vgpu_pool_give(&nodes, node);
}

void vgpu_graph_destroy(struct vgpu_graph *graph)
{
	while (graph->first) {
		struct vgpu_node *node = graph->first;

		graph->first = node->next;
		discard_node(node);
	}
	vgpu_user_objects_drop(graph);
	vgpu_pool_give(&graphs, graph);
}

CUresult vgpu_node_add(struct vgpu_graph *graph, CUgraphNodeType type,
		       const struct vgpu_node_set *dependencies, struct vgpu_node **out)
{
	struct vgpu_node *node = vgpu_pool_take(&nodes);

	if (!node)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (dependencies && vgpu_set_add_all(&node->dependencies, dependencies) != CUDA_SUCCESS) {
		discard_node(node);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	node->type = type;
	node->graph = graph;
	node->id = graph->next_node_id++;
	node->serial = ++nodes_made;
	*graph->last = node;
	graph->last = &node->next;
	graph->count++;
	*out = node;
	return CUDA_SUCCESS;
}

CUresult vgpu_node_add_to(CUgraph handle, CUgraphNodeType type, const CUgraphNode *dependencies,
			  size_t count, struct vgpu_node **out)
{
	struct vgpu_graph *graph = vgpu_graph_from_handle(handle);
	struct vgpu_node_set set = { 0 };
	CUresult status = CUDA_SUCCESS;

	if (!graph || (count && !dependencies) || count > graph->count)
		return CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; i < count && status == CUDA_SUCCESS; i++) {
		struct vgpu_node *node = vgpu_node_from_handle(dependencies[i]);

		if (!node || node->graph != graph || vgpu_set_holds(&set, node))
			status = CUDA_ERROR_INVALID_VALUE;
		else
			status = vgpu_set_add(&set, node);
	}
	if (status == CUDA_SUCCESS)
		status = vgpu_node_add(graph, type, &set, out);
	vgpu_set_free(&set);
	return status;
}

void vgpu_node_run_in(struct vgpu_node *node, struct vgpu_context *context)
{
	node->object.context = context;
	node->object.context_id = atomic_load(&context->id);
}

void vgpu_node_remove(struct vgpu_node *node)
{
	struct vgpu_graph *graph = node->graph;
	struct vgpu_node **link = &graph->first;

	for (struct vgpu_node *other = graph->first; other; other = other->next)
		vgpu_set_remove(&other->dependencies, node);
	while (*link != node)
		link = &(*link)->next;
	*link = node->next;
	if (graph->last == &node->next)
		graph->last = link;
	graph->count--;
	discard_node(node);
}

struct vgpu_node *vgpu_node_in_clone(const struct vgpu_graph *clone,
				     const struct vgpu_node *original)
{
	struct vgpu_node *node = original ? clone->first : NULL;

	while (node && node->original_serial != original->serial) {
		if (node->type == CU_GRAPH_NODE_TYPE_GRAPH) {
			struct vgpu_node *inner = vgpu_node_in_clone(node->child, original);

			if (inner)
				return inner;
		}
		node = node->next;
	}
	return node;
}

CUresult vgpu_graph_clone(const struct vgpu_graph *graph, struct vgpu_graph **out)
{
	struct vgpu_graph *clone;
	CUresult status = vgpu_graph_create(&clone);
	struct vgpu_node **copies;
	uint32_t place = 0;

	if (status != CUDA_SUCCESS)
		return status;
	copies = calloc(graph->count + 1, sizeof(*copies));
	if (!copies)
		status = CUDA_ERROR_OUT_OF_MEMORY;
	for (struct vgpu_node *node = graph->first; node && status == CUDA_SUCCESS;
	     node = node->next) {
		node->place = place;
		status = vgpu_node_add(clone, node->type, NULL, &copies[place]);
		if (status != CUDA_SUCCESS)
			break;
		copies[place]->original = node;
		copies[place]->original_serial = node->serial;
		copies[place]->id = node->id;
		copies[place]->disabled = node->disabled;
		status = vgpu_node_copy_contents(copies[place++], node);
	}
	/* Edges last: a dependency may stand behind its dependent. */
	place = 0;
	for (struct vgpu_node *node = graph->first; node && status == CUDA_SUCCESS;
	     node = node->next, place++)
		for (uint32_t i = 0; i < node->dependencies.count && status == CUDA_SUCCESS; i++)
			status = vgpu_set_add(&copies[place]->dependencies,
					      copies[node->dependencies.nodes[i]->place]);
	free(copies);
	if (status == CUDA_SUCCESS)
		status = vgpu_user_objects_share(clone, graph);
	clone->next_node_id = graph->next_node_id;
	clone->original_id = graph->id;
	if (status == CUDA_SUCCESS)
		*out = clone;
	else
		vgpu_graph_destroy(clone);
	return status;
}

CUresult vgpu_edges_plain(const CUgraphEdgeData *data, size_t count)
{
	static const CUgraphEdgeData plain;

	for (size_t i = 0; data && i < count; i++)
		if (memcmp(&data[i], &plain, sizeof(plain)) != 0)
			return CUDA_ERROR_NOT_SUPPORTED; /* programmatic launches */
	return CUDA_SUCCESS;
}

CUresult cuGraphCreate(CUgraph *out, unsigned int flags)
{
	struct vgpu_graph *graph;
	CUresult status = vgpu_check_initialized();

	if (status == CUDA_SUCCESS && (!out || flags))
		status = CUDA_ERROR_INVALID_VALUE;
	if (status != CUDA_SUCCESS)
		return status;
	pthread_mutex_lock(&vgpu_graph_lock);
	status = vgpu_graph_create(&graph);
	if (status == CUDA_SUCCESS)
		*out = (CUgraph)graph;
	pthread_mutex_unlock(&vgpu_graph_lock);
	return status;
}

CUresult vgpu_enter_graph(CUgraph handle, struct vgpu_graph **graph)
{
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	pthread_mutex_lock(&vgpu_graph_lock);
	*graph = vgpu_graph_from_handle(handle);
	if (*graph)
		return CUDA_SUCCESS;
	pthread_mutex_unlock(&vgpu_graph_lock);
	return CUDA_ERROR_INVALID_VALUE;
}

CUresult vgpu_enter_node(CUgraphNode handle, struct vgpu_node **node)
{
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	pthread_mutex_lock(&vgpu_graph_lock);
	*node = vgpu_node_from_handle(handle);
	if (*node)
		return CUDA_SUCCESS;
	pthread_mutex_unlock(&vgpu_graph_lock);
	return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphDestroy(CUgraph handle)
{
	struct vgpu_graph *graph;
	CUresult status = vgpu_enter_graph(handle, &graph);

	if (status != CUDA_SUCCESS)
		return status;
	if (graph->capturing || graph->owned)
		return vgpu_leave_graphs(CUDA_ERROR_ILLEGAL_STATE);
	vgpu_graph_destroy(graph);
	return vgpu_leave_graphs(CUDA_SUCCESS);
}

CUresult cuGraphClone(CUgraph *out, CUgraph original)
{
	struct vgpu_graph *graph;
	struct vgpu_graph *clone;
	CUresult status = vgpu_enter_graph(original, &graph);

	if (status != CUDA_SUCCESS)
		return status;
	if (!out)
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	status = vgpu_graph_clone(graph, &clone);
	if (status == CUDA_SUCCESS)
		*out = (CUgraph)clone;
	return vgpu_leave_graphs(status);
}

CUresult cuGraphNodeFindInClone(CUgraphNode *out, CUgraphNode original, CUgraph clone)
{
	struct vgpu_graph *graph;
	struct vgpu_node *node;
	CUresult status = vgpu_enter_graph(clone, &graph);

	if (status != CUDA_SUCCESS)
		return status;
	node = vgpu_node_from_handle(original);
	if (!out || !node || graph->original_id != node->graph->id)
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	node = vgpu_node_in_clone(graph, node);
	*out = (CUgraphNode)node;
	return vgpu_leave_graphs(node ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
}

CUresult cuGraphDestroyNode(CUgraphNode handle)
{
	struct vgpu_node *node;
	CUresult status = vgpu_enter_node(handle, &node);

	if (status != CUDA_SUCCESS)
		return status;
	if (node->graph->capturing)
		return vgpu_leave_graphs(CUDA_ERROR_ILLEGAL_STATE);
	vgpu_node_remove(node);
	return vgpu_leave_graphs(CUDA_SUCCESS);
}

CUresult cuGraphNodeGetType(CUgraphNode handle, CUgraphNodeType *type)
{
	struct vgpu_node *node;
	CUresult status = vgpu_enter_node(handle, &node);

	if (status != CUDA_SUCCESS)
		return status;
	if (!type)
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	*type = node->type;
	return vgpu_leave_graphs(CUDA_SUCCESS);
}

CUresult cuGraphNodeGetContainingGraph(CUgraphNode handle, CUgraph *graph)
{
	struct vgpu_node *node;
	CUresult status = vgpu_enter_node(handle, &node);

	if (status != CUDA_SUCCESS)
		return status;
	if (!graph)
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	*graph = (CUgraph)node->graph;
	return vgpu_leave_graphs(CUDA_SUCCESS);
}

CUresult cuGraphNodeGetLocalId(CUgraphNode handle, unsigned int *id)
{
	struct vgpu_node *node;
	CUresult status = vgpu_enter_node(handle, &node);

	if (status != CUDA_SUCCESS)
		return status;
	if (!id)
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	*id = node->id;
	return vgpu_leave_graphs(CUDA_SUCCESS);
}

CUresult cuGraphGetId(CUgraph handle, unsigned int *id)
{
	struct vgpu_graph *graph;
	CUresult status = vgpu_enter_graph(handle, &graph);

	if (status != CUDA_SUCCESS)
		return status;
	if (!id)
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	*id = graph->id;
	return vgpu_leave_graphs(CUDA_SUCCESS);
}
