// SPDX-License-Identifier: MIT
/*
 * The device through its vfio-user socket, without a VM: this process is bus and
 * driver in one (docs/device.md, "Bringing the device up" and section 4). Shared by
 * libcuda.so.1, which goes on to make a channel, and libnvidia-ml.so.1, which does not.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "socket_device.h"
#include "vfio_user.h"
#include "vgpu_stub_abi.h"
#include "vgpu_stub_commands.h"

#define SECONDS		 60u /* starting a worker may take long on a cold machine */
#define SECONDS_MAX	 86400u
#define ERRNO_MAX	 133 /* EHWPOISON */
#define FIRST_IOVA	 0x100000000ull
#define PAGE		 4096u
#define PCI_COMMAND	 0x04u
#define PCI_COMMAND_BITS 0x0006u /* memory space, bus master */
#define PCI_CAPABILITIES 0x34u
#define PCI_CAP_ID_MSIX	 0x11u
#define MSIX_ENABLE	 0x8000u

static uint8_t *bar2;
static uint64_t bar2_bytes;
static int vectors[2] = { -1, -1 }; /* 0: admin, 1: the channel */

static pthread_mutex_t admin_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t admin_tail;		/* admin_lock */
static uint64_t admin_head;		/* admin_lock */
static bool admin_broken;		/* admin_lock: an answer was missing or wrong */
static uint64_t next_iova = FIRST_IOVA; /* admin_lock */

void *socket_device_channel(uint32_t channel)
{
	return bar2 + VGPU_CHANNEL_BASE + (size_t)channel * VGPU_CHANNEL_STRIDE;
}

const struct vgpu_device_info *socket_device_info(void)
{
	return (const void *)(bar2 + VGPU_INFO_OFFSET);
}

static int read_register(uint32_t offset, uint32_t *value)
{
	return vfio_user_read(VFIO_USER_REGION_BAR0, offset, value, sizeof(*value));
}

static int write_register(uint32_t offset, uint32_t value)
{
	return vfio_user_write(VFIO_USER_REGION_BAR0, offset, &value, sizeof(value));
}

int socket_device_ring(uint32_t channel)
{
	return write_register(VGPU_REG_DOORBELL + 4 * channel, 1);
}

int socket_device_wait(uint32_t vector, uint64_t timeout_ns)
{
	struct pollfd watched[2] = {
		{ .fd = vectors[vector], .events = POLLIN },
		{ .fd = vfio_user_socket(), .events = POLLRDHUP },
	};
	int timeout_ms = (int)((timeout_ns + 999999) / 1000000);
	int ready = poll(watched, 2, timeout_ms);
	uint64_t count;

	if (ready < 0)
		return errno;
	if (!ready)
		return ETIMEDOUT;
	if (watched[0].revents & POLLIN)
		return read(vectors[vector], &count, sizeof(count)) < 0 && errno != EAGAIN ? errno
											   : 0;
	return ENODEV;
}

unsigned int socket_device_timeout_s(void)
{
	const char *text = getenv("VGPU_STUB_TIMEOUT");
	unsigned long seconds = text ? strtoul(text, NULL, 10) : 0;

	return seconds && seconds <= SECONDS_MAX ? (unsigned int)seconds : SECONDS;
}

/* The errno that a completion carries; EPROTO when it is none. */
static int admin_status(const struct vgpu_completion *shared, uint64_t sequence)
{
	uint64_t answered = __atomic_load_n(&shared->sequence, __ATOMIC_RELAXED);
	int status = __atomic_load_n(&shared->status, __ATOMIC_RELAXED);

	return answered == sequence && status >= 0 && status <= ERRNO_MAX ? status : EPROTO;
}

/* admin_lock is held. */
static int admin_call(const void *command, size_t bytes)
{
	uint8_t *memory = socket_device_channel(0);
	struct vgpu_channel_control *control = (void *)memory;
	struct vgpu_command_header *header;
	struct vgpu_completion *completion;
	uint64_t deadline = vgpu_now_ns() + socket_device_timeout_s() * VGPU_NSEC_PER_SEC;
	uint64_t tail;
	int error;

	if (admin_broken)
		return EPROTO;
	admin_broken = true; /* until the answer is there, which a late one must not be taken for */
	header = (void *)(memory + VGPU_SQ_OFFSET + admin_tail % VGPU_SQ_ENTRIES * VGPU_SLOT_BYTES);
	memcpy(header, command, bytes);
	header->flags = VGPU_COMMAND_COMPLETE;
	header->sequence = ++admin_tail;
	__atomic_store_n(&control->sq_tail, admin_tail, __ATOMIC_RELEASE);
	__atomic_store_n(&control->cq_waiting, 1, __ATOMIC_RELEASE);
	atomic_thread_fence(memory_order_seq_cst);
	if (__atomic_load_n(&control->sq_sleeping, __ATOMIC_ACQUIRE)) {
		error = socket_device_ring(0);
		if (error)
			return error;
	}
	while ((tail = __atomic_load_n(&control->cq_tail, __ATOMIC_ACQUIRE)) == admin_head) {
		error = socket_device_wait(0, 100000000);
		if (error && error != ETIMEDOUT && error != EINTR)
			return error;
		if (vgpu_now_ns() > deadline)
			return ETIMEDOUT;
	}
	completion = (void *)(memory + VGPU_CQ_OFFSET +
			      admin_head % VGPU_CQ_ENTRIES * sizeof(*completion));
	if (tail != admin_head + 1)
		return EPROTO;
	error = admin_status(completion, admin_tail);
	admin_broken = error == EPROTO;
	__atomic_store_n(&control->cq_head, ++admin_head, __ATOMIC_RELEASE);
	return error;
}

int socket_device_admin(const void *command, size_t bytes)
{
	int error;

	pthread_mutex_lock(&admin_lock);
	error = admin_call(command, bytes);
	pthread_mutex_unlock(&admin_lock);
	return error;
}

int socket_device_share(size_t length, struct vgpu_host_block *block)
{
	int error = 0;

	length = (length + PAGE - 1) & ~((size_t)PAGE - 1);
	*block = (struct vgpu_host_block){ .length = length };
	block->memfd = (int)syscall(SYS_memfd_create, "vgpu-stub host memory", 1u /* CLOEXEC */);
	if (block->memfd < 0)
		return errno;
	if (ftruncate(block->memfd, (off_t)length)) {
		error = errno;
		close(block->memfd);
		return error;
	}
	block->address = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, block->memfd, 0);
	if (block->address == MAP_FAILED) {
		error = errno;
		close(block->memfd);
		return error;
	}
	error = madvise(block->address, length, MADV_DONTFORK) ? errno : 0;
	if (!error) {
		pthread_mutex_lock(&admin_lock);
		block->iova = next_iova;
		next_iova += length;
		pthread_mutex_unlock(&admin_lock);
		error = vfio_user_dma_map(block->memfd, block->iova, length);
	}
	/* The mapping and the server keep the memory; the descriptor is not needed any more. */
	close(block->memfd);
	block->memfd = -1;
	if (error)
		munmap(block->address, length);
	return error;
}

int socket_device_unshare(struct vgpu_host_block *block)
{
	int error = vfio_user_dma_unmap(block->iova, block->length);

	munmap(block->address, block->length);
	return error;
}

/* Lets the device be bus master and turns its MSI-X on. */
static int enable_bus(void)
{
	uint16_t command = PCI_COMMAND_BITS;
	uint8_t position = 0;
	int error =
		vfio_user_write(VFIO_USER_REGION_CONFIG, PCI_COMMAND, &command, sizeof(command));

	if (!error)
		error = vfio_user_set_vectors(vectors, 2);
	if (!error)
		error = vfio_user_read(VFIO_USER_REGION_CONFIG, PCI_CAPABILITIES, &position, 1);
	for (int limit = 48; !error && position && limit; limit--) {
		uint8_t capability[2];
		uint16_t message_control;

		error = vfio_user_read(VFIO_USER_REGION_CONFIG, position, capability, 2);
		if (!error && capability[0] == PCI_CAP_ID_MSIX) {
			error = vfio_user_read(VFIO_USER_REGION_CONFIG, position + 2u,
					       &message_control, 2);
			message_control |= MSIX_ENABLE;
			return error ? error
				     : vfio_user_write(VFIO_USER_REGION_CONFIG, position + 2u,
						       &message_control, 2);
		}
		position = capability[1];
	}
	return error ? error : ENXIO;
}

static int enable_device(char *reason, size_t room)
{
	uint32_t magic = 0;
	uint32_t version = 0;
	uint32_t status = 0;
	uint64_t deadline = vgpu_now_ns() + socket_device_timeout_s() * VGPU_NSEC_PER_SEC;
	int error = read_register(VGPU_REG_MAGIC, &magic);

	if (!error && magic != VGPU_MAGIC) {
		snprintf(reason, room, "not a VGPU-STUB device: magic 0x%08x", magic);
		return ENODEV;
	}
	if (!error)
		error = read_register(VGPU_REG_ABI_VERSION, &version);
	if (!error)
		error = write_register(VGPU_REG_GUEST_ABI_VERSION, VGPU_ABI_VERSION);
	if (!error)
		error = enable_bus();
	if (!error)
		error = write_register(VGPU_REG_CONTROL, VGPU_CONTROL_ENABLE);
	while (!error && !(status & (VGPU_STATUS_ENABLED | VGPU_STATUS_ABI_REFUSED))) {
		error = read_register(VGPU_REG_STATUS, &status);
		if (!error && status == UINT32_MAX) /* what absent hardware reads */
			error = ENODEV;
		if (!error && vgpu_now_ns() > deadline)
			error = ETIMEDOUT;
	}
	if (!error && (status & VGPU_STATUS_ABI_REFUSED || !vgpu_abi_fits(version))) {
		snprintf(reason, room,
			 "the device speaks ABI %u.%u, this process needs %u.%u: "
			 "install the guest libraries of the same VGPU-STUB version as the host",
			 version >> 16, version & 0xffff, VGPU_ABI_MAJOR, VGPU_ABI_MINOR);
		return EPROTONOSUPPORT;
	}
	return error;
}

void socket_device_close(void)
{
	if (vfio_user_socket() >= 0)
		vfio_user_close();
	for (size_t i = 0; i < 2; i++) {
		if (vectors[i] >= 0)
			close(vectors[i]);
		vectors[i] = -1;
	}
	if (bar2_bytes)
		munmap(bar2, bar2_bytes);
	bar2_bytes = 0;
	admin_head = 0;
	admin_tail = 0;
	admin_broken = false;
}

void socket_device_abandon(void)
{
	vfio_user_close();
	close(vectors[0]);
	close(vectors[1]);
	admin_head = 0;
	admin_tail = 0;
	admin_broken = false;
}

int socket_device_open(const char *path, char *reason, size_t room)
{
	const char *step = "connect to";
	int error = vfio_user_connect(path, socket_device_timeout_s());

	if (!error) {
		step = "share memory with";
		error = vfio_user_map(VFIO_USER_REGION_BAR2, (void **)&bar2, &bar2_bytes);
		if (!error && bar2_bytes < VGPU_BAR2_BYTES)
			error = EPROTO;
		if (!error && madvise(bar2, bar2_bytes, MADV_DONTFORK))
			error = errno;
	}
	if (!error) {
		step = "bring up";
		for (size_t i = 0; !error && i < 2; i++) {
			vectors[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
			error = vectors[i] < 0 ? errno : 0;
		}
		if (!error)
			error = enable_device(reason, room);
	}
	if (error) {
		if (!*reason)
			snprintf(reason, room, "cannot %s the device at %s: %s", step, path,
				 strerror(error));
		socket_device_close();
	}
	return error;
}
