// SPDX-License-Identifier: MIT
/* The channel of /dev/vgpu0, the node of vgpu_stub.ko (vgpu_stub_uapi.h). */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"
#include "vgpu_stub_uapi.h"

#define NODE	   "/dev/vgpu0"
#define HUGE_BYTES (2u << 20)

static int node = -1;

static int map_info(uint32_t bytes, struct vgpu_device_info *info)
{
	void *mapped = mmap(NULL, bytes, PROT_READ, MAP_SHARED, node, (off_t)VGPU_MMAP_INFO);

	if (mapped == MAP_FAILED)
		return errno;
	memcpy(info, mapped, sizeof(*info));
	munmap(mapped, bytes);
	return 0;
}

static int device_open(void **channel, struct vgpu_device_info *info, char *reason, size_t room)
{
	struct vgpu_ioctl_channel_info given;
	int error = 0;

	node = open(NODE, O_RDWR | O_CLOEXEC);
	if (node < 0) {
		error = errno;
		snprintf(reason, room, "cannot open " NODE ": %s", strerror(error));
		return error;
	}
	if (ioctl(node, VGPU_IOCTL_CHANNEL_INFO, &given)) {
		error = errno;
	} else if (!vgpu_abi_fits(given.abi_version) || given.sq_entries != VGPU_SQ_ENTRIES ||
		   given.cq_entries != VGPU_CQ_ENTRIES ||
		   given.channel_bytes < VGPU_SQ_OFFSET + VGPU_SQ_ENTRIES * VGPU_SLOT_BYTES ||
		   given.info_bytes < sizeof(*info)) {
		snprintf(reason, room, NODE " speaks ABI %u.%u, this libcuda.so.1 needs %u.%u",
			 given.abi_version >> 16, given.abi_version & 0xffff, VGPU_ABI_MAJOR,
			 VGPU_ABI_MINOR);
		error = EPROTONOSUPPORT;
	} else {
		error = map_info(given.info_bytes, info);
	}
	if (!error) {
		*channel = mmap(NULL, given.channel_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, node,
				(off_t)VGPU_MMAP_CHANNEL);
		if (*channel == MAP_FAILED)
			error = errno;
	}
	if (error) {
		close(node);
		node = -1;
	}
	return error;
}

static void device_abandon(void)
{
	close(node);
	node = -1;
}

static int device_doorbell(void)
{
	return ioctl(node, VGPU_IOCTL_DOORBELL) ? errno : 0;
}

static int device_wait(uint64_t cq_tail, uint64_t timeout_ns)
{
	struct vgpu_ioctl_wait wait = { .cq_tail = cq_tail, .timeout_ns = timeout_ns };

	return ioctl(node, VGPU_IOCTL_WAIT, &wait) ? errno : 0;
}

static bool device_alive(void)
{
	struct pollfd watched = { .fd = node };

	return poll(&watched, 1, 0) <= 0 || !(watched.revents & (POLLERR | POLLHUP | POLLNVAL));
}

static int device_pin(void *address, size_t length, uint32_t access, uint32_t *registration)
{
	struct vgpu_ioctl_register asked = {
		.address = (uintptr_t)address,
		.length = length,
		.access = access,
	};

	if (ioctl(node, VGPU_IOCTL_REGISTER, &asked))
		return errno;
	*registration = asked.registration;
	return 0;
}

static int device_unpin(uint32_t registration)
{
	struct vgpu_ioctl_unregister asked = { .registration = registration };

	return ioctl(node, VGPU_IOCTL_UNREGISTER, &asked) ? errno : 0;
}

/* Large blocks start on a huge page, so that they have few extents. */
static void *map_aligned(size_t length)
{
	size_t extra = length >= HUGE_BYTES ? HUGE_BYTES : 0;
	uint8_t *base = mmap(NULL, length + extra, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *start;

	if (base == MAP_FAILED || !extra)
		return base;
	start = (uint8_t *)(((uintptr_t)base + extra - 1) & ~((uintptr_t)extra - 1));
	if (start > base)
		munmap(base, (size_t)(start - base));
	if (start + length < base + length + extra)
		munmap(start + length, (size_t)(base + extra - start));
	/* A hint: without huge pages the block has more extents and works all the same. */
	madvise(start, length, MADV_HUGEPAGE);
	return start;
}

static int device_allocate(size_t length, struct vgpu_host_block *block)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	int error;

	length = (length + page - 1) & ~(page - 1);
	*block = (struct vgpu_host_block){ .length = length, .memfd = -1 };
	block->address = map_aligned(length);
	if (block->address == MAP_FAILED)
		return errno;
	error = device_pin(block->address, length, VGPU_REGISTER_READ | VGPU_REGISTER_WRITE,
			   &block->registration);
	/* Pinned pages shared with a child would be copied away from the parent on write. */
	if (!error && madvise(block->address, length, MADV_DONTFORK))
		error = errno;
	if (error)
		munmap(block->address, length);
	return error;
}

static int device_release(struct vgpu_host_block *block)
{
	int error = device_unpin(block->registration);

	if (error && error != ENODEV)
		return error; /* the device may still write there: keep the memory */
	munmap(block->address, block->length);
	return 0;
}

const struct vgpu_transport vgpu_transport_device = {
	.name = NODE,
	.open = device_open,
	.abandon = device_abandon,
	.doorbell = device_doorbell,
	.wait = device_wait,
	.alive = device_alive,
	.allocate = device_allocate,
	.release = device_release,
	.pin = device_pin,
	.unpin = device_unpin,
};
