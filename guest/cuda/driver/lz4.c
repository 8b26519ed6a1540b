// SPDX-License-Identifier: MIT
/* Decoder of the LZ4 block format (lz4_Block_format.md of the LZ4 project). */
#include <string.h>

#include "internal.h"

#define MIN_MATCH 4u

/* Adds the bytes that extend a length of 15; false: the input ends too early. */
static bool extend(const uint8_t **in, const uint8_t *in_end, size_t *length)
{
	uint8_t byte;

	if (*length != 15)
		return true;
	do {
		if (*in == in_end)
			return false;
		byte = *(*in)++;
		*length += byte;
	} while (byte == 255);
	return true;
}

ptrdiff_t vgpu_lz4_decode(const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes)
{
	const uint8_t *in_end = in + in_bytes;
	uint8_t *start = out;
	uint8_t *out_end = out + out_bytes;

	while (in < in_end) {
		uint8_t token = *in++;
		size_t literals = token >> 4;
		size_t match = token & 15u;
		size_t distance;

		if (!extend(&in, in_end, &literals) || literals > (size_t)(in_end - in) ||
		    literals > (size_t)(out_end - out))
			return -1;
		memcpy(out, in, literals);
		in += literals;
		out += literals;
		if (in == in_end)
			return out - start; /* the last sequence has literals only */
		if (in_end - in < 2)
			return -1;
		distance = in[0] | (size_t)in[1] << 8;
		in += 2;
		if (!extend(&in, in_end, &match))
			return -1;
		match += MIN_MATCH;
		if (!distance || distance > (size_t)(out - start) ||
		    match > (size_t)(out_end - out))
			return -1;
		for (; match; match--, out++) /* source and destination may overlap */
			*out = out[-(ptrdiff_t)distance];
	}
	return -1;
}
