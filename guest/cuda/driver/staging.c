// SPDX-License-Identifier: MIT
/*
 * Staging: memory that the device cannot reach is copied through a registered
 * buffer of four chunks, so that the copy in the guest and the copy of the device
 * overlap. A chunk is free again when its ticket is done, which a later call may
 * be the first to notice.
 */
#include <errno.h>
#include <string.h>

#include "internal.h"

#define CHUNKS	      4u
#define CHUNK_BYTES   (1u << 20)
#define SCRATCH_BYTES (512u << 10) /* the nodes of a large graph */

struct chunk {
	struct vgpu_ticket ticket;
	struct vgpu_context *context; /* whose copy it carries */
};

static pthread_mutex_t staging_lock = PTHREAD_MUTEX_INITIALIZER;
static struct vgpu_host_block buffer; /* CHUNKS chunks, then the scratch area */
static struct chunk chunks[CHUNKS];   /* staging_lock */
static uint32_t next_chunk;	      /* staging_lock */

static pthread_mutex_t scratch_lock = PTHREAD_MUTEX_INITIALIZER; /* the scratch area */

CUresult vgpu_staging_open(void)
{
	int error = vgpu_transport->allocate(CHUNKS * CHUNK_BYTES + SCRATCH_BYTES, &buffer);

	if (!error)
		return CUDA_SUCCESS;
	vgpu_log_always("cannot register the staging buffer: %s%s", strerror(error),
			error == ENOMEM ? " (raise RLIMIT_MEMLOCK: `ulimit -l`)" : "");
	return error == ENOMEM ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_OPERATING_SYSTEM;
}

static uint8_t *chunk_address(uint32_t index)
{
	return (uint8_t *)buffer.address + (size_t)index * CHUNK_BYTES;
}

static uint64_t chunk_offset(uint32_t index)
{
	return (uint64_t)index * CHUNK_BYTES;
}

/* Waits for a chunk's copy. Its error belongs to the context that asked for the copy. */
static CUresult settle(struct chunk *chunk)
{
	struct vgpu_reply reply;
	CUresult status;

	if (!chunk->ticket.valid)
		return CUDA_SUCCESS;
	status = vgpu_context_note(chunk->context, vgpu_wait(&chunk->ticket, &reply));
	return status;
}

/* Takes the next chunk of the ring of chunks, once nothing uses it. */
static uint32_t claim(void)
{
	uint32_t index = next_chunk++ % CHUNKS;
	struct vgpu_context *context = chunks[index].context;
	CUresult status = settle(&chunks[index]);
	int none = 0;

	/* An earlier asynchronous copy failed: its context hears of it when it synchronises. */
	if (status != CUDA_SUCCESS && context)
		atomic_compare_exchange_strong(&context->deferred, &none, (int)status);
	return index;
}

static CUresult submit(const struct vgpu_stream_ref *ref, uint32_t index, void *command,
		       size_t bytes)
{
	chunks[index].context = ref->context;
	return vgpu_submit_ticket(command, bytes, NULL, 0, VGPU_COMMAND_WAIT,
				  &chunks[index].ticket);
}

CUresult vgpu_staging_write(const struct vgpu_stream_ref *ref, CUdeviceptr destination,
			    const void *source, size_t size, bool synchronous)
{
	const uint8_t *from = source;
	CUresult status = CUDA_SUCCESS;
	uint32_t used = 0;

	pthread_mutex_lock(&staging_lock);
	for (size_t done = 0; done < size && status == CUDA_SUCCESS; used++) {
		size_t part = size - done < CHUNK_BYTES ? size - done : CHUNK_BYTES;
		uint32_t index = claim();
		struct vgpu_cmd_copy_host_to_device command = vgpu_encode_copy_host_to_device(
			vgpu_context_handle(ref->context), destination + done, chunk_offset(index),
			part, buffer.registration, ref->remote);

		memcpy(chunk_address(index), from + done, part);
		status = submit(ref, index, &command, sizeof(command));
		done += part;
	}
	VGPU_COUNT(staged_bytes, size);
	for (uint32_t i = 0; synchronous && i < CHUNKS && i < used; i++) {
		CUresult settled = settle(&chunks[(next_chunk - 1 - i) % CHUNKS]);

		status = status == CUDA_SUCCESS ? settled : status;
	}
	pthread_mutex_unlock(&staging_lock);
	/* A chunk that was claimed again left the error of its first use there. */
	return synchronous && status == CUDA_SUCCESS ? vgpu_context_take_deferred(ref->context)
						     : status;
}

CUresult vgpu_staging_read(const struct vgpu_stream_ref *ref, void *destination, CUdeviceptr source,
			   size_t size)
{
	uint8_t *to = destination;
	uint32_t order[CHUNKS]; /* chunk of each part in flight */
	size_t parts = (size + CHUNK_BYTES - 1) / CHUNK_BYTES;
	CUresult status = CUDA_SUCCESS;
	size_t submitted = 0;

	pthread_mutex_lock(&staging_lock);
	for (size_t received = 0; received < submitted || received == 0; received++) {
		while (submitted < parts && submitted < received + CHUNKS &&
		       status == CUDA_SUCCESS) {
			size_t start = submitted * CHUNK_BYTES;
			size_t part = size - start < CHUNK_BYTES ? size - start : CHUNK_BYTES;
			uint32_t index = claim();
			struct vgpu_cmd_copy_device_to_host command =
				vgpu_encode_copy_device_to_host(vgpu_context_handle(ref->context),
								source + start, chunk_offset(index),
								part, buffer.registration,
								ref->remote);

			status = submit(ref, index, &command, sizeof(command));
			if (status != CUDA_SUCCESS)
				break;
			order[submitted++ % CHUNKS] = index;
		}
		if (received < submitted) {
			size_t start = received * CHUNK_BYTES;
			size_t part = size - start < CHUNK_BYTES ? size - start : CHUNK_BYTES;
			uint32_t index = order[received % CHUNKS];
			CUresult settled = settle(&chunks[index]);

			if (settled == CUDA_SUCCESS)
				memcpy(to + start, chunk_address(index), part);
			else if (status == CUDA_SUCCESS)
				status = settled;
		}
	}
	VGPU_COUNT(staged_bytes, size);
	pthread_mutex_unlock(&staging_lock);
	vgpu_output_print();
	return status;
}

/* Rows of a rectangle that fit into a chunk, packed. */
static size_t rows_of_chunk(size_t width, size_t height)
{
	size_t rows = CHUNK_BYTES / width;

	return rows < height ? rows : height;
}

CUresult vgpu_staging_write_2d(const struct vgpu_stream_ref *ref, struct vgpu_rows device,
			       struct vgpu_rows host, size_t width, size_t height)
{
	CUresult status = CUDA_SUCCESS;
	size_t rows;

	if (width > CHUNK_BYTES) {
		for (size_t y = 0; y < height && status == CUDA_SUCCESS; y++)
			status = vgpu_staging_write(ref, device.start + y * device.pitch,
						    (void *)(host.start + y * host.pitch), width,
						    false);
		return status;
	}
	pthread_mutex_lock(&staging_lock);
	for (size_t y = 0; y < height && status == CUDA_SUCCESS; y += rows) {
		uint32_t index = claim();
		struct vgpu_cmd_copy_2d command;

		rows = rows_of_chunk(width, height - y);
		for (size_t i = 0; i < rows; i++)
			memcpy(chunk_address(index) + i * width,
			       (void *)(host.start + (y + i) * host.pitch), width);
		command = vgpu_encode_copy_2d(vgpu_context_handle(ref->context),
					      device.start + y * device.pitch, device.pitch,
					      chunk_offset(index), width, width, rows, 0,
					      buffer.registration, ref->remote);
		status = submit(ref, index, &command, sizeof(command));
	}
	VGPU_COUNT(staged_bytes, width * height);
	pthread_mutex_unlock(&staging_lock);
	return status;
}

CUresult vgpu_staging_read_2d(const struct vgpu_stream_ref *ref, struct vgpu_rows device,
			      struct vgpu_rows host, size_t width, size_t height)
{
	CUresult status = CUDA_SUCCESS;
	size_t rows;

	if (width > CHUNK_BYTES) {
		for (size_t y = 0; y < height && status == CUDA_SUCCESS; y++)
			status = vgpu_staging_read(ref, (void *)(host.start + y * host.pitch),
						   device.start + y * device.pitch, width);
		return status;
	}
	pthread_mutex_lock(&staging_lock);
	for (size_t y = 0; y < height && status == CUDA_SUCCESS; y += rows) {
		uint32_t index = claim();
		struct vgpu_cmd_copy_2d command;

		rows = rows_of_chunk(width, height - y);
		command =
			vgpu_encode_copy_2d(vgpu_context_handle(ref->context), chunk_offset(index),
					    width, device.start + y * device.pitch, device.pitch,
					    width, rows, buffer.registration, 0, ref->remote);
		status = submit(ref, index, &command, sizeof(command));
		if (status == CUDA_SUCCESS)
			status = settle(&chunks[index]);
		for (size_t i = 0; i < rows && status == CUDA_SUCCESS; i++)
			memcpy((void *)(host.start + (y + i) * host.pitch),
			       chunk_address(index) + i * width, width);
	}
	VGPU_COUNT(staged_bytes, width * height);
	pthread_mutex_unlock(&staging_lock);
	return status;
}

CUresult vgpu_scratch_take(size_t bytes, struct vgpu_scratch *scratch)
{
	*scratch = (struct vgpu_scratch){ 0 };
	if (bytes <= SCRATCH_BYTES) {
		pthread_mutex_lock(&scratch_lock);
		scratch->address = chunk_address(CHUNKS);
		scratch->registration = buffer.registration;
		scratch->offset = chunk_offset(CHUNKS);
		return CUDA_SUCCESS;
	}
	if (vgpu_transport->allocate(bytes, &scratch->block))
		return CUDA_ERROR_OUT_OF_MEMORY;
	scratch->address = scratch->block.address;
	scratch->registration = scratch->block.registration;
	return CUDA_SUCCESS;
}

void vgpu_scratch_give(struct vgpu_scratch *scratch)
{
	if (!scratch->block.address)
		pthread_mutex_unlock(&scratch_lock);
	else if (vgpu_transport->release(&scratch->block))
		vgpu_log("a scratch block could not be taken back");
}
