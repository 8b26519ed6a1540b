// SPDX-License-Identifier: MIT
/*
 * The linker. Parts are kept here, picked and unpacked, until the link is completed:
 * then the device links all of them at once, so that what is wrong with a part comes
 * out of cuLinkComplete(). The software GPU's image is PTX text, a physical GPU's a
 * cubin; cuModuleLoadData() and the others take it like any other.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define IMAGE_BYTES_MAX (256u << 20) /* of a linked image; a device that has more has none */
#define IMAGE_ROOM_MIN	(64u << 10)

struct part {
	struct vgpu_link_part head;
	char *name;
	char *data;
	struct part *next;
};

struct vgpu_link {
	struct vgpu_object object;
	pthread_mutex_t lock; /* guards what follows */
	struct vgpu_jit_log log;
	struct part *parts; /* the last one first */
	size_t bytes;	    /* of all parts as the device takes them */
	void *image;	    /* once completed */
	bool completed;	    /* or tried in vain */
};

static struct vgpu_pool links = {
	.name = "link state",
	.object_bytes = 256,
	.capacity = 1u << 16,
	.lock = PTHREAD_MUTEX_INITIALIZER,
};

static_assert(sizeof(struct vgpu_link) <= 256, "a link state fits its pool");

CUresult cuLinkCreate_v2(unsigned int count, CUjit_option *options, void **values, CUlinkState *out)
{
	struct vgpu_jit_log log = { 0 };
	struct vgpu_context *context;
	struct vgpu_link *link;
	CUresult status = vgpu_current(&context);

	if (status == CUDA_SUCCESS && !out)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		status = vgpu_jit_read_options(count, options, values, &log);
	if (status != CUDA_SUCCESS)
		return status;
	link = vgpu_pool_take(&links);
	if (!link)
		return CUDA_ERROR_OUT_OF_MEMORY;
	pthread_mutex_init(&link->lock, NULL);
	link->object.context = context;
	link->object.context_id = atomic_load(&context->id);
	link->log = log;
	*out = (CUlinkState)link;
	return CUDA_SUCCESS;
}

/* The state, locked. */
static CUresult open_link(CUlinkState handle, struct vgpu_link **link)
{
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	if (!vgpu_pool_holds(&links, handle))
		return CUDA_ERROR_INVALID_HANDLE;
	*link = (void *)handle;
	if (!vgpu_object_alive(&(*link)->object))
		return CUDA_ERROR_CONTEXT_IS_DESTROYED;
	pthread_mutex_lock(&(*link)->lock);
	return CUDA_SUCCESS;
}

static void free_part(struct part *part)
{
	if (!part)
		return;
	free(part->name);
	free(part->data);
	free(part);
}

static size_t padded(size_t bytes)
{
	return (bytes + 7) & ~(size_t)7;
}

static size_t part_bytes(const struct part *part)
{
	return padded(sizeof(part->head) + part->head.name_bytes + part->head.size);
}

/* Copies an image, because the caller may take its memory back. */
static struct part *make_part(const struct vgpu_image *image, const char *name)
{
	struct part *part = calloc(1, sizeof(*part));

	if (!part)
		return NULL;
	part->name = strdup(name ? name : "");
	part->data = malloc(image->size + 1);
	if (!part->name || !part->data) {
		free_part(part);
		return NULL;
	}
	memcpy(part->data, image->data, image->size);
	part->head = (struct vgpu_link_part){
		.kind = image->kind,
		.name_bytes = (__u32)strlen(part->name),
		.size = image->size,
	};
	return part;
}

/* What is in memory of that kind and size; text gets the NUL that it may lack. */
static CUresult open_input(CUjitInputType type, const void *data, size_t size, void **copy,
			   struct vgpu_image *image)
{
	CUresult status;

	switch (type) {
	case CU_JIT_INPUT_PTX:
	case CU_JIT_INPUT_CUBIN:
	case CU_JIT_INPUT_FATBINARY:
		break;
	case CU_JIT_INPUT_OBJECT:
	case CU_JIT_INPUT_LIBRARY:
		vgpu_log("cuLinkAddData: objects and libraries of the host are not taken apart");
		return CUDA_ERROR_NOT_SUPPORTED;
	case CU_JIT_INPUT_NVVM: /* deprecated since CUDA 12; so answers driver 580 */
		return CUDA_ERROR_JIT_COMPILER_NOT_FOUND;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
	*copy = calloc(1, size + 1);
	if (!*copy)
		return CUDA_ERROR_OUT_OF_MEMORY;
	memcpy(*copy, data, size);
	status = vgpu_image_open(*copy, image);
	/* What the linker made on a software GPU is text, also where it counts as a cubin. */
	if (status == CUDA_SUCCESS && type == CU_JIT_INPUT_CUBIN &&
	    image->kind != VGPU_IMAGE_CUBIN && vgpu_executor_is_cuda())
		status = CUDA_ERROR_INVALID_IMAGE;
	if (status == CUDA_SUCCESS && !image->owned && image->size > size)
		status = CUDA_ERROR_INVALID_IMAGE;
	return status;
}

CUresult cuLinkAddData_v2(CUlinkState handle, CUjitInputType type, void *data, size_t size,
			  const char *name, unsigned int count, CUjit_option *options,
			  void **values)
{
	struct vgpu_image image = { 0 };
	struct part *part = NULL;
	struct vgpu_link *link;
	void *copy = NULL;
	CUresult status = open_link(handle, &link);

	if (status != CUDA_SUCCESS)
		return status;
	if (!data || !size || link->completed || (count && (!options || !values)))
		status = CUDA_ERROR_INVALID_VALUE;
	else
		status = open_input(type, data, size, &copy, &image);
	if (status == CUDA_SUCCESS) {
		part = make_part(&image, name);
		status = part ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
	}
	if (status == CUDA_SUCCESS) {
		part->next = link->parts;
		link->parts = part;
		link->bytes += part_bytes(part);
	}
	pthread_mutex_unlock(&link->lock);
	vgpu_image_close(&image);
	free(copy);
	return status;
}

CUresult cuLinkAddFile_v2(CUlinkState handle, CUjitInputType type, const char *path,
			  unsigned int count, CUjit_option *options, void **values)
{
	size_t size;
	void *data;
	CUresult status = vgpu_check_initialized();

	if (status == CUDA_SUCCESS)
		status = vgpu_image_read(path, &data, &size);
	if (status != CUDA_SUCCESS)
		return status;
	status = cuLinkAddData_v2(handle, type, data, size, path, count, options, values);
	free(data);
	return status;
}

static void write_parts(const struct vgpu_link *link, char *to)
{
	char *end = to + link->bytes;

	memset(to, 0, link->bytes);
	for (const struct part *part = link->parts; part; part = part->next) {
		char *at = end - part_bytes(part);

		end = at;
		memcpy(at, &part->head, sizeof(part->head));
		at += sizeof(part->head);
		memcpy(at, part->name, part->head.name_bytes);
		memcpy(at + part->head.name_bytes, part->data, part->head.size);
	}
}

/* Lets the device link; `size` is how large the image is, which is NULL where the room was not
 * enough. */
static CUresult link_parts(struct vgpu_link *link, size_t room, void **image, size_t *size)
{
	struct vgpu_context *context = link->object.context;
	size_t image_offset = padded(link->bytes);
	size_t log_offset = image_offset + room;
	struct vgpu_cmd_module_link command;
	struct vgpu_reply reply = { 0 };
	struct vgpu_scratch scratch;
	size_t log_bytes;
	char *base;
	CUresult status = vgpu_scratch_take(log_offset + VGPU_JIT_LOG_BYTES, &scratch);

	if (status != CUDA_SUCCESS)
		return status;
	base = scratch.address;
	write_parts(link, base);
	base[log_offset] = '\0';
	command = vgpu_encode_module_link(vgpu_context_handle(context), scratch.offset, link->bytes,
					  scratch.offset + image_offset, room,
					  scratch.offset + log_offset, scratch.registration,
					  VGPU_JIT_LOG_BYTES);
	status = vgpu_context_call(context, &command, sizeof(command), NULL, 0, &reply);
	log_bytes = strnlen(base + log_offset, VGPU_JIT_LOG_BYTES);
	if (status != CUDA_SUCCESS && log_bytes)
		vgpu_log("link refused: %.*s", (int)log_bytes, base + log_offset);
	vgpu_jit_write_log(&link->log, status, base + log_offset, log_bytes);
	*size = reply.result[0];
	if (status == CUDA_SUCCESS && (!*size || *size > IMAGE_BYTES_MAX))
		status = CUDA_ERROR_UNKNOWN;
	if (status == CUDA_SUCCESS && *size <= room) {
		*image = calloc(1, *size + 1); /* PTX text ends in NUL */
		status = *image ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
		if (*image)
			memcpy(*image, base + image_offset, *size);
	}
	vgpu_scratch_give(&scratch);
	return status;
}

CUresult cuLinkComplete(CUlinkState handle, void **image_out, size_t *size_out)
{
	struct vgpu_link *link;
	size_t size, room;
	CUresult status = open_link(handle, &link);

	if (status != CUDA_SUCCESS)
		return status;
	room = padded(2 * link->bytes + IMAGE_ROOM_MIN);
	if (!image_out)
		status = CUDA_ERROR_INVALID_VALUE;
	else if (link->completed)
		status = CUDA_ERROR_INVALID_HANDLE;
	else
		status = link_parts(link, room, &link->image, &size);
	if (status == CUDA_SUCCESS && !link->image)
		status = link_parts(link, padded(size), &link->image, &size);
	if (status == CUDA_SUCCESS && !link->image)
		status = CUDA_ERROR_UNKNOWN;
	if (image_out)
		link->completed = true;
	if (status == CUDA_SUCCESS) {
		*image_out = link->image;
		if (size_out)
			*size_out = size + 1; /* of text with its NUL, which does a cubin no harm */
	}
	pthread_mutex_unlock(&link->lock);
	return status;
}

CUresult cuLinkDestroy(CUlinkState handle)
{
	struct vgpu_link *link = (void *)handle;
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	if (!vgpu_pool_holds(&links, handle))
		return CUDA_ERROR_INVALID_HANDLE;
	while (link->parts) {
		struct part *part = link->parts;

		link->parts = part->next;
		free_part(part);
	}
	free(link->image);
	pthread_mutex_destroy(&link->lock);
	vgpu_pool_give(&links, link);
	return CUDA_SUCCESS;
}
