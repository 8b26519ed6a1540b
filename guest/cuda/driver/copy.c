// SPDX-License-Identifier: MIT
/*
 * Linear copies. Small ones from the host travel in the ring; memory the device
 * can reach is named by registration; everything else is staged.
 */
#include <string.h>

#include "internal.h"

enum wait { RETURN_WHEN_QUEUED, RETURN_WHEN_DONE };

/* Whether a host range lies in memory that the device can reach, and where there. */
static bool registered(const void *address, size_t size, uint32_t *registration, uint64_t *offset)
{
	struct vgpu_range range;
	uint64_t inside;

	if (!vgpu_ranges_find(VGPU_SIDE_HOST, (uintptr_t)address, &range) ||
	    !range.block.registration)
		return false;
	inside = (uintptr_t)address - range.start;
	if (size > range.size - inside)
		return false;
	*registration = range.block.registration;
	*offset = range.offset + inside;
	return true;
}

/* A device range has to lie in one allocation. */
static bool is_device_range(CUdeviceptr address, size_t size)
{
	struct vgpu_range range;

	return vgpu_ranges_find(VGPU_SIDE_DEVICE, address, &range) &&
	       size <= range.size - (address - range.start);
}

/*
 * The stream of a copy. Whoever waits for its end cannot be captured; a copy to the
 * device is harmless to captures all the same, as NVIDIA's driver has it.
 */
static CUresult resolve(CUstream stream, enum wait wait, bool to_device,
			struct vgpu_stream_ref *ref)
{
	CUresult status;

	if (wait == RETURN_WHEN_QUEUED)
		return vgpu_stream_resolve_work(stream, ref);
	status = vgpu_stream_resolve(stream, ref);
	return status == CUDA_SUCCESS && !to_device ? vgpu_capture_check_unsafe() : status;
}

/* A copy becomes a node; either side may be host memory. */
static CUresult capture(const struct vgpu_stream_ref *ref, uint64_t destination, bool to_device,
			uint64_t source, bool from_device, size_t size)
{
	CUDA_MEMCPY3D copy = {
		.srcMemoryType = from_device ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST,
		.srcHost = from_device ? NULL : (const void *)source,
		.srcDevice = from_device ? source : 0,
		.dstMemoryType = to_device ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST,
		.dstHost = to_device ? NULL : (void *)destination,
		.dstDevice = to_device ? destination : 0,
		.WidthInBytes = size,
		.Height = 1,
		.Depth = 1,
	};

	return vgpu_capture_copy(ref, &copy);
}

/* Queues a command, or carries it out to its end. */
static CUresult issue(const struct vgpu_stream_ref *ref, void *command, size_t bytes,
		      const void *tail, size_t tail_bytes, enum wait wait)
{
	struct vgpu_reply reply;
	uint8_t *place;
	CUresult status;

	if (wait == RETURN_WHEN_DONE) {
		status = vgpu_context_call(ref->context, command, bytes, tail, tail_bytes, &reply);
		return status == CUDA_SUCCESS ? vgpu_context_take_deferred(ref->context) : status;
	}
	status = vgpu_ring_begin(bytes + tail_bytes, (void **)&place);
	if (status != CUDA_SUCCESS)
		return status;
	memcpy(place, command, bytes);
	if (tail_bytes)
		memcpy(place + bytes, tail, tail_bytes);
	vgpu_ring_commit(place);
	return CUDA_SUCCESS;
}

static CUresult host_to_device(CUdeviceptr destination, const void *source, size_t size,
			       CUstream stream, enum wait wait)
{
	struct vgpu_cmd_copy_host_to_device direct;
	struct vgpu_cmd_copy_inline small;
	struct vgpu_stream_ref ref;
	uint32_t registration;
	uint64_t offset;
	CUresult status = resolve(stream, wait, true, &ref);

	if (status != CUDA_SUCCESS || !size)
		return status;
	if (!source || !is_device_range(destination, size))
		return CUDA_ERROR_INVALID_VALUE;
	if (ref.capturing)
		return capture(&ref, destination, true, (uintptr_t)source, false, size);
	if (size <= VGPU_INLINE_COPY_BYTES) {
		small = vgpu_encode_copy_inline(vgpu_context_handle(ref.context), destination,
						ref.remote, (__u32)size);
		return issue(&ref, &small, sizeof(small), source, size, wait);
	}
	if (!registered(source, size, &registration, &offset))
		return vgpu_staging_write(&ref, destination, source, size,
					  wait == RETURN_WHEN_DONE);
	direct = vgpu_encode_copy_host_to_device(vgpu_context_handle(ref.context), destination,
						 offset, size, registration, ref.remote);
	return issue(&ref, &direct, sizeof(direct), NULL, 0, wait);
}

static CUresult device_to_host(void *destination, CUdeviceptr source, size_t size, CUstream stream,
			       enum wait wait)
{
	struct vgpu_cmd_copy_device_to_host direct;
	struct vgpu_stream_ref ref;
	uint32_t registration;
	uint64_t offset;
	CUresult status = resolve(stream, wait, false, &ref);

	if (status != CUDA_SUCCESS || !size)
		return status;
	if (!destination || !is_device_range(source, size))
		return CUDA_ERROR_INVALID_VALUE;
	if (ref.capturing)
		return capture(&ref, (uintptr_t)destination, false, source, true, size);
	/* Memory that the device cannot reach is filled before the call returns, as CUDA allows. */
	if (!registered(destination, size, &registration, &offset))
		return vgpu_staging_read(&ref, destination, source, size);
	direct = vgpu_encode_copy_device_to_host(vgpu_context_handle(ref.context), source, offset,
						 size, registration, ref.remote);
	return issue(&ref, &direct, sizeof(direct), NULL, 0, wait);
}

/* Needs no completion: within the device CUDA does not wait for such copies either. */
static CUresult device_to_device(CUdeviceptr destination, CUdeviceptr source, size_t size,
				 CUstream stream, enum wait wait)
{
	struct vgpu_cmd_copy_device_to_device command;
	struct vgpu_stream_ref ref;
	CUresult status = resolve(stream, wait, false, &ref);

	if (status != CUDA_SUCCESS || !size)
		return status;
	if (!is_device_range(destination, size) || !is_device_range(source, size))
		return CUDA_ERROR_INVALID_VALUE;
	if (ref.capturing)
		return capture(&ref, destination, true, source, true, size);
	command = vgpu_encode_copy_device_to_device(vgpu_context_handle(ref.context), destination,
						    source, size, ref.remote);
	return issue(&ref, &command, sizeof(command), NULL, 0, RETURN_WHEN_QUEUED);
}

/* The kind of each side follows from its address. */
static CUresult any_to_any(CUdeviceptr destination, CUdeviceptr source, size_t size,
			   CUstream stream, enum wait wait)
{
	struct vgpu_range range;
	bool to_device = vgpu_ranges_find(VGPU_SIDE_DEVICE, destination, &range);
	bool from_device = vgpu_ranges_find(VGPU_SIDE_DEVICE, source, &range);
	CUresult status;

	if (to_device && from_device)
		return device_to_device(destination, source, size, stream, wait);
	if (to_device)
		return host_to_device(destination, (void *)source, size, stream, wait);
	if (from_device)
		return device_to_host((void *)destination, source, size, stream, wait);
	/* Between host memories: after all earlier work of the stream, and at once. */
	status = cuStreamSynchronize(stream);
	if (status == CUDA_SUCCESS && size && (!destination || !source))
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS && size)
		memmove((void *)destination, (void *)source, size);
	return status;
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr destination, const void *source, size_t size)
{
	return host_to_device(destination, source, size, CU_STREAM_LEGACY, RETURN_WHEN_DONE);
}

CUresult cuMemcpyHtoD_v2_ptds(CUdeviceptr destination, const void *source, size_t size)
{
	return host_to_device(destination, source, size, CU_STREAM_PER_THREAD, RETURN_WHEN_DONE);
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr destination, const void *source, size_t size,
			      CUstream stream)
{
	return host_to_device(destination, source, size, stream, RETURN_WHEN_QUEUED);
}

CUresult cuMemcpyHtoDAsync_v2_ptsz(CUdeviceptr destination, const void *source, size_t size,
				   CUstream stream)
{
	return cuMemcpyHtoDAsync_v2(destination, source, size, vgpu_per_thread(stream));
}

CUresult cuMemcpyDtoH_v2(void *destination, CUdeviceptr source, size_t size)
{
	return device_to_host(destination, source, size, CU_STREAM_LEGACY, RETURN_WHEN_DONE);
}

CUresult cuMemcpyDtoH_v2_ptds(void *destination, CUdeviceptr source, size_t size)
{
	return device_to_host(destination, source, size, CU_STREAM_PER_THREAD, RETURN_WHEN_DONE);
}

CUresult cuMemcpyDtoHAsync_v2(void *destination, CUdeviceptr source, size_t size, CUstream stream)
{
	return device_to_host(destination, source, size, stream, RETURN_WHEN_QUEUED);
}

CUresult cuMemcpyDtoHAsync_v2_ptsz(void *destination, CUdeviceptr source, size_t size,
				   CUstream stream)
{
	return cuMemcpyDtoHAsync_v2(destination, source, size, vgpu_per_thread(stream));
}

CUresult cuMemcpyDtoD_v2(CUdeviceptr destination, CUdeviceptr source, size_t size)
{
	return device_to_device(destination, source, size, CU_STREAM_LEGACY, RETURN_WHEN_DONE);
}

CUresult cuMemcpyDtoD_v2_ptds(CUdeviceptr destination, CUdeviceptr source, size_t size)
{
	return device_to_device(destination, source, size, CU_STREAM_PER_THREAD, RETURN_WHEN_DONE);
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr destination, CUdeviceptr source, size_t size,
			      CUstream stream)
{
	return device_to_device(destination, source, size, stream, RETURN_WHEN_QUEUED);
}

CUresult cuMemcpyDtoDAsync_v2_ptsz(CUdeviceptr destination, CUdeviceptr source, size_t size,
				   CUstream stream)
{
	return cuMemcpyDtoDAsync_v2(destination, source, size, vgpu_per_thread(stream));
}

CUresult cuMemcpy(CUdeviceptr destination, CUdeviceptr source, size_t size)
{
	return any_to_any(destination, source, size, CU_STREAM_LEGACY, RETURN_WHEN_DONE);
}

CUresult cuMemcpy_ptds(CUdeviceptr destination, CUdeviceptr source, size_t size)
{
	return any_to_any(destination, source, size, CU_STREAM_PER_THREAD, RETURN_WHEN_DONE);
}

CUresult cuMemcpyAsync(CUdeviceptr destination, CUdeviceptr source, size_t size, CUstream stream)
{
	return any_to_any(destination, source, size, stream, RETURN_WHEN_QUEUED);
}

CUresult cuMemcpyAsync_ptsz(CUdeviceptr destination, CUdeviceptr source, size_t size,
			    CUstream stream)
{
	return cuMemcpyAsync(destination, source, size, vgpu_per_thread(stream));
}

/* There is one device, so a peer is the device itself, perhaps in another context. */
static CUresult peer(CUdeviceptr destination, CUcontext to, CUdeviceptr source, CUcontext from,
		     size_t size, CUstream stream, enum wait wait)
{
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	if (!vgpu_context_from_handle(to) || !vgpu_context_from_handle(from))
		return CUDA_ERROR_INVALID_CONTEXT;
	return device_to_device(destination, source, size, stream, wait);
}

CUresult cuMemcpyPeer(CUdeviceptr destination, CUcontext to, CUdeviceptr source, CUcontext from,
		      size_t size)
{
	return peer(destination, to, source, from, size, CU_STREAM_LEGACY, RETURN_WHEN_DONE);
}

CUresult cuMemcpyPeer_ptds(CUdeviceptr destination, CUcontext to, CUdeviceptr source,
			   CUcontext from, size_t size)
{
	return peer(destination, to, source, from, size, CU_STREAM_PER_THREAD, RETURN_WHEN_DONE);
}

CUresult cuMemcpyPeerAsync(CUdeviceptr destination, CUcontext to, CUdeviceptr source,
			   CUcontext from, size_t size, CUstream stream)
{
	return peer(destination, to, source, from, size, stream, RETURN_WHEN_QUEUED);
}

CUresult cuMemcpyPeerAsync_ptsz(CUdeviceptr destination, CUcontext to, CUdeviceptr source,
				CUcontext from, size_t size, CUstream stream)
{
	return cuMemcpyPeerAsync(destination, to, source, from, size, vgpu_per_thread(stream));
}
