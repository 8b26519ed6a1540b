// SPDX-License-Identifier: MIT
/*
 * vfio-user 0.0 over a stream socket, client side: one command at a time, each
 * answered before the next. Little endian, as the protocol is on this wire.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "vfio_user.h"

#define REPLY_MAX     4096u
#define FLAG_TYPE     0xfu
#define FLAG_REPLY    0x1u
#define FLAG_NO_REPLY 0x10u
#define FLAG_ERROR    0x20u
#define REGION_MMAP   0x4u
#define IRQ_MSIX      2u
#define IRQ_EVENTFD   0x24u /* data is eventfds, action is to trigger */
#define DMA_RW	      0x3u
#define FDS_MAX	      8u
#define DECLINED_MAX  1000u /* commands of the server before a reply */

enum command {
	COMMAND_VERSION = 1,
	COMMAND_DMA_MAP = 2,
	COMMAND_DMA_UNMAP = 3,
	COMMAND_GET_REGION_INFO = 5,
	COMMAND_SET_IRQS = 8,
	COMMAND_REGION_READ = 9,
	COMMAND_REGION_WRITE = 10,
};

struct header {
	uint16_t id;
	uint16_t command;
	uint32_t size; /* header included */
	uint32_t flags;
	uint32_t error;
};

struct dma_map {
	uint32_t argsz;
	uint32_t flags;
	uint64_t offset;
	uint64_t iova;
	uint64_t size;
};

struct dma_unmap {
	uint32_t argsz;
	uint32_t flags;
	uint64_t iova;
	uint64_t size;
};

struct region_info {
	uint32_t argsz;
	uint32_t flags;
	uint32_t index;
	uint32_t capability;
	uint64_t size;
	uint64_t offset;
};

struct region_access {
	uint64_t offset;
	uint32_t region;
	uint32_t count;
};

struct set_irqs {
	uint32_t argsz;
	uint32_t flags;
	uint32_t index;
	uint32_t start;
	uint32_t count;
};

static pthread_mutex_t socket_lock = PTHREAD_MUTEX_INITIALIZER;
static int connection = -1;
static uint16_t next_id; /* socket_lock */

static int send_all(const struct iovec *parts, int count, const int *fds, uint32_t fd_count)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} control = { 0 };
	struct iovec left[3];
	struct msghdr message = { .msg_iov = left, .msg_iovlen = (size_t)count };

	memcpy(left, parts, (size_t)count * sizeof(*parts));
	if (fd_count) {
		struct cmsghdr *rights;

		message.msg_control = control.room;
		message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		rights = CMSG_FIRSTHDR(&message);
		rights->cmsg_level = SOL_SOCKET;
		rights->cmsg_type = SCM_RIGHTS;
		rights->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(rights), fds, fd_count * sizeof(int));
	}
	while (message.msg_iovlen) {
		ssize_t sent = sendmsg(connection, &message, MSG_NOSIGNAL);

		if (sent < 0) {
			if (errno == EINTR)
				continue;
			return errno;
		}
		message.msg_control = NULL;
		message.msg_controllen = 0;
		while (message.msg_iovlen && (size_t)sent >= message.msg_iov->iov_len) {
			sent -= (ssize_t)message.msg_iov->iov_len;
			message.msg_iov++;
			message.msg_iovlen--;
		}
		if (message.msg_iovlen) {
			message.msg_iov->iov_base = (char *)message.msg_iov->iov_base + sent;
			message.msg_iov->iov_len -= (size_t)sent;
		}
	}
	return 0;
}

/* Reads exactly `bytes`; a descriptor that comes along replaces *fd. */
static int receive_all(void *data, size_t bytes, int *fd)
{
	while (bytes) {
		union {
			struct cmsghdr align;
			char room[CMSG_SPACE(FDS_MAX * sizeof(int))];
		} control;
		struct iovec part = { .iov_base = data, .iov_len = bytes };
		struct msghdr message = {
			.msg_iov = &part,
			.msg_iovlen = 1,
			.msg_control = control.room,
			.msg_controllen = sizeof(control.room),
		};
		ssize_t got = recvmsg(connection, &message, MSG_CMSG_CLOEXEC);
		struct cmsghdr *rights;

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return !got ? ENODEV : errno == EAGAIN ? ETIMEDOUT : errno;
		for (rights = CMSG_FIRSTHDR(&message); rights;
		     rights = CMSG_NXTHDR(&message, rights)) {
			size_t count = (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int);

			for (size_t i = 0; rights->cmsg_type == SCM_RIGHTS && i < count; i++) {
				if (*fd >= 0)
					close(*fd);
				memcpy(fd, CMSG_DATA(rights) + i * sizeof(int), sizeof(int));
			}
		}
		data = (char *)data + got;
		bytes -= (size_t)got;
	}
	return 0;
}

/* Answers a command of the server; it has no reason to send any, all memory is mapped. */
static int decline(const struct header *asked)
{
	struct header reply = {
		.id = asked->id,
		.command = asked->command,
		.size = sizeof(reply),
		.flags = FLAG_REPLY | FLAG_ERROR,
		.error = EOPNOTSUPP,
	};
	struct iovec part = { &reply, sizeof(reply) };

	return asked->flags & FLAG_NO_REPLY ? 0 : send_all(&part, 1, NULL, 0);
}

/* Receives the reply to `id`; *reply_bytes is its payload. socket_lock is held. */
static int receive_reply(uint16_t id, void *reply, uint32_t *reply_bytes, int *fd)
{
	for (unsigned int declined = 0; declined < DECLINED_MAX; declined++) {
		uint8_t payload[REPLY_MAX];
		struct header header;
		uint32_t bytes;
		int error = receive_all(&header, sizeof(header), fd);

		if (error)
			return error;
		bytes = header.size - (uint32_t)sizeof(header);
		if (header.size < sizeof(header) || bytes > sizeof(payload))
			return EPROTO;
		error = receive_all(payload, bytes, fd);
		if (error)
			return error;
		if ((header.flags & FLAG_TYPE) != FLAG_REPLY) {
			error = decline(&header);
			if (error)
				return error;
			continue;
		}
		if (header.id != id)
			return EPROTO;
		if (header.flags & FLAG_ERROR)
			return header.error ? (int)header.error : EIO;
		if (reply && *reply_bytes < bytes)
			bytes = *reply_bytes;
		if (reply)
			memcpy(reply, payload, bytes);
		*reply_bytes = bytes;
		return 0;
	}
	return EPROTO;
}

struct exchange {
	enum command command;
	const void *payload;
	uint32_t payload_bytes;
	const void *data; /* follows the payload */
	uint32_t data_bytes;
	const int *fds;
	uint32_t fd_count;
	void *reply;
	uint32_t reply_bytes; /* in: room; out: bytes received */
	int reply_fd;	      /* out: -1 for none */
};

static int converse(struct exchange *exchange)
{
	struct header header = { .command = (uint16_t)exchange->command };
	struct iovec parts[3] = {
		{ &header, sizeof(header) },
		{ (void *)(uintptr_t)exchange->payload, exchange->payload_bytes },
		{ (void *)(uintptr_t)exchange->data, exchange->data_bytes },
	};
	int error;

	exchange->reply_fd = -1;
	header.size = (uint32_t)sizeof(header) + exchange->payload_bytes + exchange->data_bytes;
	pthread_mutex_lock(&socket_lock);
	header.id = next_id++;
	error = send_all(parts, exchange->data_bytes ? 3 : 2, exchange->fds, exchange->fd_count);
	if (!error)
		error = receive_reply(header.id, exchange->reply, &exchange->reply_bytes,
				      &exchange->reply_fd);
	pthread_mutex_unlock(&socket_lock);
	if (error && exchange->reply_fd >= 0)
		close(exchange->reply_fd);
	return error;
}

static int negotiate(void)
{
	static const char offer[] = "\0\0\0\0{\"capabilities\": {\"max_msg_fds\": 8}}";
	uint16_t version[2] = { 0xffff, 0xffff };
	struct exchange exchange = {
		.command = COMMAND_VERSION,
		.payload = offer,
		.payload_bytes = sizeof(offer),
		.reply = version,
		.reply_bytes = sizeof(version),
	};
	int error = converse(&exchange);

	if (error)
		return error;
	return exchange.reply_bytes == sizeof(version) && version[0] == 0 ? 0 : EPROTO;
}

int vfio_user_connect(const char *path, unsigned int timeout_s)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_sec = timeout_s };
	int error;

	if (strlen(path) >= sizeof(address.sun_path))
		return ENAMETOOLONG;
	strcpy(address.sun_path, path);
	connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connection < 0)
		return errno;
	if (setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) ||
	    setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) ||
	    connect(connection, (struct sockaddr *)&address, sizeof(address)))
		error = errno;
	else
		error = negotiate();
	if (error)
		vfio_user_close();
	return error;
}

void vfio_user_close(void)
{
	close(connection);
	connection = -1;
}

int vfio_user_socket(void)
{
	return connection;
}

bool vfio_user_alive(void)
{
	struct pollfd watched = { .fd = connection, .events = POLLRDHUP };

	return poll(&watched, 1, 0) <= 0 ||
	       !(watched.revents & (POLLERR | POLLHUP | POLLRDHUP | POLLNVAL));
}

int vfio_user_read(uint32_t region, uint64_t offset, void *data, uint32_t bytes)
{
	struct region_access access = { .offset = offset, .region = region, .count = bytes };
	uint8_t reply[sizeof(access) + 256];
	struct exchange exchange = {
		.command = COMMAND_REGION_READ,
		.payload = &access,
		.payload_bytes = sizeof(access),
		.reply = reply,
		.reply_bytes = (uint32_t)sizeof(access) + bytes,
	};
	int error = bytes <= 256 ? converse(&exchange) : EMSGSIZE;

	if (error)
		return error;
	if (exchange.reply_bytes != sizeof(access) + bytes)
		return EPROTO;
	memcpy(data, reply + sizeof(access), bytes);
	return 0;
}

int vfio_user_write(uint32_t region, uint64_t offset, const void *data, uint32_t bytes)
{
	struct region_access access = { .offset = offset, .region = region, .count = bytes };
	struct exchange exchange = {
		.command = COMMAND_REGION_WRITE,
		.payload = &access,
		.payload_bytes = sizeof(access),
		.data = data,
		.data_bytes = bytes,
	};

	return converse(&exchange);
}

/*
 * Whether a file has a range, and for good: who touches a mapping beyond the end of its file
 * is killed, so it must be sealed against shrinking.
 */
static bool holds(int fd, uint64_t offset, uint64_t size)
{
	struct stat about;
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && seals & F_SEAL_SHRINK && !fstat(fd, &about) && about.st_size >= 0 &&
	       offset <= (uint64_t)about.st_size && size <= (uint64_t)about.st_size - offset;
}

int vfio_user_map(uint32_t region, void **address, uint64_t *size)
{
	struct region_info info = { .argsz = sizeof(info), .index = region };
	struct region_info found = { 0 };
	struct exchange exchange = {
		.command = COMMAND_GET_REGION_INFO,
		.payload = &info,
		.payload_bytes = sizeof(info),
		.reply = &found,
		.reply_bytes = sizeof(found),
	};
	int error = converse(&exchange);

	if (error)
		return error;
	if (exchange.reply_bytes != sizeof(found) || !(found.flags & REGION_MMAP) ||
	    exchange.reply_fd < 0 || !holds(exchange.reply_fd, found.offset, found.size)) {
		error = EPROTO;
	} else {
		*address = mmap(NULL, found.size, PROT_READ | PROT_WRITE, MAP_SHARED,
				exchange.reply_fd, (off_t)found.offset);
		if (*address == MAP_FAILED)
			error = errno;
		else
			*size = found.size;
	}
	if (exchange.reply_fd >= 0)
		close(exchange.reply_fd);
	return error;
}

int vfio_user_dma_map(int fd, uint64_t iova, uint64_t size)
{
	struct dma_map map = {
		.argsz = sizeof(map),
		.flags = DMA_RW,
		.iova = iova,
		.size = size,
	};
	struct exchange exchange = {
		.command = COMMAND_DMA_MAP,
		.payload = &map,
		.payload_bytes = sizeof(map),
		.fds = &fd,
		.fd_count = 1,
	};

	return converse(&exchange);
}

int vfio_user_dma_unmap(uint64_t iova, uint64_t size)
{
	struct dma_unmap unmap = { .argsz = sizeof(unmap), .iova = iova, .size = size };
	struct exchange exchange = {
		.command = COMMAND_DMA_UNMAP,
		.payload = &unmap,
		.payload_bytes = sizeof(unmap),
	};

	return converse(&exchange);
}

int vfio_user_set_vectors(const int *eventfds, uint32_t count)
{
	struct set_irqs irqs = {
		.argsz = sizeof(irqs),
		.flags = IRQ_EVENTFD,
		.index = IRQ_MSIX,
		.count = count,
	};
	struct exchange exchange = {
		.command = COMMAND_SET_IRQS,
		.payload = &irqs,
		.payload_bytes = sizeof(irqs),
		.fds = eventfds,
		.fd_count = count,
	};

	return count <= FDS_MAX ? converse(&exchange) : EMSGSIZE;
}
