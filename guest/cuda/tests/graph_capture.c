// SPDX-License-Identifier: MIT
/*
 * Stream capture and graphs against a real device, or natively: kernels, copies and
 * fills over two streams are captured, instantiated, updated and launched many
 * times; every result and every value is checked. Exit status 0: all passed.
 */
#include <stdbool.h>
#include <string.h>

#include "expect.h"

#define COUNT	 1000u
#define LAUNCHES 100u

/* x[i] = x[i] * factor + term */
static const char step_ptx[] =
	".version 6.0\n"
	".target sm_50\n"
	".address_size 64\n"
	".visible .entry step(.param .u64 x, .param .u32 n, .param .u32 factor, .param .u32 term)\n"
	"{\n"
	"	.reg .pred %p; .reg .b32 %r<9>; .reg .b64 %d<4>;\n"
	"	ld.param.u64 %d1, [x]; ld.param.u32 %r1, [n];\n"
	"	ld.param.u32 %r6, [factor]; ld.param.u32 %r7, [term];\n"
	"	mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mov.u32 %r4, %tid.x;\n"
	"	mad.lo.s32 %r5, %r2, %r3, %r4;\n"
	"	setp.ge.u32 %p, %r5, %r1;\n"
	"	@%p bra DONE;\n"
	"	mul.wide.u32 %d2, %r5, 4;\n"
	"	add.s64 %d3, %d1, %d2;\n"
	"	ld.global.u32 %r8, [%d3];\n"
	"	mad.lo.u32 %r8, %r8, %r6, %r7;\n"
	"	st.global.u32 [%d3], %r8;\n"
	"DONE:\n"
	"	ret;\n"
	"}\n";

static CUfunction step;
static CUstream first, second;
static CUevent forked, joined;

static void launch(CUdeviceptr x, unsigned int factor, unsigned int term, CUstream stream)
{
	unsigned int count = COUNT;
	void *parameters[] = { &x, &count, &factor, &term };

	OK(cuLaunchKernel(step, (COUNT + 255) / 256, 1, 1, 256, 1, 1, 0, stream, parameters, NULL));
}

static CUstreamCaptureStatus capture_status(CUstream stream)
{
	CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;

	OK(cuStreamIsCapturing(stream, &status));
	return status;
}

static bool all_are(const unsigned int *values, unsigned int wanted)
{
	for (size_t i = 0; i < COUNT; i++)
		if (values[i] != wanted)
			return false;
	return true;
}

static bool device_is(CUdeviceptr x, unsigned int wanted)
{
	unsigned int values[COUNT];

	OK(cuMemcpyDtoH(values, x, sizeof(values)));
	return all_are(values, wanted);
}

static size_t node_count(CUgraph graph)
{
	size_t count = 0;

	OK(cuGraphGetNodes(graph, NULL, &count));
	return count;
}

/*
 * in -> a, a * 2 + 1; beside it b = 5, b * 3 + term; then a += 7, a -> c, b -> d, and d -> out.
 * Adds `extra` more kernels at the end.
 */
static CUgraph capture_chain(CUdeviceptr a, CUdeviceptr b, CUdeviceptr c, CUdeviceptr d,
			     unsigned int *in, unsigned int *out, unsigned int term,
			     unsigned int extra)
{
	CUgraph graph;

	OK(cuStreamBeginCapture(first, CU_STREAM_CAPTURE_MODE_GLOBAL));
	CHECK(capture_status(first) == CU_STREAM_CAPTURE_STATUS_ACTIVE);
	CHECK(capture_status(second) == CU_STREAM_CAPTURE_STATUS_NONE);
	OK(cuMemcpyHtoDAsync(a, in, COUNT * 4, first));
	OK(cuEventRecord(forked, first));
	OK(cuStreamWaitEvent(second, forked, 0));
	CHECK(capture_status(second) == CU_STREAM_CAPTURE_STATUS_ACTIVE);
	launch(a, 2, 1, first);
	OK(cuMemsetD32Async(b, 5, COUNT, second));
	launch(b, 3, term, second);
	launch(a, 1, 7, first);
	OK(cuMemcpyDtoDAsync(c, a, COUNT * 4, first));
	OK(cuMemcpyDtoDAsync(d, b, COUNT * 4, second));
	OK(cuEventRecord(joined, second));
	OK(cuStreamWaitEvent(first, joined, 0));
	OK(cuMemcpyDtoHAsync(out, d, COUNT * 4, first));
	while (extra--)
		launch(c, 1, 1, first);
	OK(cuStreamEndCapture(first, &graph));
	CHECK(capture_status(first) == CU_STREAM_CAPTURE_STATUS_NONE);
	CHECK(capture_status(second) == CU_STREAM_CAPTURE_STATUS_NONE);
	return graph;
}

static void check_chain(void)
{
	CUgraphExecUpdateResultInfo update;
	CUdeviceptr buffers[4];
	unsigned int *in, *out;
	CUgraphNode nodes[16];
	size_t edges = 0;
	size_t count = 16;
	CUgraph graph, changed, longer;
	CUgraphExec exec;
	CUgraphNodeType type;

	OK(cuMemHostAlloc((void **)&in, COUNT * 4, 0));
	OK(cuMemHostAlloc((void **)&out, COUNT * 4, 0));
	for (size_t i = 0; i < 4; i++)
		OK(cuMemAlloc(&buffers[i], COUNT * 4));
	for (size_t i = 0; i < COUNT; i++)
		in[i] = 10;
	OK(cuMemsetD32(buffers[2], 0, COUNT));
	OK(cuCtxSynchronize());

	graph = capture_chain(buffers[0], buffers[1], buffers[2], buffers[3], in, out, 4, 0);
	CHECK(node_count(graph) == 8);
	OK(cuGraphGetNodes(graph, nodes, &count));
	CHECK(count == 8 && nodes[8] == NULL);
	OK(cuGraphNodeGetType(nodes[0], &type));
	CHECK(type == CU_GRAPH_NODE_TYPE_MEMCPY);
	OK(cuGraphGetEdges(graph, NULL, NULL, NULL, &edges));
	CHECK(edges == 8);
	CHECK(device_is(buffers[2], 0)); /* nothing has run yet */

	OK(cuGraphInstantiateWithFlags(&exec, graph, 0));
	OK(cuGraphUpload(exec, first));
	for (unsigned int i = 0; i < LAUNCHES; i++) {
		in[0] = 10;
		memset(out, 0, COUNT * 4);
		OK(cuGraphLaunch(exec, i % 2 ? first : second));
		OK(cuStreamSynchronize(i % 2 ? first : second));
		CHECK(all_are(out, 5 * 3 + 4));
	}
	CHECK(device_is(buffers[2], 10 * 2 + 1 + 7));

	/* Host memory is read at each launch. */
	for (size_t i = 0; i < COUNT; i++)
		in[i] = 100;
	for (unsigned int i = 0; i < LAUNCHES; i++)
		OK(cuGraphLaunch(exec, first));
	OK(cuStreamSynchronize(first));
	CHECK(device_is(buffers[2], 100 * 2 + 1 + 7));

	/* The same graph with another parameter. */
	changed = capture_chain(buffers[0], buffers[1], buffers[2], buffers[3], in, out, 40, 0);
	OK(cuGraphExecUpdate(exec, changed, &update));
	CHECK(update.result == CU_GRAPH_EXEC_UPDATE_SUCCESS);
	OK(cuGraphDestroy(changed));
	OK(cuGraphLaunch(exec, first));
	OK(cuStreamSynchronize(first));
	CHECK(all_are(out, 5 * 3 + 40));

	/* Another topology: reported, and the old graph stays as it was. */
	longer = capture_chain(buffers[0], buffers[1], buffers[2], buffers[3], in, out, 50, 2);
	CHECK(node_count(longer) == 10);
	FAILS(cuGraphExecUpdate(exec, longer, &update), CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE);
	CHECK(update.result == CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED);
	OK(cuGraphLaunch(exec, first));
	OK(cuStreamSynchronize(first));
	CHECK(all_are(out, 5 * 3 + 40));
	OK(cuGraphExecDestroy(exec));

	/* Graphs may go before what was made of them. */
	OK(cuGraphInstantiateWithFlags(&exec, longer, 0));
	OK(cuGraphDestroy(longer));
	OK(cuGraphDestroy(graph));
	OK(cuGraphLaunch(exec, first));
	OK(cuGraphExecDestroy(exec)); /* while it may still run */
	OK(cuStreamSynchronize(first));
	CHECK(all_are(out, 5 * 3 + 50));
	CHECK(device_is(buffers[2], 100 * 2 + 1 + 7 + 2));
	for (size_t i = 0; i < 4; i++)
		OK(cuMemFree(buffers[i]));
	OK(cuMemFreeHost(in));
	OK(cuMemFreeHost(out));
}

int main(void)
{
	CUcontext context;
	CUmodule module;
	CUdevice device;

	setvbuf(stdout, NULL, _IONBF, 0);
	OK(cuInit(0));
	OK(cuDeviceGet(&device, 0));
	OK(cuDevicePrimaryCtxRetain(&context, device));
	OK(cuCtxSetCurrent(context));
	OK(cuModuleLoadData(&module, step_ptx));
	OK(cuModuleGetFunction(&step, module, "step"));
	OK(cuStreamCreate(&first, CU_STREAM_NON_BLOCKING));
	OK(cuStreamCreate(&second, CU_STREAM_NON_BLOCKING));
	OK(cuEventCreate(&forked, CU_EVENT_DISABLE_TIMING));
	OK(cuEventCreate(&joined, CU_EVENT_DISABLE_TIMING));
	check_chain();
	OK(cuEventDestroy(forked));
	OK(cuEventDestroy(joined));
	OK(cuStreamDestroy(first));
	OK(cuStreamDestroy(second));
	OK(cuModuleUnload(module));
	OK(cuDevicePrimaryCtxRelease(device));
	return report();
}
