// SPDX-License-Identifier: MIT
/* Copies of boxes between linear memories: a rectangle for each layer. Arrays are refused. */
#include "internal.h"

static CUresult check(const CUDA_MEMCPY3D *box)
{
	if (!box || box->srcLOD || box->dstLOD || box->reserved0 || box->reserved1)
		return CUDA_ERROR_INVALID_VALUE;
	if (box->srcMemoryType == CU_MEMORYTYPE_ARRAY || box->dstMemoryType == CU_MEMORYTYPE_ARRAY)
		return CUDA_ERROR_NOT_SUPPORTED;
	/* The height of a memory matters as soon as there is a second layer of it. */
	if (box->Depth > 1 &&
	    (box->srcHeight < box->srcY + box->Height || box->dstHeight < box->dstY + box->Height))
		return CUDA_ERROR_INVALID_VALUE;
	return CUDA_SUCCESS;
}

static CUDA_MEMCPY2D layer(const CUDA_MEMCPY3D *box, size_t z)
{
	return (CUDA_MEMCPY2D){
		.srcXInBytes = box->srcXInBytes,
		.srcY = box->srcY + (box->srcZ + z) * box->srcHeight,
		.srcMemoryType = box->srcMemoryType,
		.srcHost = box->srcHost,
		.srcDevice = box->srcDevice,
		.srcPitch = box->srcPitch,
		.dstXInBytes = box->dstXInBytes,
		.dstY = box->dstY + (box->dstZ + z) * box->dstHeight,
		.dstMemoryType = box->dstMemoryType,
		.dstHost = box->dstHost,
		.dstDevice = box->dstDevice,
		.dstPitch = box->dstPitch,
		.WidthInBytes = box->WidthInBytes,
		.Height = box->Height,
	};
}

static CUresult synchronous(const CUDA_MEMCPY3D *box, CUresult (*copy)(const CUDA_MEMCPY2D *))
{
	CUresult status = vgpu_check_initialized();

	if (status == CUDA_SUCCESS)
		status = check(box);
	for (size_t z = 0; status == CUDA_SUCCESS && z < box->Depth; z++) {
		CUDA_MEMCPY2D rectangle = layer(box, z);

		status = copy(&rectangle);
	}
	return status;
}

CUresult cuMemcpy3D_v2(const CUDA_MEMCPY3D *box)
{
	return synchronous(box, cuMemcpy2DUnaligned_v2);
}

CUresult cuMemcpy3D_v2_ptds(const CUDA_MEMCPY3D *box)
{
	return synchronous(box, cuMemcpy2DUnaligned_v2_ptds);
}

CUresult cuMemcpy3DAsync_v2(const CUDA_MEMCPY3D *box, CUstream stream)
{
	struct vgpu_stream_ref ref;
	CUresult status = vgpu_stream_resolve_work(stream, &ref);

	if (status == CUDA_SUCCESS)
		status = check(box);
	if (status != CUDA_SUCCESS)
		return status;
	if (ref.capturing && box->WidthInBytes && box->Height && box->Depth)
		return vgpu_capture_copy(&ref, box);
	for (size_t z = 0; status == CUDA_SUCCESS && z < box->Depth; z++) {
		CUDA_MEMCPY2D rectangle = layer(box, z);

		status = cuMemcpy2DAsync_v2(&rectangle, stream);
	}
	return status;
}

CUresult cuMemcpy3DAsync_v2_ptsz(const CUDA_MEMCPY3D *box, CUstream stream)
{
	return cuMemcpy3DAsync_v2(box, vgpu_per_thread(stream));
}
