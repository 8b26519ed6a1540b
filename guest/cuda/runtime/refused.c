// SPDX-License-Identifier: MIT
/*
 * Functions of the API that only refuse: counted by name, and cudaErrorNotSupported.
 * Their arguments do not matter, so all have the type `int (void)` here; this file
 * includes no header that says otherwise.
 */
int vgpu_runtime_refuse(const char *symbol);

#define VGPU_REFUSED(symbol)                                                                       \
	__attribute__((visibility("default"))) int symbol(void);                                   \
	int symbol(void)                                                                           \
	{                                                                                          \
		return vgpu_runtime_refuse(#symbol);                                               \
	}

#if VGPU_RUNTIME_MAJOR == 12
#include "../generated/libcudart.so.12.inc"
#else
#include "../generated/libcudart.so.13.inc"
#endif
