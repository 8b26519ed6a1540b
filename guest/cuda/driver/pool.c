// SPDX-License-Identifier: MIT
/*
 * Pools of the objects behind handles. The address range of a pool is reserved
 * once and never given back, so that any value a program passes as a handle can
 * be checked without touching foreign memory.
 */
#include <string.h>
#include <sys/mman.h>

#include "internal.h"

static bool reserve(struct vgpu_pool *pool)
{
	void *base;

	if (pool->base)
		return true;
	base = mmap(NULL, pool->object_bytes * pool->capacity, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		return false;
	__atomic_store_n(&pool->base, base, __ATOMIC_RELEASE);
	return true;
}

void *vgpu_pool_take(struct vgpu_pool *pool)
{
	struct vgpu_object *object = NULL;

	pthread_mutex_lock(&pool->lock);
	if (pool->free_list) {
		object = pool->free_list;
		/* A free object keeps the next one in place of its context. */
		pool->free_list = object->context;
	} else if (reserve(pool) && pool->used < pool->capacity) {
		object = (void *)(pool->base + pool->object_bytes * pool->used++);
	}
	if (object) {
		memset(object, 0, pool->object_bytes);
		__atomic_store_n(&object->live, 1, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&pool->lock);
	if (!object)
		vgpu_log("no room for another %s", pool->name);
	return object;
}

void vgpu_pool_give(struct vgpu_pool *pool, void *handle)
{
	struct vgpu_object *object = handle;

	pthread_mutex_lock(&pool->lock);
	__atomic_store_n(&object->live, 0, __ATOMIC_RELEASE);
	object->context = pool->free_list;
	pool->free_list = object;
	pthread_mutex_unlock(&pool->lock);
}

bool vgpu_pool_holds(const struct vgpu_pool *pool, const void *handle)
{
	const struct vgpu_object *object = handle;
	const unsigned char *base = __atomic_load_n(&pool->base, __ATOMIC_ACQUIRE);
	uintptr_t offset = (uintptr_t)handle - (uintptr_t)base;

	if (!base || (uintptr_t)handle < (uintptr_t)base ||
	    offset >= pool->object_bytes * pool->capacity || offset % pool->object_bytes)
		return false;
	return __atomic_load_n(&object->live, __ATOMIC_ACQUIRE);
}

void vgpu_pool_each(struct vgpu_pool *pool, void (*visit)(void *object, void *data), void *data)
{
	uint32_t used;

	pthread_mutex_lock(&pool->lock);
	used = pool->used;
	pthread_mutex_unlock(&pool->lock);
	for (uint32_t i = 0; i < used; i++) {
		struct vgpu_object *object = (void *)(pool->base + pool->object_bytes * i);

		if (__atomic_load_n(&object->live, __ATOMIC_ACQUIRE))
			visit(object, data);
	}
}
