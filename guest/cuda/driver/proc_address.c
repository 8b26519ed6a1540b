// SPDX-License-Identifier: MIT
/*
 * Every exported symbol by name and version, and those that only refuse. This file
 * does not include cuda.h: to it all functions have the type `int (void)`.
 */
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "proc_address.h"

#define EXPORT __attribute__((visibility("default")))

#define VGPU_REFUSED(symbol, id)                                                                   \
	EXPORT int symbol(void);                                                                   \
	int symbol(void)                                                                           \
	{                                                                                          \
		return vgpu_refuse(id, #symbol);                                                   \
	}
#define VGPU_IMPLEMENTED(symbol) EXPORT int symbol(void);

struct vgpu_entry_point {
	const char *name;
	int (*symbol)(void);
	int version; /* that introduced it */
	int per_thread;
};

#include "../generated/entry_points.inc"

#define ENTRIES (sizeof(entry_points) / sizeof(entry_points[0]))

static size_t first_of(const char *name)
{
	size_t low = 0;
	size_t high = ENTRIES;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(entry_points[middle].name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

enum vgpu_lookup vgpu_find_entry_point(const char *name, int version, bool per_thread,
				       vgpu_entry *entry)
{
	const struct vgpu_entry_point *best = NULL;
	bool known = false;

	for (size_t i = first_of(name); i < ENTRIES && !strcmp(entry_points[i].name, name); i++) {
		const struct vgpu_entry_point *candidate = &entry_points[i];

		known = true;
		if (candidate->version > version || (candidate->per_thread && !per_thread))
			continue;
		/* They come in ascending order, those of per-thread streams after the others. */
		best = candidate;
	}
	*entry = best ? best->symbol : NULL;
	if (best)
		return VGPU_LOOKUP_FOUND;
	return known ? VGPU_LOOKUP_TOO_NEW : VGPU_LOOKUP_UNKNOWN;
}
