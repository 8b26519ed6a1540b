// SPDX-License-Identifier: MIT
/* Streams and events as objects. What is queued in a stream is in queue.c. */
#include "internal.h"

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned int flags, int priority)
{
	VGPU_RETURN_DRIVER(cuStreamCreateWithPriority(stream, flags, priority));
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int flags)
{
	VGPU_RETURN_DRIVER(cuStreamCreate(stream, flags));
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
	return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
	VGPU_RETURN_DRIVER(cuStreamDestroy(stream));
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags)
{
	VGPU_RETURN_DRIVER(cuEventCreate(event, flags));
}

/* C++ has another one, with flags. */
cudaError_t cudaEventCreate(cudaEvent_t *event)
{
	return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
	VGPU_RETURN_DRIVER(cuEventDestroy(event));
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
	VGPU_RETURN_DRIVER(cuEventQuery(event));
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
	VGPU_RETURN_DRIVER(cuEventSynchronize(event));
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end)
{
	VGPU_RETURN_DRIVER(cuEventElapsedTime(milliseconds, start, end));
}

#if CUDART_VERSION < 13000
#undef cudaEventElapsedTime_v2
cudaError_t cudaEventElapsedTime_v2(float *milliseconds, cudaEvent_t start, cudaEvent_t end)
{
	return cudaEventElapsedTime(milliseconds, start, end);
}
#endif
