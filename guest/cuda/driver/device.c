// SPDX-License-Identifier: MIT
/* The device, as the snapshot taken at cuInit describes it. */
#include <stdio.h>
#include <string.h>

#include "internal.h"

static CUresult check(CUdevice device)
{
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	return device == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

static int attribute(CUdevice_attribute which)
{
	return vgpu_device.attributes[which];
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
	CUresult status = check(ordinal);

	if (status == CUDA_SUCCESS && !device)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		*device = 0;
	return status;
}

CUresult cuDeviceGetCount(int *count)
{
	CUresult status = vgpu_check_initialized();

	if (status == CUDA_SUCCESS && !count)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		*count = 1;
	return status;
}

CUresult cuDeviceGetName(char *name, int room, CUdevice device)
{
	CUresult status = check(device);

	if (status != CUDA_SUCCESS)
		return status;
	if (!name || room <= 0)
		return CUDA_ERROR_INVALID_VALUE;
	snprintf(name, (size_t)room, "%.*s", (int)sizeof(vgpu_device.name) - 1,
		 (const char *)vgpu_device.name);
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device)
{
	CUresult status = check(device);

	if (status == CUDA_SUCCESS && !uuid)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		memcpy(uuid->bytes, vgpu_device.uuid, sizeof(uuid->bytes));
	return status;
}

CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device)
{
	return cuDeviceGetUuid_v2(uuid, device);
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device)
{
	CUresult status = check(device);

	if (status == CUDA_SUCCESS && !bytes)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		*bytes = vgpu_device.total_memory;
	return status;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute which, CUdevice device)
{
	CUresult status = check(device);

	if (status != CUDA_SUCCESS)
		return status;
	if (!value || (int)which <= 0 || (unsigned int)which >= VGPU_ATTRIBUTE_COUNT ||
	    attribute(which) == VGPU_ATTRIBUTE_ABSENT)
		return CUDA_ERROR_INVALID_VALUE;
	*value = attribute(which);
	return CUDA_SUCCESS;
}

CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device)
{
	CUresult status = check(device);

	if (status != CUDA_SUCCESS)
		return status;
	if (!major || !minor)
		return CUDA_ERROR_INVALID_VALUE;
	*major = vgpu_device.compute_major;
	*minor = vgpu_device.compute_minor;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetProperties(CUdevprop *properties, CUdevice device)
{
	CUresult status = check(device);

	if (status != CUDA_SUCCESS)
		return status;
	if (!properties)
		return CUDA_ERROR_INVALID_VALUE;
	*properties = (CUdevprop){
		.maxThreadsPerBlock = attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK),
		.maxThreadsDim = { attribute(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X),
				   attribute(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y),
				   attribute(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z) },
		.maxGridSize = { attribute(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X),
				 attribute(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y),
				 attribute(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z) },
		.sharedMemPerBlock = attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK),
		.totalConstantMemory = attribute(CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY),
		.SIMDWidth = attribute(CU_DEVICE_ATTRIBUTE_WARP_SIZE),
		.memPitch = attribute(CU_DEVICE_ATTRIBUTE_MAX_PITCH),
		.regsPerBlock = attribute(CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK),
		.clockRate = attribute(CU_DEVICE_ATTRIBUTE_CLOCK_RATE),
		.textureAlign = attribute(CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT),
	};
	return CUDA_SUCCESS;
}

/* Domain, bus and device number of the snapshot; what is absent counts as 0. */
static unsigned int location(CUdevice_attribute which)
{
	return attribute(which) > 0 ? (unsigned int)attribute(which) : 0;
}

CUresult cuDeviceGetPCIBusId(char *id, int room, CUdevice device)
{
	CUresult status = check(device);

	if (status != CUDA_SUCCESS)
		return status;
	if (!id || room <= 0)
		return CUDA_ERROR_INVALID_VALUE;
	snprintf(id, (size_t)room, "%04x:%02x:%02x.0", location(CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID),
		 location(CU_DEVICE_ATTRIBUTE_PCI_BUS_ID),
		 location(CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID));
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetByPCIBusId(CUdevice *device, const char *id)
{
	unsigned int domain = 0;
	unsigned int bus;
	unsigned int slot;
	unsigned int function = 0;
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	if (!device || !id)
		return CUDA_ERROR_INVALID_VALUE;
	if (sscanf(id, "%x:%x:%x.%x", &domain, &bus, &slot, &function) < 3) {
		domain = 0;
		if (sscanf(id, "%x:%x.%x", &bus, &slot, &function) < 2)
			return CUDA_ERROR_INVALID_VALUE;
	}
	if (domain != location(CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID) ||
	    bus != location(CU_DEVICE_ATTRIBUTE_PCI_BUS_ID) ||
	    slot != location(CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID) || function)
		return CUDA_ERROR_INVALID_DEVICE;
	*device = 0;
	return CUDA_SUCCESS;
}

/* A device is not its own peer. */
CUresult cuDeviceCanAccessPeer(int *can, CUdevice device, CUdevice peer)
{
	CUresult status = check(device);

	if (status == CUDA_SUCCESS)
		status = check(peer);
	if (status == CUDA_SUCCESS && !can)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		*can = 0;
	return status;
}
