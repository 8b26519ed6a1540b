// SPDX-License-Identifier: MIT
/* Two sorted tables of address ranges: device memory, and host memory the device knows. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

struct table {
	pthread_rwlock_t lock;
	struct vgpu_range *ranges; /* by start; they do not overlap */
	size_t count;
	size_t room;
};

static struct table tables[] = {
	[VGPU_SIDE_DEVICE] = { .lock = PTHREAD_RWLOCK_INITIALIZER },
	[VGPU_SIDE_HOST] = { .lock = PTHREAD_RWLOCK_INITIALIZER },
};

uint64_t vgpu_unique(void)
{
	static _Atomic uint64_t last;

	return atomic_fetch_add(&last, 1) + 1;
}

/* Index of the first range that starts after `address`. */
static size_t upper_bound(const struct table *table, uint64_t address)
{
	size_t low = 0;
	size_t high = table->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (table->ranges[middle].start <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

CUresult vgpu_ranges_insert(enum vgpu_side side, const struct vgpu_range *range)
{
	struct table *table = &tables[side];
	CUresult status = CUDA_SUCCESS;
	size_t at;

	pthread_rwlock_wrlock(&table->lock);
	at = upper_bound(table, range->start);
	if (table->count == table->room) {
		size_t room = table->room ? 2 * table->room : 64;
		struct vgpu_range *larger = realloc(table->ranges, room * sizeof(*larger));

		if (larger) {
			table->ranges = larger;
			table->room = room;
		} else {
			status = CUDA_ERROR_OUT_OF_MEMORY;
		}
	}
	if (status == CUDA_SUCCESS) {
		memmove(table->ranges + at + 1, table->ranges + at,
			(table->count - at) * sizeof(*range));
		table->ranges[at] = *range;
		table->count++;
	}
	pthread_rwlock_unlock(&table->lock);
	return status;
}

bool vgpu_ranges_overlap(enum vgpu_side side, uint64_t start, uint64_t size)
{
	struct table *table = &tables[side];
	size_t after;
	bool overlap;

	pthread_rwlock_rdlock(&table->lock);
	after = upper_bound(table, start);
	overlap =
		(after && start - table->ranges[after - 1].start < table->ranges[after - 1].size) ||
		(after < table->count && table->ranges[after].start - start < size);
	pthread_rwlock_unlock(&table->lock);
	return overlap;
}

bool vgpu_ranges_find(enum vgpu_side side, uint64_t address, struct vgpu_range *range)
{
	struct table *table = &tables[side];
	bool found = false;
	size_t after;

	pthread_rwlock_rdlock(&table->lock);
	after = upper_bound(table, address);
	if (after && address - table->ranges[after - 1].start < table->ranges[after - 1].size) {
		*range = table->ranges[after - 1];
		found = true;
	}
	pthread_rwlock_unlock(&table->lock);
	return found;
}

static void take_out(struct table *table, size_t at, struct vgpu_range *range)
{
	*range = table->ranges[at];
	memmove(table->ranges + at, table->ranges + at + 1,
		(table->count - at - 1) * sizeof(*range));
	table->count--;
}

bool vgpu_ranges_remove(enum vgpu_side side, uint64_t address, struct vgpu_range *range)
{
	struct table *table = &tables[side];
	bool found;
	size_t after;

	pthread_rwlock_wrlock(&table->lock);
	after = upper_bound(table, address);
	found = after && table->ranges[after - 1].start == address;
	if (found)
		take_out(table, after - 1, range);
	pthread_rwlock_unlock(&table->lock);
	return found;
}

bool vgpu_ranges_remove_of(enum vgpu_side side, const struct vgpu_context *context,
			   uint64_t context_id, struct vgpu_range *range)
{
	struct table *table = &tables[side];
	bool found = false;

	pthread_rwlock_wrlock(&table->lock);
	for (size_t i = 0; i < table->count && !found; i++) {
		found = table->ranges[i].context == context &&
			table->ranges[i].context_id == context_id;
		if (found)
			take_out(table, i, range);
	}
	pthread_rwlock_unlock(&table->lock);
	return found;
}
