// SPDX-License-Identifier: MIT
/* cuInit, and what happens to the library at fork() and at the end of a thread. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

atomic_int vgpu_library_state = VGPU_LIBRARY_UNINITIALIZED;
struct vgpu_device_info vgpu_device;

static pthread_mutex_t init_lock = PTHREAD_MUTEX_INITIALIZER;
static bool fork_handler_set; /* init_lock */
static pthread_key_t thread_key;
static pthread_once_t thread_key_once = PTHREAD_ONCE_INIT;
static _Thread_local struct vgpu_thread *this_thread;

bool vgpu_executor_is_cuda(void)
{
	return strcmp((const char *)vgpu_device.executor, "cuda") == 0;
}

/* The rings belong to the parent: the child must neither use nor keep them. */
static void forget_in_child(void)
{
	if (atomic_load(&vgpu_library_state) != VGPU_LIBRARY_READY)
		return;
	atomic_store(&vgpu_library_state, VGPU_LIBRARY_FORKED);
	vgpu_transport->abandon();
}

static void thread_ends(void *data)
{
	struct vgpu_thread *thread = data;

	if (vgpu_check_initialized() == CUDA_SUCCESS)
		vgpu_thread_release_streams(thread);
	free(thread->stack);
	free(thread);
	this_thread = NULL;
}

static void make_thread_key(void)
{
	if (pthread_key_create(&thread_key, thread_ends))
		vgpu_log_always("no thread-specific key left: thread state will not be released");
}

struct vgpu_thread *vgpu_thread(void)
{
	struct vgpu_thread *thread = this_thread;

	if (thread)
		return thread;
	pthread_once(&thread_key_once, make_thread_key);
	thread = calloc(1, sizeof(*thread));
	if (thread && pthread_setspecific(thread_key, thread)) {
		free(thread);
		return NULL;
	}
	this_thread = thread;
	return thread;
}

static CUresult open_device(void)
{
	char reason[256] = "";
	void *channel;
	CUresult status = vgpu_transport_open(&channel, &vgpu_device, reason, sizeof(reason));

	if (status == CUDA_ERROR_SYSTEM_DRIVER_MISMATCH)
		vgpu_log_always("%s", reason);
	else if (status != CUDA_SUCCESS)
		vgpu_log("%s", reason);
	if (status != CUDA_SUCCESS)
		return status;
	if (!vgpu_device_visible()) {
		vgpu_log("CUDA_VISIBLE_DEVICES hides the device");
		return CUDA_ERROR_NO_DEVICE;
	}
	vgpu_ring_open(channel);
	status = vgpu_staging_open();
	if (status != CUDA_SUCCESS)
		return status;
	if (!fork_handler_set && pthread_atfork(NULL, NULL, forget_in_child))
		return CUDA_ERROR_OUT_OF_MEMORY;
	fork_handler_set = true;
	vgpu_log("%s through %s, executor %s", (const char *)vgpu_device.name, vgpu_transport->name,
		 (const char *)vgpu_device.executor);
	vgpu_journal_device((const char *)vgpu_device.name, vgpu_transport->name,
			    (const char *)vgpu_device.executor, vgpu_device.driver_version,
			    vgpu_device.compute_major, vgpu_device.compute_minor);
	return CUDA_SUCCESS;
}

CUresult cuInit(unsigned int flags)
{
	static CUresult failed; /* init_lock: a device that failed half way is not tried again */
	CUresult status = CUDA_SUCCESS;

	if (flags)
		return CUDA_ERROR_INVALID_VALUE;
	if (vgpu_check_initialized() == CUDA_SUCCESS)
		return vgpu_channel_error();
	if (atomic_load(&vgpu_library_state) == VGPU_LIBRARY_FORKED)
		return CUDA_ERROR_NOT_INITIALIZED;
	pthread_mutex_lock(&init_lock);
	if (atomic_load(&vgpu_library_state) == VGPU_LIBRARY_UNINITIALIZED) {
		status = failed ? failed : open_device();
		if (status == CUDA_SUCCESS)
			atomic_store(&vgpu_library_state, VGPU_LIBRARY_READY);
		else if (vgpu_transport)
			failed = status;
	}
	pthread_mutex_unlock(&init_lock);
	return status;
}

CUresult cuDriverGetVersion(int *version)
{
	if (!version)
		return CUDA_ERROR_INVALID_VALUE;
	/* CUDA answers this before cuInit; the device knows the answer, so open it. */
	if (atomic_load(&vgpu_library_state) == VGPU_LIBRARY_UNINITIALIZED) {
		CUresult status = cuInit(0);

		/* A device that is hidden has a driver all the same. */
		if (status != CUDA_SUCCESS && !vgpu_device.driver_version)
			return status;
	}
	*version = vgpu_device.driver_version;
	return CUDA_SUCCESS;
}
