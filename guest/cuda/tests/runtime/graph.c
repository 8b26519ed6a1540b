// SPDX-License-Identifier: MIT
/* Captures, graphs built by hand, and what they do when they are launched. */
#include "program.h"

#define COUNT 256u

#if CUDART_VERSION >= 13000
#define EDGES NULL,
#else
#define EDGES
#endif

static float *numbers; /* on the device */
static cudaStream_t stream;

static void fill(float value)
{
	float words[COUNT];

	for (unsigned int i = 0; i < COUNT; i++)
		words[i] = value;
	OK(cudaMemcpy(numbers, words, sizeof(words), cudaMemcpyHostToDevice));
}

static int all_are(float wanted)
{
	float words[COUNT];

	OK(cudaMemcpy(words, numbers, sizeof(words), cudaMemcpyDeviceToHost));
	for (unsigned int i = 0; i < COUNT; i++) {
		if (words[i] != wanted)
			return 0;
	}
	return 1;
}

static cudaGraph_t capture(float factor)
{
	enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
	cudaGraph_t graph;

	OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
	OK(launch_scale(numbers, factor, COUNT, stream));
	OK(launch_scale(numbers, factor, COUNT, stream));
	OK(cudaStreamIsCapturing(stream, &status));
	CHECK(status == cudaStreamCaptureStatusActive);
	OK(cudaStreamEndCapture(stream, &graph));
	OK(cudaStreamIsCapturing(stream, &status));
	CHECK(status == cudaStreamCaptureStatusNone);
	return graph;
}

static void check_capture(void)
{
	cudaGraphExecUpdateResultInfo updated;
	cudaGraphInstantiateParams parameters = { 0 };
	unsigned long long flags = ~0ull;
	cudaGraphExec_t instance;
	cudaGraphExec_t other;
	cudaGraph_t graph;
	size_t count = 0;

	fill(1);
	graph = capture(2);
	OK(cudaGraphGetNodes(graph, NULL, &count));
	CHECK(count == 2 && all_are(1));
	OK(cudaGraphInstantiate(&instance, graph, 0));
	OK(cudaGraphInstantiateWithFlags(&other, graph, 0));
	OK(cudaGraphExecGetFlags(instance, &flags));
	CHECK(flags == 0);
	OK(cudaGraphDestroy(graph));
	OK(cudaGraphUpload(instance, stream));
	OK(cudaGraphLaunch(instance, stream));
	OK(cudaGraphLaunch(other, stream));
	OK(cudaStreamSynchronize(stream));
	CHECK(all_are(16));

	graph = capture(3);
	CHECK(all_are(16));
	OK(cudaGraphExecUpdate(instance, graph, &updated));
	CHECK(updated.result == cudaGraphExecUpdateSuccess);
	OK(cudaGraphLaunch(instance, stream));
	OK(cudaStreamSynchronize(stream));
	CHECK(all_are(144));
	OK(cudaGraphExecDestroy(other));
	OK(cudaGraphInstantiateWithParams(&other, graph, &parameters));
	CHECK(parameters.result_out == cudaGraphInstantiateSuccess);
	OK(cudaGraphLaunch(other, stream));
	OK(cudaStreamSynchronize(stream));
	CHECK(all_are(1296));
	OK(cudaGraphExecDestroy(other));
	OK(cudaGraphExecDestroy(instance));
	OK(cudaGraphDestroy(graph));
}

static void check_capture_information(void)
{
	enum cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
	enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
	unsigned long long id = 0;
	const cudaGraphNode_t *dependencies = NULL;
	cudaGraph_t capturing = NULL;
	cudaGraph_t graph;
	cudaGraphNode_t node;
	cudaGraphNode_t last;
	size_t count = 0;

	OK(cudaThreadExchangeStreamCaptureMode(&mode));
	CHECK(mode == cudaStreamCaptureModeGlobal);
	OK(cudaThreadExchangeStreamCaptureMode(&mode));
	CHECK(mode == cudaStreamCaptureModeRelaxed);

	OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
	OK(launch_scale(numbers, 2, COUNT, stream));
#if CUDART_VERSION >= 13000
	OK(cudaStreamGetCaptureInfo(stream, &status, &id, &capturing, &dependencies, NULL, &count));
#else
	OK(cudaStreamGetCaptureInfo(stream, &status, &id, &capturing, &dependencies, &count));
#endif
	CHECK(status == cudaStreamCaptureStatusActive && id && capturing && count == 1);
	last = dependencies[0];
	OK(cudaGraphAddEmptyNode(&node, capturing, &last, 1));
#if CUDART_VERSION >= 13000
	OK(cudaStreamUpdateCaptureDependencies(stream, &node, NULL, 1,
					       cudaStreamSetCaptureDependencies));
#else
	OK(cudaStreamUpdateCaptureDependencies(stream, &node, 1, cudaStreamSetCaptureDependencies));
#endif
	OK(launch_scale(numbers, 2, COUNT, stream));
	OK(cudaStreamEndCapture(stream, &graph));
	CHECK(graph == capturing);
	OK(cudaGraphGetNodes(graph, NULL, &count));
	CHECK(count == 3);
	OK(cudaGraphGetEdges(graph, NULL, NULL, EDGES & count));
	CHECK(count == 2);
	OK(cudaGraphDestroy(graph));

	/* Into a graph that is there already. */
	OK(cudaGraphCreate(&graph, 0));
	OK(cudaGraphAddEmptyNode(&node, graph, NULL, 0));
	OK(cudaStreamBeginCaptureToGraph(stream, graph, &node, NULL, 1,
					 cudaStreamCaptureModeThreadLocal));
	OK(launch_scale(numbers, 2, COUNT, stream));
	OK(cudaStreamEndCapture(stream, &capturing));
	CHECK(capturing == graph);
	OK(cudaGraphGetEdges(graph, NULL, NULL, EDGES & count));
	CHECK(count == 1);
	OK(cudaGraphDestroy(graph));
}

#if CUDART_VERSION < 13000
/* Names of CUDA 12 that CUDA 13 has no more. */
#undef cudaStreamGetCaptureInfo
#ifdef CUDA_API_PER_THREAD_DEFAULT_STREAM
#define cudaStreamGetCaptureInfo cudaStreamGetCaptureInfo_ptsz
#endif
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, enum cudaStreamCaptureStatus *status,
				     unsigned long long *id);

static void check_older_forms(void)
{
	enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
	unsigned long long id[2] = { 0, 0 };
	const cudaGraphNode_t *dependencies = NULL;
	const cudaGraphEdgeData *edges = NULL;
	cudaGraph_t graph = NULL;
	cudaGraphNode_t nodes[2];
	cudaGraphNode_t found[2];
	size_t count = 0;

	OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
	OK(launch_scale(numbers, 2, COUNT, stream));
	OK(cudaStreamGetCaptureInfo(stream, &status, &id[0]));
	CHECK(status == cudaStreamCaptureStatusActive);
	OK(cudaStreamGetCaptureInfo_v3(stream, &status, &id[1], &graph, &dependencies, &edges,
				       &count));
	CHECK(id[0] == id[1] && graph && count == 1);
	OK(cudaStreamUpdateCaptureDependencies_v2(stream, NULL, NULL, 0,
						  cudaStreamSetCaptureDependencies));
	OK(launch_scale(numbers, 2, COUNT, stream));
	OK(cudaStreamEndCapture(stream, &graph));
	OK(cudaGraphGetRootNodes(graph, NULL, &count));
	CHECK(count == 2);
	count = 2;
	OK(cudaGraphGetNodes(graph, nodes, &count));
	OK(cudaGraphAddDependencies_v2(graph, &nodes[0], &nodes[1], NULL, 1));
	count = 2;
	OK(cudaGraphNodeGetDependencies_v2(nodes[1], found, NULL, &count));
	CHECK(count == 1 && found[0] == nodes[0]);
	count = 2;
	OK(cudaGraphNodeGetDependentNodes_v2(nodes[0], found, NULL, &count));
	CHECK(count == 1 && found[0] == nodes[1]);
	OK(cudaGraphGetEdges_v2(graph, NULL, NULL, NULL, &count));
	CHECK(count == 1);
	OK(cudaGraphRemoveDependencies_v2(graph, &nodes[0], &nodes[1], NULL, 1));
	OK(cudaGraphGetEdges_v2(graph, NULL, NULL, NULL, &count));
	CHECK(count == 0);
	OK(cudaGraphDestroy(graph));
}
#endif

static cudaGraphNode_t kernel_node(cudaGraph_t graph, const cudaGraphNode_t *after, float factor)
{
	unsigned int count = COUNT;
	void *arguments[] = { &numbers, &factor, &count };
	struct cudaKernelNodeParams parameters = {
		.func = (void *)scale_kernel,
		.gridDim = { 2, 1, 1 },
		.blockDim = { 128, 1, 1 },
		.kernelParams = arguments,
	};
	cudaGraphNode_t node;

	OK(cudaGraphAddKernelNode(&node, graph, after, after ? 1 : 0, &parameters));
	return node;
}

static void run(cudaGraph_t graph)
{
	cudaGraphExec_t instance;

	OK(cudaGraphInstantiate(&instance, graph, 0));
	OK(cudaGraphLaunch(instance, stream));
	OK(cudaStreamSynchronize(stream));
	OK(cudaGraphExecDestroy(instance));
}

static void check_kernel_nodes(void)
{
	struct cudaKernelNodeParams parameters;
	enum cudaGraphNodeType type = cudaGraphNodeTypeCount;
	float factor = 5;
	unsigned int count = COUNT;
	void *arguments[] = { &numbers, &factor, &count };
	cudaGraph_t graph;
	cudaGraph_t clone;
	cudaGraphNode_t first;
	cudaGraphNode_t second;
	cudaGraphNode_t found[2];
	size_t length;

	OK(cudaGraphCreate(&graph, 0));
	first = kernel_node(graph, NULL, 2);
	second = kernel_node(graph, &first, 3);
	OK(cudaGraphNodeGetType(first, &type));
	CHECK(type == cudaGraphNodeTypeKernel);
	fill(1);
	run(graph);
	CHECK(all_are(6));

	OK(cudaGraphKernelNodeGetParams(second, &parameters));
	CHECK(parameters.func == (void *)scale_kernel && parameters.gridDim.x == 2);
	CHECK(parameters.blockDim.x == 128 && *(float *)parameters.kernelParams[1] == 3);
	parameters.kernelParams = arguments;
	OK(cudaGraphKernelNodeSetParams(second, &parameters));
	run(graph);
	CHECK(all_are(60));

	length = 2;
	OK(cudaGraphNodeGetDependencies(second, found, EDGES & length));
	CHECK(length == 1 && found[0] == first);
	length = 2;
	OK(cudaGraphNodeGetDependentNodes(first, found, EDGES & length));
	CHECK(length == 1 && found[0] == second);
	OK(cudaGraphRemoveDependencies(graph, &first, &second, EDGES 1));
	length = 2;
	OK(cudaGraphGetRootNodes(graph, found, &length));
	CHECK(length == 2);
	OK(cudaGraphAddDependencies(graph, &second, &first, EDGES 1));
	length = 2;
	OK(cudaGraphGetRootNodes(graph, found, &length));
	CHECK(length == 1 && found[0] == second);

	OK(cudaGraphClone(&clone, graph));
	OK(cudaGraphNodeFindInClone(&found[0], first, clone));
	CHECK(found[0] && found[0] != first);
	OK(cudaGraphDestroyNode(first));
	fill(1);
	run(graph);
	CHECK(all_are(5));
	run(clone);
	CHECK(all_are(50));
	OK(cudaGraphDestroy(clone));
	OK(cudaGraphDestroy(graph));
}

static void check_memory_nodes(void)
{
	const size_t bytes = COUNT * sizeof(float);
	float *from;
	float *to;
	struct cudaMemsetParams fill_with = {
		.dst = numbers,
		.value = 0x3f800000, /* 1.0 */
		.elementSize = 4,
		.width = COUNT,
		.height = 1,
	};
	struct cudaMemsetParams filled;
	struct cudaMemcpy3DParms box = {
		.srcPtr = { numbers, bytes, bytes, 1 },
		.dstPtr = { NULL, bytes, bytes, 1 },
		.extent = { bytes, 1, 1 },
		.kind = cudaMemcpyDeviceToHost,
	};
	struct cudaMemcpy3DParms copied;
	cudaGraph_t graph;
	cudaGraphNode_t set;
	cudaGraphNode_t copy;
	cudaGraphNode_t scale;

	OK(cudaMallocHost((void **)&from, bytes));
	OK(cudaMallocHost((void **)&to, bytes));
	box.dstPtr.ptr = to;
	OK(cudaGraphCreate(&graph, 0));
	OK(cudaGraphAddMemsetNode(&set, graph, NULL, 0, &fill_with));
	scale = kernel_node(graph, &set, 4);
	OK(cudaGraphAddMemcpyNode(&copy, graph, &scale, 1, &box));
	fill(0);
	run(graph);
	CHECK(to[0] == 4 && to[COUNT - 1] == 4);
	OK(cudaGraphMemsetNodeGetParams(set, &filled));
	CHECK(filled.value == 0x3f800000 && filled.dst == numbers && filled.width == COUNT);
	filled.value = 0x40000000; /* 2.0 */
	OK(cudaGraphMemsetNodeSetParams(set, &filled));
	OK(cudaGraphMemcpyNodeGetParams(copy, &copied));
	CHECK(copied.srcPtr.ptr == numbers && copied.dstPtr.ptr == to);
	CHECK(copied.extent.width == bytes && copied.kind == cudaMemcpyDeviceToHost);
	box.dstPtr.ptr = from;
	OK(cudaGraphMemcpyNodeSetParams(copy, &box));
	run(graph);
	CHECK(from[0] == 8 && from[COUNT - 1] == 8 && to[0] == 4);
	OK(cudaGraphMemcpyNodeSetParams1D(copy, to, numbers, 4, cudaMemcpyDeviceToHost));
	run(graph);
	CHECK(to[0] == 8 && to[1] == 4);
	OK(cudaGraphDestroy(graph));

	for (unsigned int i = 0; i < COUNT; i++)
		from[i] = 7;
	OK(cudaGraphCreate(&graph, 0));
	OK(cudaGraphAddMemcpyNode1D(&copy, graph, NULL, 0, numbers, from, bytes,
				    cudaMemcpyHostToDevice));
	run(graph);
	CHECK(all_are(7));
	OK(cudaGraphDestroy(graph));
	OK(cudaFreeHost(from));
	OK(cudaFreeHost(to));
}

static void check_other_nodes(void)
{
	cudaEvent_t event;
	cudaEvent_t other;
	cudaEvent_t found = NULL;
	cudaGraph_t graph;
	cudaGraph_t child;
	cudaGraph_t embedded = NULL;
	cudaGraphNode_t inner;
	cudaGraphNode_t record;
	cudaGraphNode_t wait;

	OK(cudaEventCreate(&event));
	OK(cudaEventCreate(&other));
	OK(cudaGraphCreate(&child, 0));
	kernel_node(child, NULL, 3);
	OK(cudaGraphCreate(&graph, 0));
	OK(cudaGraphAddChildGraphNode(&inner, graph, NULL, 0, child));
	OK(cudaGraphChildGraphNodeGetGraph(inner, &embedded));
	CHECK(embedded && embedded != child);
	OK(cudaGraphAddEventRecordNode(&record, graph, &inner, 1, event));
	OK(cudaGraphAddEventWaitNode(&wait, graph, &record, 1, event));
	OK(cudaGraphEventRecordNodeGetEvent(record, &found));
	CHECK(found == event);
	OK(cudaGraphEventRecordNodeSetEvent(record, other));
	OK(cudaGraphEventWaitNodeSetEvent(wait, other));
	OK(cudaGraphEventWaitNodeGetEvent(wait, &found));
	CHECK(found == other);
	fill(1);
	run(graph);
	OK(cudaEventSynchronize(other));
	CHECK(all_are(3));
	OK(cudaGraphDestroy(graph));
	OK(cudaGraphDestroy(child));
	OK(cudaEventDestroy(event));
	OK(cudaEventDestroy(other));
}

int main(void)
{
	OK(cudaMalloc((void **)&numbers, COUNT * sizeof(float)));
	OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
	check_capture();
	check_capture_information();
#if CUDART_VERSION < 13000
	check_older_forms();
#endif
	check_kernel_nodes();
	check_memory_nodes();
	check_other_nodes();
	OK(cudaStreamDestroy(stream));
	OK(cudaFree(numbers));
	return report();
}
