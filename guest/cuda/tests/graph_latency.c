// SPDX-License-Identifier: MIT
/*
 * What a graph saves: the time for 100 launches of an empty kernel, one by one and as
 * a graph, in batches that are waited for. Prints one JSON object, medians in us.
 * usage: graph_latency [ROUNDS]
 */
#include <time.h>

#include "expect.h"

#define KERNELS	   100
#define MAX_ROUNDS 10000

static const char empty_ptx[] = ".version 6.0\n"
				".target sm_50\n"
				".address_size 64\n"
				".visible .entry empty()\n"
				"{\n"
				"	ret;\n"
				"}\n";

static CUfunction empty;
static CUstream stream;
static CUgraphExec exec;
static double times[MAX_ROUNDS];

static double now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int by_value(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return (a > b) - (a < b);
}

static void launch_all(void)
{
	for (int i = 0; i < KERNELS; i++)
		OK(cuLaunchKernel(empty, 1, 1, 1, 1, 1, 1, 0, stream, NULL, NULL));
}

static void launch_graph(void)
{
	OK(cuGraphLaunch(exec, stream));
}

/* Median time until a batch is queued (wait 0), or done (wait 1). */
static double median(void (*batch)(void), int rounds, int wait)
{
	for (int i = 0; i < rounds; i++) {
		double start = now_us();

		batch();
		if (wait)
			OK(cuStreamSynchronize(stream));
		times[i] = now_us() - start;
		OK(cuStreamSynchronize(stream));
	}
	qsort(times, (size_t)rounds, sizeof(*times), by_value);
	return times[rounds / 2];
}

int main(int count, char **arguments)
{
	int rounds = count > 1 ? atoi(arguments[1]) : 200;
	CUcontext context;
	CUmodule module;
	CUgraph graph;

	if (rounds < 1 || rounds > MAX_ROUNDS) {
		fprintf(stderr, "rounds have to be between 1 and %d\n", MAX_ROUNDS);
		return 2;
	}
	OK(cuInit(0));
	OK(cuDevicePrimaryCtxRetain(&context, 0));
	OK(cuCtxSetCurrent(context));
	OK(cuModuleLoadData(&module, empty_ptx));
	OK(cuModuleGetFunction(&empty, module, "empty"));
	OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	launch_all();
	OK(cuStreamSynchronize(stream));
	OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
	launch_all();
	OK(cuStreamEndCapture(stream, &graph));
	OK(cuGraphInstantiate(&exec, graph, 0));
	launch_graph();
	OK(cuStreamSynchronize(stream));
	printf("{\"kernels\": %d, \"queue_launches_us\": %.2f, \"queue_graph_us\": %.2f, "
	       "\"launches_us\": %.2f, \"graph_us\": %.2f}\n",
	       KERNELS, median(launch_all, rounds, 0), median(launch_graph, rounds, 0),
	       median(launch_all, rounds, 1), median(launch_graph, rounds, 1));
	return failures != 0;
}
