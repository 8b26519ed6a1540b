// SPDX-License-Identifier: MIT
/* Names of the kernels in an image, found without a device. */
#include <ctype.h>
#include <elf.h>
#include <string.h>

#include "internal.h"

#define ENTRY ".entry"
/* Every kernel of a cubin has a section for its parameters; device functions have none. */
#define PARAMETERS ".nv.constant0."

static bool in_name(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '$' || c == '%';
}

/* The text of a fatbin's entry may end without a NUL. */
static void each_in_text(const struct vgpu_image *image, vgpu_visit_name visit, void *data)
{
	const char *at = image->data;
	const char *end = at + image->size;

	while ((at = memmem(at, (size_t)(end - at), ENTRY, strlen(ENTRY)))) {
		const char *name;

		at += strlen(ENTRY);
		if (at == end || !isspace((unsigned char)*at))
			continue;
		while (at < end && strchr(" \t\r\n", *at) && *at)
			at++;
		for (name = at; at < end && in_name(*at); at++)
			;
		if (at > name)
			visit(name, (size_t)(at - name), data);
	}
}

static bool lies_within(size_t room, uint64_t offset, uint64_t size)
{
	return offset <= room && size <= room - offset;
}

/* Nothing in the image is believed: a fatbin may call anything a cubin. */
static void each_in_cubin(const struct vgpu_image *image, vgpu_visit_name visit, void *data)
{
	const Elf64_Ehdr *header = image->data;
	const char *start = image->data;
	const Elf64_Shdr *sections, *names;

	if (image->size < sizeof(*header) || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
	    header->e_shstrndx >= header->e_shnum ||
	    !lies_within(image->size, header->e_shoff, header->e_shnum * sizeof(*sections)))
		return;
	sections = (const void *)(start + header->e_shoff);
	names = &sections[header->e_shstrndx];
	if (!lies_within(image->size, names->sh_offset, names->sh_size))
		return;
	for (unsigned int i = 0; i < header->e_shnum; i++) {
		const char *name = start + names->sh_offset + sections[i].sh_name;
		size_t room = sections[i].sh_name < names->sh_size
				      ? names->sh_size - sections[i].sh_name
				      : 0;
		size_t length = strnlen(name, room);

		if (length < room && length > strlen(PARAMETERS) &&
		    !strncmp(name, PARAMETERS, strlen(PARAMETERS)))
			visit(name + strlen(PARAMETERS), length - strlen(PARAMETERS), data);
	}
}

void vgpu_image_each_kernel(const struct vgpu_image *image, vgpu_visit_name visit, void *data)
{
	if (image->kind == VGPU_IMAGE_PTX)
		each_in_text(image, visit, data);
	else
		each_in_cubin(image, visit, data);
}
