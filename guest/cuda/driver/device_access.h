/* SPDX-License-Identifier: MIT */
/* What every library of ours needs to reach a device; includes nothing of CUDA. */
#ifndef VGPU_DEVICE_ACCESS_H
#define VGPU_DEVICE_ACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "vgpu_stub_abi.h"

#define VGPU_NSEC_PER_SEC 1000000000ull

struct vgpu_host_block { /* memory that both the process and the device can use */
	void *address;
	size_t length;	       /* of the mapping */
	uint32_t registration; /* 0: the device cannot reach it */
	int memfd;	       /* socket transport; -1 otherwise */
	uint64_t iova;	       /* socket transport */
};

/* Whether this library can talk to a device of that ABI version (docs/device.md, section 2). */
static inline bool vgpu_abi_fits(uint32_t device)
{
	return device >> 16 == VGPU_ABI_MAJOR && (int)(device & 0xffff) >= VGPU_ABI_MINOR;
}

/*
 * device_info.c: ends the texts of a copy of the device information, and says which value
 * no device can have; NULL: none.
 */
const char *vgpu_info_problem(struct vgpu_device_info *info);

static inline uint64_t vgpu_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * VGPU_NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

#endif /* VGPU_DEVICE_ACCESS_H */
