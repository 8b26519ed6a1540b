// SPDX-License-Identifier: MIT
/*
 * Counts calls that are not supported: those of libcuda by id, those of the other
 * libraries by name. The counts are kept here until there is a channel, then in its
 * memory, where the host shows them.
 */
#include <string.h>

#include "internal.h"
#include "proc_address.h"

static uint32_t counted_here[VGPU_REFUSED_ENTRIES];
static uint32_t *_Atomic by_id = counted_here;

static pthread_mutex_t names_lock = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static struct vgpu_refused_call named_here[VGPU_REFUSED_NAMES];
static struct vgpu_refused_call *by_name = named_here;

static void publish_names(struct vgpu_refused_call *calls)
{
	pthread_mutex_lock(&names_lock);
	memcpy(calls, named_here, sizeof(named_here));
	by_name = calls;
	pthread_mutex_unlock(&names_lock);
}

void vgpu_refused_publish(uint32_t *counters, struct vgpu_refused_call *calls)
{
	uint64_t total = 0;

	atomic_store(&by_id, counters);
	for (size_t i = 0; i < VGPU_REFUSED_ENTRIES; i++) {
		uint32_t before = __atomic_exchange_n(&counted_here[i], 0, __ATOMIC_RELAXED);

		__atomic_fetch_add(&counters[i], before, __ATOMIC_RELAXED);
		total += before;
	}
	publish_names(calls);
	for (size_t i = 0; i < VGPU_REFUSED_NAMES; i++)
		total += named_here[i].count;
	VGPU_COUNT(refused, total);
}

int vgpu_refuse(unsigned int id, const char *symbol)
{
	/* The channel's memory is not mapped in a forked child. */
	if (atomic_load(&vgpu_library_state) == VGPU_LIBRARY_FORKED)
		return CUDA_ERROR_NOT_INITIALIZED;
	__atomic_fetch_add(&atomic_load(&by_id)[id], 1, __ATOMIC_RELAXED);
	VGPU_COUNT(refused, 1);
	vgpu_log("%s is not supported", symbol);
	vgpu_journal_refused(symbol);
	return CUDA_ERROR_NOT_SUPPORTED;
}

/* names_lock is held. The last entry takes what finds no room. */
static struct vgpu_refused_call *entry_of(const char *symbol)
{
	const size_t room = sizeof(by_name->name) - 1;

	for (size_t i = 0; i < VGPU_REFUSED_NAMES - 1; i++) {
		char *name = (char *)by_name[i].name;

		if (!name[0])
			strncpy(name, symbol, room);
		if (!strncmp(name, symbol, room))
			return &by_name[i];
	}
	strcpy((char *)by_name[VGPU_REFUSED_NAMES - 1].name, "others");
	return &by_name[VGPU_REFUSED_NAMES - 1];
}

void vgpu_refuse_named(const char *symbol)
{
	if (atomic_load(&vgpu_library_state) == VGPU_LIBRARY_FORKED)
		return;
	pthread_mutex_lock(&names_lock);
	entry_of(symbol)->count++;
	pthread_mutex_unlock(&names_lock);
	VGPU_COUNT(refused, 1);
	vgpu_log("%s is not supported", symbol);
	vgpu_journal_refused(symbol);
}
