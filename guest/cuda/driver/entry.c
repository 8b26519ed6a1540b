// SPDX-License-Identifier: MIT
/* cuGetProcAddress. */
#include "internal.h"
#include "proc_address.h"

#define FLAGS (CU_GET_PROC_ADDRESS_LEGACY_STREAM | CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM)

CUresult cuGetProcAddress_v2(const char *name, void **function, int version, cuuint64_t flags,
			     CUdriverProcAddressQueryResult *found)
{
	bool per_thread = flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
	CUdriverProcAddressQueryResult result = CU_GET_PROC_ADDRESS_SUCCESS;
	vgpu_entry entry;

	if (!name || !function || flags & ~(cuuint64_t)FLAGS || flags == FLAGS)
		return CUDA_ERROR_INVALID_VALUE;
	switch (vgpu_find_entry_point(name, version, per_thread, &entry)) {
	case VGPU_LOOKUP_FOUND:
		break;
	case VGPU_LOOKUP_TOO_NEW:
		result = CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT;
		vgpu_journal_missing(name, version);
		break;
	case VGPU_LOOKUP_UNKNOWN:
		result = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
		vgpu_log("cuGetProcAddress: no function \"%s\"", name);
		vgpu_journal_missing(name, version);
		break;
	}
	*(vgpu_entry *)function = entry;
	if (found)
		*found = result;
	return entry ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

CUresult cuGetProcAddress(const char *name, void **function, int version, cuuint64_t flags)
{
	return cuGetProcAddress_v2(name, function, version, flags, NULL);
}
