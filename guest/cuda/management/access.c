// SPDX-License-Identifier: MIT
/*
 * The way to the device, without a channel: a monitor costs the host no worker. Through
 * the socket that VGPU_STUB_SOCKET names, else /dev/vgpu0 opened read only.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../driver/socket_device.h"
#include "../driver/vfio_user.h"
#include "management.h"
#include "vgpu_stub_commands.h"
#include "vgpu_stub_uapi.h"

#define NODE "/dev/vgpu0"
/* One screen of a monitor is many calls: they see the same moment. */
#define FRESH_NS       20000000ull
#define PCI_IDS	       0x00u
#define PCI_SUBSYSTEM  0x2cu
#define INFO_MAP_BYTES 4096u

static_assert(sizeof(struct vgpu_device_info) <= INFO_MAP_BYTES, "struct vgpu_device_info");

static pthread_mutex_t access_lock = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static pid_t owner;		     /* of what is open; a child opens its own */
static int node = -1;		     /* /dev/vgpu0, or -1: the socket */
static struct vgpu_host_block reply; /* socket: where the device writes */
static uint64_t measured_ns;	     /* of `last`; 0: never */
static struct vgpu_measurement last;

static int open_socket(const char *path, struct vgpu_nvml_device *device, char *reason, size_t room)
{
	uint16_t ids[2];
	uint16_t subsystem[2];
	int error = socket_device_open(path, reason, room);

	if (error)
		return error;
	memcpy(&device->info, socket_device_info(), sizeof(device->info));
	error = vfio_user_read(VFIO_USER_REGION_CONFIG, PCI_IDS, ids, sizeof(ids));
	if (!error)
		error = vfio_user_read(VFIO_USER_REGION_CONFIG, PCI_SUBSYSTEM, subsystem,
				       sizeof(subsystem));
	if (!error)
		error = socket_device_share(VGPU_STATUS_BYTES, &reply);
	if (error) {
		snprintf(reason, room, "cannot set up the device at %s: %s", path, strerror(error));
		socket_device_close();
		return error;
	}
	device->pci_vendor = ids[0];
	device->pci_device = ids[1];
	device->pci_subsystem_vendor = subsystem[0];
	device->pci_subsystem = subsystem[1];
	return 0;
}

/* A hexadecimal attribute of the node's PCI device; 0 where it cannot be read. */
static uint16_t sysfs_id(const char *attribute)
{
	char path[96];
	unsigned int value = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/class/vgpu/vgpu0/device/%s", attribute);
	file = fopen(path, "re");
	if (!file)
		return 0;
	if (fscanf(file, "%x", &value) != 1)
		value = 0;
	fclose(file);
	return (uint16_t)value;
}

static int open_node(struct vgpu_nvml_device *device, char *reason, size_t room)
{
	void *info;
	int error;

	node = open(NODE, O_RDONLY | O_CLOEXEC);
	if (node < 0) {
		error = errno;
		snprintf(reason, room, "cannot open " NODE ": %s", strerror(error));
		return error;
	}
	info = mmap(NULL, INFO_MAP_BYTES, PROT_READ, MAP_SHARED, node, (off_t)VGPU_MMAP_INFO);
	if (info == MAP_FAILED) {
		error = errno;
		snprintf(reason, room, "cannot map " NODE ": %s", strerror(error));
		close(node);
		node = -1;
		return error;
	}
	memcpy(&device->info, info, sizeof(device->info));
	munmap(info, INFO_MAP_BYTES);
	device->pci_vendor = sysfs_id("vendor");
	device->pci_device = sysfs_id("device");
	device->pci_subsystem_vendor = sysfs_id("subsystem_vendor");
	device->pci_subsystem = sysfs_id("subsystem_device");
	return 0;
}

static void close_all(void)
{
	if (owner != getpid()) {
		if (node < 0)
			socket_device_abandon();
	} else if (node < 0) {
		socket_device_close();
		munmap(reply.address, reply.length);
	}
	if (node >= 0)
		close(node);
	node = -1;
	owner = 0;
	measured_ns = 0;
}

/* access_lock is held. */
static nvmlReturn_t open_device(struct vgpu_nvml_device *device)
{
	const char *path = getenv("VGPU_STUB_SOCKET");
	char reason[256] = "";
	int error = path && *path ? open_socket(path, device, reason, sizeof(reason))
				  : open_node(device, reason, sizeof(reason));

	if (!error) {
		const char *problem = vgpu_info_problem(&device->info);
		bool fits =
			device->info.magic == VGPU_MAGIC && vgpu_abi_fits(device->info.abi_version);

		owner = getpid();
		if (fits && !problem)
			return NVML_SUCCESS;
		if (fits)
			snprintf(reason, sizeof(reason), "the device has an impossible %s",
				 problem);
		else
			snprintf(reason, sizeof(reason), "the device speaks another ABI");
		close_all();
		error = fits ? EPROTO : EPROTONOSUPPORT;
	}
	vgpu_nvml_log("%s", reason);
	switch (error) {
	case EACCES:
	case EPERM:
		return NVML_ERROR_NO_PERMISSION;
	case EPROTONOSUPPORT:
		return NVML_ERROR_LIB_RM_VERSION_MISMATCH;
	default:
		return NVML_ERROR_DRIVER_NOT_LOADED;
	}
}

nvmlReturn_t vgpu_access_open(struct vgpu_nvml_device *device)
{
	nvmlReturn_t status;

	pthread_mutex_lock(&access_lock);
	if (owner)
		close_all(); /* a parent's, from before a fork */
	status = open_device(device);
	pthread_mutex_unlock(&access_lock);
	return status;
}

void vgpu_access_close(void)
{
	pthread_mutex_lock(&access_lock);
	if (owner)
		close_all();
	pthread_mutex_unlock(&access_lock);
}

/* Whether a value that may be unknown is at most another. */
static bool at_most(const struct vgpu_device_status *status, uint64_t known, uint64_t value,
		    uint64_t most)
{
	return (status->known & known) != known || value <= most;
}

/* Whether the values can be those of any device. */
static bool plausible(const struct vgpu_device_status *status)
{
	return status->process_count <= VGPU_STATUS_PROCESSES &&
	       at_most(status, VGPU_KNOWN_MEMORY_USED | VGPU_KNOWN_MEMORY_TOTAL,
		       status->memory_used, status->memory_total) &&
	       at_most(status, VGPU_KNOWN_MEMORY_FREE | VGPU_KNOWN_MEMORY_TOTAL,
		       status->memory_free, status->memory_total) &&
	       at_most(status, VGPU_KNOWN_MEMORY_RESERVED | VGPU_KNOWN_MEMORY_TOTAL,
		       status->memory_reserved, status->memory_total) &&
	       at_most(status, VGPU_KNOWN_BAR1_USED | VGPU_KNOWN_BAR1_TOTAL, status->bar1_used,
		       status->bar1_total) &&
	       at_most(status, VGPU_KNOWN_GPU_PERCENT, status->gpu_percent, 100) &&
	       at_most(status, VGPU_KNOWN_MEMORY_PERCENT, status->memory_percent, 100) &&
	       at_most(status, VGPU_KNOWN_ENCODER_PERCENT, status->encoder_percent, 100) &&
	       at_most(status, VGPU_KNOWN_DECODER_PERCENT, status->decoder_percent, 100);
}

/* Has the device measure; returns an errno. access_lock is held. */
static int measure(void)
{
	struct vgpu_cmd_device_status command;
	struct vgpu_measurement found;
	uint8_t answer[VGPU_STATUS_BYTES];
	int error;

	if (node >= 0) {
		if (ioctl(node, VGPU_IOCTL_DEVICE_STATUS, answer))
			return errno;
	} else {
		command = vgpu_encode_device_status(0, reply.iova, VGPU_STATUS_BYTES);
		error = socket_device_admin(&command, sizeof(command));
		if (error)
			return error;
		memcpy(answer, reply.address, sizeof(answer));
	}
	memcpy(&found, answer, sizeof(found));
	if (!plausible(&found.status))
		return EPROTO;
	last = found;
	last.status.driver_version[sizeof(last.status.driver_version) - 1] = '\0';
	measured_ns = vgpu_now_ns();
	return 0;
}

nvmlReturn_t vgpu_access_measure(struct vgpu_measurement *measurement)
{
	nvmlReturn_t status = NVML_SUCCESS;
	int error = 0;

	pthread_mutex_lock(&access_lock);
	if (owner != getpid()) { /* the child of a fork: the connection is the parent's */
		if (owner)
			close_all();
		status = open_device(vgpu_nvml_device());
	}
	if (status == NVML_SUCCESS && (!measured_ns || vgpu_now_ns() - measured_ns > FRESH_NS))
		error = measure();
	if (status == NVML_SUCCESS && !error)
		memcpy(measurement, &last, sizeof(*measurement));
	pthread_mutex_unlock(&access_lock);
	if (!error)
		return status;
	vgpu_nvml_log("the device does not say what it measures: %s", strerror(error));
	switch (error) {
	case EOPNOTSUPP:
	case ENOTTY:
		return NVML_ERROR_NOT_SUPPORTED;
	case ETIMEDOUT:
		return NVML_ERROR_TIMEOUT;
	case EIO:
	case ENODEV:
	case EPIPE:
	case ECONNRESET:
		return NVML_ERROR_GPU_IS_LOST;
	default:
		return NVML_ERROR_UNKNOWN;
	}
}
