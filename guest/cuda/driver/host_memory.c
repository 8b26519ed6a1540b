// SPDX-License-Identifier: MIT
/* Page-locked host memory: cuMemHostAlloc and cuMemHostRegister. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

#define ALLOC_FLAGS                                                                                \
	(CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED)
#define REGISTER_FLAGS                                                                             \
	(CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP |                              \
	 CU_MEMHOSTREGISTER_IOMEMORY | CU_MEMHOSTREGISTER_READ_ONLY)

static CUresult from_errno(int error)
{
	switch (error) {
	case 0:
		return CUDA_SUCCESS;
	case EINVAL:
	case EFAULT:
		return CUDA_ERROR_INVALID_VALUE;
	case ENODEV:
	case EIO:
		return vgpu_channel_error() == CUDA_SUCCESS ? CUDA_ERROR_DEVICE_UNAVAILABLE
							    : vgpu_channel_error();
	default:
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
}

CUresult cuMemHostAlloc(void **out, size_t size, unsigned int flags)
{
	struct vgpu_range range = { .kind = VGPU_RANGE_HOST_ALLOCATED, .flags = flags };
	CUresult status = vgpu_current(&range.context);

	if (status == CUDA_SUCCESS)
		status = vgpu_capture_check_unsafe();
	if (status != CUDA_SUCCESS)
		return status;
	if (!out || !size || flags & ~(unsigned int)ALLOC_FLAGS)
		return CUDA_ERROR_INVALID_VALUE;
	status = from_errno(vgpu_transport->allocate(size, &range.block));
	if (status != CUDA_SUCCESS)
		return status;
	range.start = (uintptr_t)range.block.address;
	range.size = size;
	range.context_id = atomic_load(&range.context->id);
	range.unique = vgpu_unique();
	status = vgpu_ranges_insert(VGPU_SIDE_HOST, &range);
	if (status == CUDA_SUCCESS)
		*out = range.block.address;
	else
		vgpu_transport->release(&range.block);
	return status;
}

CUresult cuMemAllocHost_v2(void **out, size_t size)
{
	return cuMemHostAlloc(out, size, 0);
}

/* Copies that still use the memory have to be over before it goes. */
static CUresult finish_copies(struct vgpu_context *context)
{
	struct vgpu_cmd_context_synchronize command =
		vgpu_encode_context_synchronize(vgpu_context_handle(context));
	struct vgpu_reply reply;

	return vgpu_context_call(context, &command, sizeof(command), NULL, 0, &reply);
}

CUresult cuMemFreeHost(void *address)
{
	struct vgpu_range range;
	CUresult status = vgpu_check_initialized();

	if (status == CUDA_SUCCESS)
		status = vgpu_capture_check_unsafe();
	if (status != CUDA_SUCCESS)
		return status;
	if (!vgpu_ranges_find(VGPU_SIDE_HOST, (uintptr_t)address, &range) ||
	    range.start != (uintptr_t)address || range.kind != VGPU_RANGE_HOST_ALLOCATED)
		return CUDA_ERROR_INVALID_VALUE;
	status = finish_copies(range.context);
	if (!vgpu_ranges_remove(VGPU_SIDE_HOST, (uintptr_t)address, &range))
		return CUDA_ERROR_INVALID_VALUE;
	if (vgpu_transport->release(&range.block) && status == CUDA_SUCCESS)
		status = CUDA_ERROR_OPERATING_SYSTEM;
	return status;
}

CUresult cuMemHostRegister_v2(void *address, size_t size, unsigned int flags)
{
	struct vgpu_range range = { .kind = VGPU_RANGE_HOST_REGISTERED, .flags = flags };
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uintptr_t first = (uintptr_t)address & ~(page - 1);
	uintptr_t last = ((uintptr_t)address + size + page - 1) & ~(page - 1);
	uint32_t access = VGPU_REGISTER_READ;
	struct vgpu_range other;
	CUresult status = vgpu_current(&range.context);
	int error;

	if (status == CUDA_SUCCESS)
		status = vgpu_capture_check_unsafe();
	if (status != CUDA_SUCCESS)
		return status;
	if (!address || !size || size > UINTPTR_MAX - (uintptr_t)address - page ||
	    flags & ~(unsigned int)REGISTER_FLAGS)
		return CUDA_ERROR_INVALID_VALUE;
	if (flags & CU_MEMHOSTREGISTER_IOMEMORY)
		return CUDA_ERROR_NOT_SUPPORTED;
	if (vgpu_ranges_find(VGPU_SIDE_HOST, (uintptr_t)address, &other) ||
	    vgpu_ranges_find(VGPU_SIDE_HOST, (uintptr_t)address + size - 1, &other))
		return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
	if (!(flags & CU_MEMHOSTREGISTER_READ_ONLY))
		access |= VGPU_REGISTER_WRITE;
	error = vgpu_transport->pin((void *)first, last - first, access, &range.block.registration);
	/* Where memory cannot be shared (socket transport) its copies are staged instead. */
	if (error && error != EOPNOTSUPP)
		return from_errno(error);
	range.start = (uintptr_t)address;
	range.size = size;
	range.offset = (uintptr_t)address - first;
	range.context_id = atomic_load(&range.context->id);
	range.unique = vgpu_unique();
	status = vgpu_ranges_insert(VGPU_SIDE_HOST, &range);
	if (status != CUDA_SUCCESS && range.block.registration)
		vgpu_transport->unpin(range.block.registration);
	return status;
}

CUresult cuMemHostRegister(void *address, size_t size, unsigned int flags)
{
	return cuMemHostRegister_v2(address, size, flags);
}

CUresult cuMemHostUnregister(void *address)
{
	struct vgpu_range range;
	CUresult status = vgpu_check_initialized();

	if (status == CUDA_SUCCESS)
		status = vgpu_capture_check_unsafe();
	if (status != CUDA_SUCCESS)
		return status;
	if (!vgpu_ranges_find(VGPU_SIDE_HOST, (uintptr_t)address, &range) ||
	    range.start != (uintptr_t)address || range.kind != VGPU_RANGE_HOST_REGISTERED)
		return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
	status = finish_copies(range.context);
	if (!vgpu_ranges_remove(VGPU_SIDE_HOST, (uintptr_t)address, &range))
		return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
	if (range.block.registration && vgpu_transport->unpin(range.block.registration) &&
	    status == CUDA_SUCCESS)
		status = CUDA_ERROR_OPERATING_SYSTEM;
	return status;
}

CUresult cuMemHostGetFlags(unsigned int *flags, void *address)
{
	struct vgpu_context *context;
	struct vgpu_range range;
	CUresult status = vgpu_current(&context);

	if (status != CUDA_SUCCESS)
		return status;
	if (!flags || !vgpu_ranges_find(VGPU_SIDE_HOST, (uintptr_t)address, &range) ||
	    range.kind != VGPU_RANGE_HOST_ALLOCATED)
		return CUDA_ERROR_INVALID_VALUE;
	*flags = range.flags;
	return CUDA_SUCCESS;
}
