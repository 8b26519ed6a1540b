// SPDX-License-Identifier: MIT
/*
 * CUDA_VISIBLE_DEVICES: a list of ordinals and of UUIDs or their beginnings. What comes
 * after the first entry that names no device is not looked at, as CUDA has it; there is
 * one device, so its first entry decides.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "internal.h"

#define UUID_PREFIX "GPU-"

static bool is_our_uuid(const char *entry, size_t length)
{
	char text[sizeof(UUID_PREFIX) + 2 * sizeof(vgpu_device.uuid) + 4];
	size_t used = (size_t)sprintf(text, UUID_PREFIX);

	for (size_t i = 0; i < sizeof(vgpu_device.uuid); i++) {
		bool dash = i == 4 || i == 6 || i == 8 || i == 10;

		used += (size_t)sprintf(text + used, dash ? "-%02x" : "%02x",
					(unsigned char)vgpu_device.uuid[i]);
	}
	return length > strlen(UUID_PREFIX) && length <= used && !strncasecmp(entry, text, length);
}

bool vgpu_device_visible(void)
{
	const char *list = getenv("CUDA_VISIBLE_DEVICES");
	char *end;
	size_t length;

	if (!list)
		return true;
	list += strspn(list, " \t");
	length = strcspn(list, ", \t");
	if (!strncasecmp(list, UUID_PREFIX, strlen(UUID_PREFIX)))
		return is_our_uuid(list, length);
	return length && strtol(list, &end, 10) == 0 && end == list + length;
}
