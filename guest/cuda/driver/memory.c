// SPDX-License-Identifier: MIT
/* Device memory, and what is known about addresses. */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

#define PITCH_ALIGNMENT 512u
#define MEMORY_MAX	(1ull << 56) /* no device has more */

/*
 * Keeps the process from mapping anything where device memory seems to be, so that an
 * address is either the device's or the host's. Not possible where something is mapped
 * there already; the table then says "device".
 */
static void shadow(struct vgpu_range *range)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t first = (range->start + page - 1) & ~(page - 1);
	uint64_t last = (range->start + range->size) & ~(page - 1);
	void *place;

	if (last <= first)
		return;
	place = mmap((void *)first, last - first, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
	if (place == MAP_FAILED)
		return;
	if (place != (void *)first) { /* a kernel that does not know MAP_FIXED_NOREPLACE */
		munmap(place, last - first);
		return;
	}
	range->block.address = place;
	range->block.length = last - first;
}

static void unshadow(const struct vgpu_range *range)
{
	if (range->kind == VGPU_RANGE_DEVICE && range->block.address)
		munmap(range->block.address, range->block.length);
}

static CUresult allocate(CUdeviceptr *out, size_t size)
{
	struct vgpu_cmd_memory_allocate command;
	struct vgpu_range range = { .kind = VGPU_RANGE_DEVICE, .size = size };
	struct vgpu_context *context;
	struct vgpu_reply reply;
	CUresult status = vgpu_current(&context);

	if (status == CUDA_SUCCESS)
		status = vgpu_capture_check_unsafe();
	if (status != CUDA_SUCCESS)
		return status;
	if (!out || !size)
		return CUDA_ERROR_INVALID_VALUE;
	command = vgpu_encode_memory_allocate(vgpu_context_handle(context), size);
	status = vgpu_context_call(context, &command, sizeof(command), NULL, 0, &reply);
	if (status != CUDA_SUCCESS)
		return status;
	range.start = reply.result[0];
	/* An address that no memory can have, or that has some already. */
	if (!range.start || range.start + size < range.start ||
	    vgpu_ranges_overlap(VGPU_SIDE_DEVICE, range.start, size))
		return CUDA_ERROR_UNKNOWN;
	range.context = context;
	range.context_id = atomic_load(&context->id);
	range.unique = vgpu_unique();
	shadow(&range);
	status = vgpu_ranges_insert(VGPU_SIDE_DEVICE, &range);
	if (status != CUDA_SUCCESS) {
		struct vgpu_cmd_memory_free undo =
			vgpu_encode_memory_free(vgpu_context_handle(context), range.start);

		unshadow(&range);
		vgpu_submit(&undo, sizeof(undo));
		return status;
	}
	*out = range.start;
	return CUDA_SUCCESS;
}

CUresult cuMemAlloc_v2(CUdeviceptr *out, size_t size)
{
	return allocate(out, size);
}

CUresult cuMemAllocPitch_v2(CUdeviceptr *out, size_t *pitch, size_t width, size_t height,
			    unsigned int element_bytes)
{
	size_t row;

	if (vgpu_check_initialized() != CUDA_SUCCESS)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!pitch || !width || !height ||
	    (element_bytes != 4 && element_bytes != 8 && element_bytes != 16) ||
	    width > SIZE_MAX - PITCH_ALIGNMENT)
		return CUDA_ERROR_INVALID_VALUE;
	row = (width + PITCH_ALIGNMENT - 1) & ~((size_t)PITCH_ALIGNMENT - 1);
	if (height > SIZE_MAX / row)
		return CUDA_ERROR_INVALID_VALUE;
	*pitch = row;
	return allocate(out, row * height);
}

CUresult cuMemFree_v2(CUdeviceptr address)
{
	struct vgpu_cmd_memory_free command;
	struct vgpu_context *current;
	struct vgpu_reply reply;
	struct vgpu_range range;
	CUresult status = vgpu_current(&current);

	if (status == CUDA_SUCCESS)
		status = vgpu_capture_check_unsafe();
	if (status != CUDA_SUCCESS)
		return status;
	if (!address)
		return CUDA_SUCCESS;
	if (!vgpu_ranges_find(VGPU_SIDE_DEVICE, address, &range) || range.start != address ||
	    range.kind != VGPU_RANGE_DEVICE)
		return CUDA_ERROR_INVALID_VALUE;
	vgpu_host_functions_wait_all(range.context);
	if (!vgpu_ranges_remove(VGPU_SIDE_DEVICE, address, &range))
		return CUDA_ERROR_INVALID_VALUE;
	unshadow(&range);
	command = vgpu_encode_memory_free(vgpu_context_handle(range.context), address);
	return vgpu_context_call(range.context, &command, sizeof(command), NULL, 0, &reply);
}

void vgpu_allocations_forget(struct vgpu_context *context, uint64_t context_id)
{
	struct vgpu_range range;

	while (vgpu_ranges_remove_of(VGPU_SIDE_DEVICE, context, context_id, &range))
		unshadow(&range);
	while (vgpu_ranges_remove_of(VGPU_SIDE_HOST, context, context_id, &range)) {
		if (range.kind == VGPU_RANGE_HOST_ALLOCATED)
			vgpu_transport->release(&range.block);
		else if (range.block.registration)
			vgpu_transport->unpin(range.block.registration);
	}
}

CUresult cuMemGetInfo_v2(size_t *available, size_t *total)
{
	struct vgpu_cmd_memory_get_info command;
	struct vgpu_context *context;
	struct vgpu_reply reply;
	CUresult status = vgpu_current(&context);

	if (status != CUDA_SUCCESS)
		return status;
	command = vgpu_encode_memory_get_info(vgpu_context_handle(context));
	status = vgpu_context_call(context, &command, sizeof(command), NULL, 0, &reply);
	if (status != CUDA_SUCCESS)
		return status;
	if (reply.result[0] > reply.result[1] || !reply.result[1] || reply.result[1] > MEMORY_MAX)
		return CUDA_ERROR_UNKNOWN;
	if (available)
		*available = reply.result[0];
	if (total)
		*total = reply.result[1];
	return CUDA_SUCCESS;
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *size, CUdeviceptr address)
{
	struct vgpu_context *context;
	struct vgpu_range range;
	CUresult status = vgpu_current(&context);

	if (status != CUDA_SUCCESS)
		return status;
	if (!vgpu_ranges_find(VGPU_SIDE_DEVICE, address, &range))
		return CUDA_ERROR_NOT_FOUND;
	if (base)
		*base = range.start;
	if (size)
		*size = range.size;
	return CUDA_SUCCESS;
}

/* Writes one pointer attribute; CUDA_ERROR_INVALID_VALUE: not of this address. */
static CUresult pointer_attribute(void *data, CUpointer_attribute attribute,
				  const struct vgpu_range *range, bool device)
{
	switch (attribute) {
	case CU_POINTER_ATTRIBUTE_CONTEXT:
		*(CUcontext *)data = (CUcontext)range->context;
		break;
	case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
		*(unsigned int *)data = device ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST;
		break;
	case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
		if (!device)
			return CUDA_ERROR_INVALID_VALUE; /* host memory has no device address */
		*(CUdeviceptr *)data = range->offset;
		break;
	case CU_POINTER_ATTRIBUTE_HOST_POINTER:
		if (device)
			return CUDA_ERROR_INVALID_VALUE;
		*(void **)data = (void *)(uintptr_t)range->offset;
		break;
	case CU_POINTER_ATTRIBUTE_BUFFER_ID:
		*(unsigned long long *)data = range->unique;
		break;
	case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
		*(int *)data = 0;
		break;
	case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
		*(CUdeviceptr *)data = range->start;
		break;
	case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
		*(size_t *)data = range->size;
		break;
	case CU_POINTER_ATTRIBUTE_MAPPED:
		*(int *)data = 1;
		break;
	case CU_POINTER_ATTRIBUTE_IS_MANAGED:
	case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
	case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
	case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
		*(int *)data = 0;
		break;
	default:
		return CUDA_ERROR_NOT_SUPPORTED;
	}
	return CUDA_SUCCESS;
}

/* What the tables say of an address; `offset` of the result is the address itself. */
static bool look_up(CUdeviceptr address, struct vgpu_range *range, bool *device)
{
	*device = vgpu_ranges_find(VGPU_SIDE_DEVICE, address, range);
	if (!*device && !vgpu_ranges_find(VGPU_SIDE_HOST, address, range))
		return false;
	range->offset = address;
	return true;
}

CUresult cuPointerGetAttribute(void *data, CUpointer_attribute attribute, CUdeviceptr address)
{
	struct vgpu_range range;
	bool device;
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	if (!data || !look_up(address, &range, &device))
		return CUDA_ERROR_INVALID_VALUE;
	return pointer_attribute(data, attribute, &range, device);
}

/* For an address that CUDA does not know every attribute is its null value. */
static void null_attribute(void *data, CUpointer_attribute attribute)
{
	switch (attribute) {
	case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
	case CU_POINTER_ATTRIBUTE_IS_MANAGED:
	case CU_POINTER_ATTRIBUTE_MAPPED:
	case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
	case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
	case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
	case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
		memset(data, 0, sizeof(int));
		break;
	case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
		*(int *)data = -2; /* "invalid device" of the CUDA headers */
		break;
	case CU_POINTER_ATTRIBUTE_P2P_TOKENS:
		break;
	default:
		memset(data, 0, sizeof(void *));
		break;
	}
}

CUresult cuPointerGetAttributes(unsigned int count, CUpointer_attribute *attributes, void **data,
				CUdeviceptr address)
{
	struct vgpu_range range;
	bool device;
	bool known;
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	if (!attributes || !data || !count)
		return CUDA_ERROR_INVALID_VALUE;
	known = look_up(address, &range, &device);
	for (unsigned int i = 0; i < count; i++) {
		if (!known ||
		    pointer_attribute(data[i], attributes[i], &range, device) != CUDA_SUCCESS)
			null_attribute(data[i], attributes[i]);
	}
	return CUDA_SUCCESS;
}
