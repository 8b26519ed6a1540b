// SPDX-License-Identifier: MIT
/*
 * Launches of executable graphs. Host functions run in this process, between the
 * stages that they cut a graph into, and host memory that the device cannot reach is
 * copied here; a graph without either is one command.
 */
#include "graph.h"

static CUresult launch_stage(const struct vgpu_exec *exec, uint32_t stage,
			     const struct vgpu_stream_ref *ref)
{
	struct vgpu_cmd_graph_launch command = vgpu_encode_graph_launch(
		vgpu_context_handle(ref->context), exec->stages[stage].remote, ref->remote);

	if (!exec->stages[stage].remote)
		return CUDA_SUCCESS; /* nothing in it is the device's */
	VGPU_COUNT(launches, exec->stages[stage].kernels);
	return vgpu_submit(&command, sizeof(command));
}

static CUresult queue_host_functions(const struct vgpu_exec *exec, uint32_t stage,
				     const struct vgpu_stream_ref *ref)
{
	CUresult status = CUDA_SUCCESS;

	for (const struct vgpu_node *node = exec->graph->first; node && status == CUDA_SUCCESS;
	     node = node->next)
		if (node->type == CU_GRAPH_NODE_TYPE_HOST && node->stage == stage)
			status = vgpu_host_function_queue(ref, node->host.fn, node->host.userData);
	return status;
}

static CUresult wait_for(const struct vgpu_stream_ref *ref)
{
	struct vgpu_cmd_stream_synchronize command =
		vgpu_encode_stream_synchronize(vgpu_context_handle(ref->context), ref->remote);
	struct vgpu_reply reply;

	return vgpu_context_call(ref->context, &command, sizeof(command), NULL, 0, &reply);
}

/* A launch follows the last one, in whatever stream that was; a stand-in serves one at a time. */
static CUresult follow(const struct vgpu_exec *exec, const struct vgpu_stream_ref *latest,
		       const struct vgpu_stream_ref *ref)
{
	CUresult status;

	if (!latest->context || (latest->stream == ref->stream && !exec->has_stand_ins))
		return CUDA_SUCCESS;
	vgpu_host_functions_wait(latest);
	status = wait_for(latest);
	return status == CUDA_ERROR_INVALID_HANDLE ? CUDA_SUCCESS : status; /* it is gone */
}

/* One stage with the host's part of it. */
static CUresult run_stage(const struct vgpu_exec *exec, uint32_t stage,
			  const struct vgpu_stream_ref *ref)
{
	CUresult status;

	if (exec->has_stand_ins)
		vgpu_stand_ins_move(exec->graph, stage, VGPU_FILL);
	status = launch_stage(exec, stage, ref);
	if (status == CUDA_SUCCESS && exec->has_stand_ins &&
	    vgpu_stand_ins_move(exec->graph, stage, VGPU_LOOK)) {
		status = wait_for(ref);
		if (status == CUDA_SUCCESS)
			vgpu_stand_ins_move(exec->graph, stage, VGPU_EMPTY);
	}
	return status == CUDA_SUCCESS ? queue_host_functions(exec, stage, ref) : status;
}

/*
 * The lock is held, but not while a host function is waited for: the program must not
 * change or destroy the graph meanwhile, as CUDA demands too.
 */
static CUresult launch_stages(struct vgpu_exec *exec, const struct vgpu_stream_ref *ref)
{
	struct vgpu_stream_ref latest = exec->latest;
	CUresult status;

	exec->latest = *ref;
	pthread_mutex_unlock(&vgpu_graph_lock);
	status = follow(exec, &latest, ref);
	for (uint32_t i = 0; i < exec->stage_count && status == CUDA_SUCCESS; i++) {
		if (i)
			vgpu_host_functions_wait(ref);
		status = run_stage(exec, i, ref);
	}
	pthread_mutex_lock(&vgpu_graph_lock);
	return status;
}

/* Takes the lock and looks up a graph of the stream's context, with its last changes sent. */
static CUresult enter(CUgraphExec handle, const struct vgpu_stream_ref *ref,
		      struct vgpu_exec **exec)
{
	CUresult status = vgpu_enter_exec(handle, exec);

	if (status != CUDA_SUCCESS)
		return status;
	if ((*exec)->object.context != ref->context)
		status = CUDA_ERROR_INVALID_VALUE;
	else if ((*exec)->changed)
		status = vgpu_exec_send(*exec);
	return status == CUDA_SUCCESS ? CUDA_SUCCESS : vgpu_leave_graphs(status);
}

CUresult cuGraphLaunch(CUgraphExec handle, CUstream stream)
{
	struct vgpu_stream_ref ref;
	struct vgpu_exec *exec;
	CUresult status = vgpu_stream_resolve_work(stream, &ref);

	if (status == CUDA_SUCCESS)
		status = enter(handle, &ref, &exec);
	if (status != CUDA_SUCCESS)
		return status;
	if (ref.capturing)
		status = vgpu_capture_graph_launch(&ref, exec->graph);
	else if (exec->has_host_functions || exec->has_stand_ins)
		status = launch_stages(exec, &ref);
	else
		status = launch_stage(exec, 0, &ref);
	return vgpu_leave_graphs(status);
}

CUresult cuGraphLaunch_ptsz(CUgraphExec exec, CUstream stream)
{
	return cuGraphLaunch(exec, vgpu_per_thread(stream));
}

CUresult cuGraphUpload(CUgraphExec handle, CUstream stream)
{
	struct vgpu_stream_ref ref;
	struct vgpu_exec *exec;
	CUresult status = vgpu_stream_resolve(stream, &ref);

	if (status == CUDA_SUCCESS)
		status = enter(handle, &ref, &exec);
	if (status != CUDA_SUCCESS)
		return status;
	for (uint32_t i = 0; i < exec->stage_count && status == CUDA_SUCCESS; i++) {
		struct vgpu_cmd_graph_upload command = vgpu_encode_graph_upload(
			vgpu_context_handle(ref.context), exec->stages[i].remote, ref.remote);

		if (exec->stages[i].remote)
			status = vgpu_submit(&command, sizeof(command));
	}
	return vgpu_leave_graphs(status);
}

CUresult cuGraphUpload_ptsz(CUgraphExec exec, CUstream stream)
{
	return cuGraphUpload(exec, vgpu_per_thread(stream));
}
