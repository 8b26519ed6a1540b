// SPDX-License-Identifier: MIT
/*
 * Several threads share one context and the ring: each keeps copying patterns of its
 * own through its per-thread default stream and a stream, checks what comes back, and
 * fills the ring to the brim. Arguments: threads, rounds. Exit status 0: all was right.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cuda.h>

#define BYTES (3u << 20)
#define FILLS 3000u

static CUcontext context;
static unsigned int rounds = 3;

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

static void *work(void *argument)
{
	unsigned int number = *(unsigned int *)argument;
	unsigned int *from = malloc(BYTES);
	unsigned int *to = malloc(BYTES);
	CUstream streams[2] = { CU_STREAM_PER_THREAD, NULL };
	CUdeviceptr memory;
	CUevent event;

	OK(cuCtxSetCurrent(context));
	OK(cuStreamCreate(&streams[1], CU_STREAM_NON_BLOCKING));
	OK(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
	OK(cuMemAlloc(&memory, BYTES));
	for (unsigned int round = 0; round < rounds; round++) {
		CUstream stream = streams[round % 2];

		for (unsigned int i = 0; i < BYTES / 4; i++)
			from[i] = i * 2654435761u + number * 40503u + round;
		OK(cuMemcpyHtoDAsync(memory, from, BYTES, stream));
		OK(cuEventRecord(event, stream));
		OK(cuStreamWaitEvent(streams[(round + 1) % 2], event, 0));
		OK(cuMemcpyDtoHAsync(to, memory, BYTES, streams[(round + 1) % 2]));
		OK(cuStreamSynchronize(streams[(round + 1) % 2]));
		if (memcmp(from, to, BYTES)) {
			fprintf(stderr, "thread %u, round %u: wrong bytes came back\n", number,
				round);
			exit(1);
		}
		for (unsigned int i = 0; i < FILLS; i++)
			OK(cuMemsetD32Async(memory + 4 * i, number + i, 1, stream));
		OK(cuMemcpyDtoHAsync(to, memory, 4 * FILLS, stream));
		OK(cuStreamSynchronize(stream));
		for (unsigned int i = 0; i < FILLS; i++)
			if (to[i] != number + i) {
				fprintf(stderr, "thread %u: fill %u is %u\n", number, i, to[i]);
				exit(1);
			}
	}
	OK(cuMemFree(memory));
	OK(cuEventDestroy(event));
	OK(cuStreamDestroy(streams[1]));
	free(from);
	free(to);
	return NULL;
}

int main(int argc, char **argv)
{
	unsigned int count = argc > 1 ? (unsigned int)atoi(argv[1]) : 4;
	pthread_t threads[64];
	unsigned int numbers[64];

	rounds = argc > 2 ? (unsigned int)atoi(argv[2]) : rounds;
	count = count > 64 ? 64 : count;
	OK(cuInit(0));
	OK(cuDevicePrimaryCtxRetain(&context, 0));
	for (unsigned int i = 0; i < count; i++) {
		numbers[i] = i;
		if (pthread_create(&threads[i], NULL, work, &numbers[i]))
			return 1;
	}
	for (unsigned int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	OK(cuDevicePrimaryCtxRelease(0));
	puts("passed");
	return 0;
}
