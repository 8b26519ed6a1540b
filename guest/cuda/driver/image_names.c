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

static void each_in_text(const char *text, vgpu_visit_name visit, void *data)
{
	for (const char *at = strstr(text, ENTRY); at; at = strstr(at, ENTRY)) {
		const char *name = at + strlen(ENTRY);
		size_t length = 0;

		at = name;
		if (!isspace((unsigned char)*name))
			continue;
		name += strspn(name, " \t\r\n");
		while (in_name(name[length]))
			length++;
		if (length)
			visit(name, length, data);
	}
}

/* The image was checked by vgpu_image_open(); its section names may still lie. */
static void each_in_cubin(const struct vgpu_image *image, vgpu_visit_name visit, void *data)
{
	const Elf64_Ehdr *header = image->data;
	const char *start = image->data;
	const Elf64_Shdr *sections = (const void *)(start + header->e_shoff);
	const Elf64_Shdr *names = &sections[header->e_shstrndx];

	if (header->e_shstrndx >= header->e_shnum)
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
		each_in_text(image->data, visit, data);
	else
		each_in_cubin(image, visit, data);
}
