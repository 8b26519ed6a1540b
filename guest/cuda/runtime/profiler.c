// SPDX-License-Identifier: MIT
/*
 * cudaProfilerStart and cudaProfilerStop tell an active profiling tool where to look.
 * No such tool can be attached here; the documented effect without one is none.
 */
#include "internal.h"

VGPU_EXPORT cudaError_t cudaProfilerStart(void);
VGPU_EXPORT cudaError_t cudaProfilerStop(void);

cudaError_t cudaProfilerStart(void)
{
	return vgpu_done(vgpu_context());
}

cudaError_t cudaProfilerStop(void)
{
	return vgpu_done(vgpu_context());
}
