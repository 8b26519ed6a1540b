// SPDX-License-Identifier: MIT
/*
 * Occupancy: the device answers, the library searches. Programs ask before each launch,
 * and an answer costs a round trip behind all queued work, so the last ones are kept.
 */
#include <string.h>

#include "internal.h"

/* No device has more on a multiprocessor; a reply beyond that is none. */
#define BLOCKS_MAX	 4096u
#define SHARED_BYTES_MAX (1u << 30)

static pthread_mutex_t told_lock = PTHREAD_MUTEX_INITIALIZER;

void vgpu_occupancies_forget(struct vgpu_function *function)
{
	pthread_mutex_lock(&told_lock);
	memset(function->occupancies, 0, sizeof(function->occupancies));
	pthread_mutex_unlock(&told_lock);
}

static bool recall(const struct vgpu_function *function, struct vgpu_occupancy *wanted)
{
	bool known = false;

	pthread_mutex_lock(&told_lock);
	for (size_t i = 0; i < VGPU_OCCUPANCIES && !known; i++) {
		const struct vgpu_occupancy *told = &function->occupancies[i];

		known = told->block_threads == wanted->block_threads &&
			told->shared_bytes == wanted->shared_bytes && told->flags == wanted->flags;
		if (known)
			wanted->blocks = told->blocks;
	}
	pthread_mutex_unlock(&told_lock);
	return known;
}

static void remember(struct vgpu_function *function, const struct vgpu_occupancy *answer)
{
	pthread_mutex_lock(&told_lock);
	function->occupancies[function->occupancies_told++ % VGPU_OCCUPANCIES] = *answer;
	pthread_mutex_unlock(&told_lock);
}

static CUresult ask_blocks(struct vgpu_function *function, int block_threads, size_t shared_bytes,
			   unsigned int flags, int *blocks)
{
	struct vgpu_cmd_function_occupancy command = vgpu_encode_function_occupancy(
		vgpu_context_handle(function->object.context), shared_bytes,
		function->object.remote, (__u32)block_threads, flags);
	struct vgpu_reply reply;
	CUresult status = vgpu_context_call(function->object.context, &command, sizeof(command),
					    NULL, 0, &reply);

	if (status == CUDA_SUCCESS && reply.result[0] > BLOCKS_MAX)
		status = CUDA_ERROR_UNKNOWN;
	if (status == CUDA_SUCCESS)
		*blocks = (int)reply.result[0];
	return status;
}

static CUresult blocks_per_multiprocessor(struct vgpu_function *function, int block_threads,
					  size_t shared_bytes, unsigned int flags, int *blocks)
{
	struct vgpu_occupancy answer = {
		.shared_bytes = shared_bytes,
		.block_threads = (uint32_t)block_threads,
		.flags = flags,
	};
	CUresult status;

	if (recall(function, &answer)) {
		*blocks = answer.blocks;
		return CUDA_SUCCESS;
	}
	status = ask_blocks(function, block_threads, shared_bytes, flags, &answer.blocks);
	if (status != CUDA_SUCCESS)
		return status;
	remember(function, &answer);
	*blocks = answer.blocks;
	return CUDA_SUCCESS;
}

CUresult vgpu_occupancy_check(struct vgpu_function *function, const __u32 grid[3],
			      const __u32 block[3], size_t shared_bytes)
{
	int processors = vgpu_device.attributes[CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT];
	uint64_t row = (uint64_t)grid[0] * grid[1];
	uint64_t most;
	int blocks;
	CUresult status = blocks_per_multiprocessor(function, (int)(block[0] * block[1] * block[2]),
						    shared_bytes, CU_OCCUPANCY_DEFAULT, &blocks);

	if (status != CUDA_SUCCESS)
		return status;
	most = (uint64_t)blocks * (uint64_t)processors;
	return row > most || row * grid[2] > most ? CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE
						  : CUDA_SUCCESS;
}

static CUresult resolve(CUfunction handle, unsigned int flags, struct vgpu_function **function)
{
	struct vgpu_context *context;
	CUresult status = vgpu_current(&context);

	if (status == CUDA_SUCCESS && flags & ~(unsigned int)CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE)
		status = CUDA_ERROR_INVALID_VALUE;
	return status == CUDA_SUCCESS ? vgpu_function_resolve(handle, function) : status;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, CUfunction handle,
							      int block_threads,
							      size_t shared_bytes,
							      unsigned int flags)
{
	struct vgpu_function *function;
	CUresult status = resolve(handle, flags, &function);

	if (status != CUDA_SUCCESS)
		return status;
	if (!blocks || block_threads <= 0)
		return CUDA_ERROR_INVALID_VALUE;
	return blocks_per_multiprocessor(function, block_threads, shared_bytes, flags, blocks);
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction handle,
						     int block_threads, size_t shared_bytes)
{
	return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
		blocks, handle, block_threads, shared_bytes, CU_OCCUPANCY_DEFAULT);
}

/* The block size that keeps most threads resident; the largest of several. */
CUresult cuOccupancyMaxPotentialBlockSizeWithFlags(int *min_grid, int *best_block,
						   CUfunction handle,
						   CUoccupancyB2DSize shared_of_block,
						   size_t shared_bytes, int block_limit,
						   unsigned int flags)
{
	struct vgpu_function *function;
	int warp = vgpu_device.attributes[CU_DEVICE_ATTRIBUTE_WARP_SIZE];
	int processors = vgpu_device.attributes[CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT];
	int most_threads = 0;
	int largest;
	CUresult status = resolve(handle, flags, &function);

	if (status != CUDA_SUCCESS)
		return status;
	if (!min_grid || !best_block || warp <= 0)
		return CUDA_ERROR_INVALID_VALUE;
	largest = function->info.max_threads_per_block;
	if (block_limit > 0 && block_limit < largest)
		largest = block_limit;
	*min_grid = 0;
	*best_block = 0;
	for (int size = (largest + warp - 1) / warp * warp; size > 0; size -= warp) {
		int block = size < largest ? size : largest;
		size_t shared = shared_of_block ? shared_of_block(block) : shared_bytes;
		int blocks;

		status = blocks_per_multiprocessor(function, block, shared, flags, &blocks);
		if (status != CUDA_SUCCESS)
			return status;
		if (blocks * block > most_threads) {
			most_threads = blocks * block;
			*best_block = block;
			*min_grid = blocks * processors;
		}
	}
	return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxPotentialBlockSize(int *min_grid, int *best_block, CUfunction handle,
					  CUoccupancyB2DSize shared_of_block, size_t shared_bytes,
					  int block_limit)
{
	return cuOccupancyMaxPotentialBlockSizeWithFlags(min_grid, best_block, handle,
							 shared_of_block, shared_bytes, block_limit,
							 CU_OCCUPANCY_DEFAULT);
}

CUresult cuOccupancyAvailableDynamicSMemPerBlock(size_t *bytes, CUfunction handle, int blocks,
						 int block_threads)
{
	struct vgpu_cmd_function_available_shared command;
	struct vgpu_function *function;
	struct vgpu_reply reply;
	CUresult status = resolve(handle, 0, &function);

	if (status != CUDA_SUCCESS)
		return status;
	if (!bytes || blocks <= 0 || block_threads <= 0)
		return CUDA_ERROR_INVALID_VALUE;
	command = vgpu_encode_function_available_shared(
		vgpu_context_handle(function->object.context), function->object.remote,
		(__u32)blocks, (__u32)block_threads);
	status = vgpu_context_call(function->object.context, &command, sizeof(command), NULL, 0,
				   &reply);
	if (status == CUDA_SUCCESS && reply.result[0] > SHARED_BYTES_MAX)
		status = CUDA_ERROR_UNKNOWN;
	if (status == CUDA_SUCCESS)
		*bytes = reply.result[0];
	return status;
}
