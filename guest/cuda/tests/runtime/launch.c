// SPDX-License-Identifier: MIT
/* Registered kernels and variables: launches, attributes, occupancy, symbols. */
#include "program.h"

#define COUNT 1000u

/* Of programs that nvcc 13 compiles. */
cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *host);
#ifdef CUDA_API_PER_THREAD_DEFAULT_STREAM
#define __cudaLaunchKernel __cudaLaunchKernel_ptsz
#endif
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **arguments,
			       size_t shared_bytes, cudaStream_t stream);

static float *numbers; /* on the device: COUNT times 1 */

static void reset_numbers(void)
{
	float ones[COUNT];

	for (unsigned int i = 0; i < COUNT; i++)
		ones[i] = 1;
	OK(cudaMemcpy(numbers, ones, sizeof(ones), cudaMemcpyHostToDevice));
}

static int all_are(float wanted)
{
	float found[COUNT];

	OK(cudaMemcpy(found, numbers, sizeof(found), cudaMemcpyDeviceToHost));
	for (unsigned int i = 0; i < COUNT; i++) {
		if (found[i] != wanted)
			return 0;
	}
	return 1;
}

static void check_launches(void)
{
	float factor = 3;
	unsigned int count = COUNT;
	void *arguments[] = { &numbers, &factor, &count };
	dim3 grid = { (COUNT + 127) / 128, 1, 1 };
	dim3 block = { 128, 1, 1 };
	dim3 nothing = { 0, 1, 1 };
	dim3 popped_grid;
	dim3 popped_block;
	size_t shared;
	cudaStream_t stream;
	cudaKernel_t kernel;
	cudaLaunchConfig_t config = { .gridDim = grid, .blockDim = block };

	reset_numbers();
	OK(launch_scale(numbers, 2, COUNT, NULL));
	CHECK(all_are(2));

	/* Written <<<grid, block, 0, stream>>>. */
	CHECK(__cudaPushCallConfiguration(grid, block, 24, (cudaStream_t)7) == 0);
	CHECK(__cudaPushCallConfiguration(block, grid, 0, NULL) == 0);
	OK(__cudaPopCallConfiguration(&popped_grid, &popped_block, &shared, &stream));
	CHECK(popped_grid.x == block.x && popped_block.x == grid.x && !shared && !stream);
	OK(__cudaPopCallConfiguration(&popped_grid, &popped_block, &shared, &stream));
	CHECK(popped_grid.x == grid.x && popped_block.x == 128 && popped_block.z == 1);
	CHECK(shared == 24 && stream == (cudaStream_t)7);
	FAILS(__cudaPopCallConfiguration(&popped_grid, &popped_block, &shared, &stream),
	      cudaErrorMissingConfiguration);
	cudaGetLastError();

	OK(cudaLaunchKernelExC(&config, (const void *)scale_kernel, arguments));
	CHECK(all_are(6));
	OK(__cudaGetKernel(&kernel, (const void *)scale_kernel));
	OK(__cudaLaunchKernel(kernel, grid, block, arguments, 0, NULL));
	CHECK(all_are(18));

	FAILS(cudaLaunchKernel((const void *)unknown_kernel, grid, block, arguments, 0, NULL),
	      cudaErrorInvalidResourceHandle);
	CHECK(cudaGetLastError() == cudaErrorInvalidResourceHandle);
	FAILS(cudaLaunchKernel((const void *)scale_kernel, nothing, block, arguments, 0, NULL),
	      BAD_SHAPE);
	block.x = 4096;
	FAILS(cudaLaunchKernel((const void *)scale_kernel, grid, block, arguments, 0, NULL),
	      BAD_SHAPE);
	block.x = 128;
	FAILS(cudaLaunchKernel((const void *)scale_kernel, grid, block, arguments, 1 << 20, NULL),
	      cudaErrorInvalidValue);
	FAILS(cudaLaunchKernel((const void *)scale_kernel, grid, nothing, arguments, 0, NULL),
	      BAD_SHAPE);
	CHECK(cudaPeekAtLastError() == BAD_SHAPE);
	CHECK(cudaGetLastError() == BAD_SHAPE);
	CHECK(cudaGetLastError() == cudaSuccess);
	OK(cudaDeviceSynchronize());
	CHECK(all_are(18));
}

/* As many blocks as there can be wait for each other; one more is refused. */
static void check_cooperative_launches(void)
{
	struct cudaDeviceProp device;
	uint32_t *cells;
	uint32_t *out;
	uint32_t *found;
	uint32_t blocks;
	uint32_t sum;
	int each;
	void *arguments[] = { &cells, &out };
	dim3 block = { 32, 1, 1 };
	dim3 grid = { 1, 1, 1 };
	cudaLaunchAttribute attribute = { .id = cudaLaunchAttributeCooperative,
					  .val = { .cooperative = 1 } };
	cudaLaunchConfig_t config = { .blockDim = block, .attrs = &attribute, .numAttrs = 1 };
	cudaStream_t stream;
	cudaGraph_t graph;
	cudaGraphExec_t exec;

	OK(cudaGetDeviceProperties(&device, 0));
	OK(cudaDeviceGetAttribute(&each, cudaDevAttrCooperativeLaunch, 0));
	CHECK(each == 1);
	OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, (const void *)together_kernel, 32,
							 0));
	blocks = (uint32_t)(each * device.multiProcessorCount);
	grid.x = blocks;
	sum = blocks * (blocks + 1) / 2;
	found = malloc(blocks * sizeof(*found));
	CHECK(found != NULL);
	OK(cudaMalloc((void **)&cells, sizeof(*cells)));
	OK(cudaMalloc((void **)&out, blocks * sizeof(*out)));
	OK(cudaMemset(cells, 0, sizeof(*cells)));
	OK(cudaStreamCreate(&stream));

	OK(cudaLaunchCooperativeKernel((const void *)together_kernel, grid, block, arguments, 0,
				       stream));
	OK(cudaStreamSynchronize(stream));
	OK(cudaMemcpy(found, out, blocks * sizeof(*out), cudaMemcpyDeviceToHost));
	for (uint32_t i = 0; i < blocks; i++)
		CHECK(found[i] == sum);

	config.gridDim = grid;
	config.stream = stream;
	OK(cudaLaunchKernelExC(&config, (const void *)together_kernel, arguments));
	OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
	OK(cudaLaunchCooperativeKernel((const void *)together_kernel, grid, block, arguments, 0,
				       stream));
	OK(cudaStreamEndCapture(stream, &graph));
	OK(cudaGraphInstantiate(&exec, graph, 0));
	OK(cudaGraphLaunch(exec, stream));
	OK(cudaStreamSynchronize(stream));
	OK(cudaMemcpy(found, out, blocks * sizeof(*out), cudaMemcpyDeviceToHost));
	for (uint32_t i = 0; i < blocks; i++)
		CHECK(found[i] == 3 * sum);
	OK(cudaGraphExecDestroy(exec));
	OK(cudaGraphDestroy(graph));

	grid.x = blocks + 1;
	FAILS(cudaLaunchCooperativeKernel((const void *)together_kernel, grid, block, arguments, 0,
					  stream),
	      cudaErrorCooperativeLaunchTooLarge);
	CHECK(cudaGetLastError() == cudaErrorCooperativeLaunchTooLarge);
	OK(cudaStreamDestroy(stream));
	OK(cudaFree(cells));
	OK(cudaFree(out));
	free(found);
}

static void check_shared_memory(void)
{
	uint32_t words[256];
	uint32_t *device;
	void *arguments[] = { &device };
	dim3 one = { 1, 1, 1 };
	dim3 block = { 256, 1, 1 };

	for (uint32_t i = 0; i < 256; i++)
		words[i] = i * i;
	OK(cudaMalloc((void **)&device, sizeof(words)));
	OK(cudaMemcpy(device, words, sizeof(words), cudaMemcpyHostToDevice));
	OK(cudaLaunchKernel((const void *)reverse_kernel, one, block, arguments, sizeof(words),
			    NULL));
	OK(cudaMemcpy(words, device, sizeof(words), cudaMemcpyDeviceToHost));
	for (uint32_t i = 0; i < 256; i++)
		CHECK(words[255 - i] == i * i);
	OK(cudaFree(device));
}

static void check_functions(void)
{
	struct cudaFuncAttributes attributes;
	const char *name;
	cudaFunction_t function;
	size_t offset;
	size_t bytes;
	int blocks;
	int flagged;

	OK(cudaFuncGetAttributes(&attributes, (const void *)scale_kernel));
	CHECK(attributes.maxThreadsPerBlock >= 512 && attributes.numRegs > 0);
	CHECK(attributes.sharedSizeBytes == 0 && attributes.binaryVersion >= 50);
	CHECK(attributes.maxDynamicSharedSizeBytes >= 48 << 10);
	OK(cudaFuncSetAttribute((const void *)reverse_kernel,
				cudaFuncAttributeMaxDynamicSharedMemorySize, 4096));
	OK(cudaFuncGetAttributes(&attributes, (const void *)reverse_kernel));
	CHECK(attributes.maxDynamicSharedSizeBytes == 4096);
	FAILS(cudaFuncSetAttribute((const void *)reverse_kernel,
				   cudaFuncAttributeMaxDynamicSharedMemorySize, 1 << 30),
	      cudaErrorInvalidValue);
	OK(cudaFuncSetAttribute((const void *)reverse_kernel,
				cudaFuncAttributeMaxDynamicSharedMemorySize, 48 << 10));
	OK(cudaFuncSetCacheConfig((const void *)scale_kernel, cudaFuncCachePreferL1));
	FAILS(cudaFuncSetCacheConfig((const void *)unknown_kernel, cudaFuncCachePreferL1),
	      NO_KERNEL);
	OK(cudaFuncGetName(&name, (const void *)look_up_kernel));
	CHECK(!strcmp(name, "look_up"));
	OK(cudaFuncGetParamInfo((const void *)scale_kernel, 1, &offset, &bytes));
	CHECK(offset == 8 && bytes == 4);
	OK(cudaFuncGetParamInfo((const void *)scale_kernel, 2, &offset, &bytes));
	CHECK(offset == 12 && bytes == 4);
	FAILS(cudaFuncGetParamInfo((const void *)scale_kernel, 3, &offset, &bytes),
	      cudaErrorInvalidValue);
	OK(cudaGetFuncBySymbol(&function, (const void *)scale_kernel));
	CHECK(function != NULL);
	FAILS(cudaGetFuncBySymbol(&function, (const void *)unknown_kernel),
	      cudaErrorInvalidDeviceFunction);
	FAILS(cudaFuncGetAttributes(&attributes, (const void *)unknown_kernel),
	      cudaErrorInvalidResourceHandle);
	FAILS(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, (const void *)unknown_kernel,
							    128, 0),
	      cudaErrorInvalidResourceHandle);

	OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, (const void *)scale_kernel, 128,
							 0));
	CHECK(blocks >= 1 && blocks <= 32);
	OK(cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
		&flagged, (const void *)scale_kernel, 128, 0, cudaOccupancyDisableCachingOverride));
	CHECK(flagged == blocks);
	OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&flagged, (const void *)scale_kernel, 128,
							 32 << 10));
	CHECK(flagged > 0 && flagged <= blocks);
	OK(cudaOccupancyAvailableDynamicSMemPerBlock(&bytes, (const void *)scale_kernel, 1, 128));
	CHECK(bytes >= 16 << 10);
}

static void check_symbols(void)
{
	uint32_t words[TABLE_WORDS];
	uint32_t found[TABLE_WORDS];
	uint32_t *out;
	void *arguments[] = { &out };
	void *address;
	void *again;
	size_t bytes;
	cudaStream_t stream;
	dim3 one = { 1, 1, 1 };
	dim3 block = { TABLE_WORDS, 1, 1 };

	OK(cudaGetSymbolSize(&bytes, table));
	CHECK(bytes == sizeof(table));
	OK(cudaGetSymbolAddress(&address, table));
	OK(cudaGetSymbolAddress(&again, table));
	CHECK(address && address == again);
	FAILS(cudaGetSymbolAddress(&again, &unknown_variable), cudaErrorInvalidSymbol);
	FAILS(cudaGetSymbolSize(&bytes, &unknown_variable), cudaErrorInvalidSymbol);

	for (uint32_t i = 0; i < TABLE_WORDS; i++)
		words[i] = 10 * i;
	OK(cudaStreamCreate(&stream));
	OK(cudaMemcpyToSymbol(table, words, sizeof(words), 0, cudaMemcpyHostToDevice));
	for (uint32_t i = 0; i < TABLE_WORDS; i++)
		words[i] = i;
	OK(cudaMemcpyToSymbolAsync(offsets, words, sizeof(words), 0, cudaMemcpyHostToDevice,
				   stream));
	OK(cudaStreamSynchronize(stream));
	OK(cudaMalloc((void **)&out, sizeof(found)));
	OK(cudaLaunchKernel((const void *)look_up_kernel, one, block, arguments, 0, stream));
	OK(cudaStreamSynchronize(stream));
	OK(cudaMemcpy(found, out, sizeof(found), cudaMemcpyDeviceToHost));
	for (uint32_t i = 0; i < TABLE_WORDS; i++)
		CHECK(found[i] == 11 * i);

	/* A part of it; and through the address. */
	OK(cudaMemcpyFromSymbol(found, table, 8, 40, cudaMemcpyDeviceToHost));
	CHECK(found[0] == 100 && found[1] == 110);
	OK(cudaMemcpyFromSymbolAsync(found, offsets, 8, 80, cudaMemcpyDeviceToHost, stream));
	OK(cudaStreamSynchronize(stream));
	CHECK(found[0] == 20 && found[1] == 21);
	OK(cudaMemcpy(found, (char *)address + 4, 4, cudaMemcpyDeviceToHost));
	CHECK(found[0] == 10);
	FAILS(cudaMemcpyToSymbol(table, words, sizeof(words), 4, cudaMemcpyHostToDevice),
	      cudaErrorInvalidValue);
	FAILS(cudaMemcpyToSymbol(&unknown_variable, words, 4, 0, cudaMemcpyHostToDevice),
	      cudaErrorInvalidSymbol);
	OK(cudaFree(out));
	OK(cudaStreamDestroy(stream));
}

int main(void)
{
	OK(cudaMalloc((void **)&numbers, COUNT * sizeof(float)));
	check_launches();
	check_cooperative_launches();
	check_shared_memory();
	check_functions();
	check_symbols();
	OK(cudaFree(numbers));
	return report();
}
