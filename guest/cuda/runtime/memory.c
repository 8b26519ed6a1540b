// SPDX-License-Identifier: MIT
/* Device memory and page-locked host memory. */
#include <string.h>

#include "internal.h"

cudaError_t cudaMalloc(void **pointer, size_t bytes)
{
	CUdeviceptr address;
	cudaError_t error = pointer ? vgpu_context() : cudaErrorInvalidValue;

	if (error == cudaSuccess && !bytes) {
		*pointer = NULL; /* the runtime allows it, the driver does not */
		return cudaSuccess;
	}
	if (error == cudaSuccess)
		error = vgpu_error(cuMemAlloc(&address, bytes));
	if (error == cudaSuccess)
		*pointer = (void *)(uintptr_t)address;
	return vgpu_done(error);
}

cudaError_t cudaMallocPitch(void **pointer, size_t *pitch, size_t width, size_t height)
{
	CUdeviceptr address;
	cudaError_t error = pointer && pitch ? vgpu_context() : cudaErrorInvalidValue;

	if (error == cudaSuccess && (!width || !height)) {
		*pointer = NULL;
		*pitch = 0;
		return cudaSuccess;
	}
	/* Rows must do for elements of any size that the driver knows: 4, 8 and 16 bytes. */
	if (error == cudaSuccess)
		error = vgpu_error(cuMemAllocPitch(&address, pitch, width, height, 16));
	if (error == cudaSuccess)
		*pointer = (void *)(uintptr_t)address;
	return vgpu_done(error);
}

cudaError_t cudaMalloc3D(struct cudaPitchedPtr *pitched, struct cudaExtent extent)
{
	void *pointer;
	size_t pitch;
	cudaError_t error;

	if (!pitched)
		return vgpu_done(cudaErrorInvalidValue);
	error = cudaMallocPitch(&pointer, &pitch, extent.width, extent.height * extent.depth);
	if (error == cudaSuccess)
		*pitched = (struct cudaPitchedPtr){ pointer, pitch, extent.width, extent.height };
	return error;
}

cudaError_t cudaFree(void *pointer)
{
	cudaError_t error = vgpu_context();

	if (error == cudaSuccess && pointer)
		error = vgpu_error(cuMemFree((CUdeviceptr)(uintptr_t)pointer));
	return vgpu_done(error);
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
	VGPU_RETURN_DRIVER(cuMemGetInfo(free_bytes, total));
}

/* Page-locked host memory. */

cudaError_t cudaHostAlloc(void **pointer, size_t bytes, unsigned int flags)
{
	cudaError_t error = pointer ? vgpu_context() : cudaErrorInvalidValue;

	if (error == cudaSuccess && !bytes) {
		*pointer = NULL;
		return cudaSuccess;
	}
	if (error == cudaSuccess)
		error = vgpu_error(cuMemHostAlloc(pointer, bytes, flags));
	return vgpu_done(error);
}

cudaError_t cudaMallocHost(void **pointer, size_t bytes)
{
	return cudaHostAlloc(pointer, bytes, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void *pointer)
{
	cudaError_t error = vgpu_context();

	if (error == cudaSuccess && pointer)
		error = vgpu_error(cuMemFreeHost(pointer));
	return vgpu_done(error);
}

cudaError_t cudaHostRegister(void *pointer, size_t bytes, unsigned int flags)
{
	VGPU_RETURN_DRIVER(cuMemHostRegister(pointer, bytes, flags));
}

cudaError_t cudaHostUnregister(void *pointer)
{
	VGPU_RETURN_DRIVER(cuMemHostUnregister(pointer));
}

cudaError_t cudaHostGetFlags(unsigned int *flags, void *pointer)
{
	VGPU_RETURN_DRIVER(cuMemHostGetFlags(flags, pointer));
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *pointer)
{
	CUdeviceptr address = (CUdeviceptr)(uintptr_t)pointer;
	CUmemorytype kind = 0;
	int device = 0;
	unsigned int managed = 0;
	CUdeviceptr on_device = 0;
	void *on_host = NULL;
	CUpointer_attribute names[] = {
		CU_POINTER_ATTRIBUTE_MEMORY_TYPE,  CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
		CU_POINTER_ATTRIBUTE_IS_MANAGED,   CU_POINTER_ATTRIBUTE_DEVICE_POINTER,
		CU_POINTER_ATTRIBUTE_HOST_POINTER,
	};
	void *values[] = { &kind, &device, &managed, &on_device, &on_host };
	cudaError_t error = attributes ? vgpu_context() : cudaErrorInvalidValue;

	if (error == cudaSuccess)
		error = vgpu_error(cuPointerGetAttributes(sizeof(names) / sizeof(names[0]), names,
							  values, address));
	if (error != cudaSuccess)
		return vgpu_done(error);
	memset(attributes, 0, sizeof(*attributes));
	attributes->type = managed			  ? cudaMemoryTypeManaged
			   : kind == CU_MEMORYTYPE_DEVICE ? cudaMemoryTypeDevice
			   : kind == CU_MEMORYTYPE_HOST	  ? cudaMemoryTypeHost
							  : cudaMemoryTypeUnregistered;
	attributes->device = attributes->type == cudaMemoryTypeUnregistered ? -2 : device;
	attributes->devicePointer = (void *)(uintptr_t)on_device;
	/* Of memory that nobody registered the pointer itself is the host's. */
	attributes->hostPointer =
		attributes->type == cudaMemoryTypeUnregistered ? (void *)pointer : on_host;
	return cudaSuccess;
}
