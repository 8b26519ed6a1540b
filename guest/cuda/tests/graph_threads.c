// SPDX-License-Identifier: MIT
/*
 * Threads that capture, launch, change and destroy graphs at the same time, each in a
 * stream of its own. Every value
 * is checked. usage: graph_threads [THREADS ROUNDS]
 */
#include <pthread.h>
#include <stdatomic.h>

#include "expect.h"

#define MAX_THREADS 32
#define STEPS	    8u

/* x[0] += term */
static const char add_ptx[] = ".version 6.0\n"
			      ".target sm_50\n"
			      ".address_size 64\n"
			      ".visible .entry add(.param .u64 x, .param .u32 term)\n"
			      "{\n"
			      "	.reg .b32 %r<3>; .reg .b64 %d;\n"
			      "	ld.param.u64 %d, [x]; ld.param.u32 %r1, [term];\n"
			      "	ld.global.u32 %r2, [%d];\n"
			      "	add.u32 %r2, %r2, %r1;\n"
			      "	st.global.u32 [%d], %r2;\n"
			      "	ret;\n"
			      "}\n";

static CUcontext context;
static CUfunction add;
static int rounds;
static atomic_uint wrong;

static CUgraph capture(CUstream stream, CUdeviceptr x, unsigned int term)
{
	void *parameters[] = { &x, &term };
	CUgraph graph;

	OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
	for (unsigned int i = 0; i < STEPS; i++)
		OK(cuLaunchKernel(add, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
	OK(cuStreamEndCapture(stream, &graph));
	return graph;
}

static void *work(void *unused)
{
	CUgraphExecUpdateResultInfo info;
	unsigned int expected = 0;
	unsigned int got = 0;
	CUgraphExec exec;
	CUstream stream;
	CUdeviceptr x;

	OK(cuCtxSetCurrent(context));
	OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	OK(cuMemAlloc(&x, 4));
	OK(cuMemsetD32Async(x, 0, 1, stream));
	for (int round = 0; round < rounds; round++) {
		CUgraph graph = capture(stream, x, 1);
		CUgraph changed = capture(stream, x, 3);

		OK(cuGraphInstantiate(&exec, graph, 0));
		for (int i = 0; i < 5; i++)
			OK(cuGraphLaunch(exec, stream));
		OK(cuGraphExecUpdate(exec, changed, &info));
		OK(cuGraphDestroy(graph));
		OK(cuGraphDestroy(changed));
		OK(cuGraphLaunch(exec, stream));
		OK(cuGraphExecDestroy(exec));
		expected += 5 * STEPS + 3 * STEPS;
	}
	OK(cuMemcpyDtoHAsync(&got, x, sizeof(got), stream));
	OK(cuStreamSynchronize(stream));
	if (got != expected)
		atomic_fetch_add(&wrong, 1);
	OK(cuMemFree(x));
	OK(cuStreamDestroy(stream));
	return unused;
}

int main(int count, char **arguments)
{
	int threads = count > 2 ? atoi(arguments[1]) : 4;
	pthread_t running[MAX_THREADS];
	CUmodule module;

	rounds = count > 2 ? atoi(arguments[2]) : 20;
	if (threads < 1 || threads > MAX_THREADS)
		return 2;
	OK(cuInit(0));
	OK(cuDevicePrimaryCtxRetain(&context, 0));
	OK(cuCtxSetCurrent(context));
	OK(cuModuleLoadData(&module, add_ptx));
	OK(cuModuleGetFunction(&add, module, "add"));
	for (int i = 0; i < threads; i++)
		CHECK(!pthread_create(&running[i], NULL, work, NULL));
	for (int i = 0; i < threads; i++)
		CHECK(!pthread_join(running[i], NULL));
	CHECK(atomic_load(&wrong) == 0);
	OK(cuDevicePrimaryCtxRelease(0));
	return report();
}
