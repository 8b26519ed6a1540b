// SPDX-License-Identifier: MIT
/* Streams, events and functions of the host in a stream's order. */
#include <pthread.h>
#include <stdatomic.h>

#include "program.h"

#define COUNT 4096u

static float *numbers; /* on the device */

struct gate { /* holds a stream up until it is opened */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int open;
};

static void pass(void *data)
{
	struct gate *gate = data;

	pthread_mutex_lock(&gate->lock);
	while (!gate->open)
		pthread_cond_wait(&gate->changed, &gate->lock);
	pthread_mutex_unlock(&gate->lock);
}

static void open_gate(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	gate->open = 1;
	pthread_cond_broadcast(&gate->changed);
	pthread_mutex_unlock(&gate->lock);
}

static void check_attributes(void)
{
	cudaStreamAttrValue value = { .syncPolicy = cudaSyncPolicyYield };
	cudaStream_t one;
	cudaStream_t two;

	OK(cudaStreamCreate(&one));
	OK(cudaStreamCreate(&two));
	OK(cudaStreamSetAttribute(one, cudaStreamAttributeSynchronizationPolicy, &value));
	value.syncPolicy = cudaSyncPolicySpin;
	OK(cudaStreamGetAttribute(two, cudaStreamAttributeSynchronizationPolicy, &value));
	CHECK(value.syncPolicy != cudaSyncPolicyYield);
	OK(cudaStreamCopyAttributes(two, one));
	OK(cudaStreamGetAttribute(two, cudaStreamAttributeSynchronizationPolicy, &value));
	CHECK(value.syncPolicy == cudaSyncPolicyYield);
	OK(cudaStreamDestroy(one));
	OK(cudaStreamDestroy(two));
}

static void check_streams(void)
{
	unsigned long long id[2];
	unsigned int flags = ~0u;
	cudaStream_t stream;
	cudaStream_t urgent;
	int priority = 1;
	int least;
	int greatest;
	int device = -1;

	OK(cudaDeviceGetStreamPriorityRange(&least, &greatest));
	OK(cudaStreamCreate(&stream));
	OK(cudaStreamGetFlags(stream, &flags));
	CHECK(flags == cudaStreamDefault);
	OK(cudaStreamGetPriority(stream, &priority));
	CHECK(priority == 0);
	OK(cudaStreamCreateWithPriority(&urgent, cudaStreamNonBlocking, greatest));
	OK(cudaStreamGetFlags(urgent, &flags));
	CHECK(flags == cudaStreamNonBlocking);
	OK(cudaStreamGetPriority(urgent, &priority));
	CHECK(priority == greatest);
	OK(cudaStreamGetId(stream, &id[0]));
	OK(cudaStreamGetId(urgent, &id[1]));
	CHECK(id[0] != id[1]);
#if CUDART_VERSION >= 12080
	OK(cudaStreamGetDevice(stream, &device));
	CHECK(device == 0);
#endif
	OK(cudaStreamQuery(stream));
	OK(cudaStreamSynchronize(cudaStreamLegacy));
	OK(cudaStreamSynchronize(cudaStreamPerThread));
	OK(cudaStreamDestroy(stream));
	OK(cudaStreamDestroy(urgent));
}

static void note(void *data)
{
	atomic_fetch_add((atomic_int *)data, 1);
}

static void CUDART_CB called(cudaStream_t stream, cudaError_t error, void *data)
{
	(void)stream;
	atomic_fetch_add((atomic_int *)data, error == cudaSuccess ? 10 : 1000);
}

static void check_order(void)
{
	struct gate gate = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 };
	atomic_int notes = 0;
	cudaStream_t first;
	cudaStream_t second;
	cudaEvent_t event;
	float zero = 0;
	float word = 1;

	OK(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking));
	OK(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking));
	OK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
	OK(cudaMemcpy(numbers, &zero, sizeof(zero), cudaMemcpyHostToDevice));
	OK(cudaLaunchHostFunc(first, pass, &gate));
	FAILS(cudaStreamQuery(first), cudaErrorNotReady);
	open_gate(&gate);
	OK(cudaLaunchHostFunc(first, note, &notes));
	OK(cudaEventRecord(event, first));
	OK(cudaStreamWaitEvent(second, event, 0));
	OK(cudaStreamSynchronize(second));
	CHECK(atomic_load(&notes) == 1);
	OK(cudaEventQuery(event));
	OK(cudaStreamAddCallback(first, called, &notes, 0));
	OK(cudaStreamSynchronize(first));
	CHECK(atomic_load(&notes) == 11);
	cudaGetLastError();
	OK(cudaMemcpy(&word, numbers, sizeof(word), cudaMemcpyDeviceToHost));
	CHECK(word == 0);
	OK(cudaEventDestroy(event));
	OK(cudaStreamDestroy(first));
	OK(cudaStreamDestroy(second));
}

static void check_events(void)
{
	cudaEvent_t start;
	cudaEvent_t end;
	cudaStream_t stream;
	float milliseconds = -1;

	OK(cudaStreamCreate(&stream));
	OK(cudaEventCreate(&start));
	OK(cudaEventCreateWithFlags(&end, cudaEventBlockingSync));
	FAILS(cudaEventElapsedTime(&milliseconds, start, end), cudaErrorInvalidResourceHandle);
	OK(cudaEventRecord(start, stream));
	for (int i = 0; i < 20; i++)
		OK(launch_scale(numbers, 1, COUNT, stream));
	OK(cudaEventRecordWithFlags(end, stream, cudaEventRecordDefault));
	OK(cudaEventSynchronize(end));
	OK(cudaEventElapsedTime(&milliseconds, start, end));
	CHECK(milliseconds > 0 && milliseconds < 60000);
#if CUDART_VERSION >= 12080 && CUDART_VERSION < 13000
	milliseconds = -1;
	OK(cudaEventElapsedTime_v2(&milliseconds, start, end));
	CHECK(milliseconds > 0 && milliseconds < 60000);
#endif
	OK(cudaEventDestroy(start));
	OK(cudaEventDestroy(end));
	OK(cudaStreamDestroy(stream));
	cudaGetLastError();
}

int main(void)
{
	OK(cudaMalloc((void **)&numbers, COUNT * sizeof(float)));
	OK(cudaMemset(numbers, 0, COUNT * sizeof(float)));
	check_streams();
	check_attributes();
	check_order();
	check_events();
	OK(cudaFree(numbers));
	return report();
}
