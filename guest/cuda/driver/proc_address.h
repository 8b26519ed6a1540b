/* SPDX-License-Identifier: MIT */
/* Looking up an exported symbol; without cuda.h, see proc_address.c. */
#ifndef VGPU_PROC_ADDRESS_H
#define VGPU_PROC_ADDRESS_H

#include <stdbool.h>

typedef int (*vgpu_entry)(void);

enum vgpu_lookup {
	VGPU_LOOKUP_FOUND,
	VGPU_LOOKUP_UNKNOWN, /* no such name */
	VGPU_LOOKUP_TOO_NEW, /* every variant is newer than the version asked for */
};

/*
 * The newest ABI variant that CUDA `version` knows. With `per_thread` the variant
 * that uses the per-thread default stream, where the function has one.
 */
enum vgpu_lookup vgpu_find_entry_point(const char *name, int version, bool per_thread,
				       vgpu_entry *entry);

/* error.c: counts a refused call; returns CUDA_ERROR_NOT_SUPPORTED. */
int vgpu_refuse(unsigned int id, const char *symbol);

#endif /* VGPU_PROC_ADDRESS_H */
