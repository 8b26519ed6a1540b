// SPDX-License-Identifier: MIT
/*
 * User objects: what programs want to be told of when the last graph that uses it is
 * gone. Their destructors run where the lock of graphs is given back, because they
 * may take locks of the program.
 */
#include <stdlib.h>

#include "graph.h"

struct user_object {
	struct vgpu_object object;
	uint64_t references;
	CUhostFn destroy;
	void *data;
	struct user_object *next; /* among those that are over */
};

struct vgpu_retained { /* references that a graph holds */
	struct user_object *object;
	uint64_t count;
	struct vgpu_retained *next;
};

static struct vgpu_pool objects = {
	.name = "user object",
	.object_bytes = 64,
	.capacity = 1u << 20,
	.lock = PTHREAD_MUTEX_INITIALIZER,
};

static_assert(sizeof(struct user_object) <= 64, "a user object fits its pool");

static struct user_object *over; /* vgpu_graph_lock: without references, not destroyed yet */

/* The lock is held; the object has that many references. */
static void drop(struct user_object *object, uint64_t count)
{
	object->references -= count;
	if (object->references)
		return;
	object->next = over;
	over = object;
}

CUresult vgpu_leave_graphs(CUresult status)
{
	struct user_object *object = over;

	over = NULL;
	pthread_mutex_unlock(&vgpu_graph_lock);
	while (object) {
		struct user_object *next = object->next;

		object->destroy(object->data);
		vgpu_pool_give(&objects, object);
		object = next;
	}
	return status;
}

static CUresult retain(struct vgpu_graph *graph, struct user_object *object, uint64_t count)
{
	struct vgpu_retained *retained = graph->retained;

	while (retained && retained->object != object)
		retained = retained->next;
	if (!retained) {
		retained = calloc(1, sizeof(*retained));
		if (!retained)
			return CUDA_ERROR_OUT_OF_MEMORY;
		retained->object = object;
		retained->next = graph->retained;
		graph->retained = retained;
	}
	retained->count += count;
	return CUDA_SUCCESS;
}

CUresult vgpu_user_objects_share(struct vgpu_graph *clone, const struct vgpu_graph *graph)
{
	CUresult status = CUDA_SUCCESS;

	for (struct vgpu_retained *one = graph->retained; one && status == CUDA_SUCCESS;
	     one = one->next) {
		status = retain(clone, one->object, one->count);
		if (status == CUDA_SUCCESS)
			one->object->references += one->count;
	}
	return status;
}

void vgpu_user_objects_drop(struct vgpu_graph *graph)
{
	while (graph->retained) {
		struct vgpu_retained *one = graph->retained;

		graph->retained = one->next;
		drop(one->object, one->count);
		free(one);
	}
}

CUresult cuUserObjectCreate(CUuserObject *out, void *data, CUhostFn destroy,
			    unsigned int references, unsigned int flags)
{
	struct user_object *object;
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	if (!out || !destroy || !references || references > INT32_MAX ||
	    flags != CU_USER_OBJECT_NO_DESTRUCTOR_SYNC)
		return CUDA_ERROR_INVALID_VALUE;
	object = vgpu_pool_take(&objects);
	if (!object)
		return CUDA_ERROR_OUT_OF_MEMORY;
	object->references = references;
	object->destroy = destroy;
	object->data = data;
	*out = (CUuserObject)object;
	return CUDA_SUCCESS;
}

/* Takes the lock and looks an object up; the lock is held only when it succeeds. */
static CUresult enter(CUuserObject handle, unsigned int count, struct user_object **object)
{
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	*object = (void *)handle;
	pthread_mutex_lock(&vgpu_graph_lock);
	if (!count || count > INT32_MAX || !vgpu_pool_holds(&objects, handle) ||
	    !(*object)->references)
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	return CUDA_SUCCESS;
}

CUresult cuUserObjectRetain(CUuserObject handle, unsigned int count)
{
	struct user_object *object;
	CUresult status = enter(handle, count, &object);

	if (status != CUDA_SUCCESS)
		return status;
	object->references += count;
	return vgpu_leave_graphs(CUDA_SUCCESS);
}

CUresult cuUserObjectRelease(CUuserObject handle, unsigned int count)
{
	struct user_object *object;
	CUresult status = enter(handle, count, &object);

	if (status != CUDA_SUCCESS)
		return status;
	if (count > object->references)
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	drop(object, count);
	return vgpu_leave_graphs(CUDA_SUCCESS);
}

CUresult cuGraphRetainUserObject(CUgraph graph_handle, CUuserObject handle, unsigned int count,
				 unsigned int flags)
{
	bool move = flags & CU_GRAPH_USER_OBJECT_MOVE;
	struct user_object *object;
	struct vgpu_graph *graph;
	CUresult status = enter(handle, count, &object);

	if (status != CUDA_SUCCESS)
		return status;
	graph = vgpu_graph_from_handle(graph_handle);
	if (!graph || flags & ~(unsigned int)CU_GRAPH_USER_OBJECT_MOVE ||
	    (move && count > object->references))
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	status = retain(graph, object, count);
	if (status == CUDA_SUCCESS && !move)
		object->references += count;
	return vgpu_leave_graphs(status);
}

CUresult cuGraphReleaseUserObject(CUgraph graph_handle, CUuserObject handle, unsigned int count)
{
	struct vgpu_retained *retained = NULL;
	struct vgpu_retained **link;
	struct user_object *object;
	struct vgpu_graph *graph;
	CUresult status = enter(handle, count, &object);

	if (status != CUDA_SUCCESS)
		return status;
	graph = vgpu_graph_from_handle(graph_handle);
	for (link = graph ? &graph->retained : NULL; link && *link; link = &(*link)->next) {
		if ((*link)->object == object) {
			retained = *link;
			break;
		}
	}
	if (!retained || count > retained->count)
		return vgpu_leave_graphs(CUDA_ERROR_INVALID_VALUE);
	retained->count -= count;
	if (!retained->count) {
		*link = retained->next;
		free(retained);
	}
	drop(object, count);
	return vgpu_leave_graphs(CUDA_SUCCESS);
}
