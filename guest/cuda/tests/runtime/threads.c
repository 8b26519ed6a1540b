// SPDX-License-Identifier: MIT
/* Threads that use the device, and a kernel for the first time, all at once. */
#include <pthread.h>

#include "program.h"

#define THREADS 8
#define ROUNDS	50
#define COUNT	512u

static pthread_barrier_t start;

static void *work(void *number)
{
	float own = (float)(uintptr_t)number;
	float words[COUNT];
	float *device;
	cudaStream_t stream;

	pthread_barrier_wait(&start);
	OK(cudaMalloc((void **)&device, sizeof(words)));
	OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
	for (int round = 0; round < ROUNDS; round++) {
		for (unsigned int i = 0; i < COUNT; i++)
			words[i] = own;
		OK(cudaMemcpyAsync(device, words, sizeof(words), cudaMemcpyHostToDevice, stream));
		OK(launch_scale(device, (float)round, COUNT, stream));
		OK(cudaMemcpyAsync(words, device, sizeof(words), cudaMemcpyDeviceToHost, stream));
		OK(cudaStreamSynchronize(stream));
		CHECK(words[0] == own * (float)round && words[COUNT - 1] == own * (float)round);
	}
	OK(cudaStreamDestroy(stream));
	OK(cudaFree(device));
	CHECK(cudaGetLastError() == cudaSuccess);
	return NULL;
}

int main(void)
{
	pthread_t threads[THREADS];

	pthread_barrier_init(&start, NULL, THREADS);
	for (uintptr_t i = 0; i < THREADS; i++)
		CHECK(!pthread_create(&threads[i], NULL, work, (void *)(i + 1)));
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	return report();
}
