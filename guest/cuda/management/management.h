/* SPDX-License-Identifier: MIT */
/* What the files of libnvidia-ml.so.1 share. */
#ifndef VGPU_MANAGEMENT_H
#define VGPU_MANAGEMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "../driver/device_access.h"
#include "nvml.h"

#define NVML_API __attribute__((visibility("default")))

/* A device by its handle: there is at most one. */
struct vgpu_nvml_device {
	struct vgpu_device_info info;
	uint16_t pci_vendor;
	uint16_t pci_device;
	uint16_t pci_subsystem_vendor;
	uint16_t pci_subsystem;
};

/* What the host measured, as the device wrote it. */
struct vgpu_measurement {
	struct vgpu_device_status status;
	struct vgpu_device_event events[VGPU_STATUS_EVENTS];
	struct vgpu_device_process processes[VGPU_STATUS_PROCESSES];
};

static_assert(sizeof(struct vgpu_measurement) <= VGPU_STATUS_BYTES, "struct vgpu_measurement");

/* library.c: life of the library, and the device's handle. */

/* NVML_SUCCESS while the library is initialised. */
nvmlReturn_t vgpu_nvml_check(void);
/* The same, and the handle is that of the device, and `out` is not NULL. */
nvmlReturn_t vgpu_nvml_check_device(nvmlDevice_t device, const void *out);
/* The device, or NULL where there is none. The library is initialised. */
struct vgpu_nvml_device *vgpu_nvml_device(void);
/* Names a call that is not supported where VGPU_STUB_LOG asks for it. */
nvmlReturn_t vgpu_nvml_refuse(const char *symbol);
__attribute__((format(printf, 1, 2))) void vgpu_nvml_log(const char *format, ...);
/* Copies a string into the caller's buffer. */
nvmlReturn_t vgpu_nvml_copy(char *to, unsigned int room, const char *from);

/* access.c: the way to the device, without a channel. */

nvmlReturn_t vgpu_access_open(struct vgpu_nvml_device *device);
void vgpu_access_close(void);
nvmlReturn_t vgpu_access_measure(struct vgpu_measurement *measurement);

/* measured.c */

/*
 * Measures, where `symbol` is called with a valid device and result, and all values that
 * `known` names exist.
 */
nvmlReturn_t vgpu_nvml_measure(const char *symbol, nvmlDevice_t device, const void *out,
			       uint64_t known, struct vgpu_measurement *measurement);

#endif /* VGPU_MANAGEMENT_H */
