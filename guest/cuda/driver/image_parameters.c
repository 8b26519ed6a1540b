// SPDX-License-Identifier: MIT
/*
 * Sizes of a kernel's parameters, read in its PTX. The device says them too; a launch reads
 * that much of the caller's memory, so where there is a text the device must agree with it.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

struct type {
	const char *name;
	uint32_t bytes;
};

static const struct type types[] = {
	{ "b8", 1 },	{ "u8", 1 },   { "s8", 1 },  { "b16", 2 }, { "u16", 2 }, { "s16", 2 },
	{ "f16", 2 },	{ "bf16", 2 }, { "b32", 4 }, { "u32", 4 }, { "s32", 4 }, { "f32", 4 },
	{ "f16x2", 4 }, { "b64", 8 },  { "u64", 8 }, { "s64", 8 }, { "f64", 8 }, { "b128", 16 },
};

/* Skips white space and comments. */
static const char *skip(const char *at)
{
	for (;;) {
		at += strspn(at, " \t\r\n");
		if (at[0] == '/' && at[1] == '/') {
			at += strcspn(at, "\n");
		} else if (at[0] == '/' && at[1] == '*') {
			const char *end = strstr(at + 2, "*/");

			if (!end)
				return at + strlen(at);
			at = end + 2;
		} else {
			return at;
		}
	}
}

/* Reads a word of letters, digits and _$%; its length. */
static size_t word(const char *at)
{
	size_t length = 0;

	while (isalnum((unsigned char)at[length]) || (at[length] && strchr("_$%", at[length])))
		length++;
	return length;
}

static uint32_t bytes_of_type(const char *name, size_t length)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++)
		if (strlen(types[i].name) == length && !memcmp(types[i].name, name, length))
			return types[i].bytes;
	return 0;
}

/* Reads one parameter, as in ".param .align 8 .b8 x[24]"; NULL: not understood. */
static const char *read_parameter(const char *at, uint32_t *size)
{
	unsigned long elements;
	char *end;

	*size = 0;
	for (at = skip(at); *at == '.'; at = skip(at)) {
		size_t length = word(++at);
		uint32_t bytes = bytes_of_type(at, length);
		bool aligns = length == strlen("align") && !memcmp(at, "align", length);

		*size = bytes ? bytes : *size;
		at += length;
		if (aligns) {
			at = skip(at);
			at += strspn(at, "0123456789");
		}
	}
	at = skip(at + word(at));
	if (!*size)
		return NULL;
	if (*at != '[')
		return at;
	elements = strtoul(at + 1, &end, 0);
	at = skip(end);
	if (!elements || elements > UINT16_MAX || *at != ']')
		return NULL;
	*size *= (uint32_t)elements;
	at = skip(at + 1);
	return *at == '[' ? NULL : at;
}

uint32_t vgpu_ptx_parameters(const char *at, uint32_t *sizes, uint32_t room)
{
	uint32_t count = 0;

	at = skip(at);
	if (*at != '(')
		return 0;
	at = skip(at + 1);
	if (*at == ')')
		return 0;
	for (;;) {
		if (count == room)
			return UINT32_MAX;
		at = read_parameter(at, &sizes[count]);
		if (!at)
			return UINT32_MAX;
		count++;
		if (*at == ')')
			return count;
		if (*at++ != ',')
			return UINT32_MAX;
	}
}
