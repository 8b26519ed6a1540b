// SPDX-License-Identifier: MIT
/* What is queued in a stream, and what a stream says of itself. Compiled twice (rules.mk). */
#include <assert.h>

#include "internal.h"

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
	VGPU_RETURN_DRIVER(cuStreamSynchronize(stream));
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
	VGPU_RETURN_DRIVER(cuStreamQuery(stream));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int flags)
{
	VGPU_RETURN_DRIVER(cuStreamWaitEvent(stream, event, flags));
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
	VGPU_RETURN_DRIVER(cuEventRecord(event, stream));
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned int flags)
{
	VGPU_RETURN_DRIVER(cuEventRecordWithFlags(event, stream, flags));
}

cudaError_t cudaStreamGetFlags(cudaStream_t stream, unsigned int *flags)
{
	VGPU_RETURN_DRIVER(cuStreamGetFlags(stream, flags));
}

cudaError_t cudaStreamGetPriority(cudaStream_t stream, int *priority)
{
	VGPU_RETURN_DRIVER(cuStreamGetPriority(stream, priority));
}

cudaError_t cudaStreamGetId(cudaStream_t stream, unsigned long long *id)
{
	VGPU_RETURN_DRIVER(cuStreamGetId(stream, id));
}

cudaError_t cudaStreamGetDevice(cudaStream_t stream, int *device)
{
	VGPU_RETURN_DRIVER(cuStreamGetDevice(stream, device));
}

cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t callback, void *data,
				  unsigned int flags)
{
	VGPU_RETURN_DRIVER(cuStreamAddCallback(stream, (CUstreamCallback)callback, data, flags));
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data)
{
	VGPU_RETURN_DRIVER(cuLaunchHostFunc(stream, function, data));
}

/* Attributes and their values have the numbers and the layout of the driver's. */

static_assert(sizeof(cudaStreamAttrValue) == sizeof(CUstreamAttrValue), "one layout for both");

cudaError_t cudaStreamGetAttribute(cudaStream_t stream, cudaStreamAttrID attribute,
				   cudaStreamAttrValue *value)
{
	VGPU_RETURN_DRIVER(cuStreamGetAttribute(stream, (CUstreamAttrID)attribute,
						(CUstreamAttrValue *)value));
}

cudaError_t cudaStreamSetAttribute(cudaStream_t stream, cudaStreamAttrID attribute,
				   const cudaStreamAttrValue *value)
{
	VGPU_RETURN_DRIVER(cuStreamSetAttribute(stream, (CUstreamAttrID)attribute,
						(const CUstreamAttrValue *)value));
}

cudaError_t cudaStreamCopyAttributes(cudaStream_t to, cudaStream_t from)
{
	VGPU_RETURN_DRIVER(cuStreamCopyAttributes(to, from));
}
