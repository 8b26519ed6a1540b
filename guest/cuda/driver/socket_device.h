/* SPDX-License-Identifier: MIT */
/* The device that a vfio-user socket leads to; one for each library of a process. */
#ifndef VGPU_SOCKET_DEVICE_H
#define VGPU_SOCKET_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#include "device_access.h"

/* All return 0 or a positive errno. */

/* Connects and brings the device up; `reason` says in one line why it could not. */
int socket_device_open(const char *path, char *reason, size_t room);
void socket_device_close(void);
/* In a forked child: closes descriptors, touches nothing else. */
void socket_device_abandon(void);

/* How long a device may take for an answer: VGPU_STUB_TIMEOUT, or a minute. */
unsigned int socket_device_timeout_s(void);

const struct vgpu_device_info *socket_device_info(void);
void *socket_device_channel(uint32_t channel); /* its memory in BAR2 */

/* Carries out one admin command, which takes one slot; its errno. */
int socket_device_admin(const void *command, size_t bytes);
int socket_device_ring(uint32_t channel);
/* Waits for vector 0 (admin) or 1 (the channel), or for the end of the connection. */
int socket_device_wait(uint32_t vector, uint64_t timeout_ns);

/* Memory that the device can reach; not registered with any channel. */
int socket_device_share(size_t length, struct vgpu_host_block *block);
int socket_device_unshare(struct vgpu_host_block *block);

#endif /* VGPU_SOCKET_DEVICE_H */
