// SPDX-License-Identifier: MIT
/* Diagnostics on standard error, for people: VGPU_STUB_LOG=info shows all of them. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include "internal.h"

static void print(const char *format, va_list arguments)
{
	char line[512];
	int room = snprintf(line, sizeof(line), "libcuda (VGPU-STUB) [%d]: ", (int)getpid());

	vsnprintf(line + room, sizeof(line) - (size_t)room, format, arguments);
	fprintf(stderr, "%s\n", line);
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

	if (!wanted())
		return;
	va_start(arguments, format);
	print(format, arguments);
	va_end(arguments);
}

void vgpu_log_always(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	print(format, arguments);
	va_end(arguments);
}
