// SPDX-License-Identifier: MIT
/* Which devices there are, and what each is: nothing here needs a measurement. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "management.h"

/* Numbers of CUdevice_attribute. */
enum {
	ATTRIBUTE_COMPUTE_MODE = 20,
	ATTRIBUTE_PCI_BUS_ID = 33,
	ATTRIBUTE_PCI_DEVICE_ID = 34,
	ATTRIBUTE_PCI_DOMAIN_ID = 50,
};

static unsigned int attribute(const struct vgpu_nvml_device *device, unsigned int number)
{
	int value = device->info.attributes[number];

	return value == VGPU_ATTRIBUTE_ABSENT ? 0 : (unsigned int)value;
}

NVML_API nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count)
{
	nvmlReturn_t status = vgpu_nvml_check();

	if (status != NVML_SUCCESS)
		return status;
	if (!count)
		return NVML_ERROR_INVALID_ARGUMENT;
	*count = vgpu_nvml_device() ? 1 : 0;
	return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetCount(unsigned int *count)
{
	return nvmlDeviceGetCount_v2(count);
}

NVML_API nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device)
{
	nvmlReturn_t status = vgpu_nvml_check();

	if (status != NVML_SUCCESS)
		return status;
	if (index || !device || !vgpu_nvml_device())
		return NVML_ERROR_INVALID_ARGUMENT;
	*device = vgpu_nvml_device();
	return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t *device)
{
	return nvmlDeviceGetHandleByIndex_v2(index, device);
}

/* As nvidia-smi writes it. */
static void write_uuid(const struct vgpu_nvml_device *device, char text[48])
{
	const uint8_t *byte = device->info.uuid;
	char *end = text + sprintf(text, "GPU");

	for (int i = 0; i < 16; i++)
		end += sprintf(end, "%s%02x",
			       !i || i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", byte[i]);
}

NVML_API nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
	nvmlReturn_t status = vgpu_nvml_check();
	char text[48];

	if (status != NVML_SUCCESS)
		return status;
	if (!uuid || !device)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (!vgpu_nvml_device())
		return NVML_ERROR_NOT_FOUND;
	write_uuid(vgpu_nvml_device(), text);
	if (strcasecmp(text, uuid))
		return NVML_ERROR_NOT_FOUND;
	*device = vgpu_nvml_device();
	return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *id, nvmlDevice_t *device)
{
	nvmlReturn_t status = vgpu_nvml_check();
	unsigned int domain;
	unsigned int bus;
	unsigned int slot;
	const struct vgpu_nvml_device *found;

	if (status != NVML_SUCCESS)
		return status;
	if (!id || !device)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (sscanf(id, "%x:%x:%x.0", &domain, &bus, &slot) != 3) {
		domain = 0;
		if (sscanf(id, "%x:%x.0", &bus, &slot) != 2)
			return NVML_ERROR_INVALID_ARGUMENT;
	}
	found = vgpu_nvml_device();
	if (!found || domain != attribute(found, ATTRIBUTE_PCI_DOMAIN_ID) ||
	    bus != attribute(found, ATTRIBUTE_PCI_BUS_ID) ||
	    slot != attribute(found, ATTRIBUTE_PCI_DEVICE_ID))
		return NVML_ERROR_NOT_FOUND;
	*device = vgpu_nvml_device();
	return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *id, nvmlDevice_t *device)
{
	return nvmlDeviceGetHandleByPciBusId_v2(id, device);
}

NVML_API nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length)
{
	nvmlReturn_t status = vgpu_nvml_check_device(device, name);
	char text[sizeof(device->info.name) + 1];

	if (status != NVML_SUCCESS)
		return status;
	snprintf(text, sizeof(text), "%.*s", (int)sizeof(device->info.name),
		 (const char *)device->info.name);
	return vgpu_nvml_copy(name, length, text);
}

NVML_API nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length)
{
	nvmlReturn_t status = vgpu_nvml_check_device(device, uuid);
	char text[48];

	if (status != NVML_SUCCESS)
		return status;
	write_uuid(device, text);
	return vgpu_nvml_copy(uuid, length, text);
}

static nvmlReturn_t answer(nvmlDevice_t device, unsigned int *out, unsigned int value)
{
	nvmlReturn_t status = vgpu_nvml_check_device(device, out);

	if (status == NVML_SUCCESS)
		*out = value;
	return status;
}

NVML_API nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int *index)
{
	return answer(device, index, 0);
}

NVML_API nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned int *minor)
{
	return answer(device, minor, 0);
}

NVML_API nvmlReturn_t nvmlDeviceGetBusType(nvmlDevice_t device, unsigned int *type)
{
	return answer(device, type, NVML_BUS_TYPE_PCIE);
}

/* It has no display. */
NVML_API nvmlReturn_t nvmlDeviceGetDisplayMode(nvmlDevice_t device, unsigned int *enabled)
{
	return answer(device, enabled, 0);
}

NVML_API nvmlReturn_t nvmlDeviceGetDisplayActive(nvmlDevice_t device, unsigned int *enabled)
{
	return answer(device, enabled, 0);
}

NVML_API nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned int *is_mig)
{
	return answer(device, is_mig, 0);
}

NVML_API nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int *count)
{
	return answer(device, count, 0);
}

NVML_API nvmlReturn_t nvmlDeviceGetComputeMode(nvmlDevice_t device, unsigned int *mode)
{
	nvmlReturn_t status = vgpu_nvml_check_device(device, mode);

	if (status == NVML_SUCCESS)
		*mode = attribute(device, ATTRIBUTE_COMPUTE_MODE);
	return status;
}

NVML_API nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major,
							 int *minor)
{
	nvmlReturn_t status = vgpu_nvml_check_device(device, major);

	if (status != NVML_SUCCESS)
		return status;
	if (!minor)
		return NVML_ERROR_INVALID_ARGUMENT;
	*major = device->info.compute_major;
	*minor = device->info.compute_minor;
	return NVML_SUCCESS;
}

static nvmlPciInfo_t pci_info(const struct vgpu_nvml_device *device)
{
	nvmlPciInfo_t found = {
		.domain = attribute(device, ATTRIBUTE_PCI_DOMAIN_ID),
		.bus = attribute(device, ATTRIBUTE_PCI_BUS_ID),
		.device = attribute(device, ATTRIBUTE_PCI_DEVICE_ID),
		.pciDeviceId = (unsigned int)device->pci_device << 16 | device->pci_vendor,
		.pciSubSystemId =
			(unsigned int)device->pci_subsystem << 16 | device->pci_subsystem_vendor,
	};

	snprintf(found.busIdLegacy, sizeof(found.busIdLegacy), "%04X:%02X:%02X.0",
		 found.domain & 0xffff, found.bus & 0xff, found.device & 0xff);
	snprintf(found.busId, sizeof(found.busId), "%08X:%02X:%02X.0", found.domain,
		 found.bus & 0xff, found.device & 0xff);
	return found;
}

/* Older versions of the function know only the first members of the structure. */
static nvmlReturn_t get_pci_info(nvmlDevice_t device, nvmlPciInfo_t *info, size_t bytes)
{
	nvmlReturn_t status = vgpu_nvml_check_device(device, info);
	nvmlPciInfo_t found;

	if (status != NVML_SUCCESS)
		return status;
	found = pci_info(device);
	memcpy(info, &found, bytes);
	return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *info)
{
	return get_pci_info(device, info, sizeof(*info));
}

NVML_API nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, nvmlPciInfo_t *info)
{
	return get_pci_info(device, info, offsetof(nvmlPciInfo_t, busId));
}

NVML_API nvmlReturn_t nvmlDeviceGetPciInfo(nvmlDevice_t device, nvmlPciInfo_t *info)
{
	return get_pci_info(device, info, offsetof(nvmlPciInfo_t, pciSubSystemId));
}
