// SPDX-License-Identifier: MIT
/* Copies of boxes in linear memory, as the driver describes them. CUDA arrays are not supported. */
#include "internal.h"

static CUmemorytype type_of(enum cudaMemcpyKind kind, bool source)
{
	bool host = kind == cudaMemcpyHostToHost ||
		    kind == (source ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost);

	if (kind == cudaMemcpyDefault)
		return CU_MEMORYTYPE_UNIFIED;
	return host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
}

static bool fits(struct cudaPos at, struct cudaExtent extent, struct cudaPitchedPtr side)
{
	return at.x + extent.width <= side.pitch &&
	       (extent.depth + at.z <= 1 || at.y + extent.height <= side.ysize);
}

cudaError_t vgpu_box(const struct cudaMemcpy3DParms *wanted, CUDA_MEMCPY3D *box)
{
	if (!wanted)
		return cudaErrorInvalidValue;
	if (wanted->srcArray || wanted->dstArray)
		return (cudaError_t)vgpu_runtime_refuse("cudaMemcpy3D of arrays");
	if (!wanted->srcPtr.ptr || !wanted->dstPtr.ptr)
		return cudaErrorInvalidValue;
	if ((unsigned int)wanted->kind > cudaMemcpyDefault)
		return cudaErrorInvalidMemcpyDirection;
	if (!fits(wanted->srcPos, wanted->extent, wanted->srcPtr) ||
	    !fits(wanted->dstPos, wanted->extent, wanted->dstPtr))
		return cudaErrorInvalidPitchValue;
	*box = (CUDA_MEMCPY3D){
		.srcXInBytes = wanted->srcPos.x,
		.srcY = wanted->srcPos.y,
		.srcZ = wanted->srcPos.z,
		.srcMemoryType = type_of(wanted->kind, true),
		.srcHost = wanted->srcPtr.ptr,
		.srcDevice = (CUdeviceptr)(uintptr_t)wanted->srcPtr.ptr,
		.srcPitch = wanted->srcPtr.pitch,
		.srcHeight = wanted->srcPtr.ysize,
		.dstXInBytes = wanted->dstPos.x,
		.dstY = wanted->dstPos.y,
		.dstZ = wanted->dstPos.z,
		.dstMemoryType = type_of(wanted->kind, false),
		.dstHost = wanted->dstPtr.ptr,
		.dstDevice = (CUdeviceptr)(uintptr_t)wanted->dstPtr.ptr,
		.dstPitch = wanted->dstPtr.pitch,
		.dstHeight = wanted->dstPtr.ysize,
		.WidthInBytes = wanted->extent.width,
		.Height = wanted->extent.height,
		.Depth = wanted->extent.depth,
	};
	return cudaSuccess;
}

void vgpu_box_slice(const CUDA_MEMCPY3D *box, size_t z, CUDA_MEMCPY2D *slice)
{
	size_t from = (box->srcZ + z) * box->srcHeight * box->srcPitch;
	size_t to = (box->dstZ + z) * box->dstHeight * box->dstPitch;

	*slice = (CUDA_MEMCPY2D){
		.srcXInBytes = box->srcXInBytes,
		.srcY = box->srcY,
		.srcMemoryType = box->srcMemoryType,
		.srcHost = (const char *)box->srcHost + from,
		.srcDevice = box->srcDevice + from,
		.srcPitch = box->srcPitch,
		.dstXInBytes = box->dstXInBytes,
		.dstY = box->dstY,
		.dstMemoryType = box->dstMemoryType,
		.dstHost = (char *)box->dstHost + to,
		.dstDevice = box->dstDevice + to,
		.dstPitch = box->dstPitch,
		.WidthInBytes = box->WidthInBytes,
		.Height = box->Height,
	};
}
