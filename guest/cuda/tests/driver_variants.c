// SPDX-License-Identifier: MIT
/*
 * The older and the per-thread variants of the driver API, and what the other programs
 * leave out: each call's effect is checked. Argument: an empty folder. Exit status 0:
 * all passed.
 */
#define __CUDA_API_VERSION_INTERNAL /* declares every variant under the name of its symbol */
#include <limits.h>
#include <stdbool.h>
#include <string.h>

#include "expect.h"

/* Not in cuda.h of CUDA 13.0. */
extern CUresult CUDAAPI cuGraphGetId(CUgraph graph, unsigned int *id);
extern CUresult CUDAAPI cuGraphExecGetId(CUgraphExec exec, unsigned int *id);
extern CUresult CUDAAPI cuGraphNodeGetLocalId(CUgraphNode node, unsigned int *id);
extern CUresult CUDAAPI cuGraphNodeGetContainingGraph(CUgraphNode node, CUgraph *graph);
extern CUresult CUDAAPI cuGraphNodeSetParams_v2(CUgraphNode node, CUgraphNodeParams *parameters);
extern CUresult CUDAAPI cuGraphAddNode_v3(CUgraphNode *node, CUgraph graph, const CUgraphNode *from,
					  const CUgraphEdgeData *edges, size_t count,
					  CUgraphNodeParams *parameters);
extern CUresult CUDAAPI cuLaunchHostFunc_v2_ptsz(CUstream stream, CUhostFn function, void *data,
						 unsigned int mode);

#define WORDS 32u
#define BYTES (WORDS * sizeof(unsigned int))

/* out[0] = value, out[1] = bytes of dynamic shared memory, out[2] = blocks in y */
static const char ptx[] = ".version 6.0\n"
			  ".target sm_50\n"
			  ".address_size 64\n"
			  ".visible .entry put(.param .u64 out, .param .u32 value)\n"
			  "{\n"
			  "	.reg .b32 %r<4>; .reg .b64 %d<2>;\n"
			  "	ld.param.u64 %d1, [out]; ld.param.u32 %r1, [value];\n"
			  "	st.global.u32 [%d1], %r1;\n"
			  "	mov.u32 %r2, %dynamic_smem_size; st.global.u32 [%d1+4], %r2;\n"
			  "	mov.u32 %r3, %nctaid.y; st.global.u32 [%d1+8], %r3;\n"
			  "	ret;\n"
			  "}\n";

static CUdevice device;
static CUcontext context;
static CUmodule module;
static CUfunction put;
static CUdeviceptr x, y;
static unsigned int words[WORDS];

static unsigned int word(CUdeviceptr from, unsigned int index)
{
	OK(cuCtxSynchronize());
	OK(cuMemcpyDtoH_v2(words, from, BYTES));
	return words[index];
}

static bool all_words(CUdeviceptr from, unsigned int wanted)
{
	word(from, 0);
	for (unsigned int i = 0; i < WORDS; i++)
		if (words[i] != wanted)
			return false;
	return true;
}

static void clear(void)
{
	OK(cuMemsetD32_v2(x, 0, WORDS));
	OK(cuMemsetD32_v2(y, 0, WORDS));
}

static void check_device(void)
{
	CUmoduleLoadingMode mode;
	int major, minor, value;
	CUdevprop properties;
	CUuuid first, second;
	const char *name;
	void *address;

	OK(cuDeviceComputeCapability(&major, &minor, device));
	OK(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device));
	CHECK(value == major);
	OK(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device));
	CHECK(value == minor);
	OK(cuDeviceGetProperties(&properties, device));
	OK(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, device));
	CHECK(properties.maxGridSize[0] == value && properties.SIMDWidth == 32);
	OK(cuDeviceGetUuid(&first, device));
	OK(cuDeviceGetUuid_v2(&second, device));
	CHECK(!memcmp(&first, &second, sizeof(first)));
	OK(cuGetErrorName(CUDA_ERROR_INVALID_VALUE, &name));
	CHECK(!strcmp(name, "CUDA_ERROR_INVALID_VALUE"));
	OK(cuGetProcAddress("cuMemAlloc", &address, 3020, 0));
	CHECK(address == (void *)cuMemAlloc_v2);
	FAILS(cuGetProcAddress("cuNothing", &address, 13000, 0), CUDA_ERROR_NOT_FOUND);
	OK(cuModuleGetLoadingMode(&mode));
	CHECK(mode == CU_MODULE_LAZY_LOADING);
}

static void check_contexts(void)
{
	CUcontext contexts[3], popped, attached, current;
	unsigned int flags, version;
	CUdevice found = -1;
	int active;

	OK(cuCtxCreate(&contexts[0], CU_CTX_SCHED_SPIN, device));
	OK(cuCtxGetFlags(&flags));
	CHECK(flags == CU_CTX_SCHED_SPIN);
	OK(cuCtxSetFlags(CU_CTX_SCHED_YIELD));
	OK(cuCtxGetFlags(&flags));
	CHECK(flags == CU_CTX_SCHED_YIELD);
	OK(cuCtxCreate_v2(&contexts[1], 0, device));
	OK(cuCtxCreate_v3(&contexts[2], NULL, 0, 0, device));
	OK(cuCtxPopCurrent(&popped));
	CHECK(popped == contexts[2]);
	OK(cuCtxPushCurrent(contexts[0]));
	OK(cuCtxGetCurrent(&current));
	CHECK(current == contexts[0]);
	OK(cuCtxGetApiVersion(contexts[0], &version));
	CHECK(version >= 3020);
	OK(cuCtxGetDevice_v2(&found, contexts[2]));
	CHECK(found == device);
	OK(cuCtxSynchronize_v2(contexts[2]));
	/* The second detach is the one that ends it. */
	OK(cuCtxAttach(&attached, 0));
	CHECK(attached == contexts[0]);
	OK(cuCtxDetach(contexts[0]));
	OK(cuCtxGetFlags(&flags));
	OK(cuCtxDetach(contexts[0]));
	FAILS(cuCtxPushCurrent(contexts[0]), CUDA_ERROR_INVALID_CONTEXT);
	OK(cuCtxDestroy(contexts[2]));
	FAILS(cuCtxDestroy(contexts[2]), CUDA_ERROR_INVALID_CONTEXT);
	OK(cuCtxDestroy(contexts[1]));
	OK(cuCtxSetCurrent(context));
	OK(cuDevicePrimaryCtxSetFlags(device, CU_CTX_SCHED_BLOCKING_SYNC));
	OK(cuDevicePrimaryCtxGetState(device, &flags, &active));
	CHECK(flags == CU_CTX_SCHED_BLOCKING_SYNC && active);
}

static void check_events(void)
{
	CUevent start, end;
	float elapsed = -1;

	OK(cuEventCreate(&start, 0));
	OK(cuEventCreate(&end, 0));
	OK(cuEventRecord(start, NULL));
	OK(cuEventRecord(end, NULL));
	OK(cuEventSynchronize(end));
	OK(cuEventElapsedTime(&elapsed, start, end));
	CHECK(elapsed >= 0);
	OK(cuEventDestroy(start));
	OK(cuEventDestroy(end));
	FAILS(cuEventRecord(end, NULL), CUDA_ERROR_INVALID_HANDLE);
}

static size_t CUDA_CB no_shared(int block)
{
	(void)block;
	return 0;
}

static void check_functions(const char *folder)
{
	CUfunctionLoadingState state = CU_FUNCTION_LOADING_STATE_UNLOADED;
	int grid = 0, block = 0, blocks = 0;
	float pi = 3.25f;
	unsigned int bits;
	char path[PATH_MAX];
	CUlibrary library;
	CUmodule loaded;
	CUfunction found;
	CUkernel kernel;
	FILE *file;

	OK(cuFuncGetModule(&loaded, put));
	CHECK(loaded == module);
	OK(cuFuncLoad(put));
	OK(cuFuncIsLoaded(&state, put));
	CHECK(state == CU_FUNCTION_LOADING_STATE_LOADED);
	memcpy(&bits, &pi, sizeof(bits));
	clear();
	OK(cuFuncSetBlockShape(put, 1, 1, 1));
	OK(cuFuncSetSharedSize(put, 512));
	OK(cuParamSetv(put, 0, &x, sizeof(x)));
	OK(cuParamSetf(put, 8, pi));
	OK(cuParamSetSize(put, 12));
	OK(cuLaunch(put));
	CHECK(word(x, 0) == bits && words[1] == 512 && words[2] == 1);
	clear();
	OK(cuLaunchGridAsync(put, 1, 3, NULL));
	CHECK(word(x, 0) == bits && words[2] == 3);
	OK(cuOccupancyMaxPotentialBlockSize(&grid, &block, put, no_shared, 0, 0));
	CHECK(grid > 0 && block > 0 && block % 32 == 0);
	OK(cuOccupancyMaxPotentialBlockSizeWithFlags(&grid, &block, put, NULL, 0, 64, 0));
	CHECK(block > 0 && block <= 64);
	OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, put, block, 0));
	CHECK(blocks > 0);

	snprintf(path, sizeof(path), "%s/put.ptx", folder);
	file = fopen(path, "w");
	CHECK(file && fputs(ptx, file) >= 0 && !fclose(file));
	OK(cuModuleLoad(&loaded, path));
	OK(cuModuleGetFunction(&found, loaded, "put"));
	CHECK(found != put);
	OK(cuModuleUnload(loaded));
	FAILS(cuModuleLoad(&loaded, "/nonexistent"), CUDA_ERROR_FILE_NOT_FOUND);
	OK(cuModuleLoadFatBinary(&loaded, ptx));
	OK(cuModuleGetFunction(&found, loaded, "put"));
	OK(cuModuleUnload(loaded));
	OK(cuLibraryLoadData(&library, ptx, NULL, NULL, 0, NULL, NULL, 0));
	OK(cuLibraryGetKernel(&kernel, library, "put"));
	OK(cuKernelSetCacheConfig(kernel, CU_FUNC_CACHE_PREFER_L1, device));
	FAILS(cuKernelSetCacheConfig(kernel, (CUfunc_cache)9, device), CUDA_ERROR_INVALID_VALUE);
	OK(cuLibraryUnload(library));
}

static void check_fills(void)
{
	const size_t halves = BYTES / 2;

#define FILLED(CALL, WANTED)                                                                       \
	do {                                                                                       \
		clear();                                                                           \
		OK(CALL);                                                                          \
		OK(cuStreamSynchronize(CU_STREAM_PER_THREAD));                                     \
		CHECK(all_words(x, WANTED));                                                       \
	} while (0)

	FILLED(cuMemsetD16_v2(x, 0x1234, halves), 0x12341234);
	FILLED(cuMemsetD16_v2_ptds(x, 0x1235, halves), 0x12351235);
	FILLED(cuMemsetD16Async(x, 0x1236, halves, NULL), 0x12361236);
	FILLED(cuMemsetD16Async_ptsz(x, 0x1237, halves, NULL), 0x12371237);
	FILLED(cuMemsetD2D16_v2(x, BYTES / 2, 0x1238, halves / 2, 2), 0x12381238);
	FILLED(cuMemsetD2D16_v2_ptds(x, BYTES / 2, 0x1239, halves / 2, 2), 0x12391239);
	FILLED(cuMemsetD2D16Async(x, BYTES / 2, 0x1240, halves / 2, 2, NULL), 0x12401240);
	FILLED(cuMemsetD2D16Async_ptsz(x, BYTES / 2, 0x1241, halves / 2, 2, NULL), 0x12411241);
	FILLED(cuMemsetD2D32_v2(x, BYTES / 2, 11, WORDS / 2, 2), 11);
	FILLED(cuMemsetD2D32_v2_ptds(x, BYTES / 2, 12, WORDS / 2, 2), 12);
	FILLED(cuMemsetD2D32Async(x, BYTES / 2, 13, WORDS / 2, 2, NULL), 13);
	FILLED(cuMemsetD2D32Async_ptsz(x, BYTES / 2, 14, WORDS / 2, 2, NULL), 14);
	FILLED(cuMemsetD32_v2_ptds(x, 15, WORDS), 15);
	FILLED(cuMemsetD32Async_ptsz(x, 16, WORDS, NULL), 16);
}

static void check_copies(void)
{
	CUDA_MEMCPY2D rectangle = {
		.srcMemoryType = CU_MEMORYTYPE_DEVICE,
		.srcDevice = y,
		.srcPitch = BYTES / 4,
		.dstMemoryType = CU_MEMORYTYPE_DEVICE,
		.dstDevice = x,
		.dstPitch = BYTES / 4,
		.WidthInBytes = BYTES / 4,
		.Height = 4,
	};
	CUDA_MEMCPY3D box = {
		.srcMemoryType = CU_MEMORYTYPE_DEVICE,
		.srcDevice = y,
		.srcPitch = BYTES / 4,
		.srcHeight = 2,
		.dstMemoryType = CU_MEMORYTYPE_DEVICE,
		.dstDevice = x,
		.dstPitch = BYTES / 4,
		.dstHeight = 2,
		.WidthInBytes = BYTES / 4,
		.Height = 2,
		.Depth = 2,
	};

#define COPIED(CALL)                                                                               \
	do {                                                                                       \
		clear();                                                                           \
		OK(cuMemsetD32_v2(y, 77, WORDS));                                                  \
		OK(cuCtxSynchronize());                                                            \
		OK(CALL);                                                                          \
		OK(cuStreamSynchronize(CU_STREAM_PER_THREAD));                                     \
		CHECK(all_words(x, 77));                                                           \
	} while (0)

	COPIED(cuMemcpyPeer(x, context, y, context, BYTES));
	COPIED(cuMemcpyPeer_ptds(x, context, y, context, BYTES));
	COPIED(cuMemcpyPeerAsync(x, context, y, context, BYTES, NULL));
	COPIED(cuMemcpyPeerAsync_ptsz(x, context, y, context, BYTES, NULL));
	COPIED(cuMemcpyDtoDAsync_v2_ptsz(x, y, BYTES, NULL));
	COPIED(cuMemcpy2D_v2_ptds(&rectangle));
	COPIED(cuMemcpy3D_v2_ptds(&box));
	COPIED(cuMemcpy3DAsync_v2_ptsz(&box, NULL));
}

static void check_host_memory(void)
{
	static unsigned int mine[WORDS];
	unsigned int *pinned;
	unsigned int flags;

	OK(cuMemAllocHost_v2((void **)&pinned, BYTES));
	OK(cuMemHostGetFlags(&flags, pinned));
	CHECK(flags == 0);
	OK(cuMemsetD32_v2(x, 5, WORDS));
	OK(cuMemcpyDtoH_v2(pinned, x, BYTES));
	CHECK(pinned[WORDS - 1] == 5);
	OK(cuMemFreeHost(pinned));
	OK(cuMemHostRegister(mine, sizeof(mine), 0));
	FAILS(cuMemHostRegister(mine, sizeof(mine), 0), CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
	OK(cuMemcpyDtoH_v2(mine, x, BYTES));
	CHECK(mine[WORDS - 1] == 5);
	OK(cuMemHostUnregister(mine));
}

static void CUDA_CB count_up(void *count)
{
	++*(int *)count;
}

static void check_streams(void)
{
	CUstreamAttrValue value = { .syncPolicy = CU_SYNC_POLICY_SPIN };
	CUcontext found;
	CUgreenCtx green;
	CUstream stream;
	int count = 0;

	OK(cuStreamSetAttribute_ptsz(NULL, CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY, &value));
	OK(cuStreamCreate(&stream, 0));
	OK(cuStreamCopyAttributes_ptsz(stream, NULL));
	memset(&value, 0, sizeof(value));
	OK(cuStreamGetAttribute_ptsz(stream, CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY, &value));
	CHECK(value.syncPolicy == CU_SYNC_POLICY_SPIN);
	/* The legacy default stream is another one. */
	OK(cuStreamGetAttribute(NULL, CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY, &value));
	CHECK(value.syncPolicy == CU_SYNC_POLICY_AUTO);
	found = NULL;
	OK(cuStreamGetCtx(stream, &found));
	CHECK(found == context);
	found = NULL;
	OK(cuStreamGetCtx_ptsz(NULL, &found));
	CHECK(found == context);
	memset(&green, 0xff, sizeof(green));
	OK(cuStreamGetCtx_v2_ptsz(NULL, &found, &green));
	CHECK(found == context && !green);
	OK(cuLaunchHostFunc_v2_ptsz(NULL, count_up, &count, 0));
	OK(cuStreamSynchronize(CU_STREAM_PER_THREAD));
	CHECK(count == 1);
	OK(cuStreamDestroy(stream));
	FAILS(cuStreamGetCtx(stream, &found), CUDA_ERROR_INVALID_HANDLE);
}

/* Two fills in a capture, the second made independent of the first. */
static void check_capture(CUstream stream)
{
	bool mine = stream == CU_STREAM_PER_THREAD;
	CUstream handle = mine ? NULL : stream;
	const CUgraphNode *dependencies;
	CUstreamCaptureStatus status;
	CUgraphNode node;
	cuuint64_t id, again;
	CUgraphExec exec;
	CUgraph graph, same;
	size_t count, roots = 0;

	clear();
	OK(cuCtxSynchronize());
	OK(mine ? cuStreamBeginCapture_ptsz(handle) : cuStreamBeginCapture(handle));
	OK(cuMemsetD32Async(x, 8, WORDS, stream));
	OK(mine ? cuStreamGetCaptureInfo_ptsz(handle, &status, &id)
		: cuStreamGetCaptureInfo(handle, &status, &id));
	CHECK(status == CU_STREAM_CAPTURE_STATUS_ACTIVE && id);
	OK(mine ? cuStreamGetCaptureInfo_v2_ptsz(handle, &status, &again, &graph, &dependencies,
						 &count)
		: cuStreamGetCaptureInfo_v2(handle, &status, &again, &graph, &dependencies,
					    &count));
	CHECK(again == id && count == 1);
	node = dependencies[0];
	OK(mine ? cuStreamUpdateCaptureDependencies_ptsz(handle, NULL, 0,
							 CU_STREAM_SET_CAPTURE_DEPENDENCIES)
		: cuStreamUpdateCaptureDependencies(handle, NULL, 0,
						    CU_STREAM_SET_CAPTURE_DEPENDENCIES));
	OK(cuMemsetD32Async(y, 9, WORDS, stream));
	OK(mine ? cuStreamUpdateCaptureDependencies_ptsz(handle, &node, 1,
							 CU_STREAM_ADD_CAPTURE_DEPENDENCIES)
		: cuStreamUpdateCaptureDependencies(handle, &node, 1,
						    CU_STREAM_ADD_CAPTURE_DEPENDENCIES));
	OK(cuStreamEndCapture(stream, &same));
	CHECK(same == graph);
	OK(cuGraphGetRootNodes(graph, NULL, &roots));
	CHECK(roots == 2);
	OK(mine ? cuGraphInstantiate_v2(&exec, graph, NULL, NULL, 0)
		: cuGraphInstantiate(&exec, graph, NULL, NULL, 0));
	CHECK(all_words(x, 0));
	OK(cuGraphLaunch(exec, stream));
	CHECK(all_words(x, 8) && all_words(y, 9));
	OK(cuGraphExecDestroy(exec));
	OK(cuGraphDestroy(graph));
}

static CUgraphNodeParams fill_of(CUdeviceptr to, unsigned int value)
{
	return (CUgraphNodeParams){
		.type = CU_GRAPH_NODE_TYPE_MEMSET,
		.memset = { .dst = to,
			    .value = value,
			    .elementSize = 4,
			    .width = WORDS,
			    .height = 1,
			    .ctx = context },
	};
}

static void check_graph(void)
{
	unsigned int value = 21, id = 0, exec_id = 0, locals[2] = { 0, 0 };
	void *arguments[] = { &y, &value };
	CUDA_KERNEL_NODE_PARAMS_v1 kernel = {
		.func = put,
		.gridDimX = 1,
		.gridDimY = 1,
		.gridDimZ = 1,
		.blockDimX = 1,
		.blockDimY = 1,
		.blockDimZ = 1,
		.kernelParams = arguments,
	};
	CUgraphNode fills[2], launch, from[4], to[4], failed;
	CUgraphNodeParams parameters = fill_of(x, 1);
	CUDA_KERNEL_NODE_PARAMS_v1 read;
	CUgraphExecUpdateResult result;
	CUgraph graph, containing;
	CUgraphExec exec;
	size_t count;

	OK(cuGraphCreate(&graph, 0));
	OK(cuGraphGetId(graph, &id));
	CHECK(id);
	OK(cuGraphAddNode(&fills[0], graph, NULL, 0, &parameters));
	parameters = fill_of(y, 2);
	OK(cuGraphAddNode_v3(&fills[1], graph, &fills[0], NULL, 1, &parameters));
	OK(cuGraphAddKernelNode(&launch, graph, NULL, 0, &kernel));
	OK(cuGraphNodeGetLocalId(fills[0], &locals[0]));
	OK(cuGraphNodeGetLocalId(fills[1], &locals[1]));
	CHECK(locals[0] != locals[1]);
	OK(cuGraphNodeGetContainingGraph(launch, &containing));
	CHECK(containing == graph);
	OK(cuGraphAddDependencies(graph, &fills[1], &launch, 1));
	OK(cuGraphAddDependencies(graph, &fills[0], &launch, 1));
	OK(cuGraphRemoveDependencies(graph, &fills[0], &launch, 1));
	count = 4;
	OK(cuGraphGetEdges(graph, from, to, &count));
	CHECK(count == 2);
	count = 4;
	OK(cuGraphNodeGetDependencies(launch, from, &count));
	CHECK(count == 1 && from[0] == fills[1]);
	count = 4;
	OK(cuGraphNodeGetDependentNodes(fills[0], to, &count));
	CHECK(count == 1 && to[0] == fills[1]);
	OK(cuGraphKernelNodeGetParams(launch, &read));
	CHECK(read.func == put && read.gridDimX == 1);
	value = 22;
	OK(cuGraphKernelNodeSetParams(launch, &kernel));
	parameters = fill_of(x, 3);
	OK(cuGraphNodeSetParams(fills[0], &parameters));
	clear();
	OK(cuGraphInstantiateWithFlags(&exec, graph, 0));
	OK(cuGraphExecGetId(exec, &exec_id));
	CHECK(exec_id);
	OK(cuGraphLaunch(exec, NULL));
	CHECK(all_words(x, 3) && word(y, 0) == 22 && word(y, 3) == 2);
	value = 23;
	OK(cuGraphExecKernelNodeSetParams(exec, launch, &kernel));
	parameters = fill_of(x, 4);
	OK(cuGraphExecNodeSetParams(exec, fills[0], &parameters));
	OK(cuGraphLaunch(exec, NULL));
	CHECK(all_words(x, 4) && word(y, 0) == 23);
	parameters = fill_of(x, 5);
	OK(cuGraphNodeSetParams_v2(fills[0], &parameters));
	OK(cuGraphExecUpdate(exec, graph, &failed, &result));
	CHECK(result == CU_GRAPH_EXEC_UPDATE_SUCCESS);
	OK(cuGraphLaunch(exec, NULL));
	CHECK(all_words(x, 5) && word(y, 0) == 22);
	OK(cuGraphExecDestroy(exec));
	OK(cuGraphDestroy(graph));
}

int main(int argc, char **argv)
{
	unsigned int flags;
	CUstream stream;
	int active;

	if (argc != 2) {
		fputs("usage: driver_variants FOLDER\n", stderr);
		return 2;
	}
	OK(cuInit(0));
	OK(cuDeviceGet(&device, 0));
	OK(cuDevicePrimaryCtxRetain(&context, device));
	OK(cuCtxSetCurrent(context));
	check_device();
	check_contexts();
	OK(cuModuleLoadData(&module, ptx));
	OK(cuModuleGetFunction(&put, module, "put"));
	OK(cuMemAlloc_v2(&x, BYTES));
	OK(cuMemAlloc_v2(&y, BYTES));
	check_events();
	check_functions(argv[1]);
	check_fills();
	check_copies();
	check_host_memory();
	check_streams();
	OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	check_capture(stream);
	check_capture(CU_STREAM_PER_THREAD);
	check_graph();
	OK(cuDevicePrimaryCtxReset(device));
	FAILS(cuMemFree_v2(x), CUDA_ERROR_INVALID_VALUE);
	OK(cuDevicePrimaryCtxRelease(device));
	OK(cuDevicePrimaryCtxGetState(device, &flags, &active));
	CHECK(!active);
	return report();
}
