// SPDX-License-Identifier: MIT
/*
 * Executable graphs. The device has the graph; what is kept here is a copy of its
 * nodes, to compare updates with and to change. Changes of single nodes are sent
 * together, before the next launch.
 */
#include <stdlib.h>
#include <string.h>

#include "graph.h"

static struct vgpu_pool execs = {
	.name = "executable graph",
	.object_bytes = 128,
	.capacity = 1u << 18,
	.lock = PTHREAD_MUTEX_INITIALIZER,
};

static_assert(sizeof(struct vgpu_exec) <= 128, "an executable graph fits its pool");

static uint32_t execs_made; /* vgpu_graph_lock */

CUresult vgpu_enter_exec(CUgraphExec handle, struct vgpu_exec **exec)
{
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	pthread_mutex_lock(&vgpu_graph_lock);
	*exec = (void *)handle;
	if (!vgpu_pool_holds(&execs, handle))
		status = CUDA_ERROR_INVALID_VALUE;
	else if (!vgpu_object_alive(&(*exec)->object))
		status = CUDA_ERROR_CONTEXT_IS_DESTROYED;
	else
		status = vgpu_context_check((*exec)->object.context);
	if (status != CUDA_SUCCESS)
		pthread_mutex_unlock(&vgpu_graph_lock);
	return status;
}

/* Sends the nodes of a stage: a new graph of the device, or those of an existing one. */
static CUresult send_stage(const struct vgpu_exec *exec, struct vgpu_stage *stage,
			   const struct vgpu_nodes_writer *writer)
{
	uint16_t context = vgpu_context_handle(exec->object.context);
	struct vgpu_scratch scratch;
	struct vgpu_reply reply;
	CUresult status = vgpu_scratch_take(writer->bytes + 1, &scratch);

	if (status != CUDA_SUCCESS)
		return status;
	if (writer->bytes)
		memcpy(scratch.address, writer->data, writer->bytes);
	if (stage->remote) {
		struct vgpu_cmd_graph_update command = vgpu_encode_graph_update(
			context, scratch.offset, writer->bytes, scratch.registration, writer->nodes,
			stage->remote);

		status = vgpu_context_call(exec->object.context, &command, sizeof(command), NULL, 0,
					   &reply);
	} else {
		struct vgpu_cmd_graph_instantiate command =
			vgpu_encode_graph_instantiate(context, scratch.offset, writer->bytes,
						      scratch.registration, writer->nodes);

		status = vgpu_context_call(exec->object.context, &command, sizeof(command), NULL, 0,
					   &reply);
		if (status == CUDA_SUCCESS)
			status = vgpu_handle_of(&reply, &stage->remote);
	}
	vgpu_scratch_give(&scratch);
	if (status == CUDA_SUCCESS)
		stage->kernels = writer->kernels;
	return status;
}

/*
 * Programs update graphs with what they hold already. A number of host memory may
 * stand for other memory by now, so nodes with such are always sent.
 */
static bool has_these(const struct vgpu_stage *stage, const struct vgpu_nodes_writer *writer)
{
	return stage->sent && !writer->names_host_memory && stage->sent_bytes == writer->bytes &&
	       !memcmp(stage->sent, writer->data, writer->bytes);
}

static CUresult write_and_send(struct vgpu_exec *exec, uint32_t number, struct vgpu_node **failed)
{
	struct vgpu_stage *stage = &exec->stages[number];
	struct vgpu_nodes_writer writer = { 0 };
	CUresult status = vgpu_graph_write(exec->graph, number, &writer);

	if (status == CUDA_SUCCESS && writer.context && writer.context != exec->object.context)
		status = CUDA_ERROR_NOT_SUPPORTED;
	if (status == CUDA_SUCCESS && writer.nodes && !has_these(stage, &writer)) {
		free(stage->sent);
		stage->sent = NULL;
		status = send_stage(exec, stage, &writer);
		if (status == CUDA_SUCCESS && !writer.names_host_memory) {
			stage->sent = writer.data;
			stage->sent_bytes = writer.bytes;
			writer.data = NULL;
		}
	}
	if (failed)
		*failed = writer.failed ? writer.failed->original : NULL;
	free(writer.data);
	return status;
}

/* Launches that use what is taken away have to be over. */
static void finish_launches(const struct vgpu_exec *exec)
{
	struct vgpu_cmd_context_synchronize command =
		vgpu_encode_context_synchronize(vgpu_context_handle(exec->object.context));
	struct vgpu_reply reply;

	if (vgpu_object_alive(&exec->object))
		vgpu_context_call(exec->object.context, &command, sizeof(command), NULL, 0, &reply);
}

static void release_stand_ins(struct vgpu_exec *exec)
{
	if (!exec->has_stand_ins)
		return;
	finish_launches(exec);
	vgpu_stand_ins_release(exec->graph);
	exec->has_stand_ins = false;
}

/* Sends all that the device needs of the graph. */
static CUresult send_nodes(struct vgpu_exec *exec, struct vgpu_node **failed)
{
	uint32_t count;
	CUresult status = vgpu_graph_stages(exec->graph, &count);

	release_stand_ins(exec);
	if (status == CUDA_SUCCESS)
		status = vgpu_stand_ins_make(exec->graph, &exec->has_stand_ins);
	if (status == CUDA_SUCCESS && !exec->stages) {
		exec->stages = calloc(count, sizeof(*exec->stages));
		exec->stage_count = exec->stages ? count : 0;
		if (!exec->stages)
			status = CUDA_ERROR_OUT_OF_MEMORY;
	}
	for (uint32_t i = 0; i < exec->stage_count && status == CUDA_SUCCESS; i++)
		status = write_and_send(exec, i, failed);
	exec->changed = status != CUDA_SUCCESS;
	for (const struct vgpu_node *node = exec->graph->first; node; node = node->next)
		exec->has_host_functions |= node->type == CU_GRAPH_NODE_TYPE_HOST;
	return status;
}

CUresult vgpu_exec_send(struct vgpu_exec *exec)
{
	return send_nodes(exec, NULL);
}

/* The context that a graph runs in: that of its nodes, or the current one. */
static CUresult context_of(const struct vgpu_graph *graph, struct vgpu_context **context)
{
	CUresult status = vgpu_current(context);

	for (const struct vgpu_node *node = graph->first; node; node = node->next) {
		if (node->object.context) {
			if (!vgpu_object_alive(&node->object))
				return CUDA_ERROR_CONTEXT_IS_DESTROYED;
			*context = node->object.context;
			return vgpu_context_check(*context);
		}
	}
	return status;
}

/* Frees an executable graph here, and on the device where its context is alive. */
static CUresult discard(struct vgpu_exec *exec)
{
	CUresult status = CUDA_SUCCESS;

	release_stand_ins(exec);
	if (exec->graph && exec->graph->retained)
		finish_launches(exec);
	for (uint32_t i = 0; i < exec->stage_count && vgpu_object_alive(&exec->object); i++) {
		struct vgpu_cmd_graph_destroy command = vgpu_encode_graph_destroy(
			vgpu_context_handle(exec->object.context), exec->stages[i].remote);

		if (exec->stages[i].remote && status == CUDA_SUCCESS)
			status = vgpu_submit(&command, sizeof(command));
	}
	for (uint32_t i = 0; i < exec->stage_count; i++)
		free(exec->stages[i].sent);
	free(exec->stages);
	if (exec->graph)
		vgpu_graph_destroy(exec->graph);
	vgpu_pool_give(&execs, exec);
	return status;
}

/* The lock is held. */
static CUresult instantiate(struct vgpu_graph *graph, uint64_t flags, struct vgpu_exec **out,
			    struct vgpu_node **failed)
{
	struct vgpu_context *context;
	struct vgpu_exec *exec;
	CUresult status = context_of(graph, &context);

	*failed = NULL;
	if (status != CUDA_SUCCESS)
		return status;
	exec = vgpu_pool_take(&execs);
	if (!exec)
		return CUDA_ERROR_OUT_OF_MEMORY;
	exec->object.context = context;
	exec->object.context_id = atomic_load(&context->id);
	exec->flags = flags;
	exec->id = ++execs_made;
	status = vgpu_graph_clone(graph, &exec->graph);
	if (status == CUDA_SUCCESS)
		status = send_nodes(exec, failed);
	if (status == CUDA_SUCCESS)
		*out = exec;
	else
		discard(exec);
	return status;
}

static CUresult check_flags(uint64_t flags, uint64_t known)
{
	if (flags & ~known)
		return CUDA_ERROR_INVALID_VALUE;
	/* Kernels cannot launch graphs here. */
	return flags & CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH ? CUDA_ERROR_NOT_SUPPORTED
								 : CUDA_SUCCESS;
}

#define INSTANTIATE_FLAGS                                                                          \
	(CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH |                                         \
	 CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH |                                               \
	 CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY)

static CUresult make(CUgraphExec *out, CUgraph handle, uint64_t flags, CUgraphNode *failed_out)
{
	struct vgpu_node *failed = NULL;
	struct vgpu_exec *exec = NULL;
	struct vgpu_graph *graph;
	CUresult status = vgpu_enter_graph(handle, &graph);

	if (status != CUDA_SUCCESS)
		return status;
	if (!out)
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	status = graph->capturing ? CUDA_ERROR_ILLEGAL_STATE
				  : instantiate(graph, flags, &exec, &failed);
	if (status == CUDA_SUCCESS)
		*out = (CUgraphExec)exec;
	if (failed_out)
		*failed_out = (CUgraphNode)failed;
	return vgpu_leave_graphs(status);
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *out, CUgraph graph, unsigned long long flags)
{
	CUresult status = check_flags(flags, INSTANTIATE_FLAGS);

	return status == CUDA_SUCCESS ? make(out, graph, flags, NULL) : status;
}

CUresult cuGraphInstantiate_v2(CUgraphExec *out, CUgraph graph, CUgraphNode *failed, char *log,
			       size_t log_bytes)
{
	if (log && log_bytes)
		log[0] = '\0';
	return make(out, graph, 0, failed);
}

CUresult cuGraphInstantiate(CUgraphExec *out, CUgraph graph, CUgraphNode *failed, char *log,
			    size_t log_bytes)
{
	return cuGraphInstantiate_v2(out, graph, failed, log, log_bytes);
}

static CUgraphInstantiateResult instantiate_result(CUresult status)
{
	switch (status) {
	case CUDA_SUCCESS:
		return CUDA_GRAPH_INSTANTIATE_SUCCESS;
	case CUDA_ERROR_INVALID_VALUE:
		return CUDA_GRAPH_INSTANTIATE_INVALID_STRUCTURE;
	default:
		return CUDA_GRAPH_INSTANTIATE_ERROR;
	}
}

CUresult cuGraphInstantiateWithParams(CUgraphExec *out, CUgraph graph,
				      CUDA_GRAPH_INSTANTIATE_PARAMS *parameters)
{
	CUresult status;

	if (!parameters)
		return CUDA_ERROR_INVALID_VALUE;
	status = check_flags(parameters->flags,
			     INSTANTIATE_FLAGS | CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD);
	parameters->hErrNode_out = NULL;
	if (status == CUDA_SUCCESS)
		status = make(out, graph, parameters->flags, &parameters->hErrNode_out);
	parameters->result_out = instantiate_result(status);
	if (status == CUDA_SUCCESS && parameters->flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD)
		status = cuGraphUpload(*out, parameters->hUploadStream);
	return status;
}

CUresult cuGraphInstantiateWithParams_ptsz(CUgraphExec *out, CUgraph graph,
					   CUDA_GRAPH_INSTANTIATE_PARAMS *parameters)
{
	CUDA_GRAPH_INSTANTIATE_PARAMS changed;
	CUresult status;

	if (!parameters)
		return CUDA_ERROR_INVALID_VALUE;
	changed = *parameters;
	changed.hUploadStream = vgpu_per_thread(parameters->hUploadStream);
	status = cuGraphInstantiateWithParams(out, graph, &changed);
	parameters->hErrNode_out = changed.hErrNode_out;
	parameters->result_out = changed.result_out;
	return status;
}

CUresult cuGraphExecDestroy(CUgraphExec handle)
{
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	pthread_mutex_lock(&vgpu_graph_lock);
	return vgpu_leave_graphs(vgpu_pool_holds(&execs, handle) ? discard((void *)handle)
								 : CUDA_ERROR_INVALID_VALUE);
}

struct forgotten {
	struct vgpu_context *context;
	uint64_t context_id;
};

static void forget_one(void *object, void *data)
{
	struct vgpu_exec *exec = object;
	struct forgotten *forgotten = data;

	if (exec->object.context == forgotten->context &&
	    exec->object.context_id == forgotten->context_id)
		discard(exec);
}

void vgpu_graphs_forget(struct vgpu_context *context, uint64_t context_id)
{
	struct forgotten forgotten = { context, context_id };

	pthread_mutex_lock(&vgpu_graph_lock);
	vgpu_pool_each(&execs, forget_one, &forgotten);
	vgpu_leave_graphs(CUDA_SUCCESS);
}

CUresult cuGraphExecGetFlags(CUgraphExec handle, cuuint64_t *flags)
{
	struct vgpu_exec *exec;
	CUresult status = vgpu_enter_exec(handle, &exec);

	if (status != CUDA_SUCCESS)
		return status;
	if (!flags)
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	*flags = exec->flags;
	return vgpu_leave_graphs(CUDA_SUCCESS);
}

CUresult cuGraphExecGetId(CUgraphExec handle, unsigned int *id)
{
	struct vgpu_exec *exec;
	CUresult status = vgpu_enter_exec(handle, &exec);

	if (status != CUDA_SUCCESS)
		return status;
	if (!id)
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	*id = exec->id;
	return vgpu_leave_graphs(CUDA_SUCCESS);
}
