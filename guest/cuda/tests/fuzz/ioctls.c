// SPDX-License-Identifier: MIT
/*
 * Fuzzes vgpu_stub.ko from inside a guest: threads race on a few files, mappings and
 * ranges of memory that they share, with values at the edges of what the interface
 * takes. Nothing a call returns is wrong here; what counts is what the kernel says
 * afterwards, that every call ends, and that all is released (see vgpu_stub/fuzz).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vgpu_stub_abi.h"
#include "vgpu_stub_uapi.h"

#define NODE	     "/dev/vgpu0"
#define FILES	     8u
#define RANGES	     8u
#define RANGE_BYTES  (1u << 20)
#define PAGE	     4096u
#define THREADS_MOST 32
#define WEDGED_S     60

enum operation {
	OPEN,
	OPEN_MONITOR,
	CLOSE,
	DUPLICATE,
	INFO,
	REGISTER,
	UNREGISTER,
	DOORBELL,
	WAIT,
	STATUS,
	BAD_IOCTL,
	MAP,
	UNMAP,
	PROTECT,
	REMAP,
	TOUCH,
	SUBMIT,
	POLL,
	READ_WRITE,
	REMAP_RANGE,
	FORK,
	OPERATIONS
};

static const struct {
	const char *name;
	unsigned int weight;
} operations[OPERATIONS] = {
	[OPEN] = { "open", 6 },
	[OPEN_MONITOR] = { "open read only", 2 },
	[CLOSE] = { "close", 5 },
	[DUPLICATE] = { "dup", 1 },
	[INFO] = { "CHANNEL_INFO", 4 },
	[REGISTER] = { "REGISTER", 16 },
	[UNREGISTER] = { "UNREGISTER", 12 },
	[DOORBELL] = { "DOORBELL", 6 },
	[WAIT] = { "WAIT", 4 },
	[STATUS] = { "DEVICE_STATUS", 2 },
	[BAD_IOCTL] = { "an ioctl that is none", 3 },
	[MAP] = { "mmap", 10 },
	[UNMAP] = { "munmap", 7 },
	[PROTECT] = { "mprotect", 2 },
	[REMAP] = { "mremap", 2 },
	[TOUCH] = { "an access to a mapping", 12 },
	[SUBMIT] = { "a command", 8 },
	[POLL] = { "poll", 3 },
	[READ_WRITE] = { "read or write", 2 },
	[REMAP_RANGE] = { "new pages under a registration", 3 },
	[FORK] = { "fork", 1 },
};

struct worker {
	pthread_t thread;
	uint64_t state;
	atomic_int operation; /* the one that runs */
	unsigned long long done[OPERATIONS], refused[OPERATIONS];
};

/* Shared without locks: races are the point. */
static atomic_int files[FILES];
static _Atomic(uint8_t *) mappings[FILES];
static uint8_t *ranges[RANGES];
static atomic_uint registrations[FILES];
static atomic_bool stopping;
static struct worker workers[THREADS_MOST];
static unsigned int total_weight;

static __thread sigjmp_buf on_fault;
static __thread volatile sig_atomic_t expects_fault;

static void fault(int signal)
{
	if (expects_fault)
		siglongjmp(on_fault, 1);
	_exit(128 + signal);
}

static uint64_t draw(struct worker *w, uint64_t below)
{
	w->state ^= w->state >> 12;
	w->state ^= w->state << 25;
	w->state ^= w->state >> 27;
	return below ? (w->state * 0x2545f4914f6cdd1dull >> 16) % below : 0;
}

static uint64_t edge(struct worker *w)
{
	static const uint64_t values[] = { 0,	       1,	   2,	       3,
					   4,	       PAGE - 1,   PAGE,       65535,
					   0x7fffffff, 0x80000000, 0xffffffff, 1ull << 32,
					   1ull << 47, 1ull << 63, ~0ull,      ~0ull << 12 };

	return values[draw(w, sizeof(values) / sizeof(*values))];
}

static int some_file(struct worker *w)
{
	return atomic_load(&files[draw(w, FILES)]);
}

static uint8_t *some_mapping(struct worker *w)
{
	return atomic_load(&mappings[draw(w, FILES)]);
}

static long open_node(struct worker *w, int flags)
{
	int fd = open(NODE, flags | O_CLOEXEC), old;

	if (fd < 0)
		return fd;
	old = atomic_exchange(&files[draw(w, FILES)], fd);
	if (old >= 0)
		close(old);
	return 0;
}

static long register_range(struct worker *w)
{
	struct vgpu_ioctl_register request = { 0 };
	size_t slot = draw(w, FILES);
	long result;

	request.address = (uintptr_t)ranges[draw(w, RANGES)] + draw(w, 16) * PAGE;
	request.length = (1 + draw(w, 8)) * PAGE;
	request.access = (uint32_t)(1 + draw(w, 3));
	switch (draw(w, 12)) {
	case 0:
		request.address = edge(w);
		break;
	case 1:
		request.length = edge(w);
		break;
	case 2:
		request.access = (uint32_t)edge(w);
		break;
	case 3: /* the device's own memory */
		request.address = (uintptr_t)some_mapping(w);
		break;
	case 4:
		request.address += draw(w, PAGE);
		break;
	default:
		break;
	}
	result = ioctl(atomic_load(&files[slot]), VGPU_IOCTL_REGISTER,
		       draw(w, 40) ? &request : (void *)(uintptr_t)edge(w));
	if (!result)
		atomic_store(&registrations[slot], request.registration);
	return result;
}

static long unregister(struct worker *w)
{
	size_t slot = draw(w, FILES);
	struct vgpu_ioctl_unregister request = { 0 };

	request.registration = atomic_load(&registrations[slot]);
	if (!draw(w, 4))
		request.registration = (uint32_t)draw(w, 6);
	if (!draw(w, 10))
		request.registration = (uint32_t)edge(w);
	if (!draw(w, 20))
		request.reserved = (uint32_t)edge(w);
	return ioctl(atomic_load(&files[slot]), VGPU_IOCTL_UNREGISTER, &request);
}

static long wait_for_completion(struct worker *w)
{
	struct vgpu_ioctl_wait request = { .cq_tail = draw(w, 2) ? 0 : edge(w),
					   .timeout_ns = draw(w, 2000000) };

	return ioctl(some_file(w), VGPU_IOCTL_WAIT, &request);
}

static long bad_ioctl(struct worker *w)
{
	unsigned int command = (unsigned int)_IOC(draw(w, 4), draw(w, 4) ? 'V' : draw(w, 256),
						  0x7e + draw(w, 12), draw(w, 64));

	/* WAIT takes its time from whatever lies there: not what this is about. */
	if (_IOC_NR(command) == _IOC_NR(VGPU_IOCTL_WAIT))
		return -1;
	return ioctl(some_file(w), command, edge(w));
}

static long map(struct worker *w)
{
	static const uint64_t offsets[] = { VGPU_MMAP_CHANNEL, VGPU_MMAP_CHANNEL, VGPU_MMAP_CHANNEL,
					    VGPU_MMAP_INFO, PAGE };
	size_t slot = draw(w, FILES);
	size_t length = draw(w, 5) ? VGPU_CHANNEL_STRIDE : (size_t)(1 + draw(w, 200)) * PAGE;
	int protection = draw(w, 6) ? PROT_READ | PROT_WRITE : (int)draw(w, 8);
	int flags = draw(w, 8) ? MAP_SHARED : MAP_PRIVATE;
	uint64_t offset = offsets[draw(w, 5)];
	void *made;

	if (!draw(w, 10))
		offset = edge(w) & ~(uint64_t)(PAGE - 1) & INT64_MAX;
	made = mmap(NULL, length, protection, flags, atomic_load(&files[slot]), (off_t)offset);
	if (made == MAP_FAILED)
		return -1;
	made = atomic_exchange(&mappings[slot], made);
	if (made)
		munmap(made, VGPU_CHANNEL_STRIDE);
	return 0;
}

static long unmap(struct worker *w)
{
	uint8_t *mapping = atomic_exchange(&mappings[draw(w, FILES)], NULL);

	if (!mapping)
		return -1;
	if (!draw(w, 4)) /* a part, the rest stays behind */
		munmap(mapping + PAGE, PAGE);
	return munmap(mapping, VGPU_CHANNEL_STRIDE);
}

static long protect(struct worker *w)
{
	uint8_t *mapping = some_mapping(w);

	return mapping ? mprotect(mapping, (1 + draw(w, 16)) * PAGE, (int)draw(w, 8)) : -1;
}

static long remap(struct worker *w)
{
	size_t slot = draw(w, FILES);
	uint8_t *mapping = atomic_load(&mappings[slot]);
	void *moved;

	if (!mapping)
		return -1;
	moved = mremap(mapping, VGPU_CHANNEL_STRIDE, draw(w, 2) ? PAGE : 2 * VGPU_CHANNEL_STRIDE,
		       MREMAP_MAYMOVE);
	if (moved == MAP_FAILED)
		return -1;
	if (!atomic_compare_exchange_strong(&mappings[slot], &mapping, NULL))
		return 0;
	return munmap(moved, VGPU_CHANNEL_STRIDE);
}

static long access_word(uint8_t *place, bool is_write, uint64_t value)
{
	expects_fault = 1;
	if (sigsetjmp(on_fault, 1)) {
		expects_fault = 0;
		return -1;
	}
	if (is_write)
		*(volatile uint64_t *)place = value;
	else
		(void)*(volatile uint64_t *)place;
	expects_fault = 0;
	return 0;
}

static long touch(struct worker *w)
{
	uint8_t *mapping = some_mapping(w);
	uint64_t at = draw(w, 2) ? draw(w, PAGE / 8) : draw(w, VGPU_CHANNEL_STRIDE / 8);

	return mapping ? access_word(mapping + at * 8, draw(w, 2), edge(w)) : -1;
}

/* A command, mostly well-formed, into whatever ring is mapped there. */
static long submit(struct worker *w)
{
	uint8_t *mapping = some_mapping(w);
	struct vgpu_channel_control *control;
	struct vgpu_command_header *header;
	uint64_t tail;

	if (!mapping)
		return -1;
	expects_fault = 1;
	if (sigsetjmp(on_fault, 1)) {
		expects_fault = 0;
		return -1;
	}
	control = (void *)(mapping + VGPU_CONTROL_OFFSET);
	tail = control->sq_tail;
	header = (void *)(mapping + VGPU_SQ_OFFSET + tail % VGPU_SQ_ENTRIES * VGPU_SLOT_BYTES);
	*header = (struct vgpu_command_header){
		.opcode = draw(w, 2) ? VGPU_OP_NOP : (uint16_t)draw(w, 0x95),
		.slots = draw(w, 30) ? 1 : (uint16_t)edge(w),
		.flags = VGPU_COMMAND_COMPLETE,
		.sequence = tail,
	};
	__atomic_store_n(&control->sq_tail, tail + (draw(w, 50) ? 1 : edge(w)), __ATOMIC_RELEASE);
	control->cq_head = control->cq_tail;
	expects_fault = 0;
	return ioctl(some_file(w), VGPU_IOCTL_DOORBELL);
}

static long read_or_write(struct worker *w)
{
	char buffer[64];
	int fd = some_file(w);

	switch (draw(w, 3)) {
	case 0:
		return read(fd, buffer, sizeof(buffer));
	case 1:
		return write(fd, buffer, sizeof(buffer));
	default:
		return lseek(fd, (off_t)edge(w), SEEK_SET);
	}
}

/* Pages that may be registered go, and others take their place. */
static long replace_range(struct worker *w)
{
	uint8_t *range = ranges[draw(w, RANGES)];
	size_t bytes = (1 + draw(w, 16)) * PAGE;

	if (draw(w, 2))
		return madvise(range, bytes, MADV_DONTNEED);
	return mmap(range, bytes, PROT_READ | (draw(w, 4) ? PROT_WRITE : 0),
		    MAP_FIXED | MAP_ANONYMOUS | (draw(w, 2) ? MAP_SHARED : MAP_PRIVATE), -1,
		    0) == MAP_FAILED
		       ? -1
		       : 0;
}

static long fork_once(struct worker *w)
{
	pid_t child = fork();

	if (child < 0)
		return -1;
	if (!child) {
		struct vgpu_ioctl_channel_info info;

		ioctl(some_file(w), VGPU_IOCTL_CHANNEL_INFO, &info);
		ioctl(some_file(w), VGPU_IOCTL_DOORBELL);
		_exit(0);
	}
	return waitpid(child, NULL, 0) == child ? 0 : -1;
}

static long carry_out(struct worker *w, int operation)
{
	static struct vgpu_ioctl_device_status status;
	struct vgpu_ioctl_channel_info info;
	struct pollfd polled;
	int fd;

	switch (operation) {
	case OPEN:
		return open_node(w, O_RDWR);
	case OPEN_MONITOR:
		return open_node(w, O_RDONLY);
	case CLOSE:
		fd = atomic_exchange(&files[draw(w, FILES)], -1);
		return fd < 0 ? -1 : close(fd);
	case DUPLICATE:
		fd = dup(some_file(w));
		return fd < 0 ? -1 : close(fd);
	case INFO:
		return ioctl(some_file(w), VGPU_IOCTL_CHANNEL_INFO,
			     draw(w, 10) ? &info : (void *)(uintptr_t)edge(w));
	case REGISTER:
		return register_range(w);
	case UNREGISTER:
		return unregister(w);
	case DOORBELL:
		return ioctl(some_file(w), VGPU_IOCTL_DOORBELL, edge(w));
	case WAIT:
		return wait_for_completion(w);
	case STATUS:
		return ioctl(some_file(w), VGPU_IOCTL_DEVICE_STATUS,
			     draw(w, 10) ? &status : (void *)(uintptr_t)edge(w));
	case BAD_IOCTL:
		return bad_ioctl(w);
	case MAP:
		return map(w);
	case UNMAP:
		return unmap(w);
	case PROTECT:
		return protect(w);
	case REMAP:
		return remap(w);
	case TOUCH:
		return touch(w);
	case SUBMIT:
		return submit(w);
	case POLL:
		polled = (struct pollfd){ .fd = some_file(w), .events = (short)draw(w, 64) };
		return poll(&polled, 1, (int)draw(w, 2));
	case READ_WRITE:
		return read_or_write(w);
	case REMAP_RANGE:
		return replace_range(w);
	default:
		return fork_once(w);
	}
}

static int choose(struct worker *w)
{
	unsigned int left = (unsigned int)draw(w, total_weight);
	int operation = 0;

	while (left >= operations[operation].weight)
		left -= operations[operation++].weight;
	return operation;
}

static void *work(void *data)
{
	struct worker *w = data;

	while (!atomic_load(&stopping)) {
		int operation = choose(w);

		atomic_store(&w->operation, operation);
		if (carry_out(w, operation) < 0)
			w->refused[operation]++;
		w->done[operation]++;
	}
	atomic_store(&w->operation, OPERATIONS);
	return NULL;
}

/* Gives up on threads that do not come back, and names what they were doing. */
static int join(int threads)
{
	struct timespec end;
	int wedged = 0;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += WEDGED_S;
	for (int i = 0; i < threads; i++) {
		if (!pthread_timedjoin_np(workers[i].thread, NULL, &end))
			continue;
		printf("WEDGED in %s\n", operations[atomic_load(&workers[i].operation)].name);
		wedged = 1;
	}
	return wedged;
}

static void report(int threads, double seconds)
{
	unsigned long long total = 0;

	for (int operation = 0; operation < OPERATIONS; operation++) {
		unsigned long long done = 0, refused = 0;

		for (int i = 0; i < threads; i++) {
			done += workers[i].done[operation];
			refused += workers[i].refused[operation];
		}
		total += done;
		printf("%10llu %-32s %llu refused\n", done, operations[operation].name, refused);
	}
	printf("%llu cases in %.0f s (%.0f cases a second)\n", total, seconds,
	       (double)total / seconds);
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = fault };
	double seconds, start;
	uint64_t seed;
	int threads, wedged;

	if (argc != 4) {
		fprintf(stderr, "usage: %s SECONDS THREADS SEED\n", argv[0]);
		return 2;
	}
	seconds = atof(argv[1]);
	threads = atoi(argv[2]);
	seed = strtoull(argv[3], NULL, 0);
	if (threads < 1 || threads > THREADS_MOST) {
		fprintf(stderr, "1 to %d threads\n", THREADS_MOST);
		return 2;
	}
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	for (unsigned int i = 0; i < FILES; i++)
		atomic_store(&files[i], -1);
	for (unsigned int i = 0; i < RANGES; i++) {
		ranges[i] = mmap(NULL, RANGE_BYTES, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (ranges[i] == MAP_FAILED) {
			perror("mmap");
			return 1;
		}
	}
	for (int i = 0; i < OPERATIONS; i++)
		total_weight += operations[i].weight;
	start = now();
	for (int i = 0; i < threads; i++) {
		workers[i].state = (seed * 64 + (uint64_t)i) * 2 + 1;
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i])) {
			perror("pthread_create");
			return 1;
		}
	}
	while (now() - start < seconds)
		usleep(20000);
	atomic_store(&stopping, true);
	wedged = join(threads);
	report(threads, now() - start);
	fflush(stdout);
	_exit(wedged);
}
