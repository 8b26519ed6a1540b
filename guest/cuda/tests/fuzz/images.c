// SPDX-License-Identifier: MIT
/*
 * Fuzzes what reads module images in a guest: containers, decoders, names of kernels.
 * The first byte of an input says which. cuModuleLoadData is given no size, so sizes
 * that a container gives of itself are put right; everything in it may lie.
 */
#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "internal.h"

enum { LZ4, ZSTD, FATBIN, CUBIN, TEXT, KINDS };

#define FATBIN_HEADER  16u
#define ALLOCATION_MAX (1u << 20)
#define FATBIN_ENTRY   64u

/* The parts of the library that the image code calls, without a device. */
struct vgpu_device_info vgpu_device = { .compute_major = 6, .compute_minor = 1 };
static bool is_cuda;

bool vgpu_executor_is_cuda(void)
{
	return is_cuda;
}

/* Broken images are the rule here. */
void vgpu_log(const char *format, ...)
{
	(void)format;
}

void vgpu_log_always(const char *format, ...)
{
	(void)format;
}

/* What the library calls for calloc(): memory that an image claims beyond reason is refused. */
void *fuzz_calloc(size_t count, size_t size);
void *fuzz_calloc(size_t count, size_t size)
{
	return size > ALLOCATION_MAX ? NULL : calloc(count, size);
}

/* A copy with nothing behind it, so that the sanitizer sees any access beyond. */
static uint8_t *exact(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);

	if (!copy)
		abort();
	memcpy(copy, data, size);
	return copy;
}

static void decode(int kind, const uint8_t *data, size_t size)
{
	size_t room = size < 2 ? 0 : data[0] | (size_t)data[1] << 8;
	uint8_t *in = exact(size < 2 ? data : data + 2, size < 2 ? 0 : size - 2);
	uint8_t *out = malloc(room ? room : 1);
	size_t in_bytes = size < 2 ? 0 : size - 2;
	ptrdiff_t got;

	if (!out)
		abort();
	if (kind == LZ4)
		got = vgpu_lz4_decode(in, in_bytes, out, room);
	else
		got = vgpu_zstd_decode(in, in_bytes, out, room);
	if (got > (ptrdiff_t)room)
		abort();
	free(in);
	free(out);
}

static void visit(const char *name, size_t length, void *data)
{
	size_t *sum = data;

	for (size_t i = 0; i < length; i++)
		*sum += (unsigned char)name[i];
}

static void open_image(const uint8_t *image)
{
	struct vgpu_image opened;
	size_t sum = 0;

	if (vgpu_image_open(image, &opened) == CUDA_SUCCESS) {
		vgpu_image_each_kernel(&opened, visit, &sum);
		for (size_t i = 0; i < opened.size; i++)
			sum += ((const uint8_t *)opened.data)[i];
		vgpu_image_close(&opened);
	}
	*(volatile size_t *)&sum = sum;
}

static void open_fatbin(const uint8_t *data, size_t size)
{
	uint64_t entries = size > FATBIN_HEADER ? size - FATBIN_HEADER : 0;
	uint8_t *image;

	if (size < FATBIN_HEADER)
		return;
	image = exact(data, size);
	memcpy(image, "\x50\xed\x55\xba\x01\x00\x10\x00", 8);
	memcpy(image + 8, &entries, sizeof(entries));
	open_image(image);
	free(image);
}

/* The tables of headers are where a cubin says, and it has no other end than what it says. */
static void open_cubin(const uint8_t *data, size_t size)
{
	Elf64_Ehdr header;
	uint8_t *image;

	if (size < sizeof(header))
		return;
	memcpy(&header, data, sizeof(header));
	memcpy(header.e_ident, ELFMAG, SELFMAG);
	header.e_ident[EI_CLASS] = ELFCLASS64;
	header.e_shentsize = sizeof(Elf64_Shdr);
	header.e_phnum = 0;
	header.e_phoff = 0;
	header.e_shoff = header.e_shoff % size & ~7ull;
	header.e_shnum %= (size - header.e_shoff) / sizeof(Elf64_Shdr) + 1;
	image = exact(data, size);
	memcpy(image, &header, sizeof(header));
	for (unsigned int i = 0; i < header.e_shnum; i++) {
		Elf64_Shdr section;
		uint8_t *at = image + header.e_shoff + i * sizeof(section);

		memcpy(&section, at, sizeof(section));
		if (section.sh_type == SHT_NOBITS)
			continue;
		section.sh_offset %= size;
		section.sh_size %= size - section.sh_offset + 1;
		memcpy(at, &section, sizeof(section));
	}
	open_image(image);
	free(image);
}

static void open_text(const uint8_t *data, size_t size)
{
	uint8_t *image = malloc(size + 1);

	if (!image)
		abort();
	memcpy(image, data, size);
	image[size] = 0;
	/* Other magic numbers have a function of their own above. */
	if (size < 4 || (memcmp(image, ELFMAG, 4) && memcmp(image, "\x50\xed\x55\xba", 4) &&
			 memcmp(image, "\xb1\x43\x62\x46", 4)))
		open_image(image);
	free(image);
}

void fuzz_one(const uint8_t *data, size_t size)
{
	if (!size)
		return;
	is_cuda = data[0] % KINDS == CUBIN || data[0] & 0x80;
	switch (data[0] % KINDS) {
	case LZ4:
	case ZSTD:
		decode(data[0] % KINDS, data + 1, size - 1);
		break;
	case FATBIN:
		open_fatbin(data + 1, size - 1);
		break;
	case CUBIN:
		open_cubin(data + 1, size - 1);
		break;
	default:
		open_text(data + 1, size - 1);
	}
}

static const char ptx[] = ".version 7.0\n.target sm_61\n.address_size 64\n"
			  ".visible .entry scale(.param .u64 out)\n{\n\tret;\n}\n"
			  ".visible .entry\n\tadd ()\n{\n\tret;\n}\n";

/* One entry with a payload; `flags` say how it is packed. */
static void seed_fatbin(uint64_t flags, const void *payload, uint32_t packed, uint64_t unpacked)
{
	uint8_t data[1 + FATBIN_HEADER + FATBIN_ENTRY + 512] = { FATBIN };
	uint8_t *entry = data + 1 + FATBIN_HEADER;
	uint64_t padded = (packed + 7u) & ~7ull;
	uint16_t kind = 1;
	uint32_t header_bytes = FATBIN_ENTRY, capability = 61;
	uint32_t compressed = flags ? packed : 0;

	memcpy(entry, &kind, 2);
	memcpy(entry + 4, &header_bytes, 4);
	memcpy(entry + 8, &padded, 8);
	memcpy(entry + 16, &compressed, 4);
	memcpy(entry + 28, &capability, 4);
	memcpy(entry + 40, &flags, 8);
	memcpy(entry + 56, &unpacked, 8);
	memcpy(entry + FATBIN_ENTRY, payload, packed);
	fuzz_seed(data, 1 + FATBIN_HEADER + FATBIN_ENTRY + padded);
}

static void seed_cubin(void)
{
	static const char names[] = "\0.shstrtab\0.text.scale\0.nv.constant0.scale";
	struct {
		Elf64_Ehdr header;
		Elf64_Shdr sections[3];
		char names[sizeof(names)];
	} cubin = { .header = { .e_shoff = sizeof(Elf64_Ehdr), .e_shnum = 3, .e_shstrndx = 1 } };
	uint8_t data[1 + sizeof(cubin)] = { CUBIN };

	cubin.sections[1] =
		(Elf64_Shdr){ .sh_name = 1,
			      .sh_type = SHT_STRTAB,
			      .sh_offset = sizeof(cubin.header) + sizeof(cubin.sections),
			      .sh_size = sizeof(names) };
	cubin.sections[2] = (Elf64_Shdr){ .sh_name = 23, .sh_type = SHT_PROGBITS };
	memcpy(cubin.names, names, sizeof(names));
	memcpy(data + 1, &cubin, sizeof(cubin));
	fuzz_seed(data, sizeof(data));
}

void fuzz_add_seeds(void)
{
	/* 0xf0, 0: literals of 15; then a match of four at a distance of one. */
	static const uint8_t lz4[] = { LZ4, 64, 0, 0x10, 'a', 1, 0, 0x50, 'b', 'c', 'd', 'e', 'f' };
	static const uint8_t packed[] = { 0x10, 'a', 1, 0, 0x50, 'b', 'c', 'd', 'e', 'f' };
	static const uint8_t zstd[] = { ZSTD, 16,   0,	  0x28, 0xb5, 0x2f, 0xfd, 0x20,
					0x03, 0x19, 0x00, 0x00, 'a',  'b',  'c' };
	uint8_t text[1 + sizeof(ptx)] = { TEXT };

	memcpy(text + 1, ptx, sizeof(ptx));
	fuzz_seed(text, sizeof(text) - 1);
	fuzz_seed(lz4, sizeof(lz4));
	fuzz_seed(zstd, sizeof(zstd));
	seed_fatbin(0, ptx, sizeof(ptx), 0);
	seed_fatbin(0x2000, packed, sizeof(packed), 10);
	seed_fatbin(0x8000, zstd + 3, sizeof(zstd) - 3, 3);
	seed_cubin();
}
