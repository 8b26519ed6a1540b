// SPDX-License-Identifier: MIT
/* Which way to the device: the socket that VGPU_STUB_SOCKET names, else /dev/vgpu0. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

const struct vgpu_transport *vgpu_transport;

CUresult vgpu_transport_open(void **channel, struct vgpu_device_info *info, char *reason,
			     size_t room)
{
	const char *path = getenv("VGPU_STUB_SOCKET");
	const struct vgpu_transport *transport =
		path && *path ? &vgpu_transport_socket : &vgpu_transport_device;
	int error = transport->open(channel, info, reason, room);
	const char *problem;

	if (error) {
		if (!*reason)
			snprintf(reason, room, "%s: %s", transport->name, strerror(error));
		switch (error) {
		case EPROTONOSUPPORT:
			return CUDA_ERROR_SYSTEM_DRIVER_MISMATCH;
		case EBUSY:  /* every channel is in use */
		case EAGAIN: /* the host could not start a worker */
			return CUDA_ERROR_DEVICE_UNAVAILABLE;
		default:
			return CUDA_ERROR_NO_DEVICE;
		}
	}
	vgpu_transport = transport;
	if (info->magic != VGPU_MAGIC || !vgpu_abi_fits(info->abi_version)) {
		snprintf(reason, room,
			 "the device speaks ABI %u.%u, this libcuda.so.1 needs %u.%u: "
			 "install the guest libraries of the same VGPU-STUB version as the host",
			 info->abi_version >> 16, info->abi_version & 0xffff, VGPU_ABI_MAJOR,
			 VGPU_ABI_MINOR);
		return CUDA_ERROR_SYSTEM_DRIVER_MISMATCH;
	}
	problem = vgpu_info_problem(info);
	if (problem) {
		snprintf(reason, room, "the device describes itself with an impossible %s",
			 problem);
		return CUDA_ERROR_NO_DEVICE;
	}
	return CUDA_SUCCESS;
}
