// SPDX-License-Identifier: MIT
/* Options of the JIT compiler and the linker: of these only the logs are carried out here. */
#include <string.h>

#include "internal.h"

CUresult vgpu_jit_read_options(unsigned int count, const CUjit_option *options, void **values,
			       struct vgpu_jit_log *log)
{
	if (count && (!options || !values))
		return CUDA_ERROR_INVALID_VALUE;
	for (unsigned int i = 0; i < count; i++) {
		switch (options[i]) {
		case CU_JIT_ERROR_LOG_BUFFER:
			log->error = values[i];
			break;
		case CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES:
			log->error_room = (size_t)(uintptr_t)values[i];
			log->error_size = &values[i];
			break;
		case CU_JIT_INFO_LOG_BUFFER:
			log->info = values[i];
			break;
		case CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES:
			log->info_room = (size_t)(uintptr_t)values[i];
			log->info_size = &values[i];
			break;
		case CU_JIT_WALL_TIME: /* an output nobody fills would be a lie */
			return CUDA_ERROR_NOT_SUPPORTED;
		default:
			/* The others tune the compiler and may be left to it. */
			break;
		}
	}
	return CUDA_SUCCESS;
}

/* The size is that of the text, or all there is room for: as in driver 580. */
static void write_log(char *to, size_t room, void **size_out, const char *text, size_t bytes)
{
	size_t kept = 0;

	if (to && room) {
		kept = bytes < room - 1 ? bytes : room - 1;
		memcpy(to, text, kept);
		to[kept] = '\0';
	}
	if (size_out)
		*size_out = (void *)(uintptr_t)(kept < bytes ? room : kept);
}

void vgpu_jit_write_log(const struct vgpu_jit_log *log, CUresult status, const char *text,
			size_t bytes)
{
	bool failed = status != CUDA_SUCCESS;

	write_log(log->error, log->error_room, log->error_size, text, failed ? bytes : 0);
	write_log(log->info, log->info_room, log->info_size, text, failed ? 0 : bytes);
}
