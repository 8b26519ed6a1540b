// SPDX-License-Identifier: MIT
/*
 * Zstandard frames. The decoder is Debian's: linked statically where libzstd-dev is
 * installed at build time (the Makefile defines VGPU_ZSTD_STATIC), otherwise
 * libzstd.so.1, which every Debian system has, opened at first use.
 */
#include <errno.h>

#include "internal.h"

#ifdef VGPU_ZSTD_STATIC

#include <zstd.h>

ptrdiff_t vgpu_zstd_decode(const void *in, size_t in_bytes, void *out, size_t out_bytes)
{
	size_t got = ZSTD_decompress(out, out_bytes, in, in_bytes);

	errno = 0;
	return ZSTD_isError(got) ? -1 : (ptrdiff_t)got;
}

#else

#include <dlfcn.h>

static size_t (*decompress)(void *out, size_t out_bytes, const void *in, size_t in_bytes);
static unsigned int (*is_error)(size_t code);

static void open_decoder(void)
{
	void *library = dlopen("libzstd.so.1", RTLD_NOW | RTLD_LOCAL);

	if (!library)
		return;
	*(void **)&decompress = dlsym(library, "ZSTD_decompress");
	*(void **)&is_error = dlsym(library, "ZSTD_isError");
}

ptrdiff_t vgpu_zstd_decode(const void *in, size_t in_bytes, void *out, size_t out_bytes)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	size_t got;

	pthread_once(&once, open_decoder);
	errno = ENOSYS;
	if (!decompress || !is_error)
		return -1;
	errno = 0;
	got = decompress(out, out_bytes, in, in_bytes);
	return is_error(got) ? -1 : (ptrdiff_t)got;
}

#endif
