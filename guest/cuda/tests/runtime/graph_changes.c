// SPDX-License-Identifier: MIT
/* Graphs that are changed after they were instantiated; host functions; variables. */
#include <stdatomic.h>
#include <unistd.h>

#include "program.h"

#define COUNT 256u

static float *numbers; /* on the device */
static cudaStream_t stream;

static float after_launch(cudaGraphExec_t instance)
{
	float words[COUNT];

	for (unsigned int i = 0; i < COUNT; i++)
		words[i] = 1;
	OK(cudaMemcpy(numbers, words, sizeof(words), cudaMemcpyHostToDevice));
	OK(cudaGraphLaunch(instance, stream));
	OK(cudaStreamSynchronize(stream));
	OK(cudaMemcpy(words, numbers, sizeof(words), cudaMemcpyDeviceToHost));
	CHECK(words[0] == words[COUNT - 1]);
	return words[0];
}

struct kernel { /* a launch of `scale` */
	float factor;
	unsigned int count;
	void *arguments[3];
	struct cudaKernelNodeParams parameters;
};

static struct cudaKernelNodeParams *scale_by(struct kernel *kernel, float factor)
{
	*kernel = (struct kernel){
		.factor = factor,
		.count = COUNT,
		.arguments = { &numbers, &kernel->factor, &kernel->count },
		.parameters = {
			.func = (void *)scale_kernel,
			.gridDim = { 2, 1, 1 },
			.blockDim = { 128, 1, 1 },
			.kernelParams = kernel->arguments,
		},
	};
	return &kernel->parameters;
}

static void note(void *data)
{
	atomic_fetch_add((atomic_int *)data, 1);
}

static void check_kernels_and_hosts(void)
{
	struct kernel kernel;
	atomic_int notes = 0;
	atomic_int others = 0;
	struct cudaHostNodeParams host = { note, &notes };
	struct cudaHostNodeParams found = { 0 };
	unsigned int enabled = 7;
	cudaGraphExec_t instance;
	cudaGraph_t graph;
	cudaGraphNode_t scale;
	cudaGraphNode_t call;

	OK(cudaGraphCreate(&graph, 0));
	OK(cudaGraphAddKernelNode(&scale, graph, NULL, 0, scale_by(&kernel, 3)));
	OK(cudaGraphAddHostNode(&call, graph, &scale, 1, &host));
	OK(cudaGraphHostNodeGetParams(call, &found));
	CHECK(found.fn == note && found.userData == &notes);
	OK(cudaGraphInstantiate(&instance, graph, 0));
	CHECK(after_launch(instance) == 3 && atomic_load(&notes) == 1);

	OK(cudaGraphExecKernelNodeSetParams(instance, scale, scale_by(&kernel, 4)));
	host.userData = &others;
	OK(cudaGraphExecHostNodeSetParams(instance, call, &host));
	CHECK(after_launch(instance) == 4);
	CHECK(atomic_load(&notes) == 1 && atomic_load(&others) == 1);

	OK(cudaGraphNodeGetEnabled(instance, scale, &enabled));
	CHECK(enabled == 1);
	OK(cudaGraphNodeSetEnabled(instance, scale, 0));
	OK(cudaGraphNodeGetEnabled(instance, scale, &enabled));
	CHECK(enabled == 0 && after_launch(instance) == 1);
	OK(cudaGraphExecDestroy(instance));

	/* The graph itself was not changed by what was done to its instance. */
	OK(cudaGraphHostNodeSetParams(call, &host));
	OK(cudaGraphInstantiate(&instance, graph, 0));
	CHECK(after_launch(instance) == 3 && atomic_load(&others) == 3);
	OK(cudaGraphExecDestroy(instance));
	OK(cudaGraphDestroy(graph));
}

static void check_memory(void)
{
	struct cudaMemsetParams fill = {
		.dst = numbers,
		.value = 0x40000000, /* 2.0 */
		.elementSize = 4,
		.width = COUNT,
		.height = 1,
	};
	const size_t bytes = COUNT * sizeof(float);
	float *from;
	float *to;
	struct cudaMemcpy3DParms box = {
		.srcPtr = { numbers, bytes, bytes, 1 },
		.extent = { bytes, 1, 1 },
		.kind = cudaMemcpyDeviceToHost,
	};
	cudaGraphExec_t instance;
	cudaGraph_t graph;
	cudaGraphNode_t set;
	cudaGraphNode_t copy;

	OK(cudaMallocHost((void **)&from, bytes));
	OK(cudaMallocHost((void **)&to, bytes));
	memset(from, 0, bytes);
	memset(to, 0, bytes);
	OK(cudaGraphCreate(&graph, 0));
	OK(cudaGraphAddMemsetNode(&set, graph, NULL, 0, &fill));
	OK(cudaGraphAddMemcpyNode1D(&copy, graph, &set, 1, from, numbers, bytes,
				    cudaMemcpyDeviceToHost));
	OK(cudaGraphInstantiate(&instance, graph, 0));
	CHECK(after_launch(instance) == 2 && from[COUNT - 1] == 2);
	fill.value = 0x40400000; /* 3.0 */
	OK(cudaGraphExecMemsetNodeSetParams(instance, set, &fill));
	box.dstPtr = (struct cudaPitchedPtr){ to, bytes, bytes, 1 };
	OK(cudaGraphExecMemcpyNodeSetParams(instance, copy, &box));
	CHECK(after_launch(instance) == 3 && to[COUNT - 1] == 3 && from[0] == 2);
	OK(cudaGraphExecMemcpyNodeSetParams1D(instance, copy, from, numbers, bytes,
					      cudaMemcpyDeviceToHost));
	CHECK(after_launch(instance) == 3 && from[COUNT - 1] == 3);
	OK(cudaGraphExecDestroy(instance));
	OK(cudaGraphDestroy(graph));
	OK(cudaFreeHost(from));
	OK(cudaFreeHost(to));
}

static void check_variables(void)
{
	uint32_t *words;
	cudaGraphExec_t instance;
	cudaGraph_t graph;
	cudaGraphNode_t in;
	cudaGraphNode_t out;

	OK(cudaMallocHost((void **)&words, 64));
	memset(words, 0, 64);
	words[0] = 11;
	words[1] = 12;
	OK(cudaGraphCreate(&graph, 0));
	OK(cudaGraphAddMemcpyNodeToSymbol(&in, graph, NULL, 0, table, words, 4, 8,
					  cudaMemcpyHostToDevice));
	OK(cudaGraphAddMemcpyNodeFromSymbol(&out, graph, &in, 1, words + 4, table, 4, 8,
					    cudaMemcpyDeviceToHost));
	FAILS(cudaGraphAddMemcpyNodeToSymbol(&in, graph, NULL, 0, &unknown_variable, words, 4, 0,
					     cudaMemcpyHostToDevice),
	      cudaErrorInvalidSymbol);
	OK(cudaGraphInstantiate(&instance, graph, 0));
	OK(cudaGraphLaunch(instance, stream));
	OK(cudaStreamSynchronize(stream));
	CHECK(words[4] == 11);
	OK(cudaGraphExecMemcpyNodeSetParamsToSymbol(instance, in, table, words + 1, 4, 16,
						    cudaMemcpyHostToDevice));
	OK(cudaGraphExecMemcpyNodeSetParamsFromSymbol(instance, out, words + 5, table, 4, 16,
						      cudaMemcpyDeviceToHost));
	OK(cudaGraphLaunch(instance, stream));
	OK(cudaStreamSynchronize(stream));
	CHECK(words[4] == 11 && words[5] == 12);
	OK(cudaGraphExecDestroy(instance));

	OK(cudaGraphMemcpyNodeSetParamsToSymbol(in, table, words + 1, 4, 24,
						cudaMemcpyHostToDevice));
	OK(cudaGraphMemcpyNodeSetParamsFromSymbol(out, words + 6, table, 4, 24,
						  cudaMemcpyDeviceToHost));
	OK(cudaGraphInstantiate(&instance, graph, 0));
	OK(cudaGraphLaunch(instance, stream));
	OK(cudaStreamSynchronize(stream));
	CHECK(words[6] == 12);
	OK(cudaGraphExecDestroy(instance));
	OK(cudaGraphDestroy(graph));
	OK(cudaFreeHost(words));
}

static void check_children_and_events(void)
{
	char path[] = "/tmp/vgpu_graph_XXXXXX";
	char text[4096] = "";
	struct kernel kernel;
	cudaEvent_t event;
	cudaEvent_t other;
	cudaGraphExec_t instance;
	cudaGraph_t child[2];
	cudaGraph_t graph;
	cudaGraphNode_t inner;
	cudaGraphNode_t record;
	cudaGraphNode_t wait;
	cudaGraphNode_t node;
	float milliseconds = -1;
	int file = mkstemp(path);

	OK(cudaEventCreate(&event));
	OK(cudaEventCreate(&other));
	for (int i = 0; i < 2; i++) {
		OK(cudaGraphCreate(&child[i], 0));
		OK(cudaGraphAddKernelNode(&node, child[i], NULL, 0,
					  scale_by(&kernel, i ? 6.0f : 5.0f)));
	}
	OK(cudaGraphCreate(&graph, 0));
	OK(cudaGraphAddChildGraphNode(&inner, graph, NULL, 0, child[0]));
	OK(cudaGraphAddEventRecordNode(&record, graph, &inner, 1, event));
	OK(cudaGraphAddEventWaitNode(&wait, graph, &record, 1, event));
	OK(cudaGraphInstantiate(&instance, graph, 0));
	CHECK(after_launch(instance) == 5);
	OK(cudaGraphExecChildGraphNodeSetParams(instance, inner, child[1]));
	OK(cudaGraphExecEventRecordNodeSetEvent(instance, record, other));
	OK(cudaGraphExecEventWaitNodeSetEvent(instance, wait, other));
	CHECK(after_launch(instance) == 6);
	OK(cudaEventSynchronize(other));
	OK(cudaEventElapsedTime(&milliseconds, event, other));
	CHECK(milliseconds > 0);

	CHECK(file >= 0);
	OK(cudaGraphDebugDotPrint(graph, path, 0));
	CHECK(read(file, text, sizeof(text) - 1) > 0);
	CHECK(strstr(text, "digraph") && strstr(text, "->"));
	close(file);
	unlink(path);
	OK(cudaGraphExecDestroy(instance));
	OK(cudaGraphDestroy(graph));
	OK(cudaGraphDestroy(child[0]));
	OK(cudaGraphDestroy(child[1]));
	OK(cudaEventDestroy(event));
	OK(cudaEventDestroy(other));
}

/* An object lives while the program or a graph holds it. */
static void check_objects(void)
{
	atomic_int gone = 0;
	cudaUserObject_t object;
	cudaGraph_t graph;

	OK(cudaUserObjectCreate(&object, &gone, note, 1, cudaUserObjectNoDestructorSync));
	OK(cudaUserObjectRetain(object, 2));
	OK(cudaUserObjectRelease(object, 2));
	OK(cudaGraphCreate(&graph, 0));
	OK(cudaGraphRetainUserObject(graph, object, 2, 0));
	OK(cudaGraphReleaseUserObject(graph, object, 1));
	OK(cudaUserObjectRelease(object, 1));
	CHECK(atomic_load(&gone) == 0);
	OK(cudaGraphDestroy(graph));
	for (int i = 0; i < 1000000 && !atomic_load(&gone); i++)
		OK(cudaStreamSynchronize(stream)); /* its destructor runs in a thread of its own */
	CHECK(atomic_load(&gone) == 1);
}

int main(void)
{
	OK(cudaMalloc((void **)&numbers, COUNT * sizeof(float)));
	OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
	check_kernels_and_hosts();
	check_memory();
	check_variables();
	check_children_and_events();
	check_objects();
	OK(cudaStreamDestroy(stream));
	OK(cudaFree(numbers));
	return report();
}
