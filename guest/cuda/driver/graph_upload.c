// SPDX-License-Identifier: MIT
/*
 * The form in which the device gets a graph: a list of commands, each with the
 * places of those it waits for. Graphs within graphs are spread out: their first
 * nodes wait for what the outer node waits for, and an empty node joins their last.
 */
#include <stdlib.h>
#include <string.h>

#include "graph.h"

/* What a node of the device waits for: nodes of its graph, or what the whole graph waits for. */
struct waits {
	const struct vgpu_node_set *nodes;
	const uint32_t *otherwise;
	uint32_t otherwise_count;
};

#define NOT_HERE UINT32_MAX /* place of a node that is not in this stage */

/* The places to wait for; `places` NULL: only their number. */
static uint32_t places_of(const struct waits *waits, uint32_t *places)
{
	uint32_t count = 0;

	for (uint32_t i = 0; waits->nodes && i < waits->nodes->count; i++) {
		uint32_t place = waits->nodes->nodes[i]->place;

		if (place == NOT_HERE)
			continue;
		if (places)
			places[count] = place;
		count++;
	}
	if (count)
		return count;
	if (places && waits->otherwise_count)
		memcpy(places, waits->otherwise, waits->otherwise_count * sizeof(*places));
	return waits->otherwise_count;
}

static size_t aligned(size_t bytes)
{
	return (bytes + 7) & ~(size_t)7;
}

/* Adds a node; `place` gets its place. */
static CUresult emit(struct vgpu_nodes_writer *writer, const struct waits *waits,
		     const void *command, size_t bytes, uint32_t *place)
{
	uint32_t count = places_of(waits, NULL);
	struct vgpu_graph_node head = { .dependencies = count, .command_bytes = (__u32)bytes };
	size_t start = aligned(sizeof(head) + count * sizeof(__u32));
	size_t needed = writer->bytes + start + aligned(bytes);

	if (needed > writer->room) {
		size_t room = needed > 2 * writer->room ? 2 * needed : 2 * writer->room;
		void *larger = realloc(writer->data, room);

		if (!larger)
			return CUDA_ERROR_OUT_OF_MEMORY;
		writer->data = larger;
		writer->room = room;
	}
	memset(writer->data + writer->bytes, 0, needed - writer->bytes);
	memcpy(writer->data + writer->bytes, &head, sizeof(head));
	places_of(waits, (void *)(writer->data + writer->bytes + sizeof(head)));
	memcpy(writer->data + writer->bytes + start, command, bytes);
	writer->bytes = needed;
	*place = writer->nodes++;
	return CUDA_SUCCESS;
}

static CUresult emit_nothing(struct vgpu_nodes_writer *writer, const struct waits *waits,
			     uint32_t *place)
{
	struct vgpu_cmd_nop command = vgpu_encode_nop(0);

	return emit(writer, waits, &command, sizeof(command), place);
}

/* One slice of a copy. */
static CUresult emit_slice(struct vgpu_nodes_writer *writer, const struct waits *waits,
			   const CUDA_MEMCPY3D *copy, const struct vgpu_copy_side *to,
			   const struct vgpu_copy_side *from, size_t z, uint32_t *place)
{
	uint16_t context = vgpu_context_handle(writer->context);
	uint64_t destination = (to->device ? to->start : to->offset) + z * to->slice;
	uint64_t source = (from->device ? from->start : from->offset) + z * from->slice;

	writer->names_host_memory |= !to->device || !from->device;
	if (copy->Height > 1) {
		struct vgpu_cmd_copy_2d command = vgpu_encode_copy_2d(
			context, destination, to->pitch, source, from->pitch, copy->WidthInBytes,
			copy->Height, to->registration, from->registration, 0);

		return emit(writer, waits, &command, sizeof(command), place);
	}
	if (to->device && from->device) {
		struct vgpu_cmd_copy_device_to_device command = vgpu_encode_copy_device_to_device(
			context, destination, source, copy->WidthInBytes, 0);

		return emit(writer, waits, &command, sizeof(command), place);
	}
	if (to->device) {
		struct vgpu_cmd_copy_host_to_device command = vgpu_encode_copy_host_to_device(
			context, destination, source, copy->WidthInBytes, from->registration, 0);

		return emit(writer, waits, &command, sizeof(command), place);
	}
	struct vgpu_cmd_copy_device_to_host command = vgpu_encode_copy_device_to_host(
		context, source, destination, copy->WidthInBytes, to->registration, 0);

	return emit(writer, waits, &command, sizeof(command), place);
}

static CUresult emit_copy(struct vgpu_nodes_writer *writer, const struct waits *waits,
			  const struct vgpu_node *node, uint32_t *place)
{
	const CUDA_MEMCPY3D *copy = node->copy;
	struct waits before = *waits;
	struct vgpu_copy_side from;
	struct vgpu_copy_side to;
	CUresult status;
	uint32_t last;

	if (vgpu_copies_nothing(copy))
		return emit_nothing(writer, waits, place);
	status = vgpu_copy_sides(copy, &to, &from);
	if (status == CUDA_SUCCESS && node->stand_in) {
		struct vgpu_copy_side *host = to.device ? &from : &to;

		host->registration = node->stand_in->registration;
		host->offset = 0;
	}
	for (size_t z = 0; z < copy->Depth && status == CUDA_SUCCESS; z++) {
		status = emit_slice(writer, &before, copy, &to, &from, z, place);
		last = *place;
		before = (struct waits){ .otherwise = &last, .otherwise_count = 1 };
	}
	return status;
}

static CUresult emit_memset(struct vgpu_nodes_writer *writer, const struct waits *waits,
			    const CUDA_MEMSET_NODE_PARAMS *fill, uint32_t *place)
{
	uint16_t context = vgpu_context_handle(writer->context);

	if (fill->height > 1) {
		struct vgpu_cmd_memset_2d command =
			vgpu_encode_memset_2d(context, fill->dst, fill->pitch, fill->width,
					      fill->height, fill->value, fill->elementSize, 0);

		return emit(writer, waits, &command, sizeof(command), place);
	}
	struct vgpu_cmd_memset command = vgpu_encode_memset(context, fill->dst, fill->width,
							    fill->value, fill->elementSize, 0);

	return emit(writer, waits, &command, sizeof(command), place);
}

static CUresult emit_event(struct vgpu_nodes_writer *writer, const struct waits *waits,
			   const struct vgpu_node *node, uint32_t *place)
{
	uint16_t context = vgpu_context_handle(writer->context);
	struct vgpu_object *event;
	CUresult status = vgpu_event_find(node->event, &event);

	if (status != CUDA_SUCCESS)
		return status;
	if (node->type == CU_GRAPH_NODE_TYPE_EVENT_RECORD) {
		struct vgpu_cmd_event_record command =
			vgpu_encode_event_record(context, event->remote, 0);

		return emit(writer, waits, &command, sizeof(command), place);
	}
	struct vgpu_cmd_stream_wait_event command =
		vgpu_encode_stream_wait_event(context, 0, event->remote, CU_EVENT_WAIT_EXTERNAL);

	return emit(writer, waits, &command, sizeof(command), place);
}

static CUresult write_graph(struct vgpu_nodes_writer *writer, struct vgpu_graph *graph,
			    uint32_t stage, const uint32_t *before, uint32_t before_count);

/* The nodes of a child graph, and an empty one behind those that nothing in it waits for. */
static CUresult emit_child(struct vgpu_nodes_writer *writer, const struct waits *waits,
			   const struct vgpu_node *node, uint32_t *place)
{
	uint32_t count = places_of(waits, NULL);
	uint32_t *before = calloc(count + 1, sizeof(*before));
	struct vgpu_node_set last = { 0 };
	struct waits after = { .nodes = &last, .otherwise = before, .otherwise_count = count };
	CUresult status = CUDA_ERROR_OUT_OF_MEMORY;

	if (before) {
		places_of(waits, before);
		status = write_graph(writer, node->child, 0, before, count);
	}
	for (struct vgpu_node *inner = node->child->first; inner; inner = inner->next)
		for (uint32_t i = 0; i < inner->dependencies.count; i++)
			inner->dependencies.nodes[i]->placed = false; /* not a last one */
	for (struct vgpu_node *inner = node->child->first; inner && status == CUDA_SUCCESS;
	     inner = inner->next)
		if (inner->placed)
			status = vgpu_set_add(&last, inner);
	if (status == CUDA_SUCCESS)
		status = emit_nothing(writer, &after, place);
	vgpu_set_free(&last);
	free(before);
	return status;
}

/* All nodes of a graph run in one context. */
static CUresult check_context(struct vgpu_nodes_writer *writer, const struct vgpu_node *node)
{
	if (!node->object.context)
		return CUDA_SUCCESS;
	if (!vgpu_object_alive(&node->object))
		return CUDA_ERROR_CONTEXT_IS_DESTROYED;
	if (writer->context && writer->context != node->object.context)
		return CUDA_ERROR_NOT_SUPPORTED;
	writer->context = node->object.context;
	return CUDA_SUCCESS;
}

static CUresult write_node(struct vgpu_nodes_writer *writer, struct vgpu_node *node,
			   const struct waits *waits)
{
	CUresult status = check_context(writer, node);

	if (status != CUDA_SUCCESS)
		return status;
	if (node->disabled)
		return emit_nothing(writer, waits, &node->place);
	switch (node->type) {
	case CU_GRAPH_NODE_TYPE_KERNEL:
		writer->kernels++;
		return emit(writer, waits, node->command, node->command_bytes, &node->place);
	case CU_GRAPH_NODE_TYPE_MEMCPY:
		return emit_copy(writer, waits, node, &node->place);
	case CU_GRAPH_NODE_TYPE_MEMSET:
		return emit_memset(writer, waits, &node->memset, &node->place);
	case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
	case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
		return emit_event(writer, waits, node, &node->place);
	case CU_GRAPH_NODE_TYPE_GRAPH:
		return emit_child(writer, waits, node, &node->place);
	case CU_GRAPH_NODE_TYPE_EMPTY:
		return emit_nothing(writer, waits, &node->place);
	default:
		return CUDA_ERROR_NOT_SUPPORTED;
	}
}

static bool may_be_placed(const struct vgpu_node *node)
{
	for (uint32_t i = 0; i < node->dependencies.count; i++)
		if (!node->dependencies.nodes[i]->placed)
			return false;
	return true;
}

/*
 * Visits the nodes that are not placed yet, each behind those that it waits for: in
 * the order in which they were added as far as their edges allow, one round as a rule.
 */
static CUresult place_all(struct vgpu_graph *graph,
			  CUresult (*place)(struct vgpu_node *node, void *data), void *data)
{
	bool again = true;
	bool left = true;

	while (left && again) {
		again = left = false;
		for (struct vgpu_node *node = graph->first; node; node = node->next) {
			CUresult status;

			if (node->placed)
				continue;
			left = true;
			if (!may_be_placed(node))
				continue;
			status = place(node, data);
			if (status != CUDA_SUCCESS)
				return status;
			node->placed = again = true;
		}
	}
	return left ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS; /* a cycle */
}

struct write { /* what write_node() needs for any node of a graph */
	struct vgpu_nodes_writer *writer;
	const uint32_t *before;
	uint32_t before_count;
};

static CUresult write_one(struct vgpu_node *node, void *data)
{
	const struct write *write = data;
	struct waits waits = { .nodes = &node->dependencies,
			       .otherwise = write->before,
			       .otherwise_count = write->before_count };

	write->writer->failed = node;
	return write_node(write->writer, node, &waits);
}

/* Nodes of other stages run before or after, host functions elsewhere. */
static CUresult write_graph(struct vgpu_nodes_writer *writer, struct vgpu_graph *graph,
			    uint32_t stage, const uint32_t *before, uint32_t before_count)
{
	struct write write = { .writer = writer, .before = before, .before_count = before_count };
	CUresult status;

	for (struct vgpu_node *node = graph->first; node; node = node->next) {
		node->placed = node->stage != stage || node->type == CU_GRAPH_NODE_TYPE_HOST;
		node->place = NOT_HERE;
	}
	status = place_all(graph, write_one, &write);
	if (status == CUDA_SUCCESS)
		writer->failed = NULL;
	return status;
}

static CUresult set_stage(struct vgpu_node *node, void *highest)
{
	node->stage = 0;
	for (uint32_t i = 0; i < node->dependencies.count; i++) {
		const struct vgpu_node *before = node->dependencies.nodes[i];
		uint32_t next = before->stage + (before->type == CU_GRAPH_NODE_TYPE_HOST);

		node->stage = next > node->stage ? next : node->stage;
	}
	*(uint32_t *)highest =
		node->stage > *(uint32_t *)highest ? node->stage : *(uint32_t *)highest;
	return CUDA_SUCCESS;
}

CUresult vgpu_graph_stages(struct vgpu_graph *graph, uint32_t *count)
{
	uint32_t highest = 0;
	CUresult status;

	for (struct vgpu_node *node = graph->first; node; node = node->next)
		node->placed = false;
	status = place_all(graph, set_stage, &highest);
	*count = highest + 1;
	return status;
}

CUresult vgpu_graph_write(struct vgpu_graph *graph, uint32_t stage,
			  struct vgpu_nodes_writer *writer)
{
	return write_graph(writer, graph, stage, NULL, 0);
}
