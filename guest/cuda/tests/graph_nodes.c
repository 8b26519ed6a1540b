// SPDX-License-Identifier: MIT
/*
 * Graphs that a program builds node by node: their structure, what they compute, and
 * changes of single nodes of executable graphs. Exit status 0: all passed.
 */
#include <stdbool.h>
#include <string.h>

#include "expect.h"

#define COUNT 64u

/* x[i] = x[i] * factor + term, by one block */
static const char step_ptx[] =
	".version 6.0\n"
	".target sm_50\n"
	".address_size 64\n"
	".visible .entry step(.param .u64 x, .param .u32 factor, .param .u32 term)\n"
	"{\n"
	"	.reg .b32 %r<5>; .reg .b64 %d<4>;\n"
	"	ld.param.u64 %d1, [x]; ld.param.u32 %r1, [factor]; ld.param.u32 %r2, [term];\n"
	"	mov.u32 %r3, %tid.x;\n"
	"	mul.wide.u32 %d2, %r3, 4;\n"
	"	add.s64 %d3, %d1, %d2;\n"
	"	ld.global.u32 %r4, [%d3];\n"
	"	mad.lo.u32 %r4, %r4, %r1, %r2;\n"
	"	st.global.u32 [%d3], %r4;\n"
	"	ret;\n"
	"}\n";

static CUcontext context;
static CUfunction step;
static CUstream stream;
static CUdeviceptr x, y;

static bool is(CUdeviceptr buffer, unsigned int wanted)
{
	unsigned int values[COUNT];

	OK(cuStreamSynchronize(stream));
	OK(cuMemcpyDtoH(values, buffer, sizeof(values)));
	for (size_t i = 0; i < COUNT; i++)
		if (values[i] != wanted)
			return false;
	return true;
}

static void run(CUgraphExec exec)
{
	OK(cuGraphLaunch(exec, stream));
}

static CUDA_MEMSET_NODE_PARAMS fill_of(CUdeviceptr buffer, unsigned int value)
{
	return (CUDA_MEMSET_NODE_PARAMS){
		.dst = buffer, .value = value, .elementSize = 4, .width = COUNT, .height = 1
	};
}

static CUDA_MEMCPY3D copy_of(CUdeviceptr to, CUdeviceptr from)
{
	return (CUDA_MEMCPY3D){ .srcMemoryType = CU_MEMORYTYPE_DEVICE,
				.srcDevice = from,
				.dstMemoryType = CU_MEMORYTYPE_DEVICE,
				.dstDevice = to,
				.WidthInBytes = COUNT * 4,
				.Height = 1,
				.Depth = 1 };
}

struct step_arguments {
	CUdeviceptr x;
	unsigned int factor, term;
	void *pointers[3];
};

static CUDA_KERNEL_NODE_PARAMS kernel_of(struct step_arguments *arguments)
{
	arguments->pointers[0] = &arguments->x;
	arguments->pointers[1] = &arguments->factor;
	arguments->pointers[2] = &arguments->term;
	return (CUDA_KERNEL_NODE_PARAMS){ .func = step,
					  .gridDimX = 1,
					  .gridDimY = 1,
					  .gridDimZ = 1,
					  .blockDimX = COUNT,
					  .blockDimY = 1,
					  .blockDimZ = 1,
					  .kernelParams = arguments->pointers };
}

/* x = 3; x = x * 2 + 1; y = x */
static CUgraph build(CUgraphNode nodes[3])
{
	struct step_arguments arguments = { .x = x, .factor = 2, .term = 1 };
	CUDA_KERNEL_NODE_PARAMS kernel = kernel_of(&arguments);
	CUDA_MEMSET_NODE_PARAMS fill = fill_of(x, 3);
	CUDA_MEMCPY3D copy = copy_of(y, x);
	CUgraph graph;

	OK(cuGraphCreate(&graph, 0));
	OK(cuGraphAddMemsetNode(&nodes[0], graph, NULL, 0, &fill, context));
	OK(cuGraphAddKernelNode(&nodes[1], graph, &nodes[0], 1, &kernel));
	arguments = (struct step_arguments){ 0 }; /* they were copied */
	OK(cuGraphAddMemcpyNode(&nodes[2], graph, &nodes[1], 1, &copy, context));
	return graph;
}

static void check_structure(void)
{
	CUgraphNode nodes[3], from[4], to[4], found[4];
	size_t count = 4;
	CUgraph graph = build(nodes);
	CUgraph clone;
	CUgraphNode node;

	OK(cuGraphGetRootNodes(graph, found, &count));
	CHECK(count == 1 && found[0] == nodes[0] && !found[1]);
	count = 4;
	OK(cuGraphGetEdges(graph, from, to, NULL, &count));
	CHECK(count == 2 && from[0] == nodes[0] && to[0] == nodes[1] && to[1] == nodes[2]);
	count = 4;
	OK(cuGraphNodeGetDependencies(nodes[2], found, NULL, &count));
	CHECK(count == 1 && found[0] == nodes[1]);
	FAILS(cuGraphAddDependencies(graph, &nodes[0], &nodes[1], NULL, 1),
	      CUDA_ERROR_INVALID_VALUE);
	OK(cuGraphAddDependencies(graph, &nodes[0], &nodes[2], NULL, 1));
	OK(cuGraphRemoveDependencies(graph, &nodes[0], &nodes[2], NULL, 1));
	FAILS(cuGraphRemoveDependencies(graph, &nodes[0], &nodes[2], NULL, 1),
	      CUDA_ERROR_INVALID_VALUE);
	FAILS(cuGraphAddEmptyNode(&node, graph, nodes, 1 + SIZE_MAX / sizeof(node)),
	      CUDA_ERROR_INVALID_VALUE);

	OK(cuGraphClone(&clone, graph));
	OK(cuGraphNodeFindInClone(&node, nodes[1], clone));
	CHECK(node != nodes[1]);
	OK(cuGraphDestroyNode(nodes[1]));
	count = 0;
	OK(cuGraphGetEdges(graph, NULL, NULL, NULL, &count));
	CHECK(count == 0);
	OK(cuGraphGetEdges(clone, NULL, NULL, NULL, &count));
	CHECK(count == 2);
	OK(cuGraphDestroy(graph));
	OK(cuGraphDestroy(clone));
	FAILS(cuGraphDestroy(clone), CUDA_ERROR_INVALID_VALUE);
}

static void check_cycle(void)
{
	CUgraphNode nodes[3];
	CUgraph graph = build(nodes);
	CUgraphExec exec;

	OK(cuGraphAddDependencies(graph, &nodes[2], &nodes[0], NULL, 1));
	FAILS(cuGraphInstantiate(&exec, graph, 0), CUDA_ERROR_INVALID_VALUE);
	OK(cuGraphDestroy(graph));
}

static void check_contents(void)
{
	CUDA_KERNEL_NODE_PARAMS kernel;
	CUDA_MEMSET_NODE_PARAMS fill;
	CUDA_MEMCPY3D copy;
	CUgraphNode nodes[3];
	CUgraph graph = build(nodes);
	CUgraphExec exec;

	OK(cuGraphKernelNodeGetParams(nodes[1], &kernel));
	CHECK(kernel.func == step && kernel.blockDimX == COUNT && kernel.gridDimZ == 1);
	CHECK(*(CUdeviceptr *)kernel.kernelParams[0] == x);
	CHECK(*(unsigned int *)kernel.kernelParams[1] == 2);
	OK(cuGraphMemsetNodeGetParams(nodes[0], &fill));
	CHECK(fill.dst == x && fill.value == 3 && fill.width == COUNT);
	OK(cuGraphMemcpyNodeGetParams(nodes[2], &copy));
	CHECK(copy.dstDevice == y && copy.srcDevice == x && copy.WidthInBytes == COUNT * 4);
	FAILS(cuGraphMemsetNodeGetParams(nodes[1], &fill), CUDA_ERROR_INVALID_VALUE);

	/* What was read can be changed and written back. */
	*(unsigned int *)kernel.kernelParams[2] = 30;
	OK(cuGraphKernelNodeSetParams(nodes[1], &kernel));
	fill.value = 4;
	OK(cuGraphMemsetNodeSetParams(nodes[0], &fill));
	OK(cuGraphInstantiate(&exec, graph, 0));
	run(exec);
	CHECK(is(y, 4 * 2 + 30));
	OK(cuGraphExecDestroy(exec));
	kernel.blockDimX = 4096;
	FAILS(cuGraphKernelNodeSetParams(nodes[1], &kernel), CUDA_ERROR_INVALID_VALUE);
	OK(cuGraphDestroy(graph));
}

static void check_executable_nodes(void)
{
	struct step_arguments arguments = { .x = x, .factor = 5, .term = 0 };
	CUDA_KERNEL_NODE_PARAMS kernel = kernel_of(&arguments);
	CUDA_MEMSET_NODE_PARAMS fill = fill_of(x, 7);
	unsigned int enabled = 7;
	CUgraphNode nodes[3];
	CUgraph graph = build(nodes);
	CUgraphExec exec;

	OK(cuGraphInstantiate(&exec, graph, 0));
	run(exec);
	CHECK(is(y, 3 * 2 + 1));
	OK(cuGraphExecKernelNodeSetParams(exec, nodes[1], &kernel));
	OK(cuGraphExecMemsetNodeSetParams(exec, nodes[0], &fill, context));
	run(exec);
	CHECK(is(y, 7 * 5));
	for (unsigned int i = 0; i < 20; i++) { /* changed before every launch */
		arguments.term = i;
		OK(cuGraphExecKernelNodeSetParams(exec, nodes[1], &kernel));
		run(exec);
		CHECK(is(y, 7 * 5 + i));
	}
	OK(cuGraphNodeSetEnabled(exec, nodes[1], 0));
	OK(cuGraphNodeGetEnabled(exec, nodes[1], &enabled));
	CHECK(!enabled);
	run(exec);
	CHECK(is(y, 7));
	OK(cuGraphNodeSetEnabled(exec, nodes[1], 1));
	run(exec);
	CHECK(is(y, 7 * 5 + 19));
	FAILS(cuGraphExecMemsetNodeSetParams(exec, nodes[1], &fill, context),
	      CUDA_ERROR_INVALID_VALUE);
	OK(cuGraphExecDestroy(exec));
	FAILS(cuGraphExecDestroy(exec), CUDA_ERROR_INVALID_VALUE);
	OK(cuGraphDestroy(graph));
}

/* y = 1, then the graph of build() within another one, twice, then y = y * 10 + 4. */
static void check_child_graphs(void)
{
	struct step_arguments arguments = { .x = y, .factor = 10, .term = 4 };
	CUDA_KERNEL_NODE_PARAMS kernel = kernel_of(&arguments);
	CUDA_MEMSET_NODE_PARAMS fill = fill_of(y, 1);
	CUgraphNode nodes[3], outer[4];
	CUgraph child = build(nodes);
	CUgraph graph, inner;
	CUgraphExec exec;
	size_t count = 0;

	OK(cuGraphCreate(&graph, 0));
	OK(cuGraphAddMemsetNode(&outer[0], graph, NULL, 0, &fill, context));
	OK(cuGraphAddChildGraphNode(&outer[1], graph, &outer[0], 1, child));
	OK(cuGraphAddChildGraphNode(&outer[2], graph, &outer[1], 1, child));
	OK(cuGraphAddKernelNode(&outer[3], graph, &outer[2], 1, &kernel));
	OK(cuGraphDestroy(child));
	OK(cuGraphChildGraphNodeGetGraph(outer[2], &inner));
	OK(cuGraphGetNodes(inner, NULL, &count));
	CHECK(count == 3);
	OK(cuGraphInstantiate(&exec, graph, 0));
	run(exec);
	CHECK(is(y, (3 * 2 + 1) * 10 + 4));
	OK(cuGraphExecDestroy(exec));

	/* A launch of a graph that is captured becomes such a node too. */
	OK(cuGraphInstantiate(&exec, inner, 0));
	OK(cuGraphDestroy(graph));
	OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
	run(exec);
	OK(cuMemsetD32Async(x, 99, COUNT, stream));
	OK(cuStreamEndCapture(stream, &graph));
	OK(cuGraphExecDestroy(exec));
	OK(cuGraphInstantiate(&exec, graph, 0));
	run(exec);
	CHECK(is(y, 3 * 2 + 1) && is(x, 99));
	OK(cuGraphExecDestroy(exec));
	OK(cuGraphDestroy(graph));
}

static void check_generic_nodes(void)
{
	struct step_arguments arguments = { .x = x, .factor = 1, .term = 8 };
	CUDA_KERNEL_NODE_PARAMS kernel = kernel_of(&arguments);
	CUgraphNodeParams parameters = { .type = CU_GRAPH_NODE_TYPE_MEMSET };
	CUDA_MEMSET_NODE_PARAMS fill = fill_of(x, 2);
	CUgraphNode nodes[3];
	CUgraphExec exec;
	CUgraph graph;

	OK(cuGraphCreate(&graph, 0));
	memcpy(&parameters.memset, &fill, sizeof(fill));
	OK(cuGraphAddNode(&nodes[0], graph, NULL, NULL, 0, &parameters));
	parameters = (CUgraphNodeParams){ .type = CU_GRAPH_NODE_TYPE_KERNEL };
	memcpy(&parameters.kernel, &kernel, sizeof(kernel));
	OK(cuGraphAddNode(&nodes[1], graph, &nodes[0], NULL, 1, &parameters));
	parameters = (CUgraphNodeParams){ .type = CU_GRAPH_NODE_TYPE_CONDITIONAL };
	FAILS(cuGraphAddNode(&nodes[2], graph, &nodes[0], NULL, 1, &parameters),
	      CUDA_ERROR_NOT_SUPPORTED);
	OK(cuGraphInstantiate(&exec, graph, 0));
	run(exec);
	CHECK(is(x, 10));
#if CUDA_VERSION >= 13020 /* older headers and drivers have no such function */
	OK(cuGraphNodeGetParams(nodes[1], &parameters));
	CHECK(parameters.type == CU_GRAPH_NODE_TYPE_KERNEL && parameters.kernel.func == step);
#endif
	OK(cuGraphExecDestroy(exec));
	OK(cuGraphDestroy(graph));
}

/* Copies of slices, with pitches, from host memory and back. */
static void check_rectangles(void)
{
	CUDA_MEMCPY3D in = { .srcMemoryType = CU_MEMORYTYPE_HOST,
			     .srcPitch = 16,
			     .srcHeight = 2,
			     .dstMemoryType = CU_MEMORYTYPE_DEVICE,
			     .dstDevice = x,
			     .dstPitch = 8,
			     .dstHeight = 4,
			     .dstY = 1,
			     .WidthInBytes = 8,
			     .Height = 2,
			     .Depth = 3 };
	unsigned char got[96];
	CUgraphNode node;
	CUgraphExec exec;
	unsigned char *host;
	CUgraph graph;

	OK(cuMemHostAlloc((void **)&host, 96, 0));
	for (unsigned int i = 0; i < 96; i++)
		host[i] = (unsigned char)i;
	in.srcHost = host;
	OK(cuMemsetD8(x, 0xff, 96));
	OK(cuGraphCreate(&graph, 0));
	OK(cuGraphAddMemcpyNode(&node, graph, NULL, 0, &in, context));
	OK(cuGraphInstantiate(&exec, graph, 0));
	run(exec);
	OK(cuStreamSynchronize(stream));
	OK(cuMemcpyDtoH(got, x, sizeof(got)));
	for (unsigned int z = 0; z < 3; z++)
		for (unsigned int line = 0; line < 4; line++)
			for (unsigned int column = 0; column < 8; column++)
				CHECK(got[z * 32 + line * 8 + column] ==
				      (line == 0 || line == 3 ? 0xff
							      : z * 32 + (line - 1) * 16 + column));
	OK(cuGraphExecDestroy(exec));
	OK(cuGraphDestroy(graph));
	OK(cuMemFreeHost(host));
}

/* Host functions between copies: each sees what the device did before it, and the device what it
 * did.
 */

struct exchange {
	unsigned int *out; /* written by the device */
	unsigned int *in;  /* read by it */
	unsigned int calls;
	unsigned int factor;
};

static void CUDA_CB answer(void *data)
{
	struct exchange *exchange = data;

	exchange->calls++;
	for (size_t i = 0; i < COUNT; i++)
		exchange->in[i] = exchange->out[i] * exchange->factor;
}

static void CUDA_CB count_call(void *data)
{
	(*(unsigned int *)data)++;
}

/* x = 6, out = x, answer(), x = in, x = x + 5, y = x; at the end another function. */
static CUgraph capture_exchange(struct exchange *exchange, unsigned int *ended)
{
	CUdeviceptr pointer = x;
	unsigned int factor = 1;
	unsigned int term = 5;
	void *arguments[] = { &pointer, &factor, &term };
	CUgraph graph;

	OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
	OK(cuMemsetD32Async(x, 6, COUNT, stream));
	OK(cuMemcpyDtoHAsync(exchange->out, x, COUNT * 4, stream));
	OK(cuLaunchHostFunc(stream, answer, exchange));
	OK(cuMemcpyHtoDAsync(x, exchange->in, COUNT * 4, stream));
	OK(cuLaunchKernel(step, 1, 1, 1, COUNT, 1, 1, 0, stream, arguments, NULL));
	OK(cuMemcpyDtoDAsync(y, x, COUNT * 4, stream));
	OK(cuLaunchHostFunc(stream, count_call, ended));
	OK(cuStreamEndCapture(stream, &graph));
	return graph;
}

static void check_host_functions(void)
{
	CUDA_HOST_NODE_PARAMS parameters;
	struct exchange exchange = { .factor = 3 };
	struct exchange changed;
	unsigned int ended = 0;
	CUgraphNode nodes[8];
	CUgraphNodeType type;
	size_t count = 8;
	CUgraphExec exec;
	CUstream other;
	CUgraph graph;

	OK(cuMemHostAlloc((void **)&exchange.out, COUNT * 4, 0));
	OK(cuMemHostAlloc((void **)&exchange.in, COUNT * 4, 0));
	OK(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
	graph = capture_exchange(&exchange, &ended);
	OK(cuGraphGetNodes(graph, nodes, &count));
	CHECK(count == 7);
	OK(cuGraphNodeGetType(nodes[2], &type));
	CHECK(type == CU_GRAPH_NODE_TYPE_HOST);
	OK(cuGraphHostNodeGetParams(nodes[2], &parameters));
	CHECK(parameters.fn == answer && parameters.userData == &exchange);
	OK(cuGraphInstantiate(&exec, graph, 0));
	CHECK(exchange.calls == 0);
	for (unsigned int i = 0; i < 20; i++)
		run(exec);
	CHECK(is(y, 6 * 3 + 5));
	CHECK(exchange.calls == 20 && ended == 20);
	for (unsigned int i = 0; i < 10; i++) /* a launch follows the one before it */
		OK(cuGraphLaunch(exec, i % 2 ? stream : other));
	OK(cuStreamSynchronize(other));
	CHECK(is(y, 6 * 3 + 5));
	CHECK(exchange.calls == 30 && ended == 30);

	changed = exchange;
	changed.factor = 10;
	parameters.userData = &changed;
	OK(cuGraphExecHostNodeSetParams(exec, nodes[2], &parameters));
	run(exec);
	CHECK(is(y, 6 * 10 + 5));
	CHECK(exchange.calls == 30 && changed.calls == 31);
	OK(cuGraphExecDestroy(exec));
	OK(cuGraphDestroy(graph));
	OK(cuStreamDestroy(other));
	OK(cuMemFreeHost(exchange.out));
	OK(cuMemFreeHost(exchange.in));
}

/* Memory that CUDA knows nothing of: read and written at each launch. */
static void check_pageable_memory(void)
{
	static unsigned int in[COUNT], out[COUNT], rows[4][8];
	CUDA_MEMCPY2D rectangle = { .srcMemoryType = CU_MEMORYTYPE_DEVICE,
				    .srcDevice = y,
				    .dstMemoryType = CU_MEMORYTYPE_HOST,
				    .dstHost = rows,
				    .dstPitch = sizeof(rows[0]),
				    .dstXInBytes = 4,
				    .WidthInBytes = 8,
				    .Height = 4 };
	unsigned int factor = 2;
	unsigned int term = 1;
	CUdeviceptr pointer = x;
	void *arguments[] = { &pointer, &factor, &term };
	CUgraphExec exec;
	CUgraph graph;

	OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
	OK(cuMemcpyHtoDAsync(x, in, sizeof(in), stream));
	OK(cuLaunchKernel(step, 1, 1, 1, COUNT, 1, 1, 0, stream, arguments, NULL));
	OK(cuMemcpyDtoDAsync(y, x, sizeof(in), stream));
	OK(cuMemcpyDtoHAsync(out, y, sizeof(out), stream));
	OK(cuMemcpy2DAsync(&rectangle, stream));
	OK(cuStreamEndCapture(stream, &graph));
	OK(cuGraphInstantiate(&exec, graph, 0));
	for (unsigned int i = 0; i < 20; i++) {
		for (unsigned int k = 0; k < COUNT; k++)
			in[k] = i + k;
		memset(out, 0, sizeof(out));
		memset(rows, 0xee, sizeof(rows));
		run(exec);
		OK(cuStreamSynchronize(stream));
		CHECK(out[0] == i * 2 + 1 && out[COUNT - 1] == (i + COUNT - 1) * 2 + 1);
		for (unsigned int k = 0; k < 4; k++) {
			CHECK(rows[k][1] == out[2 * k] && rows[k][2] == out[2 * k + 1]);
			CHECK(rows[k][0] == 0xeeeeeeee && rows[k][3] == 0xeeeeeeee);
		}
	}
	OK(cuGraphExecDestroy(exec));
	OK(cuGraphDestroy(graph));
}

/* The destructor runs once, when neither the program nor a graph holds the object. */
static void check_user_objects(void)
{
	unsigned int destroyed = 0;
	CUgraphNode nodes[3];
	CUgraph graph = build(nodes);
	CUuserObject object;
	CUgraphExec exec;
	CUgraph clone;

	FAILS(cuUserObjectCreate(&object, &destroyed, count_call, 1, 0), CUDA_ERROR_INVALID_VALUE);
	OK(cuUserObjectCreate(&object, &destroyed, count_call, 1,
			      CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
	OK(cuGraphRetainUserObject(graph, object, 2, 0));
	OK(cuUserObjectRelease(object, 1));
	OK(cuGraphReleaseUserObject(graph, object, 1));
	OK(cuGraphClone(&clone, graph));
	OK(cuGraphInstantiate(&exec, graph, 0));
	OK(cuGraphDestroy(graph));
	OK(cuGraphDestroy(clone));
	run(exec);
	CHECK(destroyed == 0);
	CHECK(is(y, 3 * 2 + 1));
	OK(cuGraphExecDestroy(exec));
	OK(cuStreamSynchronize(stream));
	for (unsigned int i = 0; i < 1000 && !*(volatile unsigned int *)&destroyed; i++)
		OK(cuCtxSynchronize()); /* natively another thread calls it, soon */
	CHECK(destroyed == 1);
	OK(cuUserObjectCreate(&object, &destroyed, count_call, 1,
			      CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
	OK(cuGraphCreate(&graph, 0));
	OK(cuGraphRetainUserObject(graph, object, 1, CU_GRAPH_USER_OBJECT_MOVE));
	OK(cuGraphDestroy(graph));
	for (unsigned int i = 0; i < 1000 && *(volatile unsigned int *)&destroyed < 2; i++)
		OK(cuCtxSynchronize());
	CHECK(destroyed == 2);
}

/* Freed memory of a graph is refused, not copied. */
static void check_freed_host_memory(void)
{
	CUDA_MEMCPY3D in = copy_of(x, 0);
	CUgraphNode node;
	CUgraphExec exec;
	CUgraph graph;
	void *host;

	OK(cuMemHostAlloc(&host, COUNT * 4, 0));
	in.srcMemoryType = CU_MEMORYTYPE_HOST;
	in.srcHost = host;
	OK(cuGraphCreate(&graph, 0));
	OK(cuGraphAddMemcpyNode(&node, graph, NULL, 0, &in, context));
	OK(cuGraphInstantiate(&exec, graph, 0));
	OK(cuMemFreeHost(host));
	run(exec);
	FAILS(cuStreamSynchronize(stream), CUDA_ERROR_INVALID_VALUE);
	OK(cuStreamSynchronize(stream));
	OK(cuGraphExecDestroy(exec));
	OK(cuGraphDestroy(graph));
}

int main(int count, char **arguments)
{
	CUmodule module;
	CUdevice device;

	OK(cuInit(0));
	OK(cuDeviceGet(&device, 0));
	OK(cuDevicePrimaryCtxRetain(&context, device));
	OK(cuCtxSetCurrent(context));
	OK(cuModuleLoadData(&module, step_ptx));
	OK(cuModuleGetFunction(&step, module, "step"));
	OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	OK(cuMemAlloc(&x, COUNT * 4));
	OK(cuMemAlloc(&y, COUNT * 4));
	check_structure();
	check_cycle();
	check_contents();
	check_executable_nodes();
	check_child_graphs();
	check_generic_nodes();
	check_rectangles();
	check_host_functions();
	check_pageable_memory();
	check_user_objects();
	/* Natively this is undefined. */
	if (count < 2 || strcmp(arguments[1], "native"))
		check_freed_host_memory();
	OK(cuDevicePrimaryCtxRelease(device));
	return report();
}
