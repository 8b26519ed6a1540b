/* SPDX-License-Identifier: MIT */
/* A small vfio-user client: what transport_socket.c needs of the protocol. */
#ifndef VGPU_VFIO_USER_H
#define VGPU_VFIO_USER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VFIO_USER_REGION_BAR0	0u
#define VFIO_USER_REGION_BAR2	2u
#define VFIO_USER_REGION_CONFIG 7u

/* All return 0 or a positive errno; calls from several threads are safe. */
/* The server may take `timeout_s` for each answer. */
int vfio_user_connect(const char *path, unsigned int timeout_s);
void vfio_user_close(void);
/* Whether the server still holds its end. */
bool vfio_user_alive(void);
int vfio_user_socket(void);
int vfio_user_read(uint32_t region, uint64_t offset, void *data, uint32_t bytes);
int vfio_user_write(uint32_t region, uint64_t offset, const void *data, uint32_t bytes);
/* Maps a whole region that the server shares. */
int vfio_user_map(uint32_t region, void **address, uint64_t *size);
int vfio_user_dma_map(int fd, uint64_t iova, uint64_t size);
int vfio_user_dma_unmap(uint64_t iova, uint64_t size);
/* Signals these eventfds for MSI-X vectors 0 to count - 1. */
int vfio_user_set_vectors(const int *eventfds, uint32_t count);

#endif /* VGPU_VFIO_USER_H */
