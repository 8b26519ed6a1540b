// SPDX-License-Identifier: MIT
/*
 * Event sets: who waits asks the device now and then, because a monitor has no interrupt
 * of its own. The device keeps its last VGPU_STATUS_EVENTS events; older ones are lost to
 * a set whose owner does not wait.
 */
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "management.h"

#define ASK_NS	    50000000ull /* between two questions while somebody waits */
#define NO_INSTANCE UINT32_MAX	/* of a GPU that is not partitioned */

struct vgpu_nvml_event_set {
	pthread_mutex_t lock;
	uint64_t types; /* lock; that are waited for */
	uint64_t next;	/* lock; number of the first event that was not looked at */
};

NVML_API nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set)
{
	nvmlReturn_t status = vgpu_nvml_check();
	struct vgpu_nvml_event_set *made;

	if (status != NVML_SUCCESS)
		return status;
	if (!set)
		return NVML_ERROR_INVALID_ARGUMENT;
	made = calloc(1, sizeof(*made));
	if (!made)
		return NVML_ERROR_MEMORY;
	pthread_mutex_init(&made->lock, NULL);
	*set = made;
	return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set)
{
	nvmlReturn_t status = vgpu_nvml_check();

	if (status != NVML_SUCCESS)
		return status;
	if (!set)
		return NVML_ERROR_INVALID_ARGUMENT;
	pthread_mutex_destroy(&set->lock);
	free(set);
	return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device,
						       unsigned long long *types)
{
	struct vgpu_measurement found;
	nvmlReturn_t status = vgpu_nvml_measure(__func__, device, types, 0, &found);

	if (status == NVML_SUCCESS)
		*types = found.status.event_types;
	return status;
}

/* Only what happens from now on counts. */
NVML_API nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types,
					       nvmlEventSet_t set)
{
	struct vgpu_measurement found;
	nvmlReturn_t status = vgpu_nvml_measure(__func__, device, set, 0, &found);

	if (status != NVML_SUCCESS)
		return status;
	if (!types)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (types & ~found.status.event_types)
		return vgpu_nvml_refuse(__func__);
	pthread_mutex_lock(&set->lock);
	if (!set->types)
		set->next = found.status.event_count;
	set->types |= types;
	pthread_mutex_unlock(&set->lock);
	return NVML_SUCCESS;
}

/* Takes the next event that the set waits for, if there is one. */
static bool take_event(struct vgpu_nvml_event_set *set, const struct vgpu_measurement *found,
		       struct vgpu_device_event *event)
{
	uint64_t count = found->status.event_count;
	bool taken = false;

	pthread_mutex_lock(&set->lock);
	if (count < set->next) /* another device than before */
		set->next = 0;
	if (count - set->next > VGPU_STATUS_EVENTS)
		set->next = count - VGPU_STATUS_EVENTS;
	while (!taken && set->next < count) {
		*event = found->events[set->next++ % VGPU_STATUS_EVENTS];
		taken = event->type & set->types;
	}
	pthread_mutex_unlock(&set->lock);
	return taken;
}

static nvmlReturn_t wait_for_event(nvmlEventSet_t set, const void *out, unsigned int timeout_ms,
				   struct vgpu_device_event *event)
{
	uint64_t end = vgpu_now_ns() + timeout_ms * 1000000ull;
	struct vgpu_measurement found;
	nvmlReturn_t status = vgpu_nvml_check();

	if (status != NVML_SUCCESS)
		return status;
	if (!set || !out || !vgpu_nvml_device())
		return NVML_ERROR_INVALID_ARGUMENT;
	for (;;) {
		uint64_t now;
		uint64_t left;

		status = vgpu_access_measure(&found);
		if (status != NVML_SUCCESS)
			return status;
		if (take_event(set, &found, event))
			return NVML_SUCCESS;
		now = vgpu_now_ns();
		if (now >= end)
			return NVML_ERROR_TIMEOUT;
		left = end - now < ASK_NS ? end - now : ASK_NS;
		nanosleep(&(struct timespec){ .tv_nsec = (long)left }, NULL);
	}
}

NVML_API nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data,
					  unsigned int timeout_ms)
{
	struct vgpu_device_event event;
	nvmlReturn_t status = wait_for_event(set, data, timeout_ms, &event);

	if (status == NVML_SUCCESS)
		*data = (nvmlEventData_t){
			.device = vgpu_nvml_device(),
			.eventType = event.type,
			.eventData = event.data,
			.gpuInstanceId = NO_INSTANCE,
			.computeInstanceId = NO_INSTANCE,
		};
	return status;
}

NVML_API nvmlReturn_t nvmlEventSetWait(nvmlEventSet_t set, nvmlEventData_v1_t *data,
				       unsigned int timeout_ms)
{
	struct vgpu_device_event event;
	nvmlReturn_t status = wait_for_event(set, data, timeout_ms, &event);

	if (status == NVML_SUCCESS)
		*data = (nvmlEventData_v1_t){
			.device = vgpu_nvml_device(),
			.eventType = event.type,
			.eventData = event.data,
		};
	return status;
}
