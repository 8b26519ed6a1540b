// SPDX-License-Identifier: MIT
/*
 * Functions of the API that only refuse: counted by name, and
 * CUBLAS_STATUS_NOT_SUPPORTED. Their arguments do not matter, so all have the type
 * `int (void)` here.
 */
#include "internal.h"

#define VGPU_REFUSED(symbol)                                                                       \
	CUBLAS_EXPORT int symbol(void);                                                            \
	int symbol(void)                                                                           \
	{                                                                                          \
		return blas_refuse(#symbol);                                                       \
	}

int blas_refuse(const char *symbol)
{
	const struct vgpu_export *driver = blas_driver();

	if (driver)
		driver->refuse(symbol);
	return CUBLAS_STATUS_NOT_SUPPORTED;
}

#if CUBLAS_MAJOR == 12
#include "../generated/libcublas.so.12.inc"
#else
#include "../generated/libcublas.so.13.inc"
#endif
