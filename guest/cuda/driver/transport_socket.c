// SPDX-License-Identifier: MIT
/*
 * The channel of a device behind a vfio-user socket (socket_device.c). Every client
 * has a device of its own there, so it is always the same channel.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"
#include "socket_device.h"
#include "vfio_user.h"

#define CHANNEL 1u
#define PAGE	4096u

static pthread_mutex_t registrations_lock = PTHREAD_MUTEX_INITIALIZER;
static struct vgpu_host_block list; /* registrations_lock: the scatter block of MEMORY_REGISTER */
static uint64_t registrations[VGPU_REGISTRATION_MAX / 64 + 1]; /* registrations_lock: bits */

static int take_registration(uint32_t *id)
{
	for (uint32_t i = 1; i <= VGPU_REGISTRATION_MAX; i++) {
		if (!(registrations[i / 64] >> (i % 64) & 1)) {
			registrations[i / 64] |= 1ull << (i % 64);
			*id = i;
			return 0;
		}
	}
	return ENOSPC;
}

static void give_registration(uint32_t id)
{
	registrations[id / 64] &= ~(1ull << (id % 64));
}

static int register_block(struct vgpu_host_block *block)
{
	struct vgpu_scatter_block *head = list.address;
	struct vgpu_scatter_entry *entry = (void *)(head + 1);
	struct vgpu_cmd_memory_register command;
	int error = take_registration(&block->registration);

	if (error)
		return error;
	*head = (struct vgpu_scatter_block){ .count = 1 };
	*entry = (struct vgpu_scatter_entry){ .iova = block->iova, .length = block->length };
	command = vgpu_encode_memory_register(0, list.iova, block->length, CHANNEL,
					      block->registration,
					      VGPU_REGISTER_READ | VGPU_REGISTER_WRITE, 1);
	error = socket_device_admin(&command, sizeof(command));
	if (error)
		give_registration(block->registration);
	return error;
}

static int socket_allocate(size_t length, struct vgpu_host_block *block)
{
	int error;

	pthread_mutex_lock(&registrations_lock);
	error = socket_device_share(length, block);
	if (!error) {
		error = register_block(block);
		if (error)
			socket_device_unshare(block);
	}
	pthread_mutex_unlock(&registrations_lock);
	return error;
}

static int socket_release(struct vgpu_host_block *block)
{
	struct vgpu_cmd_memory_unregister command =
		vgpu_encode_memory_unregister(0, CHANNEL, block->registration);
	int error;

	pthread_mutex_lock(&registrations_lock);
	error = socket_device_admin(&command, sizeof(command));
	if (!error) {
		give_registration(block->registration);
		error = socket_device_unshare(block);
	}
	pthread_mutex_unlock(&registrations_lock);
	return error;
}

/* Memory that the process got elsewhere has no descriptor to share: it is staged. */
static int socket_pin(void *address, size_t length, uint32_t access, uint32_t *registration)
{
	(void)address;
	(void)length;
	(void)access;
	(void)registration;
	return EOPNOTSUPP;
}

static int socket_unpin(uint32_t registration)
{
	(void)registration;
	return EOPNOTSUPP;
}

static int create_channel(void)
{
	__u8 name[16] = { 0 };
	struct vgpu_cmd_channel_create command;

	snprintf((char *)name, sizeof(name), "%s", program_invocation_short_name);
	command = vgpu_encode_channel_create(0, CHANNEL, 1, (__u32)getpid(), name);
	return socket_device_admin(&command, sizeof(command));
}

static int socket_open(void **channel, struct vgpu_device_info *info, char *reason, size_t room)
{
	const char *path = getenv("VGPU_STUB_SOCKET");
	const char *step = "start a worker on";
	int error = socket_device_open(path, reason, room);

	if (error)
		return error;
	error = create_channel();
	if (!error) {
		step = "register memory with";
		error = socket_device_share(PAGE, &list);
	}
	if (error) {
		snprintf(reason, room, "cannot %s the device at %s: %s", step, path,
			 strerror(error));
		socket_device_close();
		return error;
	}
	memcpy(info, socket_device_info(), sizeof(*info));
	*channel = socket_device_channel(CHANNEL);
	return 0;
}

static int socket_doorbell(void)
{
	return socket_device_ring(CHANNEL);
}

static int socket_wait(uint64_t cq_tail, uint64_t timeout_ns)
{
	(void)cq_tail; /* the eventfd keeps a signal that came before the wait */
	return socket_device_wait(1, timeout_ns);
}

const struct vgpu_transport vgpu_transport_socket = {
	.name = "VGPU_STUB_SOCKET",
	.open = socket_open,
	.abandon = socket_device_abandon,
	.doorbell = socket_doorbell,
	.wait = socket_wait,
	.alive = vfio_user_alive,
	.allocate = socket_allocate,
	.release = socket_release,
	.pin = socket_pin,
	.unpin = socket_unpin,
};
