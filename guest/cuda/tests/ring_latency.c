// SPDX-License-Identifier: MIT
/*
 * Times the rings through the public API: the round trip of an empty synchronous
 * command (cuStreamQuery) and the submission of asynchronous launches of an empty
 * kernel. Prints one line for each; arguments: round trips, launches.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cuda.h>

#define BURST 512 /* launches between two synchronisations: the ring never fills up */

static const char empty_ptx[] = ".version 6.0\n"
				".target sm_50\n"
				".address_size 64\n"
				".visible .entry empty(.param .u64 a, .param .u32 b) { ret; }\n";

static void ok(CUresult status, const char *what)
{
	const char *name = "?";

	if (status == CUDA_SUCCESS)
		return;
	cuGetErrorName(status, &name);
	fprintf(stderr, "%s: %s (%d)\n", what, name, (int)status);
	exit(1);
}

#define OK(CALL) ok(CALL, #CALL)

static double now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x > y) - (x < y);
}

static void report(const char *what, double *samples, size_t count)
{
	double sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += samples[i];
	qsort(samples, count, sizeof(*samples), ascending);
	printf("%s: %zu samples, p50 %.2f us, p99 %.2f us, max %.2f us, mean %.2f us\n", what,
	       count, samples[count / 2], samples[count * 99 / 100], samples[count - 1],
	       sum / (double)count);
}

int main(int argc, char **argv)
{
	size_t trips = argc > 1 ? strtoul(argv[1], NULL, 10) : 5000;
	size_t launches = argc > 2 ? strtoul(argv[2], NULL, 10) : 5120;
	double *samples = calloc(trips > launches ? trips : launches, sizeof(double));
	CUdeviceptr pointer = 0;
	unsigned int word = 0;
	void *parameters[] = { &pointer, &word };
	CUcontext context;
	CUmodule module;
	CUfunction empty;
	double start;

	if (!samples || !trips || !launches)
		return 1;
	OK(cuInit(0));
	OK(cuDevicePrimaryCtxRetain(&context, 0));
	OK(cuCtxSetCurrent(context));
	OK(cuModuleLoadData(&module, empty_ptx));
	OK(cuModuleGetFunction(&empty, module, "empty"));
	OK(cuLaunchKernel(empty, 1, 1, 1, 32, 1, 1, 0, 0, parameters, NULL));
	OK(cuCtxSynchronize());

	for (size_t i = 0; i < trips; i++) {
		start = now_us();
		OK(cuStreamQuery(0));
		samples[i] = now_us() - start;
	}
	report("round trip of an empty command", samples, trips);
	for (size_t i = 0; i < launches; i++) {
		start = now_us();
		OK(cuLaunchKernel(empty, 1, 1, 1, 32, 1, 1, 0, 0, parameters, NULL));
		samples[i] = now_us() - start;
		if (i % BURST == BURST - 1)
			OK(cuCtxSynchronize());
	}
	OK(cuCtxSynchronize());
	report("submission of an asynchronous launch", samples, launches);
	OK(cuDevicePrimaryCtxRelease(0));
	free(samples);
	return 0;
}
