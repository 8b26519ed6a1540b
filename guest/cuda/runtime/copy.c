// SPDX-License-Identifier: MIT
/*
 * Copies. Compiled twice (rules.mk): the second time for programs whose default stream is
 * each thread's own; the headers then give the functions, and those of the driver, other names.
 */
#include <string.h>

#include "internal.h"

static CUdeviceptr at(const void *pointer)
{
	return (CUdeviceptr)(uintptr_t)pointer;
}

/* Copies in a stream, or, with `wait`, as the synchronous functions do. */
static cudaError_t copy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
			bool wait, cudaStream_t stream)
{
	cudaError_t error = vgpu_context();
	CUresult result;

	if (error != cudaSuccess)
		return vgpu_done(error);
	if (!bytes)
		return cudaSuccess;
	switch (kind) {
	case cudaMemcpyHostToDevice:
		result = wait ? cuMemcpyHtoD(at(to), from, bytes)
			      : cuMemcpyHtoDAsync(at(to), from, bytes, stream);
		break;
	case cudaMemcpyDeviceToHost:
		result = wait ? cuMemcpyDtoH(to, at(from), bytes)
			      : cuMemcpyDtoHAsync(to, at(from), bytes, stream);
		break;
	case cudaMemcpyDeviceToDevice:
		result = wait ? cuMemcpyDtoD(at(to), at(from), bytes)
			      : cuMemcpyDtoDAsync(at(to), at(from), bytes, stream);
		break;
	case cudaMemcpyHostToHost:
	case cudaMemcpyDefault:
		result = wait ? cuMemcpy(at(to), at(from), bytes)
			      : cuMemcpyAsync(at(to), at(from), bytes, stream);
		break;
	default:
		return vgpu_done(cudaErrorInvalidMemcpyDirection);
	}
	return vgpu_driver_done(result);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
	return copy(to, from, bytes, kind, true, NULL);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
			    cudaStream_t stream)
{
	return copy(to, from, bytes, kind, false, stream);
}

/* One side of a rectangle, as the driver wants it. */
struct side {
	CUmemorytype type;
	const void *host;
	CUdeviceptr device;
};

static struct side side_of(const void *pointer, bool host, bool unified)
{
	if (unified)
		return (struct side){ CU_MEMORYTYPE_UNIFIED, NULL, at(pointer) };
	return host ? (struct side){ CU_MEMORYTYPE_HOST, pointer, 0 }
		    : (struct side){ CU_MEMORYTYPE_DEVICE, NULL, at(pointer) };
}

static cudaError_t copy_2d(void *to, size_t to_pitch, const void *from, size_t from_pitch,
			   size_t width, size_t height, enum cudaMemcpyKind kind, bool wait,
			   cudaStream_t stream)
{
	bool unified = kind == cudaMemcpyDefault;
	bool from_host = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyHostToHost;
	bool to_host = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyHostToHost;
	struct side source = side_of(from, from_host, unified);
	struct side target = side_of(to, to_host, unified);
	CUDA_MEMCPY2D rectangle = {
		.srcMemoryType = source.type,
		.srcHost = source.host,
		.srcDevice = source.device,
		.srcPitch = from_pitch,
		.dstMemoryType = target.type,
		.dstHost = (void *)target.host,
		.dstDevice = target.device,
		.dstPitch = to_pitch,
		.WidthInBytes = width,
		.Height = height,
	};

	if ((unsigned int)kind > cudaMemcpyDefault)
		return vgpu_done(cudaErrorInvalidMemcpyDirection);
	if (width > to_pitch || width > from_pitch)
		return vgpu_done(cudaErrorInvalidPitchValue);
	if (!width || !height)
		return vgpu_done(vgpu_context());
	VGPU_RETURN_DRIVER(wait ? cuMemcpy2DUnaligned(&rectangle)
				: cuMemcpy2DAsync(&rectangle, stream));
}

cudaError_t cudaMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch,
			 size_t width, size_t height, enum cudaMemcpyKind kind)
{
	return copy_2d(to, to_pitch, from, from_pitch, width, height, kind, true, NULL);
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
			      size_t width, size_t height, enum cudaMemcpyKind kind,
			      cudaStream_t stream)
{
	return copy_2d(to, to_pitch, from, from_pitch, width, height, kind, false, stream);
}

/* The driver copies rectangles; a box is as many of them as it is deep. */
static cudaError_t copy_3d(const struct cudaMemcpy3DParms *wanted, bool wait, cudaStream_t stream)
{
	CUDA_MEMCPY3D box;
	CUDA_MEMCPY2D slice;
	cudaError_t error = vgpu_box(wanted, &box);

	if (error == cudaSuccess)
		error = vgpu_context();
	if (error != cudaSuccess || !box.WidthInBytes || !box.Height)
		return vgpu_done(error);
	for (size_t z = 0; error == cudaSuccess && z < box.Depth; z++) {
		vgpu_box_slice(&box, z, &slice);
		error = vgpu_error(wait ? cuMemcpy2DUnaligned(&slice)
					: cuMemcpy2DAsync(&slice, stream));
	}
	return vgpu_done(error);
}

cudaError_t cudaMemcpy3D(const struct cudaMemcpy3DParms *box)
{
	return copy_3d(box, true, NULL);
}

cudaError_t cudaMemcpy3DAsync(const struct cudaMemcpy3DParms *box, cudaStream_t stream)
{
	return copy_3d(box, false, stream);
}

static cudaError_t to_symbol(const void *symbol, const void *from, size_t bytes, size_t offset,
			     enum cudaMemcpyKind kind, bool wait, cudaStream_t stream)
{
	CUdeviceptr address = 0;
	cudaError_t error = vgpu_part_of(symbol, offset, bytes, &address);

	if (error == cudaSuccess &&
	    (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyHostToHost))
		error = cudaErrorInvalidMemcpyDirection;
	if (error != cudaSuccess)
		return vgpu_done(error);
	return copy((void *)(uintptr_t)address, from, bytes, kind, wait, stream);
}

static cudaError_t from_symbol(void *to, const void *symbol, size_t bytes, size_t offset,
			       enum cudaMemcpyKind kind, bool wait, cudaStream_t stream)
{
	CUdeviceptr address = 0;
	cudaError_t error = vgpu_part_of(symbol, offset, bytes, &address);

	if (error == cudaSuccess &&
	    (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyHostToHost))
		error = cudaErrorInvalidMemcpyDirection;
	if (error != cudaSuccess)
		return vgpu_done(error);
	return copy(to, (void *)(uintptr_t)address, bytes, kind, wait, stream);
}

cudaError_t cudaMemcpyToSymbol(const void *symbol, const void *from, size_t bytes, size_t offset,
			       enum cudaMemcpyKind kind)
{
	return to_symbol(symbol, from, bytes, offset, kind, true, NULL);
}

cudaError_t cudaMemcpyToSymbolAsync(const void *symbol, const void *from, size_t bytes,
				    size_t offset, enum cudaMemcpyKind kind, cudaStream_t stream)
{
	return to_symbol(symbol, from, bytes, offset, kind, false, stream);
}

cudaError_t cudaMemcpyFromSymbol(void *to, const void *symbol, size_t bytes, size_t offset,
				 enum cudaMemcpyKind kind)
{
	return from_symbol(to, symbol, bytes, offset, kind, true, NULL);
}

cudaError_t cudaMemcpyFromSymbolAsync(void *to, const void *symbol, size_t bytes, size_t offset,
				      enum cudaMemcpyKind kind, cudaStream_t stream)
{
	return from_symbol(to, symbol, bytes, offset, kind, false, stream);
}
