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
#include <unistd.h>

#include "vgpu_stub_abi.h"

#define LINE_BYTES   2048u
#define NEVER_CALLED INT_MIN

bool vgpu_journal_on;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static int file = -1;
static pid_t owner; /* whose file it is: a forked child starts its own */
static int last_status[VGPU_REFUSED_ENTRIES];
static uint64_t calls[VGPU_REFUSED_ENTRIES];
static const char *symbols[VGPU_REFUSED_ENTRIES];

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

__attribute__((constructor)) static void start(void)
{
	const char *folder = getenv("VGPU_STUB_JOURNAL");

	if (!folder || !*folder)
		return;
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

void vgpu_journal_call(unsigned int id, const char *symbol, int status, const char *format, ...)
{
	struct line line;
	char text[512];
	va_list arguments;

	take();
	calls[id]++;
	symbols[id] = symbol;
	if (last_status[id] == NEVER_CALLED || (status && status != last_status[id])) {
		va_start(arguments, format);
		vsnprintf(text, sizeof(text), format, arguments);
		va_end(arguments);
		begin(&line, "call");
		add(&line,
		    ", \"function\": \"%s\", \"status\": %d, \"error\": \"%s\", "
		    "\"arguments\": ",
		    symbol, status, vgpu_error_name(status));
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
	write_text("note", "text", text);
}

void vgpu_journal_refused(const char *symbol)
{
	write_text("refused", "function", symbol);
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
