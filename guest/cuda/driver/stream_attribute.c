// SPDX-License-Identifier: MIT
/*
 * Attributes of streams: how to wait for one, which is a hint that only has to be kept,
 * its priority, of which the device has one, and the window of memory that is to stay in
 * the cache, which has to be empty where the device says that it takes none.
 */
#include <string.h>

#include "internal.h"

/* Kept by the stream, or by the context for its default stream. */
static _Atomic int *policy_of(const struct vgpu_stream_ref *ref)
{
	return ref->stream ? &ref->stream->synchronization_policy
			   : &ref->context->synchronization_policy;
}

CUresult cuStreamGetAttribute(CUstream handle, CUstreamAttrID attribute, CUstreamAttrValue *value)
{
	struct vgpu_stream_ref ref;
	CUresult status = vgpu_stream_find(handle, &ref);

	if (status == CUDA_SUCCESS && !value)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status != CUDA_SUCCESS)
		return status;
	switch (attribute) {
	case CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY:
		value->syncPolicy = (CUsynchronizationPolicy)atomic_load(policy_of(&ref));
		return CUDA_SUCCESS;
	case CU_STREAM_ATTRIBUTE_PRIORITY:
		value->priority = ref.stream ? ref.stream->priority : 0;
		return CUDA_SUCCESS;
	case CU_STREAM_ATTRIBUTE_ACCESS_POLICY_WINDOW:
		memset(&value->accessPolicyWindow, 0, sizeof(value->accessPolicyWindow));
		return CUDA_SUCCESS;
	default:
		vgpu_log("stream attribute %d is not supported", (int)attribute);
		return CUDA_ERROR_NOT_SUPPORTED;
	}
}

CUresult cuStreamGetAttribute_ptsz(CUstream handle, CUstreamAttrID attribute,
				   CUstreamAttrValue *value)
{
	return cuStreamGetAttribute(vgpu_per_thread(handle), attribute, value);
}

CUresult cuStreamSetAttribute(CUstream handle, CUstreamAttrID attribute,
			      const CUstreamAttrValue *value)
{
	struct vgpu_stream_ref ref;
	CUresult status = vgpu_stream_find(handle, &ref);

	if (status == CUDA_SUCCESS && !value)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status != CUDA_SUCCESS)
		return status;
	switch (attribute) {
	case CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY:
		if ((int)value->syncPolicy < CU_SYNC_POLICY_AUTO ||
		    value->syncPolicy > CU_SYNC_POLICY_BLOCKING_SYNC)
			return CUDA_ERROR_INVALID_VALUE;
		atomic_store(policy_of(&ref), (int)value->syncPolicy);
		return CUDA_SUCCESS;
	case CU_STREAM_ATTRIBUTE_PRIORITY: /* clamped to the range, which is 0 to 0 */
		return CUDA_SUCCESS;
	case CU_STREAM_ATTRIBUTE_ACCESS_POLICY_WINDOW: /* no larger than the device takes */
		return value->accessPolicyWindow.num_bytes ? CUDA_ERROR_INVALID_VALUE
							   : CUDA_SUCCESS;
	default:
		vgpu_log("stream attribute %d is not supported", (int)attribute);
		return CUDA_ERROR_NOT_SUPPORTED;
	}
}

CUresult cuStreamSetAttribute_ptsz(CUstream handle, CUstreamAttrID attribute,
				   const CUstreamAttrValue *value)
{
	return cuStreamSetAttribute(vgpu_per_thread(handle), attribute, value);
}

CUresult cuStreamCopyAttributes(CUstream destination, CUstream source)
{
	struct vgpu_stream_ref from;
	struct vgpu_stream_ref to;
	CUresult status = vgpu_stream_find(source, &from);

	if (status == CUDA_SUCCESS)
		status = vgpu_stream_find(destination, &to);
	if (status != CUDA_SUCCESS)
		return status;
	if (from.context != to.context)
		return CUDA_ERROR_INVALID_VALUE;
	atomic_store(policy_of(&to), atomic_load(policy_of(&from)));
	return CUDA_SUCCESS;
}

CUresult cuStreamCopyAttributes_ptsz(CUstream destination, CUstream source)
{
	return cuStreamCopyAttributes(vgpu_per_thread(destination), vgpu_per_thread(source));
}

/* No stream belongs to a green context; of such a stream the documented answer is NULL. */
CUresult cuStreamGetGreenCtx(CUstream handle, CUgreenCtx *green)
{
	struct vgpu_stream_ref ref;
	CUresult status = vgpu_stream_find(handle, &ref);

	if (status == CUDA_SUCCESS && !green)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		*green = NULL;
	return status;
}

CUresult cuStreamGetCtx_v2(CUstream handle, CUcontext *context, CUgreenCtx *green)
{
	CUresult status = cuStreamGetCtx(handle, context);

	if (status == CUDA_SUCCESS && green)
		*green = NULL;
	return status;
}

CUresult cuStreamGetCtx_v2_ptsz(CUstream handle, CUcontext *context, CUgreenCtx *green)
{
	return cuStreamGetCtx_v2(vgpu_per_thread(handle), context, green);
}
