// SPDX-License-Identifier: MIT
/* A picture of a graph in the language of Graphviz, for people. */
#include <stdio.h>

#include "graph.h"

static const char *type_name(CUgraphNodeType type)
{
	static const char *const names[] = {
		[CU_GRAPH_NODE_TYPE_KERNEL] = "KERNEL",
		[CU_GRAPH_NODE_TYPE_MEMCPY] = "MEMCPY",
		[CU_GRAPH_NODE_TYPE_MEMSET] = "MEMSET",
		[CU_GRAPH_NODE_TYPE_HOST] = "HOST",
		[CU_GRAPH_NODE_TYPE_GRAPH] = "GRAPH",
		[CU_GRAPH_NODE_TYPE_EMPTY] = "EMPTY",
		[CU_GRAPH_NODE_TYPE_WAIT_EVENT] = "WAIT_EVENT",
		[CU_GRAPH_NODE_TYPE_EVENT_RECORD] = "EVENT_RECORD",
	};

	return (size_t)type < sizeof(names) / sizeof(names[0]) && names[type] ? names[type] : "?";
}

static void print_label(FILE *file, const struct vgpu_node *node)
{
	struct vgpu_function *function;

	fprintf(file, "\t\"graph_%u_node_%u\" [label=\"%u\\n%s", node->graph->id, node->id,
		node->id, type_name(node->type));
	if (node->type == CU_GRAPH_NODE_TYPE_KERNEL &&
	    vgpu_function_resolve((CUfunction)node->kernel.function, &function) == CUDA_SUCCESS)
		fprintf(file, "\\n%s", function->name);
	fputs("\"];\n", file);
}

static void print_graph(FILE *file, const struct vgpu_graph *graph)
{
	fprintf(file, "subgraph \"cluster_%u\" {\n\tlabel=\"graph_%u\";\n", graph->id, graph->id);
	for (const struct vgpu_node *node = graph->first; node; node = node->next) {
		print_label(file, node);
		if (node->type == CU_GRAPH_NODE_TYPE_GRAPH)
			print_graph(file, node->child);
	}
	for (const struct vgpu_node *node = graph->first; node; node = node->next)
		for (uint32_t i = 0; i < node->dependencies.count; i++)
			fprintf(file, "\t\"graph_%u_node_%u\" -> \"graph_%u_node_%u\";\n",
				graph->id, node->dependencies.nodes[i]->id, graph->id, node->id);
	fputs("}\n", file);
}

/* The flags ask for more detail, which there is not. */
CUresult cuGraphDebugDotPrint(CUgraph handle, const char *path, unsigned int flags)
{
	struct vgpu_graph *graph;
	CUresult status = vgpu_enter_graph(handle, &graph);
	FILE *file;

	(void)flags;
	if (status != CUDA_SUCCESS)
		return status;
	file = path ? fopen(path, "w") : NULL;
	if (!file)
		return vgpu_leave_graphs(path ? CUDA_ERROR_OPERATING_SYSTEM
					      : CUDA_ERROR_INVALID_VALUE);
	fputs("digraph dot {\n", file);
	print_graph(file, graph);
	fputs("}\n", file);
	return vgpu_leave_graphs(fclose(file) ? CUDA_ERROR_OPERATING_SYSTEM : CUDA_SUCCESS);
}
