// SPDX-License-Identifier: MIT
/* Fills of device memory; asynchronous in every form, as CUDA documents them. */
#include "internal.h"

static bool fits(CUdeviceptr address, size_t bytes)
{
	struct vgpu_range range;

	return vgpu_ranges_find(VGPU_SIDE_DEVICE, address, &range) &&
	       bytes <= range.size - (address - range.start);
}

static CUresult fill(CUdeviceptr address, unsigned int value, unsigned int element_bytes,
		     size_t count, CUstream stream)
{
	struct vgpu_cmd_memset command;
	struct vgpu_stream_ref ref;
	CUresult status = vgpu_stream_resolve_work(stream, &ref);

	if (status != CUDA_SUCCESS || !count)
		return status;
	if (ref.capturing)
		return vgpu_capture_memset(&ref,
					   &(CUDA_MEMSET_NODE_PARAMS){ .dst = address,
								       .value = value,
								       .elementSize = element_bytes,
								       .width = count,
								       .height = 1 });
	if (address % element_bytes || count > SIZE_MAX / element_bytes ||
	    !fits(address, count * element_bytes))
		return CUDA_ERROR_INVALID_VALUE;
	command = vgpu_encode_memset(vgpu_context_handle(ref.context), address, count, value,
				     element_bytes, ref.remote);
	return vgpu_submit(&command, sizeof(command));
}

static CUresult fill_2d(CUdeviceptr address, size_t pitch, unsigned int value,
			unsigned int element_bytes, size_t width, size_t height, CUstream stream)
{
	struct vgpu_cmd_memset_2d command;
	struct vgpu_stream_ref ref;
	CUresult status = vgpu_stream_resolve_work(stream, &ref);

	if (status != CUDA_SUCCESS || !width || !height)
		return status;
	if (ref.capturing)
		return vgpu_capture_memset(&ref,
					   &(CUDA_MEMSET_NODE_PARAMS){ .dst = address,
								       .pitch = pitch,
								       .value = value,
								       .elementSize = element_bytes,
								       .width = width,
								       .height = height });
	if (address % element_bytes || width > SIZE_MAX / element_bytes ||
	    (height > 1 && (pitch < width * element_bytes || pitch % element_bytes ||
			    pitch > SIZE_MAX / height)) ||
	    !fits(address, pitch * (height - 1) + width * element_bytes))
		return CUDA_ERROR_INVALID_VALUE;
	command = vgpu_encode_memset_2d(vgpu_context_handle(ref.context), address, pitch, width,
					height, value, element_bytes, ref.remote);
	return vgpu_submit(&command, sizeof(command));
}

/* The eight functions of one element size. */
#define DEFINE_MEMSET(BITS, TYPE)                                                                  \
	CUresult cuMemsetD##BITS##_v2(CUdeviceptr address, TYPE value, size_t count)               \
	{                                                                                          \
		return fill(address, value, BITS / 8, count, CU_STREAM_LEGACY);                    \
	}                                                                                          \
	CUresult cuMemsetD##BITS##_v2_ptds(CUdeviceptr address, TYPE value, size_t count)          \
	{                                                                                          \
		return fill(address, value, BITS / 8, count, CU_STREAM_PER_THREAD);                \
	}                                                                                          \
	CUresult cuMemsetD##BITS##Async(CUdeviceptr address, TYPE value, size_t count,             \
					CUstream stream)                                           \
	{                                                                                          \
		return fill(address, value, BITS / 8, count, stream);                              \
	}                                                                                          \
	CUresult cuMemsetD##BITS##Async_ptsz(CUdeviceptr address, TYPE value, size_t count,        \
					     CUstream stream)                                      \
	{                                                                                          \
		return fill(address, value, BITS / 8, count, vgpu_per_thread(stream));             \
	}                                                                                          \
	CUresult cuMemsetD2D##BITS##_v2(CUdeviceptr address, size_t pitch, TYPE value,             \
					size_t width, size_t height)                               \
	{                                                                                          \
		return fill_2d(address, pitch, value, BITS / 8, width, height, CU_STREAM_LEGACY);  \
	}                                                                                          \
	CUresult cuMemsetD2D##BITS##_v2_ptds(CUdeviceptr address, size_t pitch, TYPE value,        \
					     size_t width, size_t height)                          \
	{                                                                                          \
		return fill_2d(address, pitch, value, BITS / 8, width, height,                     \
			       CU_STREAM_PER_THREAD);                                              \
	}                                                                                          \
	CUresult cuMemsetD2D##BITS##Async(CUdeviceptr address, size_t pitch, TYPE value,           \
					  size_t width, size_t height, CUstream stream)            \
	{                                                                                          \
		return fill_2d(address, pitch, value, BITS / 8, width, height, stream);            \
	}                                                                                          \
	CUresult cuMemsetD2D##BITS##Async_ptsz(CUdeviceptr address, size_t pitch, TYPE value,      \
					       size_t width, size_t height, CUstream stream)       \
	{                                                                                          \
		return fill_2d(address, pitch, value, BITS / 8, width, height,                     \
			       vgpu_per_thread(stream));                                           \
	}

DEFINE_MEMSET(8, unsigned char)
DEFINE_MEMSET(16, unsigned short)
DEFINE_MEMSET(32, unsigned int)
