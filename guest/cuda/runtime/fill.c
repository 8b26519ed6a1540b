// SPDX-License-Identifier: MIT
/* Fills. Compiled twice (rules.mk). */
#include "internal.h"

static CUdeviceptr at(const void *pointer)
{
	return (CUdeviceptr)(uintptr_t)pointer;
}

cudaError_t cudaMemset(void *pointer, int value, size_t bytes)
{
	if (!bytes)
		return vgpu_done(vgpu_context());
	VGPU_RETURN_DRIVER(cuMemsetD8(at(pointer), (unsigned char)value, bytes));
}

cudaError_t cudaMemsetAsync(void *pointer, int value, size_t bytes, cudaStream_t stream)
{
	if (!bytes)
		return vgpu_done(vgpu_context());
	VGPU_RETURN_DRIVER(cuMemsetD8Async(at(pointer), (unsigned char)value, bytes, stream));
}

static CUresult fill_rows(CUdeviceptr start, size_t pitch, int value, size_t width, size_t height,
			  bool wait, cudaStream_t stream)
{
	if (wait)
		return cuMemsetD2D8(start, pitch, (unsigned char)value, width, height);
	return cuMemsetD2D8Async(start, pitch, (unsigned char)value, width, height, stream);
}

static cudaError_t fill_2d(void *pointer, size_t pitch, int value, size_t width, size_t height,
			   bool wait, cudaStream_t stream)
{
	if (width > pitch && height > 1)
		return vgpu_done(cudaErrorInvalidValue);
	if (!width || !height)
		return vgpu_done(vgpu_context());
	VGPU_RETURN_DRIVER(fill_rows(at(pointer), pitch, value, width, height, wait, stream));
}

cudaError_t cudaMemset2D(void *pointer, size_t pitch, int value, size_t width, size_t height)
{
	return fill_2d(pointer, pitch, value, width, height, true, NULL);
}

cudaError_t cudaMemset2DAsync(void *pointer, size_t pitch, int value, size_t width, size_t height,
			      cudaStream_t stream)
{
	return fill_2d(pointer, pitch, value, width, height, false, stream);
}

/* The driver fills rectangles; a box is as many of them as it is deep. */
static cudaError_t fill_3d(struct cudaPitchedPtr box, int value, struct cudaExtent extent,
			   bool wait, cudaStream_t stream)
{
	size_t slice = box.pitch * box.ysize;
	cudaError_t error = vgpu_context();

	if (extent.width > box.pitch || (extent.height > box.ysize && extent.depth > 1))
		error = cudaErrorInvalidValue;
	if (!extent.width || !extent.height)
		return vgpu_done(error);
	for (size_t z = 0; error == cudaSuccess && z < extent.depth; z++)
		error = vgpu_error(fill_rows(at(box.ptr) + z * slice, box.pitch, value,
					     extent.width, extent.height, wait, stream));
	return vgpu_done(error);
}

cudaError_t cudaMemset3D(struct cudaPitchedPtr box, int value, struct cudaExtent extent)
{
	return fill_3d(box, value, extent, true, NULL);
}

cudaError_t cudaMemset3DAsync(struct cudaPitchedPtr box, int value, struct cudaExtent extent,
			      cudaStream_t stream)
{
	return fill_3d(box, value, extent, false, stream);
}
