// SPDX-License-Identifier: MIT
#include "journal.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "vgpu_stub_abi.h"
#include "../generated/journal_records.h"

#define LINE_BYTES     2048u
#define ARGUMENT_BYTES 1024u
#define NEVER_CALLED   INT_MIN
#define SHOWN_TEXTS    8u
#define SHOWN_BYTES    256u
#define PAGE_BYTES     4096u

bool vgpu_journal_on;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static int file = -1;
static pid_t owner; /* whose file it is: a forked child starts its own */
static int last_status[VGPU_REFUSED_ENTRIES];
static uint64_t calls[VGPU_REFUSED_ENTRIES];
static const char *symbols[VGPU_REFUSED_ENTRIES];

static bool all_calls; /* constant after the library was loaded */
static __thread struct vgpu_journal_span *current;
static __thread char shown[SHOWN_TEXTS][SHOWN_BYTES];
static __thread unsigned int next_shown;

struct line {
	char text[LINE_BYTES];
	size_t used;
};

static void add(struct line *line, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct line *line, const char *format, ...)
{
	size_t room = sizeof(line->text) - line->used;
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(line->text + line->used, room, format, arguments);
	va_end(arguments);
	if (length > 0)
		line->used += (size_t)length < room ? (size_t)length : room - 1;
}

/* A JSON string; what does not fit is left out. */
static void add_string(struct line *line, const char *text)
{
	const size_t reserve = 16; /* an escape, the quote, and the end of the object */

	add(line, "\"");
	for (const char *c = text; *c && line->used + reserve < sizeof(line->text); c++) {
		if (*c == '"' || *c == '\\')
			add(line, "\\%c", *c);
		else if ((unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7f)
			add(line, "\\u%04x", (unsigned char)*c);
		else
			add(line, "%c", *c);
	}
	add(line, "\"");
}

static void begin(struct line *line, const char *event)
{
	line->used = 0;
	add(line, "{\"event\": \"%s\"", event);
}

/* lock is held. One write, so that lines of threads and processes do not mix. */
static void end(struct line *line)
{
	add(line, "}\n");
	if (file >= 0 && write(file, line->text, line->used) < 0) {
		close(file);
		file = -1;
	}
}

static void write_load(void)
{
	struct line line;
	char program[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", program, sizeof(program) - 1);
	const char *preload = getenv("LD_PRELOAD");
	Dl_info library;

	program[length > 0 ? length : 0] = '\0';
	begin(&line, "load");
	add(&line, ", \"pid\": %d, \"parent\": %d, \"program\": ", (int)getpid(), (int)getppid());
	add_string(&line, program);
	add(&line, ", \"library\": ");
	add_string(&line, dladdr((void *)write_load, &library) ? library.dli_fname : "");
	if (preload && *preload) {
		add(&line, ", \"preload\": ");
		add_string(&line, preload);
	}
	end(&line);
}

/* lock is held. */
static void open_file(void)
{
	const char *folder = getenv("VGPU_STUB_JOURNAL");
	char path[PATH_MAX];

	if (file >= 0)
		close(file);
	owner = getpid();
	snprintf(path, sizeof(path), "%s/%d.jsonl", folder ? folder : ".", (int)owner);
	file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	for (size_t i = 0; i < VGPU_REFUSED_ENTRIES; i++) {
		last_status[i] = NEVER_CALLED;
		calls[i] = 0;
	}
	write_load();
}

static void take(void)
{
	pthread_mutex_lock(&lock);
	if (owner != getpid())
		open_file();
}

static void release(void)
{
	pthread_mutex_unlock(&lock);
}

static void lock_for_fork(void)
{
	pthread_mutex_lock(&lock);
}

__attribute__((constructor)) static void start(void)
{
	const char *folder = getenv("VGPU_STUB_JOURNAL");
	const char *which = getenv("VGPU_STUB_JOURNAL_CALLS");

	if (!folder || !*folder)
		return;
	all_calls = which && !strcmp(which, "all");
	/* A child may be forked while another thread writes. */
	pthread_atfork(lock_for_fork, release, release);
	take();
	vgpu_journal_on = file >= 0;
	release();
}

__attribute__((destructor)) static void finish(void)
{
	struct line line;

	if (!vgpu_journal_on)
		return;
	take();
	for (size_t i = 0; i < VGPU_REFUSED_ENTRIES; i++) {
		if (!calls[i])
			continue;
		begin(&line, "calls");
		add(&line, ", \"function\": \"%s\", \"count\": %llu", symbols[i],
		    (unsigned long long)calls[i]);
		end(&line);
	}
	release();
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* A thread of a forked child has another id than the one that it was. */
static pid_t thread_id(void)
{
	static __thread pid_t id, of;

	if (of != owner) {
		of = owner;
		id = gettid();
	}
	return id;
}

static char *shown_text(void)
{
	return shown[next_shown++ % SHOWN_TEXTS];
}

/* Reads memory that the program says is there; returns how much of it is. */
static size_t peek(const void *from, void *to, size_t bytes)
{
	size_t head = PAGE_BYTES - (uintptr_t)from % PAGE_BYTES;
	struct iovec remote[2] = { { .iov_base = (void *)(uintptr_t)from,
				     .iov_len = bytes < head ? bytes : head } };
	struct iovec local = { .iov_base = to, .iov_len = bytes };
	ssize_t length;

	remote[1].iov_base = (char *)remote[0].iov_base + remote[0].iov_len;
	remote[1].iov_len = bytes - remote[0].iov_len;
	length = process_vm_readv(getpid(), &local, 1, remote, remote[1].iov_len ? 2 : 1, 0);
	return length > 0 ? (size_t)length : 0;
}

const char *vgpu_journal_text(const char *text)
{
	const size_t room = SHOWN_BYTES - sizeof("\"\"...");
	char bytes[SHOWN_BYTES];
	char *out = shown_text();
	size_t length = text ? peek(text, bytes, room) : 0;
	bool ends = length && memchr(bytes, '\0', length);

	if (!length)
		snprintf(out, SHOWN_BYTES, "%p", (const void *)text);
	else
		snprintf(out, SHOWN_BYTES, "\"%.*s\"%s", (int)length, bytes, ends ? "" : "...");
	return out;
}

const char *vgpu_journal_given(const void *place, enum vgpu_given kind, int status)
{
	char *out = shown_text();

	if (!place || status) {
		snprintf(out, SHOWN_BYTES, "%p", place);
		return out;
	}
	switch (kind) {
	case VGPU_GIVEN_INT:
		snprintf(out, SHOWN_BYTES, "[%d]", *(const int *)place);
		break;
	case VGPU_GIVEN_UNSIGNED:
		snprintf(out, SHOWN_BYTES, "[%u]", *(const unsigned int *)place);
		break;
	case VGPU_GIVEN_LONG:
		snprintf(out, SHOWN_BYTES, "[%llu]", (unsigned long long)*(const uint64_t *)place);
		break;
	case VGPU_GIVEN_ADDRESS:
		snprintf(out, SHOWN_BYTES, "[0x%llx]",
			 (unsigned long long)*(const uint64_t *)place);
		break;
	case VGPU_GIVEN_FLOAT:
		snprintf(out, SHOWN_BYTES, "[%g]", (double)*(const float *)place);
		break;
	}
	return out;
}

void vgpu_journal_command(uint64_t number)
{
	if (!current)
		return;
	if (!current->first_command)
		current->first_command = number;
	current->last_command = number;
}

void vgpu_journal_answer(uint64_t sequence)
{
	if (current)
		current->answered = sequence;
}

void vgpu_journal_begin(struct vgpu_journal_span *span, const char *symbol)
{
	struct line line;

	*span = (struct vgpu_journal_span){ .outer = current };
	if (all_calls) {
		take();
		begin(&line, "enter");
		add(&line, VGPU_JOURNAL_ENTER, (long long)thread_id(), (long long)now_ns(), symbol);
		end(&line);
		release();
	}
	current = span;
	span->begin_ns = now_ns(); /* what writing took is not the call's */
}

void vgpu_journal_call(const struct vgpu_journal_span *span, unsigned int id, const char *symbol,
		       int status, const char *format, ...)
{
	uint64_t duration_ns = now_ns() - span->begin_ns;
	struct line line;
	char text[ARGUMENT_BYTES];
	va_list arguments;

	current = span->outer;
	take();
	calls[id]++;
	symbols[id] = symbol;
	if (all_calls || last_status[id] == NEVER_CALLED || (status && status != last_status[id])) {
		va_start(arguments, format);
		vsnprintf(text, sizeof(text), format, arguments);
		va_end(arguments);
		begin(&line, "call");
		add(&line, VGPU_JOURNAL_CALL, (long long)thread_id(), (long long)span->begin_ns,
		    (long long)duration_ns, (long long)span->first_command,
		    (long long)span->last_command, (long long)span->answered, (long long)status,
		    vgpu_error_name(status), symbol);
		add_string(&line, text);
		end(&line);
	}
	last_status[id] = status;
	release();
}

static void write_text(const char *event, const char *key, const char *text)
{
	struct line line;

	if (!vgpu_journal_on)
		return;
	take();
	begin(&line, event);
	add(&line, ", \"%s\": ", key);
	add_string(&line, text);
	end(&line);
	release();
}

void vgpu_journal_note(const char *text)
{
	struct line line;

	if (!vgpu_journal_on)
		return;
	take();
	begin(&line, "note");
	add(&line, VGPU_JOURNAL_NOTE, (long long)thread_id());
	add_string(&line, text);
	end(&line);
	release();
}

void vgpu_journal_refused(const char *symbol)
{
	struct line line;

	if (!vgpu_journal_on)
		return;
	take();
	begin(&line, "refused");
	add(&line, VGPU_JOURNAL_REFUSED, (long long)thread_id(), (long long)now_ns(),
	    (long long)!!current, symbol);
	end(&line);
	release();
}

void vgpu_journal_device(const char *name, const char *transport, const char *executor, int version,
			 int major, int minor)
{
	struct line line;

	if (!vgpu_journal_on)
		return;
	take();
	begin(&line, "device");
	add(&line, ", \"transport\": \"%s\", \"executor\": \"%s\"", transport, executor);
	add(&line, ", \"driver_version\": %d, \"capability\": \"%d.%d\", \"name\": ", version,
	    major, minor);
	add_string(&line, name);
	end(&line);
	release();
}

void vgpu_journal_missing(const char *name, int version)
{
	struct line line;

	if (!vgpu_journal_on)
		return;
	take();
	begin(&line, "missing");
	add(&line, ", \"version\": %d, \"function\": ", version);
	add_string(&line, name);
	end(&line);
	release();
}

void vgpu_journal_export_table(const void *id)
{
	const unsigned char *bytes = id;
	char text[33];

	for (size_t i = 0; i < 16; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	write_text("export_table", "id", text);
}
