// SPDX-License-Identifier: MIT
/*
 * Copies of graphs: what they touch, and stand-ins for host memory that the device
 * cannot reach. A stand-in is filled before a launch, or emptied after it.
 */
#include <stdlib.h>
#include <string.h>

#include "graph.h"

struct side_arguments {
	CUmemorytype type;
	uint64_t host;
	uint64_t device;
	size_t pitch, height, x, y, z, lod;
};

static CUresult resolve_side(const struct side_arguments *from, const CUDA_MEMCPY3D *copy,
			     struct vgpu_copy_side *side)
{
	unsigned __int128 skipped;
	unsigned __int128 span;
	unsigned __int128 slice;
	struct vgpu_range range;
	uint64_t base;
	bool found;

	if (from->type == CU_MEMORYTYPE_ARRAY || from->lod)
		return CUDA_ERROR_NOT_SUPPORTED;
	if (from->type != CU_MEMORYTYPE_HOST && from->type != CU_MEMORYTYPE_DEVICE &&
	    from->type != CU_MEMORYTYPE_UNIFIED)
		return CUDA_ERROR_INVALID_VALUE;
	base = from->type == CU_MEMORYTYPE_HOST ? from->host : from->device;
	side->device = from->type == CU_MEMORYTYPE_DEVICE ||
		       (from->type == CU_MEMORYTYPE_UNIFIED &&
			vgpu_ranges_find(VGPU_SIDE_DEVICE, base, &range));
	side->pitch = from->pitch ? from->pitch : from->x + copy->WidthInBytes;
	if (!base || (copy->Height > 1 && side->pitch < from->x + copy->WidthInBytes))
		return CUDA_ERROR_INVALID_VALUE;
	slice = (unsigned __int128)side->pitch * (from->height ? from->height : copy->Height);
	skipped = from->z * slice + (unsigned __int128)from->y * side->pitch + from->x;
	span = (copy->Depth - 1) * slice + (unsigned __int128)(copy->Height - 1) * side->pitch +
	       copy->WidthInBytes;
	if (base + skipped + span > UINT64_MAX || slice > UINT64_MAX)
		return CUDA_ERROR_INVALID_VALUE;
	side->slice = (uint64_t)slice;
	side->start = base + (uint64_t)skipped;
	side->span = (uint64_t)span;
	side->registration = 0;
	side->offset = 0;
	found = vgpu_ranges_find(side->device ? VGPU_SIDE_DEVICE : VGPU_SIDE_HOST, side->start,
				 &range) &&
		span <= range.size - (side->start - range.start);
	if (side->device)
		return found ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
	if (found && range.block.registration) {
		side->registration = range.block.registration;
		side->offset = range.offset + (side->start - range.start);
	}
	return CUDA_SUCCESS;
}

CUresult vgpu_copy_sides(const CUDA_MEMCPY3D *copy, struct vgpu_copy_side *to,
			 struct vgpu_copy_side *from)
{
	struct side_arguments source = {
		.type = copy->srcMemoryType,
		.host = (uintptr_t)copy->srcHost,
		.device = copy->srcDevice,
		.pitch = copy->srcPitch,
		.height = copy->srcHeight,
		.x = copy->srcXInBytes,
		.y = copy->srcY,
		.z = copy->srcZ,
		.lod = copy->srcLOD,
	};
	struct side_arguments destination = {
		.type = copy->dstMemoryType,
		.host = (uintptr_t)copy->dstHost,
		.device = copy->dstDevice,
		.pitch = copy->dstPitch,
		.height = copy->dstHeight,
		.x = copy->dstXInBytes,
		.y = copy->dstY,
		.z = copy->dstZ,
		.lod = copy->dstLOD,
	};
	CUresult status = resolve_side(&source, copy, from);

	if (status == CUDA_SUCCESS)
		status = resolve_side(&destination, copy, to);
	if (status == CUDA_SUCCESS && !to->device && !from->device)
		status = CUDA_ERROR_NOT_SUPPORTED; /* nothing of it is the device's */
	return status;
}

bool vgpu_copies_nothing(const CUDA_MEMCPY3D *copy)
{
	return !copy->WidthInBytes || !copy->Height || !copy->Depth;
}

CUresult vgpu_copy_check(const CUDA_MEMCPY3D *copy)
{
	struct vgpu_copy_side from;
	struct vgpu_copy_side to;

	return vgpu_copies_nothing(copy) ? CUDA_SUCCESS : vgpu_copy_sides(copy, &to, &from);
}

/* The host's side of a node's copy; NULL: there is none. */
static const struct vgpu_copy_side *host_side(const struct vgpu_node *node,
					      struct vgpu_copy_side sides[2])
{
	if (node->type != CU_GRAPH_NODE_TYPE_MEMCPY || vgpu_copies_nothing(node->copy) ||
	    vgpu_copy_sides(node->copy, &sides[0], &sides[1]) != CUDA_SUCCESS)
		return NULL;
	if (!sides[0].device)
		return &sides[0];
	return sides[1].device ? NULL : &sides[1];
}

void vgpu_stand_ins_release(struct vgpu_graph *graph)
{
	for (struct vgpu_node *node = graph->first; node; node = node->next) {
		if (node->type == CU_GRAPH_NODE_TYPE_GRAPH && node->child)
			vgpu_stand_ins_release(node->child);
		if (!node->stand_in)
			continue;
		if (vgpu_transport->release(node->stand_in))
			vgpu_log("a stand-in of a graph could not be taken back");
		free(node->stand_in);
		node->stand_in = NULL;
	}
}

CUresult vgpu_stand_ins_make(struct vgpu_graph *graph, bool *any)
{
	CUresult status = CUDA_SUCCESS;

	for (struct vgpu_node *node = graph->first; node && status == CUDA_SUCCESS;
	     node = node->next) {
		struct vgpu_copy_side sides[2];
		const struct vgpu_copy_side *side;

		if (node->type == CU_GRAPH_NODE_TYPE_GRAPH)
			status = vgpu_stand_ins_make(node->child, any);
		side = host_side(node, sides);
		if (!side || side->registration)
			continue;
		*any = true;
		node->stand_in = calloc(1, sizeof(*node->stand_in));
		if (!node->stand_in)
			return CUDA_ERROR_OUT_OF_MEMORY;
		if (vgpu_transport->allocate(side->span, node->stand_in)) {
			free(node->stand_in);
			node->stand_in = NULL;
			return CUDA_ERROR_OUT_OF_MEMORY;
		}
	}
	return status;
}

/* Copies the rows of a node between the program's memory and the stand-in, which lie alike. */
static void move_rows(const struct vgpu_node *node, const struct vgpu_copy_side *side, bool fill)
{
	uint8_t *own = node->stand_in->address;
	uint8_t *theirs = (void *)side->start;

	for (size_t z = 0; z < node->copy->Depth; z++) {
		for (size_t y = 0; y < node->copy->Height; y++) {
			uint64_t offset = z * side->slice + y * side->pitch;

			memcpy(fill ? own + offset : theirs + offset,
			       fill ? theirs + offset : own + offset, node->copy->WidthInBytes);
		}
	}
	VGPU_COUNT(staged_bytes, node->copy->WidthInBytes * node->copy->Height * node->copy->Depth);
}

bool vgpu_stand_ins_move(const struct vgpu_graph *graph, uint32_t stage, enum vgpu_move move)
{
	bool any = false;

	for (const struct vgpu_node *node = graph->first; node; node = node->next) {
		struct vgpu_copy_side sides[2];
		const struct vgpu_copy_side *side;
		bool to_device;

		if (node->stage != stage || node->disabled)
			continue;
		if (node->type == CU_GRAPH_NODE_TYPE_GRAPH)
			any |= vgpu_stand_ins_move(node->child, 0, move);
		side = node->stand_in ? host_side(node, sides) : NULL;
		to_device = side == &sides[1];
		if (!side || to_device != (move == VGPU_FILL))
			continue;
		any = true;
		if (move != VGPU_LOOK)
			move_rows(node, side, to_device);
	}
	return any;
}
