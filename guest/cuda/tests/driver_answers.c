// SPDX-License-Identifier: MIT
/*
 * What the library answers of peers, affinity, attributes of streams, kernels of modules,
 * and copies of boxes, against a real device. Exit status 0: all passed.
 */
#include <stdbool.h>
#include <string.h>

#include "expect.h"

/* Not in cuda.h, or not in that of CUDA 13.0. */
extern CUresult CUDAAPI cuProfilerStart(void);
extern CUresult CUDAAPI cuProfilerStop(void);
extern CUresult CUDAAPI cuFuncGetParamCount(CUfunction function, size_t *count);
extern CUresult CUDAAPI cuKernelGetParamCount(CUkernel kernel, size_t *count);
extern CUresult CUDAAPI cuLaunchHostFunc_v2(CUstream stream, CUhostFn function, void *data,
					    unsigned int mode);

static const char ptx[] = ".version 6.0\n"
			  ".target sm_50\n"
			  ".address_size 64\n"
			  ".visible .entry nothing()\n"
			  "{\n"
			  "	ret;\n"
			  "}\n"
			  ".visible .entry put(.param .u64 out, .param .u32 value)\n"
			  "{\n"
			  "	.reg .b32 %r<2>; .reg .b64 %d<2>;\n"
			  "	ld.param.u64 %d1, [out]; ld.param.u32 %r1, [value];\n"
			  "	st.global.u32 [%d1], %r1;\n"
			  "	ret;\n"
			  "}\n";

static void check_peers(CUdevice device, CUcontext current)
{
	CUexecAffinityParam affinity;
	CUcontext other;
	int value;

	FAILS(cuDeviceGetP2PAttribute(&value, CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED, device,
				      device),
	      CUDA_ERROR_INVALID_DEVICE);
	FAILS(cuDeviceGetP2PAttribute(&value, CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED, device,
				      device + 1),
	      CUDA_ERROR_INVALID_DEVICE);
	FAILS(cuCtxEnablePeerAccess(current, 0), CUDA_ERROR_INVALID_CONTEXT);
	FAILS(cuCtxEnablePeerAccess(NULL, 0), CUDA_ERROR_INVALID_CONTEXT);
	OK(cuCtxCreate(&other, NULL, 0, device));
	FAILS(cuCtxEnablePeerAccess(current, 1), CUDA_ERROR_INVALID_VALUE);
	FAILS(cuCtxEnablePeerAccess(current, 0), CUDA_ERROR_PEER_ACCESS_UNSUPPORTED);
	FAILS(cuCtxDisablePeerAccess(current), CUDA_ERROR_PEER_ACCESS_NOT_ENABLED);
	OK(cuCtxDestroy(other));
	value = 1;
	OK(cuDeviceGetExecAffinitySupport(&value, CU_EXEC_AFFINITY_TYPE_SM_COUNT, device));
	CHECK(value == 0);
	FAILS(cuDeviceGetExecAffinitySupport(&value, CU_EXEC_AFFINITY_TYPE_MAX, device),
	      CUDA_ERROR_INVALID_VALUE);
	FAILS(cuCtxGetExecAffinity(&affinity, CU_EXEC_AFFINITY_TYPE_SM_COUNT),
	      CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY);
	OK(cuProfilerStart());
	OK(cuProfilerStop());
}

static void check_streams(CUcontext current)
{
	CUstreamAttrValue value;
	CUstream one, two;
	CUcontext context;
	CUgreenCtx green;

	OK(cuStreamCreate(&one, CU_STREAM_NON_BLOCKING));
	OK(cuStreamCreate(&two, CU_STREAM_DEFAULT));
	OK(cuStreamGetAttribute(one, CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY, &value));
	CHECK(value.syncPolicy == CU_SYNC_POLICY_AUTO);
	value.syncPolicy = CU_SYNC_POLICY_YIELD;
	OK(cuStreamSetAttribute(one, CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY, &value));
	OK(cuStreamCopyAttributes(two, one));
	memset(&value, 0, sizeof(value));
	OK(cuStreamGetAttribute(two, CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY, &value));
	CHECK(value.syncPolicy == CU_SYNC_POLICY_YIELD);
	OK(cuStreamGetAttribute(NULL, CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY, &value));
	CHECK(value.syncPolicy == CU_SYNC_POLICY_AUTO);
	value.syncPolicy = (CUsynchronizationPolicy)9;
	FAILS(cuStreamSetAttribute(one, CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY, &value),
	      CUDA_ERROR_INVALID_VALUE);
	value.priority = -1;
	OK(cuStreamSetAttribute(one, CU_STREAM_ATTRIBUTE_PRIORITY, &value));
	OK(cuStreamGetAttribute(one, CU_STREAM_ATTRIBUTE_PRIORITY, &value));
	CHECK(value.priority == 0);
	memset(&value, 0, sizeof(value));
	value.accessPolicyWindow.num_bytes = 1;
	FAILS(cuStreamSetAttribute(one, CU_STREAM_ATTRIBUTE_ACCESS_POLICY_WINDOW, &value),
	      CUDA_ERROR_INVALID_VALUE);
	memset(&green, 0xff, sizeof(green));
	OK(cuStreamGetGreenCtx(one, &green));
	CHECK(!green);
	memset(&green, 0xff, sizeof(green));
	OK(cuStreamGetCtx_v2(one, &context, &green));
	CHECK(!green && context == current);
	OK(cuStreamDestroy(one));
	OK(cuStreamDestroy(two));
}

static void CUDA_CB count_up(void *count)
{
	++*(int *)count;
}

static void check_host_function(void)
{
	int count = 0;

	OK(cuLaunchHostFunc_v2(NULL, count_up, &count, 0));
	OK(cuLaunchHostFunc_v2(NULL, count_up, &count, 1));
	FAILS(cuLaunchHostFunc_v2(NULL, count_up, &count, 2), CUDA_ERROR_INVALID_VALUE);
	OK(cuStreamSynchronize(NULL));
	CHECK(count == 2);
}

static void check_module(void)
{
	CUfunction functions[3] = { NULL, NULL, NULL };
	CUlibrary library;
	unsigned int count;
	size_t parameters;
	bool put_seen = false;
	const char *name;
	CUkernel kernel;
	CUmodule module;

	OK(cuModuleLoadData(&module, ptx));
	OK(cuModuleGetFunctionCount(&count, module));
	CHECK(count == 2);
	OK(cuModuleEnumerateFunctions(functions, 3, module));
	CHECK(functions[0] && functions[1] && functions[0] != functions[1] && !functions[2]);
	for (unsigned int i = 0; i < count; i++) {
		bool put;

		OK(cuFuncGetName(&name, functions[i]));
		put = !strcmp(name, "put");
		OK(cuFuncGetParamCount(functions[i], &parameters));
		CHECK(parameters == (put ? 2u : 0u));
		put_seen = put_seen || put;
	}
	CHECK(put_seen);
	FAILS(cuModuleEnumerateFunctions(NULL, 1, module), CUDA_ERROR_INVALID_VALUE);
	OK(cuModuleUnload(module));
	OK(cuLibraryLoadData(&library, ptx, NULL, NULL, 0, NULL, NULL, 0));
	OK(cuLibraryGetKernel(&kernel, library, "put"));
	OK(cuKernelGetParamCount(kernel, &parameters));
	CHECK(parameters == 2);
	OK(cuLibraryUnload(library));
}

/* A box of 3 x 2 x 2 bytes at (1, 1, 1) of 8 x 4 x 3 goes to (2, 0, 0) of 16 x 2 x 2. */
static void check_box(bool asynchronous)
{
	unsigned char from[8 * 4 * 3];
	unsigned char to[16 * 2 * 2];
	CUDA_MEMCPY3D box = {
		.srcXInBytes = 1,
		.srcY = 1,
		.srcZ = 1,
		.srcMemoryType = CU_MEMORYTYPE_HOST,
		.srcHost = from,
		.srcPitch = 8,
		.srcHeight = 4,
		.dstXInBytes = 2,
		.dstMemoryType = CU_MEMORYTYPE_DEVICE,
		.dstPitch = 16,
		.dstHeight = 2,
		.WidthInBytes = 3,
		.Height = 2,
		.Depth = 2,
	};

	for (unsigned int i = 0; i < sizeof(from); i++)
		from[i] = (unsigned char)i;
	OK(cuMemAlloc(&box.dstDevice, sizeof(to)));
	OK(cuMemsetD8(box.dstDevice, 0xee, sizeof(to)));
	OK(asynchronous ? cuMemcpy3DAsync(&box, NULL) : cuMemcpy3D(&box));
	OK(cuMemcpyDtoH(to, box.dstDevice, sizeof(to)));
	for (unsigned int z = 0; z < 2; z++) {
		for (unsigned int y = 0; y < 2; y++) {
			for (unsigned int x = 0; x < 16; x++) {
				bool inside = x >= 2 && x < 5;
				unsigned int source = ((z + 1) * 4 + y + 1) * 8 + x - 1;

				CHECK(to[(z * 2 + y) * 16 + x] == (inside ? source : 0xeeu));
			}
		}
	}
	box.dstHeight = 1;
	FAILS(cuMemcpy3D(&box), CUDA_ERROR_INVALID_VALUE);
	box.dstHeight = 2;
	box.dstMemoryType = CU_MEMORYTYPE_ARRAY;
	FAILS(cuMemcpy3D(&box), CUDA_ERROR_NOT_SUPPORTED);
	OK(cuMemFree(box.dstDevice));
}

int main(void)
{
	CUcontext context;
	CUdevice device;

	OK(cuInit(0));
	OK(cuDeviceGet(&device, 0));
	OK(cuDevicePrimaryCtxRetain(&context, device));
	OK(cuCtxSetCurrent(context));
	check_peers(device, context);
	check_streams(context);
	check_host_function();
	check_module();
	check_box(false);
	check_box(true);
	OK(cuDevicePrimaryCtxRelease(device));
	return report();
}
