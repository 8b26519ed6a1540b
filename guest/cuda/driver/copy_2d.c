// SPDX-License-Identifier: MIT
/* Copies of rectangles between linear memories; arrays are refused. */
#include <string.h>

#include "internal.h"

struct side {
	bool device;
	uint64_t start; /* of the rectangle's first byte */
	uint64_t pitch;
	uint32_t registration; /* host side the device can reach; `start` is then ... */
	uint64_t offset;       /* ... at this offset of it */
};

/* Bytes from the first to the last byte of a rectangle. */
static uint64_t span(uint64_t pitch, size_t width, size_t height)
{
	return pitch * (height - 1) + width;
}

static CUresult resolve_side(struct side *side, CUmemorytype type, uint64_t host,
			     CUdeviceptr device, size_t pitch, size_t x, size_t y, size_t width,
			     size_t height)
{
	struct vgpu_range range;
	uint64_t base;

	if (type == CU_MEMORYTYPE_ARRAY)
		return CUDA_ERROR_NOT_SUPPORTED;
	if (type != CU_MEMORYTYPE_HOST && type != CU_MEMORYTYPE_DEVICE &&
	    type != CU_MEMORYTYPE_UNIFIED)
		return CUDA_ERROR_INVALID_VALUE;
	base = type == CU_MEMORYTYPE_HOST ? host : device;
	side->device =
		type == CU_MEMORYTYPE_DEVICE ||
		(type == CU_MEMORYTYPE_UNIFIED && vgpu_ranges_find(VGPU_SIDE_DEVICE, base, &range));
	side->pitch = pitch ? pitch : x + width;
	if (!base || side->pitch < x + width ||
	    (height > 1 && side->pitch > (UINT64_MAX - base) / (y + height)))
		return CUDA_ERROR_INVALID_VALUE;
	side->start = base + y * side->pitch + x;
	if (!vgpu_ranges_find(side->device ? VGPU_SIDE_DEVICE : VGPU_SIDE_HOST, side->start,
			      &range) ||
	    span(side->pitch, width, height) > range.size - (side->start - range.start))
		return side->device ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
	if (!side->device) {
		side->registration = range.block.registration;
		side->offset = range.offset + (side->start - range.start);
	}
	return CUDA_SUCCESS;
}

static uint64_t wire_address(const struct side *side)
{
	return side->device ? side->start : side->offset;
}

/* One command: each side is device memory, or host memory that the device can reach. */
static CUresult direct(const struct vgpu_stream_ref *ref, const struct side *to,
		       const struct side *from, size_t width, size_t height, bool wait)
{
	struct vgpu_cmd_copy_2d command = vgpu_encode_copy_2d(
		vgpu_context_handle(ref->context), wire_address(to), to->pitch, wire_address(from),
		from->pitch, width, height, to->registration, from->registration, ref->remote);
	struct vgpu_reply reply;

	if (!wait)
		return vgpu_submit(&command, sizeof(command));
	return vgpu_context_call(ref->context, &command, sizeof(command), NULL, 0, &reply);
}

static CUresult host_to_host(CUstream stream, const struct side *to, const struct side *from,
			     size_t width, size_t height)
{
	CUresult status = cuStreamSynchronize(stream);

	for (size_t y = 0; y < height && status == CUDA_SUCCESS; y++)
		memmove((void *)(to->start + y * to->pitch),
			(void *)(from->start + y * from->pitch), width);
	return status;
}

static CUresult capture(const struct vgpu_stream_ref *ref, const CUDA_MEMCPY2D *copy)
{
	CUDA_MEMCPY3D node = {
		.srcXInBytes = copy->srcXInBytes,
		.srcY = copy->srcY,
		.srcMemoryType = copy->srcMemoryType,
		.srcHost = copy->srcHost,
		.srcDevice = copy->srcDevice,
		.srcArray = copy->srcArray,
		.srcPitch = copy->srcPitch,
		.dstXInBytes = copy->dstXInBytes,
		.dstY = copy->dstY,
		.dstMemoryType = copy->dstMemoryType,
		.dstHost = copy->dstHost,
		.dstDevice = copy->dstDevice,
		.dstArray = copy->dstArray,
		.dstPitch = copy->dstPitch,
		.WidthInBytes = copy->WidthInBytes,
		.Height = copy->Height,
		.Depth = 1,
	};

	return vgpu_capture_copy(ref, &node);
}

static CUresult copy_2d(const CUDA_MEMCPY2D *copy, CUstream stream, bool wait)
{
	struct vgpu_stream_ref ref;
	struct side from = { 0 };
	struct side to = { 0 };
	struct vgpu_rows device;
	struct vgpu_rows host;
	CUresult status =
		wait ? vgpu_stream_resolve(stream, &ref) : vgpu_stream_resolve_work(stream, &ref);

	if (status == CUDA_SUCCESS && wait)
		status = vgpu_capture_check_unsafe();
	if (status != CUDA_SUCCESS)
		return status;
	if (!copy)
		return CUDA_ERROR_INVALID_VALUE;
	if (!copy->WidthInBytes || !copy->Height)
		return CUDA_SUCCESS;
	if (ref.capturing)
		return capture(&ref, copy);
	status = resolve_side(&from, copy->srcMemoryType, (uintptr_t)copy->srcHost, copy->srcDevice,
			      copy->srcPitch, copy->srcXInBytes, copy->srcY, copy->WidthInBytes,
			      copy->Height);
	if (status == CUDA_SUCCESS)
		status = resolve_side(&to, copy->dstMemoryType, (uintptr_t)copy->dstHost,
				      copy->dstDevice, copy->dstPitch, copy->dstXInBytes,
				      copy->dstY, copy->WidthInBytes, copy->Height);
	if (status != CUDA_SUCCESS)
		return status;
	if (!to.device && !from.device)
		return host_to_host(stream, &to, &from, copy->WidthInBytes, copy->Height);
	if ((to.device || to.registration) && (from.device || from.registration))
		return direct(&ref, &to, &from, copy->WidthInBytes, copy->Height,
			      wait && !(to.device && from.device));
	device = to.device ? (struct vgpu_rows){ to.start, to.pitch }
			   : (struct vgpu_rows){ from.start, from.pitch };
	host = to.device ? (struct vgpu_rows){ from.start, from.pitch }
			 : (struct vgpu_rows){ to.start, to.pitch };
	if (from.device)
		return vgpu_staging_read_2d(&ref, device, host, copy->WidthInBytes, copy->Height);
	status = vgpu_staging_write_2d(&ref, device, host, copy->WidthInBytes, copy->Height);
	return status == CUDA_SUCCESS && wait ? cuStreamSynchronize(stream) : status;
}

CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D *copy)
{
	return copy_2d(copy, CU_STREAM_LEGACY, true);
}

CUresult cuMemcpy2D_v2_ptds(const CUDA_MEMCPY2D *copy)
{
	return copy_2d(copy, CU_STREAM_PER_THREAD, true);
}

CUresult cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D *copy)
{
	return copy_2d(copy, CU_STREAM_LEGACY, true);
}

CUresult cuMemcpy2DUnaligned_v2_ptds(const CUDA_MEMCPY2D *copy)
{
	return copy_2d(copy, CU_STREAM_PER_THREAD, true);
}

CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *copy, CUstream stream)
{
	return copy_2d(copy, stream, false);
}

CUresult cuMemcpy2DAsync_v2_ptsz(const CUDA_MEMCPY2D *copy, CUstream stream)
{
	return copy_2d(copy, vgpu_per_thread(stream), false);
}
