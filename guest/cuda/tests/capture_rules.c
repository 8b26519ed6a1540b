// SPDX-License-Identifier: MIT
/*
 * The rules of stream capture: which calls are refused while a stream captures, with
 * which error, and what becomes of the capture. Exit status 0: all passed.
 */
#include <pthread.h>
#include <stdbool.h>

#include "expect.h"

#define BYTES 4096u

static const char empty_ptx[] = ".version 6.0\n"
				".target sm_50\n"
				".address_size 64\n"
				".visible .entry empty()\n"
				"{\n"
				"	ret;\n"
				"}\n";

static CUcontext context;
static CUfunction empty;
static CUdeviceptr memory;
static CUstream stream, other, blocking;
static CUevent event, done;

static void launch(CUstream in)
{
	OK(cuLaunchKernel(empty, 1, 1, 1, 1, 1, 1, 0, in, NULL, NULL));
}

static CUstreamCaptureStatus status_of(CUstream in)
{
	CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;

	OK(cuStreamIsCapturing(in, &status));
	return status;
}

static void begin(CUstreamCaptureMode mode)
{
	OK(cuStreamBeginCapture(stream, mode));
	launch(stream);
}

static void ends_well(void)
{
	CUgraph graph = NULL;

	OK(cuStreamEndCapture(stream, &graph));
	CHECK(graph != NULL);
	OK(cuGraphDestroy(graph));
	CHECK(status_of(stream) == CU_STREAM_CAPTURE_STATUS_NONE);
}

/* Says from where it was called, as its own lines are the same for all. */
#define is_invalidated() is_invalidated_at(__LINE__)

static void is_invalidated_at(int line)
{
	unsigned int before = failures;
	CUgraph graph = (CUgraph)1;

	CHECK(status_of(stream) == CU_STREAM_CAPTURE_STATUS_INVALIDATED);
	FAILS(cuLaunchKernel(empty, 1, 1, 1, 1, 1, 1, 0, stream, NULL, NULL),
	      CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
	FAILS(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
	CHECK(graph == NULL);
	CHECK(status_of(stream) == CU_STREAM_CAPTURE_STATUS_NONE);
	launch(stream); /* usable again */
	OK(cuStreamSynchronize(stream));
	if (failures != before)
		fprintf(stderr, "(called from line %d)\n", line);
}

static void check_beginning_and_end(void)
{
	CUgraph graph;

	FAILS(cuStreamBeginCapture(NULL, CU_STREAM_CAPTURE_MODE_GLOBAL),
	      CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	FAILS(cuStreamBeginCapture(CU_STREAM_LEGACY, CU_STREAM_CAPTURE_MODE_RELAXED),
	      CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	FAILS(cuStreamEndCapture(stream, &graph), CUDA_ERROR_ILLEGAL_STATE);
	begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
	FAILS(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL),
	      CUDA_ERROR_ILLEGAL_STATE);
	ends_well();
}

static void check_waiting_calls(void)
{
	begin(CU_STREAM_CAPTURE_MODE_RELAXED);
	FAILS(cuStreamSynchronize(stream), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	is_invalidated();
	begin(CU_STREAM_CAPTURE_MODE_RELAXED);
	FAILS(cuStreamQuery(stream), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	is_invalidated();
	begin(CU_STREAM_CAPTURE_MODE_RELAXED);
	FAILS(cuCtxSynchronize(), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	is_invalidated();
}

static void check_modes(void)
{
	CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
	CUdeviceptr made;
	unsigned int host = 0;

	begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
	FAILS(cuMemAlloc(&made, BYTES), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	is_invalidated();
	begin(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
	FAILS(cuMemFree(memory), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	is_invalidated();
	begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
	OK(cuMemcpyHtoD(memory, &host, sizeof(host)));
	ends_well();
	begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
	FAILS(cuStreamSynchronize(other), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	is_invalidated();

	begin(CU_STREAM_CAPTURE_MODE_RELAXED);
	OK(cuMemAlloc(&made, BYTES));
	OK(cuMemFree(made));
	OK(cuStreamSynchronize(other));
	ends_well();

	/* A thread that is relaxed itself may do what it likes. */
	OK(cuThreadExchangeStreamCaptureMode(&mode));
	CHECK(mode == CU_STREAM_CAPTURE_MODE_GLOBAL);
	begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
	OK(cuMemAlloc(&made, BYTES));
	OK(cuMemFree(made));
	ends_well();
	OK(cuThreadExchangeStreamCaptureMode(&mode));
	CHECK(mode == CU_STREAM_CAPTURE_MODE_RELAXED);
}

static void *allocate_elsewhere(void *expected)
{
	CUdeviceptr made = 0;
	CUresult wanted = *(CUresult *)expected;

	OK(cuCtxSetCurrent(context));
	if (wanted == CUDA_SUCCESS) {
		OK(cuMemAlloc(&made, BYTES));
		OK(cuMemFree(made));
	} else {
		FAILS(cuMemAlloc(&made, BYTES), wanted);
	}
	return NULL;
}

static void *end_elsewhere(void *unused)
{
	CUgraph graph;

	OK(cuCtxSetCurrent(context));
	FAILS(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
	return unused;
}

static void in_thread(void *(*function)(void *), void *argument)
{
	pthread_t thread;

	CHECK(!pthread_create(&thread, NULL, function, argument));
	CHECK(!pthread_join(thread, NULL));
}

static void check_threads(void)
{
	CUresult refused = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	CUresult allowed = CUDA_SUCCESS;

	begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
	in_thread(allocate_elsewhere, &refused);
	is_invalidated();
	begin(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
	in_thread(allocate_elsewhere, &allowed);
	in_thread(end_elsewhere, NULL);
	ends_well();
}

static void check_legacy_stream(void)
{
	CUstreamCaptureStatus status;
	CUgraph graph;

	OK(cuStreamBeginCapture(blocking, CU_STREAM_CAPTURE_MODE_RELAXED));
	FAILS(cuStreamIsCapturing(NULL, &status), CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
	CHECK(status_of(blocking) == CU_STREAM_CAPTURE_STATUS_ACTIVE);
	FAILS(cuLaunchKernel(empty, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL),
	      CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
	CHECK(status_of(blocking) == CU_STREAM_CAPTURE_STATUS_INVALIDATED);
	FAILS(cuStreamEndCapture(blocking, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);

	/* Streams that do not wait for the legacy one do not mind. */
	begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
	OK(cuStreamIsCapturing(NULL, &status));
	CHECK(status == CU_STREAM_CAPTURE_STATUS_NONE);
	launch(NULL);
	ends_well();
}

static void check_events(void)
{
	CUgraph graph;

	/* A captured event is of no use outside. */
	begin(CU_STREAM_CAPTURE_MODE_RELAXED);
	OK(cuEventRecord(event, stream));
	FAILS(cuEventQuery(event), CUDA_ERROR_CAPTURED_EVENT);
	is_invalidated();
	FAILS(cuEventSynchronize(event), CUDA_ERROR_CAPTURED_EVENT);
	OK(cuEventRecord(event, other));
	OK(cuEventSynchronize(event));

	/* A capture must not wait for what is outside. */
	begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
	OK(cuEventRecord(event, other));
	FAILS(cuStreamWaitEvent(stream, event, 0), CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
	is_invalidated();

	/* Work of another stream that nothing joins. */
	begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
	OK(cuEventRecord(event, stream));
	OK(cuStreamWaitEvent(other, event, 0));
	launch(other);
	FAILS(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
	CHECK(graph == NULL);
	CHECK(status_of(other) == CU_STREAM_CAPTURE_STATUS_NONE);

	/* Ended where it was not begun. */
	begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
	OK(cuEventRecord(event, stream));
	OK(cuStreamWaitEvent(other, event, 0));
	FAILS(cuStreamEndCapture(other, &graph), CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
	is_invalidated();

	/* Two captures do not become one. */
	begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
	OK(cuEventRecord(event, stream));
	OK(cuStreamBeginCapture(other, CU_STREAM_CAPTURE_MODE_GLOBAL));
	FAILS(cuStreamWaitEvent(other, event, 0), CUDA_ERROR_STREAM_CAPTURE_MERGE);
	FAILS(cuStreamEndCapture(other, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
	is_invalidated();
}

static void check_external_events(void)
{
	CUgraphNodeType type;
	CUgraphNode nodes[3];
	size_t count = 3;
	CUgraphExec exec;
	CUgraph graph;

	FAILS(cuEventRecordWithFlags(event, other, CU_EVENT_RECORD_EXTERNAL),
	      CUDA_ERROR_INVALID_VALUE);
	OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
	OK(cuStreamWaitEvent(stream, event, CU_EVENT_WAIT_EXTERNAL));
	launch(stream);
	OK(cuEventRecordWithFlags(done, stream, CU_EVENT_RECORD_EXTERNAL));
	OK(cuStreamEndCapture(stream, &graph));
	OK(cuGraphGetNodes(graph, nodes, &count));
	CHECK(count == 3);
	OK(cuGraphNodeGetType(nodes[0], &type));
	CHECK(type == CU_GRAPH_NODE_TYPE_WAIT_EVENT);
	OK(cuGraphNodeGetType(nodes[2], &type));
	CHECK(type == CU_GRAPH_NODE_TYPE_EVENT_RECORD);
	OK(cuGraphInstantiateWithFlags(&exec, graph, 0));
	OK(cuGraphLaunch(exec, other));
	OK(cuEventSynchronize(done));
	OK(cuGraphExecDestroy(exec));
	OK(cuGraphDestroy(graph));
}

static void check_capture_info(void)
{
	const CUgraphEdgeData *edges;
	const CUgraphNode *leaves;
	CUstreamCaptureStatus status;
	cuuint64_t id, other_id;
	CUgraphNode node;
	CUgraph graph, ended;
	size_t count = 7;

	begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
	OK(cuStreamGetCaptureInfo(stream, &status, &id, &graph, &leaves, &edges, &count));
	CHECK(status == CU_STREAM_CAPTURE_STATUS_ACTIVE && id && graph && count == 1);
	OK(cuEventRecord(event, stream));
	OK(cuStreamWaitEvent(other, event, 0));
	OK(cuStreamGetCaptureInfo(other, &status, &other_id, NULL, NULL, NULL, NULL));
	CHECK(other_id == id);

	/* A node of the program's own, and the next one behind it. */
	OK(cuGraphAddEmptyNode(&node, graph, leaves, count));
	OK(cuStreamUpdateCaptureDependencies(stream, &node, NULL, 1,
					     CU_STREAM_SET_CAPTURE_DEPENDENCIES));
	launch(stream);
	OK(cuStreamEndCapture(stream, &ended));
	CHECK(ended == graph);
	count = 0;
	OK(cuGraphGetNodes(graph, NULL, &count));
	CHECK(count == 3);
	FAILS(cuStreamUpdateCaptureDependencies(stream, &node, NULL, 1, 0),
	      CUDA_ERROR_ILLEGAL_STATE);

	/* Capture more into the same graph. */
	OK(cuStreamBeginCaptureToGraph(stream, graph, &node, NULL, 1,
				       CU_STREAM_CAPTURE_MODE_GLOBAL));
	launch(stream);
	OK(cuStreamEndCapture(stream, &ended));
	CHECK(ended == graph);
	OK(cuGraphNodeGetDependentNodes(node, NULL, NULL, &count));
	CHECK(count == 2);
	OK(cuGraphDestroy(graph));
}

static void check_destruction(void)
{
	CUstream passing;
	CUcontext second;
	CUdevice device = 0;

	OK(cuStreamCreate(&passing, CU_STREAM_NON_BLOCKING));
	OK(cuStreamBeginCapture(passing, CU_STREAM_CAPTURE_MODE_GLOBAL));
	launch(passing);
	OK(cuStreamDestroy(passing));
	OK(cuCtxSynchronize()); /* nothing captures any more */

	OK(cuCtxCreate(&second, NULL, 0, device));
	OK(cuStreamCreate(&passing, CU_STREAM_NON_BLOCKING));
	OK(cuStreamBeginCapture(passing, CU_STREAM_CAPTURE_MODE_GLOBAL));
	OK(cuMemsetD8Async(0, 0, 0, passing));
	OK(cuCtxDestroy(second));
	OK(cuCtxSetCurrent(context));
	OK(cuCtxSynchronize());
}

static void check_per_thread_stream(void)
{
	CUgraph graph;
	size_t count = 0;

	OK(cuStreamBeginCapture(CU_STREAM_PER_THREAD, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
	launch(CU_STREAM_PER_THREAD);
	OK(cuMemsetD8Async(memory, 1, BYTES, CU_STREAM_PER_THREAD));
	OK(cuStreamEndCapture(CU_STREAM_PER_THREAD, &graph));
	OK(cuGraphGetNodes(graph, NULL, &count));
	CHECK(count == 2);
	OK(cuGraphDestroy(graph));
}

int main(void)
{
	CUmodule module;
	CUdevice device;

	OK(cuInit(0));
	OK(cuDeviceGet(&device, 0));
	OK(cuDevicePrimaryCtxRetain(&context, device));
	OK(cuCtxSetCurrent(context));
	OK(cuModuleLoadData(&module, empty_ptx));
	OK(cuModuleGetFunction(&empty, module, "empty"));
	OK(cuMemAlloc(&memory, BYTES));
	OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	OK(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
	OK(cuStreamCreate(&blocking, CU_STREAM_DEFAULT));
	OK(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
	OK(cuEventCreate(&done, CU_EVENT_DISABLE_TIMING));
	check_beginning_and_end();
	check_waiting_calls();
	check_modes();
	check_threads();
	check_legacy_stream();
	check_events();
	check_external_events();
	check_capture_info();
	check_destruction();
	check_per_thread_stream();
	OK(cuDevicePrimaryCtxRelease(device));
	return report();
}
