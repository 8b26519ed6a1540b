// SPDX-License-Identifier: MIT
/*
 * The submission and completion rings (docs/device.md, section 3).
 *
 * Submission: ring_lock is held while a command is written, for well under a
 * microsecond; the doorbell is rung only when the host said that it sleeps.
 *
 * Completion: a command that somebody waits for owns a slot in `pending`, and its
 * sequence number names it. Whoever waits takes completions out of the ring for
 * everybody (reap_lock, never waited for) and spins for a while; then one waiter
 * becomes the sleeper that asks for an interrupt, the others wait for the sleeper.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

#define PENDING_SLOTS	VGPU_CQ_ENTRIES
#define SLOT_BITS	10
#define SPIN_NS		150000ull
#define SPIN_GPU_NS	2000000ull
#define SPIN_ONE_CPU_NS 20000ull
#define SLEEP_NS	500000000ull /* of one wait; the channel's health is checked in between */
#define FULL_NAP_MAX_NS 1000000ull
#define WATCHDOG_S	10ul /* VGPU_STUB_WATCHDOG where it is not set */
#define WATCHDOG_MAX_S	86400ul
#define LOST_NS		1000000000ull
#define STRAYS_MAX	VGPU_CQ_ENTRIES /* a device that repeats itself is not worth a channel */

static_assert(1u << SLOT_BITS == PENDING_SLOTS, "a slot number fits the low bits of a sequence");

struct pending {
	_Atomic uint64_t sequence; /* of the command that owns the slot, 0: nobody */
	atomic_uint done;
	uint64_t end; /* sq_head once the host has taken the command */
	struct vgpu_reply reply;
};

static struct vgpu_channel_control *control;
static struct vgpu_guest_counters *counters;
static const struct vgpu_host_counters *host_counters;
static const struct vgpu_completion *completions;
static uint8_t *slots;
static uint64_t spin_ns;
static uint64_t stuck_ns; /* 0: never give up */

static pthread_mutex_t ring_lock = PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP;
static uint64_t sq_tail;			    /* ring_lock */
static uint64_t sq_head_seen;			    /* ring_lock; sq_head is at least that */
static uint64_t begun_slots;			    /* ring_lock; of the command being written */
static uint64_t next_sequence = 1;		    /* ring_lock */
static _Atomic uint64_t doorbell_head = UINT64_MAX; /* sq_head when the doorbell was last rung */

static pthread_mutex_t reap_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic uint64_t cq_head; /* reap_lock, but for reading; never read back from the ring */
static uint64_t strays;		 /* reap_lock; completions that nobody waits for */
static struct pending pending[PENDING_SLOTS];
static _Atomic uint64_t free_slots[PENDING_SLOTS / 64]; /* a bit for each free slot */

static pthread_mutex_t sleep_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t sleep_over = PTHREAD_COND_INITIALIZER;
static bool sleeping;	   /* sleep_lock: somebody waits for the transport */
static atomic_uint parked; /* waiters on sleep_over */

static _Atomic int dead; /* CUresult of a dead channel */

static inline void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static uint64_t watchdog_ns(void)
{
	const char *text = getenv("VGPU_STUB_WATCHDOG");
	unsigned long seconds;
	char *end;

	if (!text || !*text)
		return WATCHDOG_S * VGPU_NSEC_PER_SEC;
	seconds = strtoul(text, &end, 10);
	if (*end || seconds > WATCHDOG_MAX_S) {
		vgpu_log_always("VGPU_STUB_WATCHDOG=%s is no number of seconds up to %lu", text,
				WATCHDOG_MAX_S);
		seconds = WATCHDOG_S;
	}
	return seconds * VGPU_NSEC_PER_SEC;
}

void vgpu_ring_open(void *channel)
{
	long processors;
	uint8_t *base = channel;

	control = (void *)(base + VGPU_CONTROL_OFFSET);
	counters = (void *)(base + VGPU_GUEST_COUNTERS_OFFSET);
	host_counters = (void *)(base + VGPU_HOST_COUNTERS_OFFSET);
	completions = (void *)(base + VGPU_CQ_OFFSET);
	slots = base + VGPU_SQ_OFFSET;
	/* A new channel counts from 0, whatever the device has written there. */
	__atomic_store_n(&control->sq_tail, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&control->cq_head, 0, __ATOMIC_RELEASE);
	processors = sysconf(_SC_NPROCESSORS_ONLN);
	/* A physical GPU computes while we spin; the software GPU needs the processors itself. */
	if (processors > 2 && vgpu_executor_is_cuda())
		spin_ns = SPIN_GPU_NS;
	else
		spin_ns = processors > 1 ? SPIN_NS : SPIN_ONE_CPU_NS;
	stuck_ns = watchdog_ns();
	for (size_t i = 0; i < PENDING_SLOTS / 64; i++)
		atomic_store(&free_slots[i], UINT64_MAX);
	vgpu_refused_publish((void *)(base + VGPU_REFUSED_OFFSET),
			     (void *)(base + VGPU_REFUSED_NAMES_OFFSET));
}

void vgpu_count(size_t offset, uint64_t amount)
{
	if (counters)
		__atomic_fetch_add((uint64_t *)((uint8_t *)counters + offset), amount,
				   __ATOMIC_RELAXED);
}

uint64_t vgpu_output_bytes(void)
{
	return __atomic_load_n(&host_counters->output_bytes, __ATOMIC_ACQUIRE);
}

static CUresult declare_dead(CUresult status, const char *why)
{
	int expected = 0;

	if (atomic_compare_exchange_strong(&dead, &expected, (int)status))
		vgpu_log_always("channel is dead: %s (CUresult %d)", why, (int)status);
	return (CUresult)atomic_load(&dead);
}

/* Reads the half of the control page that the host writes; cheap. */
static CUresult check_state(void)
{
	int status = atomic_load_explicit(&dead, memory_order_relaxed);

	if (status)
		return (CUresult)status;
	if (__atomic_load_n(&control->state, __ATOMIC_ACQUIRE) == VGPU_CHANNEL_READY)
		return CUDA_SUCCESS;
	status = __atomic_load_n(&control->error, __ATOMIC_ACQUIRE);
	/* Memory of a device that is gone reads all ones, which is no error. */
	return declare_dead(status > 0 ? vgpu_status_known(status) : CUDA_ERROR_DEVICE_UNAVAILABLE,
			    "the device failed it");
}

/* Also asks whether the device server is still there; a system call. */
static CUresult check_health(void)
{
	CUresult status = check_state();

	if (status == CUDA_SUCCESS && !vgpu_transport->alive())
		status = declare_dead(CUDA_ERROR_DEVICE_UNAVAILABLE, "the device is gone");
	return status;
}

/* What one waiter has seen of the host's progress. */
struct watch {
	uint64_t end;	/* sq_head once the host has taken what is waited for */
	uint64_t head;	/* as last seen */
	uint64_t since; /* when the host was last seen to go on */
	uint64_t owed;	/* when it was first seen asleep behind the command; 0: not yet */
};

static struct watch watch_for(uint64_t end)
{
	uint64_t head = __atomic_load_n(&control->sq_head, __ATOMIC_ACQUIRE);

	return (struct watch){ .end = end, .head = head, .since = vgpu_now_ns() };
}

/*
 * Gives up a channel that cannot answer any more. A kernel may run for as long as
 * it likes: then the host has taken its command and does not sleep, or is busy with
 * it. But a host that sleeps has completed all that it took, and one that is not
 * busy takes what there is.
 */
static CUresult check_progress(struct watch *watch)
{
	uint64_t now = vgpu_now_ns();
	uint64_t head = __atomic_load_n(&control->sq_head, __ATOMIC_ACQUIRE);
	uint64_t lost_ns = stuck_ns < LOST_NS ? stuck_ns : LOST_NS;

	if (!stuck_ns)
		return CUDA_SUCCESS;
	if ((int64_t)(head - watch->end) >= 0) {
		if (!watch->owed && __atomic_load_n(&control->sq_sleeping, __ATOMIC_ACQUIRE))
			watch->owed = now;
		if (watch->owed && now - watch->owed > lost_ns)
			return declare_dead(CUDA_ERROR_LAUNCH_TIMEOUT,
					    "it forgot to complete a command");
	} else if (head != watch->head ||
		   __atomic_load_n(&host_counters->busy_since_ns, __ATOMIC_ACQUIRE)) {
		watch->head = head;
		watch->since = now;
	} else if (now - watch->since > stuck_ns) {
		return declare_dead(CUDA_ERROR_LAUNCH_TIMEOUT, "it takes no more commands");
	}
	return CUDA_SUCCESS;
}

CUresult vgpu_channel_error(void)
{
	return control ? check_state() : CUDA_SUCCESS;
}

/* Hands a completion to who waits for it; false: nobody does. */
static bool hand_over(const struct vgpu_completion *entry)
{
	struct pending *waiter = &pending[entry->sequence % PENDING_SLOTS];

	if (!entry->sequence || atomic_load(&waiter->sequence) != entry->sequence ||
	    atomic_load(&waiter->done)) {
		vgpu_log("completion of unknown sequence %llu",
			 (unsigned long long)entry->sequence);
		return false;
	}
	waiter->reply.status = entry->status ? (int)vgpu_status_known(entry->status) : 0;
	waiter->reply.flags = entry->flags;
	memcpy(waiter->reply.result, entry->result, sizeof(entry->result));
	atomic_store(&waiter->done, 1);
	return true;
}

/* Takes what is in the completion ring. The caller holds reap_lock. */
static bool reap_locked(void)
{
	uint64_t tail = __atomic_load_n(&control->cq_tail, __ATOMIC_ACQUIRE);
	uint64_t head = atomic_load(&cq_head);
	bool any = false;

	if (tail - head > VGPU_CQ_ENTRIES) {
		declare_dead(CUDA_ERROR_DEVICE_UNAVAILABLE, "impossible cq_tail");
		return false;
	}
	for (; head != tail; head++) {
		/* The device can change what it has written: look at a copy. */
		const volatile struct vgpu_completion *shared =
			&completions[head % VGPU_CQ_ENTRIES];
		struct vgpu_completion entry = {
			.sequence = shared->sequence,
			.status = shared->status,
			.flags = shared->flags,
		};

		for (size_t i = 0; i < sizeof(entry.result) / sizeof(*entry.result); i++)
			entry.result[i] = shared->result[i];
		if (hand_over(&entry))
			any = true;
		else if (++strays > STRAYS_MAX)
			declare_dead(CUDA_ERROR_DEVICE_UNAVAILABLE,
				     "it completes what nobody submitted");
	}
	atomic_store(&cq_head, head);
	__atomic_store_n(&control->cq_head, head, __ATOMIC_RELEASE);
	return any;
}

static void reap(void)
{
	bool any;

	if (pthread_mutex_trylock(&reap_lock))
		return;
	any = reap_locked();
	pthread_mutex_unlock(&reap_lock);
	if (any && atomic_load(&parked)) {
		pthread_mutex_lock(&sleep_lock);
		pthread_cond_broadcast(&sleep_over);
		pthread_mutex_unlock(&sleep_lock);
	}
}

static bool completions_waiting(void)
{
	return __atomic_load_n(&control->cq_tail, __ATOMIC_ACQUIRE) != atomic_load(&cq_head);
}

/* Sleeps until the host has written a completion, or for SLEEP_NS. One thread at a time. */
static void sleep_for_interrupt(void)
{
	uint64_t seen = atomic_load(&cq_head);

	__atomic_store_n(&control->cq_waiting, 1, __ATOMIC_RELEASE);
	atomic_thread_fence(memory_order_seq_cst);
	if (__atomic_load_n(&control->cq_tail, __ATOMIC_ACQUIRE) == seen &&
	    check_health() == CUDA_SUCCESS) {
		int error;

		VGPU_COUNT(waits, 1);
		error = vgpu_transport->wait(seen, SLEEP_NS);
		if (error && error != ETIMEDOUT && error != EINTR && check_state() == CUDA_SUCCESS)
			declare_dead(CUDA_ERROR_DEVICE_UNAVAILABLE, "waiting for it failed");
	}
	__atomic_store_n(&control->cq_waiting, 0, __ATOMIC_RELEASE);
}

/* Waits for `done` after spinning was in vain. */
static CUresult sleep_until(struct pending *waiter)
{
	struct watch watch = watch_for(waiter->end);
	atomic_uint *done = &waiter->done;
	CUresult status = CUDA_SUCCESS;

	pthread_mutex_lock(&sleep_lock);
	atomic_fetch_add(&parked, 1);
	while (!atomic_load(done)) {
		status = check_state();
		if (status == CUDA_SUCCESS)
			status = check_progress(&watch);
		if (status != CUDA_SUCCESS)
			break;
		if (sleeping) {
			pthread_cond_wait(&sleep_over, &sleep_lock);
			continue;
		}
		sleeping = true;
		pthread_mutex_unlock(&sleep_lock);
		if (completions_waiting())
			sched_yield(); /* another thread is taking them */
		else
			sleep_for_interrupt();
		reap();
		pthread_mutex_lock(&sleep_lock);
		sleeping = false;
		pthread_cond_broadcast(&sleep_over);
	}
	atomic_fetch_sub(&parked, 1);
	pthread_mutex_unlock(&sleep_lock);
	return atomic_load(done) ? CUDA_SUCCESS : status;
}

/* Waits until reap() has found the completion. */
static CUresult wait_until(struct pending *waiter)
{
	atomic_uint *done = &waiter->done;
	uint64_t deadline = 0;

	for (unsigned int round = 0; !atomic_load_explicit(done, memory_order_acquire); round++) {
		if (completions_waiting()) {
			CUresult status = check_state();

			if (status != CUDA_SUCCESS)
				return status;
			reap();
			continue;
		}
		relax();
		if (round % 32)
			continue;
		if (!deadline)
			deadline = vgpu_now_ns() + spin_ns;
		else if (vgpu_now_ns() > deadline)
			return sleep_until(waiter);
	}
	return CUDA_SUCCESS;
}

/* ring_lock is held: reads sq_head, which never goes back and never passes sq_tail. */
static CUresult look_at_head(void)
{
	uint64_t head = __atomic_load_n(&control->sq_head, __ATOMIC_ACQUIRE);

	if (sq_tail - head > sq_tail - sq_head_seen)
		return declare_dead(CUDA_ERROR_DEVICE_UNAVAILABLE, "impossible sq_head");
	sq_head_seen = head;
	return CUDA_SUCCESS;
}

/* ring_lock is held: waits until `room` slots are free. */
static CUresult wait_for_room(uint64_t room)
{
	CUresult status = look_at_head();
	uint64_t spin_deadline;
	uint64_t nap_ns = 20000;
	struct watch watch;

	if (status != CUDA_SUCCESS || sq_tail - sq_head_seen + room <= VGPU_SQ_ENTRIES)
		return status;
	VGPU_COUNT(ring_full, 1);
	spin_deadline = vgpu_now_ns() + spin_ns;
	watch = watch_for(sq_tail);
	for (;;) {
		struct timespec nap;

		status = look_at_head();
		if (status != CUDA_SUCCESS || sq_tail - sq_head_seen + room <= VGPU_SQ_ENTRIES)
			return status;
		reap(); /* the host may be held up by a full completion ring */
		if (vgpu_now_ns() < spin_deadline) {
			relax();
			continue;
		}
		status = check_health();
		if (status == CUDA_SUCCESS)
			status = check_progress(&watch);
		if (status != CUDA_SUCCESS)
			return status;
		/* No interrupt tells that the host consumed slots: nap, longer each time. */
		nap = (struct timespec){ .tv_nsec = (long)nap_ns };
		nanosleep(&nap, NULL);
		if (nap_ns < FULL_NAP_MAX_NS)
			nap_ns *= 2;
	}
}

static CUresult begin_locked(size_t bytes, void **command)
{
	uint64_t needed = VGPU_SLOTS(bytes);
	uint64_t index = sq_tail % VGPU_SQ_ENTRIES;
	uint64_t filler = index + needed > VGPU_SQ_ENTRIES ? VGPU_SQ_ENTRIES - index : 0;
	CUresult status = check_state();

	if (status == CUDA_SUCCESS && sq_tail - sq_head_seen + filler + needed > VGPU_SQ_ENTRIES)
		status = wait_for_room(filler + needed);
	if (status != CUDA_SUCCESS)
		return status;
	if (filler) {
		struct vgpu_cmd_nop nop = vgpu_encode_nop(0);

		nop.header.slots = (__u16)filler;
		memcpy(slots + index * VGPU_SLOT_BYTES, &nop, sizeof(nop));
		sq_tail += filler;
		index = 0;
	}
	begun_slots = needed;
	*command = slots + index * VGPU_SLOT_BYTES;
	return CUDA_SUCCESS;
}

CUresult vgpu_ring_begin(size_t bytes, void **command)
{
	CUresult status;

	if (VGPU_SLOTS(bytes) > VGPU_COMMAND_MAX_SLOTS)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&ring_lock);
	status = begin_locked(bytes, command);
	if (status != CUDA_SUCCESS)
		pthread_mutex_unlock(&ring_lock);
	return status;
}

static void ring_doorbell_if_asleep(void)
{
	uint64_t head;

	atomic_thread_fence(memory_order_seq_cst);
	if (!__atomic_load_n(&control->sq_sleeping, __ATOMIC_ACQUIRE))
		return;
	/*
	 * A host that was rung at this very head has not looked yet; it will see
	 * this command too, since it looks at the tail after it woke.
	 */
	head = __atomic_load_n(&control->sq_head, __ATOMIC_ACQUIRE);
	if (atomic_exchange(&doorbell_head, head) == head)
		return;
	VGPU_COUNT(doorbells, 1);
	if (vgpu_transport->doorbell())
		check_health();
}

/* Publishes the command that begin_locked() gave and releases the ring. */
static void commit_locked(void)
{
	sq_tail += begun_slots;
	__atomic_store_n(&counters->submissions, counters->submissions + 1, __ATOMIC_RELAXED);
	if (__builtin_expect(vgpu_journal_on, 0))
		vgpu_journal_command(counters->submissions);
	__atomic_store_n(&control->sq_tail, sq_tail, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&ring_lock);
	ring_doorbell_if_asleep();
}

void vgpu_ring_commit(void *command)
{
	struct vgpu_command_header *header = command;

	header->slots = (__u16)begun_slots;
	if (header->opcode == VGPU_OP_LAUNCH_KERNEL || header->opcode == VGPU_OP_LAUNCH_COOPERATIVE)
		__atomic_store_n(&counters->launches, counters->launches + 1, __ATOMIC_RELAXED);
	commit_locked();
}

CUresult vgpu_submit(const void *command, size_t bytes)
{
	void *place;
	CUresult status = vgpu_ring_begin(bytes, &place);

	if (status != CUDA_SUCCESS)
		return status;
	memcpy(place, command, bytes);
	commit_locked();
	return CUDA_SUCCESS;
}

static bool take_slot(uint32_t *slot)
{
	for (uint32_t word = 0; word < PENDING_SLOTS / 64; word++) {
		uint64_t bits = atomic_load(&free_slots[word]);

		while (bits) {
			uint64_t lowest = bits & -bits;

			if (atomic_compare_exchange_weak(&free_slots[word], &bits,
							 bits & ~lowest)) {
				*slot = word * 64 + (uint32_t)__builtin_ctzll(lowest);
				return true;
			}
		}
	}
	return false;
}

static void give_slot(uint32_t slot)
{
	atomic_store(&pending[slot].sequence, 0);
	atomic_fetch_or(&free_slots[slot / 64], 1ull << (slot % 64));
}

CUresult vgpu_submit_ticket(void *command, size_t bytes, const void *tail, size_t tail_bytes,
			    uint16_t flags, struct vgpu_ticket *ticket)
{
	struct vgpu_command_header *header = command;
	uint8_t *place;
	CUresult status;
	uint32_t slot;

	while (!take_slot(&slot)) { /* over a thousand threads wait for the device */
		status = vgpu_channel_error();
		if (status != CUDA_SUCCESS)
			return status;
		reap();
		sched_yield();
	}
	status = vgpu_ring_begin(bytes + tail_bytes, (void **)&place);
	if (status != CUDA_SUCCESS) {
		give_slot(slot);
		return status;
	}
	header->slots = (__u16)VGPU_SLOTS(bytes + tail_bytes);
	header->flags = VGPU_COMMAND_COMPLETE | flags;
	header->sequence = next_sequence++ << SLOT_BITS | slot;
	pending[slot].end = sq_tail + begun_slots;
	atomic_store(&pending[slot].done, 0);
	atomic_store(&pending[slot].sequence, header->sequence);
	memcpy(place, command, bytes);
	if (tail_bytes)
		memcpy(place + bytes, tail, tail_bytes);
	commit_locked();
	*ticket = (struct vgpu_ticket){ .slot = slot, .valid = 1 };
	return CUDA_SUCCESS;
}

bool vgpu_ticket_done(const struct vgpu_ticket *ticket)
{
	if (!ticket->valid)
		return true;
	if (completions_waiting())
		reap();
	return atomic_load(&pending[ticket->slot].done);
}

CUresult vgpu_wait(struct vgpu_ticket *ticket, struct vgpu_reply *reply)
{
	struct pending *waiter = &pending[ticket->slot];
	CUresult status = wait_until(waiter);

	ticket->valid = 0;
	/* On a dead channel nothing can arrive any more, so the slot may be reused. */
	if (status == CUDA_SUCCESS) {
		*reply = waiter->reply;
		status = (CUresult)reply->status;
		if (__builtin_expect(vgpu_journal_on, 0))
			vgpu_journal_answer(atomic_load(&waiter->sequence));
	}
	give_slot(ticket->slot);
	return status;
}

CUresult vgpu_call(void *command, size_t bytes, const void *tail, size_t tail_bytes,
		   struct vgpu_reply *reply)
{
	struct vgpu_ticket ticket;
	CUresult status =
		vgpu_submit_ticket(command, bytes, tail, tail_bytes, VGPU_COMMAND_WAIT, &ticket);

	if (status != CUDA_SUCCESS)
		return status;
	return vgpu_wait(&ticket, reply);
}
