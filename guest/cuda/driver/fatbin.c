// SPDX-License-Identifier: MIT
/*
 * What cuModuleLoadData may be given: PTX text, a cubin, or a fatbin (bare, or in
 * the wrapper that nvcc puts around it), whose best image is picked as CUDA does:
 * machine code for this very device if there is any, else the newest PTX that the
 * device can run. Fields of the formats as observed in nvcc's output.
 */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define MAGIC_BYTES   4u
#define WRAPPER_MAGIC "\xb1\x43\x62\x46" /* 0x466243b1 */
#define FATBIN_MAGIC  "\x50\xed\x55\xba" /* 0xba55ed50 */
#define KIND_PTX      1u
#define KIND_ELF      2u
#define FLAG_LZ4      0x2000ull
#define FLAG_ZSTD     0x8000ull
#define UNPACKED_MAX  (1ull << 30)

struct wrapper {
	uint32_t magic;
	uint32_t version;
	const void *data;
	const void *filename;
};

struct fatbin_header {
	uint32_t magic;
	uint16_t version;
	uint16_t header_bytes;
	uint64_t size; /* of the entries */
};

struct fatbin_entry {
	uint16_t kind;
	uint16_t version;
	uint32_t header_bytes;
	uint64_t payload_bytes;	   /* padded */
	uint32_t compressed_bytes; /* 0: not compressed */
	uint32_t unknown0;
	uint32_t unknown1;
	uint32_t capability; /* 10 x major + minor */
	uint64_t unknown2;
	uint64_t flags;
	uint64_t unknown3;
	uint64_t unpacked_bytes;
};

static_assert(sizeof(struct fatbin_entry) == 64, "shortest entry header");

/* A cubin does not say how long it is: it ends where its last part ends. */
static size_t elf_bytes(const void *image)
{
	const Elf64_Ehdr *header = image;
	const Elf64_Shdr *section = (const void *)((const uint8_t *)image + header->e_shoff);
	size_t end = header->e_shoff + (size_t)header->e_shnum * header->e_shentsize;
	size_t programs = header->e_phoff + (size_t)header->e_phnum * header->e_phentsize;

	end = programs > end ? programs : end;
	for (unsigned int i = 0; i < header->e_shnum; i++, section++) {
		if (section->sh_type != SHT_NOBITS && section->sh_offset + section->sh_size > end)
			end = section->sh_offset + section->sh_size;
	}
	return end;
}

static CUresult open_elf(const void *data, struct vgpu_image *out)
{
	const Elf64_Ehdr *header = data;

	if (!vgpu_executor_is_cuda()) {
		vgpu_log("a cubin holds machine code, which the software GPU cannot run");
		return CUDA_ERROR_NO_BINARY_FOR_GPU;
	}
	if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_shentsize != sizeof(Elf64_Shdr))
		return CUDA_ERROR_INVALID_IMAGE;
	*out = (struct vgpu_image){ .data = data,
				    .size = elf_bytes(data),
				    .kind = VGPU_IMAGE_CUBIN };
	return CUDA_SUCCESS;
}

static uint32_t device_capability(void)
{
	return (uint32_t)(vgpu_device.compute_major * 10 + vgpu_device.compute_minor);
}

/* Whether an entry can run here; machine code runs on its own major, at that minor or newer. */
static bool fits(const struct fatbin_entry *entry)
{
	uint32_t device = device_capability();

	if (entry->kind == KIND_PTX)
		return entry->capability <= device;
	return entry->kind == KIND_ELF && vgpu_executor_is_cuda() &&
	       entry->capability / 10 == device / 10 && entry->capability <= device;
}

static bool better(const struct fatbin_entry *entry, const struct fatbin_entry *than)
{
	if (!than || entry->kind != than->kind)
		return !than || entry->kind == KIND_ELF;
	return entry->capability > than->capability;
}

static const struct fatbin_entry *best_entry(const struct fatbin_header *header)
{
	const uint8_t *at = (const uint8_t *)header + header->header_bytes;
	const uint8_t *end = at + header->size;
	const struct fatbin_entry *best = NULL;

	while ((size_t)(end - at) >= sizeof(struct fatbin_entry)) {
		const struct fatbin_entry *entry = (const void *)at;

		if (entry->header_bytes < sizeof(*entry) ||
		    entry->header_bytes > (size_t)(end - at) ||
		    entry->payload_bytes > (size_t)(end - at) - entry->header_bytes) {
			vgpu_log("fatbin: an entry reaches beyond the end");
			return NULL;
		}
		if (fits(entry) && better(entry, best))
			best = entry;
		at += entry->header_bytes + entry->payload_bytes;
	}
	return best;
}

static CUresult unpack(const struct fatbin_entry *entry, struct vgpu_image *out)
{
	const uint8_t *payload = (const uint8_t *)entry + entry->header_bytes;
	size_t packed = entry->compressed_bytes;
	ptrdiff_t got;
	uint8_t *image;

	if (!(entry->flags & (FLAG_LZ4 | FLAG_ZSTD))) {
		out->data = payload;
		out->size = entry->payload_bytes;
		return CUDA_SUCCESS;
	}
	if (packed > entry->payload_bytes || entry->unpacked_bytes > UNPACKED_MAX)
		return CUDA_ERROR_INVALID_IMAGE;
	image = calloc(1, entry->unpacked_bytes + 1); /* PTX text has to end in NUL */
	if (!image)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (entry->flags & FLAG_LZ4)
		got = vgpu_lz4_decode(payload, packed, image, entry->unpacked_bytes);
	else
		got = vgpu_zstd_decode(payload, packed, image, entry->unpacked_bytes);
	if (got < 0 || (uint64_t)got != entry->unpacked_bytes) {
		bool no_decoder = entry->flags & FLAG_ZSTD && errno == ENOSYS;

		vgpu_log_always("fatbin: %s", no_decoder ? "needs libzstd.so.1, not installed"
							 : "compressed image is broken");
		free(image);
		return no_decoder ? CUDA_ERROR_NOT_SUPPORTED : CUDA_ERROR_INVALID_IMAGE;
	}
	out->data = image;
	out->size = entry->unpacked_bytes;
	out->owned = image;
	return CUDA_SUCCESS;
}

static CUresult open_fatbin(const struct fatbin_header *header, struct vgpu_image *out)
{
	const struct fatbin_entry *entry = best_entry(header);
	CUresult status;

	if (!entry) {
		vgpu_log("fatbin: no image for capability %d.%d of executor %s",
			 vgpu_device.compute_major, vgpu_device.compute_minor,
			 (const char *)vgpu_device.executor);
		return CUDA_ERROR_NO_BINARY_FOR_GPU;
	}
	status = unpack(entry, out);
	if (status != CUDA_SUCCESS)
		return status;
	out->kind = entry->kind == KIND_PTX ? VGPU_IMAGE_PTX : VGPU_IMAGE_CUBIN;
	if (out->kind == VGPU_IMAGE_PTX)
		out->size = strnlen(out->data, out->size); /* padding is not part of the text */
	return CUDA_SUCCESS;
}

/* Text may be shorter than a magic number, and no magic number has a NUL. */
static bool begins_with(const void *image, const char *magic)
{
	return strncmp(image, magic, MAGIC_BYTES) == 0;
}

CUresult vgpu_image_open(const void *image, struct vgpu_image *out)
{
	*out = (struct vgpu_image){ 0 };
	if (begins_with(image, WRAPPER_MAGIC)) {
		const struct wrapper *wrapper = image;

		if (wrapper->version != 1) {
			vgpu_log("fatbin: code that is still to be device-linked");
			return CUDA_ERROR_NOT_SUPPORTED;
		}
		image = wrapper->data;
	}
	if (begins_with(image, FATBIN_MAGIC))
		return open_fatbin(image, out);
	if (begins_with(image, ELFMAG))
		return open_elf(image, out);
	*out = (struct vgpu_image){
		.data = image,
		.size = strlen(image),
		.kind = VGPU_IMAGE_PTX,
	};
	return CUDA_SUCCESS;
}

void vgpu_image_close(struct vgpu_image *image)
{
	free(image->owned);
}
