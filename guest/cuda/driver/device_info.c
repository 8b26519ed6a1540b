// SPDX-License-Identifier: MIT
/* What a device says it is, checked once: everything else here computes with these values. */
#include "device_access.h"

#define WARP_MAX	    128
#define BLOCK_THREADS_MAX   65536
#define MULTIPROCESSORS_MAX 65536

/* Numbers of CUdevice_attribute. */
enum {
	ATTRIBUTE_MAX_THREADS_PER_BLOCK = 1,
	ATTRIBUTE_WARP_SIZE = 10,
	ATTRIBUTE_MULTIPROCESSOR_COUNT = 16,
};

static bool within(const struct vgpu_device_info *info, int number, int most)
{
	return info->attributes[number] > 0 && info->attributes[number] <= most;
}

const char *vgpu_info_problem(struct vgpu_device_info *info)
{
	info->name[sizeof(info->name) - 1] = '\0';
	info->executor[sizeof(info->executor) - 1] = '\0';
	if (info->attribute_count != VGPU_ATTRIBUTE_COUNT)
		return "number of attributes";
	if (!info->total_memory)
		return "memory";
	if (info->driver_version <= 0)
		return "driver version";
	if (info->compute_major <= 0 || info->compute_minor < 0)
		return "compute capability";
	if (!within(info, ATTRIBUTE_WARP_SIZE, WARP_MAX))
		return "warp size";
	if (!within(info, ATTRIBUTE_MAX_THREADS_PER_BLOCK, BLOCK_THREADS_MAX))
		return "largest block";
	if (!within(info, ATTRIBUTE_MULTIPROCESSOR_COUNT, MULTIPROCESSORS_MAX))
		return "number of multiprocessors";
	return NULL;
}
