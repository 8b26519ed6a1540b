// SPDX-License-Identifier: MIT
/* What the nodes of a graph do: checked like the calls that they stand for, then kept. */
#include <stdlib.h>
#include <string.h>

#include "graph.h"

void vgpu_node_clear(struct vgpu_node *node)
{
	free(node->command);
	node->command = NULL;
	node->command_bytes = 0;
	switch (node->type) {
	case CU_GRAPH_NODE_TYPE_KERNEL:
		free(node->kernel.parameters);
		break;
	case CU_GRAPH_NODE_TYPE_MEMCPY:
		free(node->copy);
		break;
	case CU_GRAPH_NODE_TYPE_GRAPH:
		if (node->child)
			vgpu_graph_destroy(node->child);
		break;
	default:
		break;
	}
	memset(&node->kernel, 0, sizeof(*node) - offsetof(struct vgpu_node, kernel));
}

CUresult vgpu_node_set_command(struct vgpu_node *node, const void *command, size_t bytes)
{
	uint8_t *copy = malloc(bytes);

	if (!copy)
		return CUDA_ERROR_OUT_OF_MEMORY;
	memcpy(copy, command, bytes);
	vgpu_node_clear(node);
	node->command = copy;
	node->command_bytes = bytes;
	return CUDA_SUCCESS;
}

/* The array that cuGraphKernelNodeGetParams() gives out. */
static CUresult make_parameters(struct vgpu_node *node, struct vgpu_function *function,
				uint32_t count)
{
	node->kernel.function = function;
	node->kernel.parameter_count = count;
	node->kernel.parameters = calloc(count + 1, sizeof(void *));
	return node->kernel.parameters ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult point_to_parameters(struct vgpu_node *node, struct vgpu_function *function)
{
	uint32_t count = function->info.parameter_count;
	uint8_t *tail = node->command + sizeof(struct vgpu_cmd_launch_kernel);
	CUresult status = make_parameters(node, function, count);

	for (uint32_t i = 0; i < count && status == CUDA_SUCCESS; i++)
		node->kernel.parameters[i] = tail + function->parameters[i].offset;
	return status;
}

/* From the other node alone: its kernel may be unloaded. */
static CUresult copy_parameters(struct vgpu_node *node, const struct vgpu_node *from)
{
	uint32_t count = from->kernel.parameter_count;
	CUresult status = make_parameters(node, from->kernel.function, count);

	for (uint32_t i = 0; i < count && status == CUDA_SUCCESS; i++)
		node->kernel.parameters[i] =
			node->command + ((uint8_t *)from->kernel.parameters[i] - from->command);
	return status;
}

CUresult vgpu_node_set_launch(struct vgpu_node *node, const struct vgpu_launch *launch,
			      const void *packed)
{
	struct vgpu_function *function = launch->function;
	size_t bytes = sizeof(struct vgpu_cmd_launch_kernel) + function->info.parameter_bytes;
	struct vgpu_cmd_launch_kernel *command = calloc(1, bytes); /* gaps between parameters */
	CUresult status;

	if (!command)
		return CUDA_ERROR_OUT_OF_MEMORY;
	vgpu_launch_encode(launch, packed, 0, command);
	command->header.slots = (__u16)VGPU_SLOTS(bytes);
	status = vgpu_node_set_command(node, command, bytes);
	free(command);
	if (status == CUDA_SUCCESS)
		status = point_to_parameters(node, function);
	if (status == CUDA_SUCCESS)
		vgpu_node_run_in(node, function->object.context);
	return status;
}

/* A kernel node stays what it is when its parameters change. */
static bool is_cooperative(const struct vgpu_node *node)
{
	const struct vgpu_command_header *header = (const void *)node->command;

	return header && header->opcode == VGPU_OP_LAUNCH_COOPERATIVE;
}

CUresult vgpu_node_set_kernel(struct vgpu_node *node, const CUDA_KERNEL_NODE_PARAMS *parameters)
{
	struct vgpu_launch launch = {
		.grid = { parameters->gridDimX, parameters->gridDimY, parameters->gridDimZ },
		.block = { parameters->blockDimX, parameters->blockDimY, parameters->blockDimZ },
		.shared_bytes = parameters->sharedMemBytes,
		.parameters = parameters->kernelParams,
		.extra = parameters->extra,
		.cooperative = is_cooperative(node),
	};
	CUfunction function = parameters->func ? parameters->func : (CUfunction)parameters->kern;
	const void *packed;
	CUresult status = vgpu_function_resolve(function, &launch.function);

	if (status == CUDA_SUCCESS)
		status = vgpu_launch_check(&launch, &packed);
	return status == CUDA_SUCCESS ? vgpu_node_set_launch(node, &launch, packed) : status;
}

CUresult vgpu_node_set_copy(struct vgpu_node *node, struct vgpu_context *context,
			    const CUDA_MEMCPY3D *copy)
{
	CUDA_MEMCPY3D *kept;
	CUresult status = vgpu_copy_check(copy);

	if (status != CUDA_SUCCESS)
		return status;
	kept = malloc(sizeof(*kept));
	if (!kept)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*kept = *copy;
	vgpu_node_clear(node);
	node->copy = kept;
	vgpu_node_run_in(node, context);
	return CUDA_SUCCESS;
}

CUresult vgpu_node_set_memset(struct vgpu_node *node, struct vgpu_context *context,
			      const CUDA_MEMSET_NODE_PARAMS *fill)
{
	uint64_t row = (uint64_t)fill->width * fill->elementSize;
	uint64_t bytes = fill->height > 1 ? fill->pitch * (fill->height - 1) + row : row;
	struct vgpu_range range;

	if (fill->elementSize != 1 && fill->elementSize != 2 && fill->elementSize != 4)
		return CUDA_ERROR_INVALID_VALUE;
	if (!fill->width || !fill->height || fill->dst % fill->elementSize ||
	    fill->width > SIZE_MAX / 4 ||
	    (fill->height > 1 && (fill->pitch < row || fill->pitch % fill->elementSize ||
				  fill->pitch > SIZE_MAX / fill->height)))
		return CUDA_ERROR_INVALID_VALUE;
	if (!vgpu_ranges_find(VGPU_SIDE_DEVICE, fill->dst, &range) ||
	    bytes > range.size - (fill->dst - range.start))
		return CUDA_ERROR_INVALID_VALUE;
	vgpu_node_clear(node);
	node->memset = *fill;
	vgpu_node_run_in(node, context);
	return CUDA_SUCCESS;
}

CUresult vgpu_node_set_host(struct vgpu_node *node, const CUDA_HOST_NODE_PARAMS *parameters)
{
	if (!parameters->fn)
		return CUDA_ERROR_INVALID_VALUE;
	vgpu_node_clear(node);
	node->host = *parameters;
	return CUDA_SUCCESS;
}

CUresult vgpu_node_set_event(struct vgpu_node *node, CUevent event)
{
	struct vgpu_object *object;
	CUresult status = vgpu_event_find(event, &object);

	if (status != CUDA_SUCCESS)
		return status;
	vgpu_node_clear(node);
	node->event = event;
	vgpu_node_run_in(node, object->context);
	return CUDA_SUCCESS;
}

CUresult vgpu_node_set_child(struct vgpu_node *node, const struct vgpu_graph *graph)
{
	struct vgpu_graph *clone;
	CUresult status = vgpu_graph_clone(graph, &clone);

	if (status != CUDA_SUCCESS)
		return status;
	vgpu_node_clear(node);
	clone->owned = true;
	node->child = clone;
	return CUDA_SUCCESS;
}

CUresult vgpu_node_copy_contents(struct vgpu_node *node, const struct vgpu_node *from)
{
	CUresult status = CUDA_SUCCESS;
	CUDA_MEMCPY3D *copy;

	vgpu_node_clear(node);
	node->object.context = from->object.context;
	node->object.context_id = from->object.context_id;
	if (from->command)
		status = vgpu_node_set_command(node, from->command, from->command_bytes);
	if (status != CUDA_SUCCESS)
		return status;
	switch (node->type) {
	case CU_GRAPH_NODE_TYPE_KERNEL:
		return from->kernel.function ? copy_parameters(node, from) : CUDA_SUCCESS;
	case CU_GRAPH_NODE_TYPE_MEMCPY:
		copy = malloc(sizeof(*copy));
		if (!copy)
			return CUDA_ERROR_OUT_OF_MEMORY;
		*copy = *from->copy;
		node->copy = copy;
		return CUDA_SUCCESS;
	case CU_GRAPH_NODE_TYPE_GRAPH:
		return vgpu_node_set_child(node, from->child);
	case CU_GRAPH_NODE_TYPE_MEMSET:
		node->memset = from->memset;
		return CUDA_SUCCESS;
	case CU_GRAPH_NODE_TYPE_HOST:
		node->host = from->host;
		return CUDA_SUCCESS;
	case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
	case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
		node->event = from->event;
		return CUDA_SUCCESS;
	default:
		return CUDA_SUCCESS;
	}
}
