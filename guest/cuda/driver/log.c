// SPDX-License-Identifier: MIT
/* Diagnostics on standard error, for people: VGPU_STUB_LOG=info shows all of them. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include "internal.h"

static void say(bool print, const char *format, va_list arguments)
{
	char text[512];

	vsnprintf(text, sizeof(text), format, arguments);
	if (print)
		fprintf(stderr, "libcuda (VGPU-STUB) [%d]: %s\n", (int)getpid(), text);
	vgpu_journal_note(text);
}

/* The variable names a level, as for the host's programs; ours are all of level "info". */
static bool wanted(void)
{
	const char *level = getenv("VGPU_STUB_LOG");

	return level && (!strcasecmp(level, "info") || !strcasecmp(level, "debug"));
}

void vgpu_log(const char *format, ...)
{
	va_list arguments;
	bool print = wanted();

	if (!print && !vgpu_journal_on)
		return;
	va_start(arguments, format);
	say(print, format, arguments);
	va_end(arguments);
}

void vgpu_log_always(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say(true, format, arguments);
	va_end(arguments);
}
