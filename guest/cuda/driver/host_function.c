// SPDX-License-Identifier: MIT
/*
 * Host functions of streams. One helper thread runs them, each after the work that
 * was in its stream before it. Work that has to follow one is held back in the
 * calling thread until the function has returned.
 */
#include <stdlib.h>

#include "internal.h"

struct job {
	struct vgpu_context *context;
	struct vgpu_stream *stream; /* NULL: the legacy default stream */
	bool blocking;		    /* takes part in the order of the legacy default stream */
	struct vgpu_ticket ticket;  /* of the work before it */
	CUhostFn function;	    /* or: */
	CUstreamCallback callback;
	CUstream handle;
	void *data;
	struct job *next;
};

static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t queue_grew = PTHREAD_COND_INITIALIZER;
static pthread_cond_t job_over = PTHREAD_COND_INITIALIZER;
static struct job *first;	   /* queue_lock; stays queued while it runs */
static struct job **last = &first; /* queue_lock */
static pthread_t helper;
static bool helper_runs; /* queue_lock */

static void run(struct job *job)
{
	struct vgpu_reply reply;
	CUresult status = vgpu_context_note(job->context, vgpu_wait(&job->ticket, &reply));
	int none = 0;

	if (status != CUDA_SUCCESS)
		atomic_compare_exchange_strong(&job->context->deferred, &none, (int)status);
	/* A callback hears of the error; a host function is not called after one. */
	if (job->callback)
		job->callback(job->handle, status, job->data);
	else if (status == CUDA_SUCCESS)
		job->function(job->data);
}

static void *serve(void *unused)
{
	pthread_mutex_lock(&queue_lock);
	for (;;) {
		struct job *job;

		while (!first)
			pthread_cond_wait(&queue_grew, &queue_lock);
		job = first;
		pthread_mutex_unlock(&queue_lock);
		run(job);
		pthread_mutex_lock(&queue_lock);
		first = job->next;
		if (!first)
			last = &first;
		atomic_fetch_sub(&job->context->host_functions, 1);
		free(job);
		pthread_cond_broadcast(&job_over);
	}
	return unused;
}

static bool on_helper_thread(void)
{
	return helper_runs && pthread_equal(pthread_self(), helper);
}

static bool has_to_follow(const struct vgpu_stream_ref *ref, const struct job *job)
{
	bool blocking = !ref->stream || !(ref->stream->flags & CU_STREAM_NON_BLOCKING);

	if (job->context != ref->context)
		return false;
	if (job->stream == ref->stream)
		return true;
	/* The legacy default stream and the blocking ones wait for one another. */
	return (!job->stream && blocking) || (!ref->stream && job->blocking);
}

static bool any_to_follow(const struct vgpu_stream_ref *ref)
{
	for (struct job *job = first; job; job = job->next)
		if (has_to_follow(ref, job))
			return true;
	return false;
}

bool vgpu_host_functions_pending(const struct vgpu_stream_ref *ref)
{
	bool pending;

	pthread_mutex_lock(&queue_lock);
	pending = any_to_follow(ref);
	pthread_mutex_unlock(&queue_lock);
	return pending;
}

void vgpu_host_functions_wait(const struct vgpu_stream_ref *ref)
{
	pthread_mutex_lock(&queue_lock);
	/* CUDA forbids CUDA calls in host functions; do not hang on one. */
	while (any_to_follow(ref) && !on_helper_thread())
		pthread_cond_wait(&job_over, &queue_lock);
	pthread_mutex_unlock(&queue_lock);
}

void vgpu_host_functions_wait_all(struct vgpu_context *context)
{
	pthread_mutex_lock(&queue_lock);
	while (atomic_load(&context->host_functions) && !on_helper_thread())
		pthread_cond_wait(&job_over, &queue_lock);
	pthread_mutex_unlock(&queue_lock);
}

static CUresult enqueue(struct job *job)
{
	CUresult status = CUDA_SUCCESS;

	pthread_mutex_lock(&queue_lock);
	if (!helper_runs) {
		if (pthread_create(&helper, NULL, serve, NULL))
			status = CUDA_ERROR_OPERATING_SYSTEM;
		else
			helper_runs = true;
	}
	if (status == CUDA_SUCCESS) {
		struct vgpu_cmd_stream_synchronize command = vgpu_encode_stream_synchronize(
			vgpu_context_handle(job->context),
			job->stream ? job->stream->object.remote : VGPU_STREAM_LEGACY);

		status = vgpu_submit_ticket(&command, sizeof(command), NULL, 0, VGPU_COMMAND_WAIT,
					    &job->ticket);
	}
	if (status == CUDA_SUCCESS) {
		atomic_fetch_add(&job->context->host_functions, 1);
		*last = job;
		last = &job->next;
		pthread_cond_signal(&queue_grew);
	}
	pthread_mutex_unlock(&queue_lock);
	return status;
}

static CUresult add(const struct vgpu_stream_ref *ref, const struct job *what)
{
	struct job *job = malloc(sizeof(*job));
	CUresult status;

	if (!job)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*job = *what;
	job->context = ref->context;
	job->stream = ref->stream;
	job->blocking = !ref->stream || !(ref->stream->flags & CU_STREAM_NON_BLOCKING);
	status = enqueue(job);
	if (status != CUDA_SUCCESS)
		free(job);
	return status;
}

CUresult vgpu_host_function_queue(const struct vgpu_stream_ref *ref, CUhostFn function, void *data)
{
	return add(ref, &(struct job){ .function = function, .data = data });
}

CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void *data)
{
	struct vgpu_stream_ref ref;
	CUresult status;

	if (!function)
		return CUDA_ERROR_INVALID_VALUE;
	status = vgpu_stream_resolve_work(stream, &ref);
	if (status != CUDA_SUCCESS)
		return status;
	return ref.capturing ? vgpu_capture_host_function(&ref, function, data)
			     : vgpu_host_function_queue(&ref, function, data);
}

CUresult cuLaunchHostFunc_ptsz(CUstream stream, CUhostFn function, void *data)
{
	return cuLaunchHostFunc(vgpu_per_thread(stream), function, data);
}

/*
 * `mode` says how the helper thread should wait for its turn, blocking or spinning: a
 * hint. (CUDA 13.0 has no names for the two.)
 */
CUresult cuLaunchHostFunc_v2(CUstream stream, CUhostFn function, void *data, unsigned int mode)
{
	if (mode > 1)
		return CUDA_ERROR_INVALID_VALUE;
	return cuLaunchHostFunc(stream, function, data);
}

CUresult cuLaunchHostFunc_v2_ptsz(CUstream stream, CUhostFn function, void *data, unsigned int mode)
{
	return cuLaunchHostFunc_v2(vgpu_per_thread(stream), function, data, mode);
}

CUresult cuStreamAddCallback(CUstream stream, CUstreamCallback callback, void *data,
			     unsigned int flags)
{
	struct vgpu_stream_ref ref;
	CUresult status;

	if (flags || !callback)
		return CUDA_ERROR_INVALID_VALUE;
	status = vgpu_stream_resolve(stream, &ref);
	if (status != CUDA_SUCCESS)
		return status;
	return add(&ref, &(struct job){ .callback = callback, .handle = stream, .data = data });
}

CUresult cuStreamAddCallback_ptsz(CUstream stream, CUstreamCallback callback, void *data,
				  unsigned int flags)
{
	return cuStreamAddCallback(vgpu_per_thread(stream), callback, data, flags);
}
