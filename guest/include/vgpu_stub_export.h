/* SPDX-License-Identifier: MIT */
/*
 * What libcuda.so.1 offers the other libraries of the guest: a table that
 * cuGetExportTable() gives out under VGPU_EXPORT_ID. It is not part of any API;
 * the libraries that use it are built together with libcuda.so.1.
 * Include <cuda.h> first.
 */
#ifndef VGPU_STUB_EXPORT_H
#define VGPU_STUB_EXPORT_H

#include <stddef.h>

#include "vgpu_stub_abi.h"

/* A random UUID; NVIDIA's libraries know no table of this name. */
#define VGPU_EXPORT_ID                                                                             \
	((CUuuid){ { 0x2d, (char)0x9c, 0x41, (char)0xe6, 0x5b, 0x07, 0x4f, 0x3a, (char)0x91, 0x6c, \
		     (char)0xd8, 0x14, (char)0xaf, 0x20, 0x73, (char)0xe5 } })

struct vgpu_export {
	size_t bytes; /* of this table; a library that needs more refuses to work */

	/*
	 * Submits a command in the order of a stream of the current context, and does
	 * not wait. Fills in the header's context and, where `remote_stream` is not
	 * NULL, that member of the command. Errors of its execution come out of the
	 * next call that waits for the stream or its context.
	 */
	CUresult (*submit)(CUstream stream, void *command, size_t bytes, __u32 *remote_stream);

	/*
	 * The same, and waits until the host has carried it out, not for the stream;
	 * returns its status. `results` may be NULL.
	 */
	CUresult (*call)(CUstream stream, void *command, size_t bytes, __u32 *remote_stream,
			 __u64 results[6]);

	/* Counts a call that is not supported under its name, and logs it. */
	void (*refuse)(const char *symbol);

	/* One line on standard error where VGPU_STUB_LOG asks for it. */
	__attribute__((format(printf, 1, 2))) void (*log)(const char *format, ...);

	/* The device, constant; NULL before cuInit. */
	const struct vgpu_device_info *(*device)(void);
};

#endif /* VGPU_STUB_EXPORT_H */
