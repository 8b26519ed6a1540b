// SPDX-License-Identifier: MIT
/*
 * Launch throughput and copy bandwidth, through whichever libcuda.so.1 the loader
 * finds: NVIDIA's for the baseline, ours for the measurement. Prints one JSON object.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cuda.h>

#define LAUNCHES   20000
#define COPY_BYTES (64u << 20)
#define COPIES	   20

static const char kernel_ptx[] = ".version 6.0\n.target sm_50\n.address_size 64\n"
				 ".visible .entry touch(.param .u64 p, .param .u32 n)\n"
				 "{\n\tret;\n}\n";

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

#define OK(call)                                                                                   \
	do {                                                                                       \
		CUresult result_ = (call);                                                         \
		if (result_ != CUDA_SUCCESS) {                                                     \
			fprintf(stderr, "%s:%d: %s: %d\n", __FILE__, __LINE__, #call, result_);    \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

static double launch_us(CUfunction kernel, CUdeviceptr memory)
{
	unsigned int n = 1;
	void *parameters[] = { &memory, &n };
	double start = now();

	for (int i = 0; i < LAUNCHES; i++)
		OK(cuLaunchKernel(kernel, 1, 1, 1, 32, 1, 1, 0, NULL, parameters, NULL));
	OK(cuCtxSynchronize());
	return (now() - start) * 1e6 / LAUNCHES;
}

static double round_trip_us(CUfunction kernel, CUdeviceptr memory)
{
	unsigned int n = 1;
	void *parameters[] = { &memory, &n };
	double start = now();

	for (int i = 0; i < LAUNCHES / 10; i++) {
		OK(cuLaunchKernel(kernel, 1, 1, 1, 32, 1, 1, 0, NULL, parameters, NULL));
		OK(cuCtxSynchronize());
	}
	return (now() - start) * 1e6 / (LAUNCHES / 10);
}

static double copy_gb_s(CUdeviceptr device, void *host, int to_device)
{
	double start = now();

	for (int i = 0; i < COPIES; i++) {
		if (to_device)
			OK(cuMemcpyHtoDAsync(device, host, COPY_BYTES, NULL));
		else
			OK(cuMemcpyDtoHAsync(host, device, COPY_BYTES, NULL));
	}
	OK(cuCtxSynchronize());
	return (double)COPY_BYTES * COPIES / (now() - start) / 1e9;
}

int main(void)
{
	CUdevice device;
	CUcontext context;
	CUmodule module;
	CUfunction kernel;
	CUdeviceptr memory;
	char name[128];
	void *host;

	OK(cuInit(0));
	OK(cuDeviceGet(&device, 0));
	OK(cuDeviceGetName(name, sizeof(name), device));
	OK(cuDevicePrimaryCtxRetain(&context, device));
	OK(cuCtxSetCurrent(context));
	OK(cuModuleLoadData(&module, kernel_ptx));
	OK(cuModuleGetFunction(&kernel, module, "touch"));
	OK(cuMemAlloc(&memory, COPY_BYTES));
	OK(cuMemHostAlloc(&host, COPY_BYTES, 0));
	/* Each once uncounted: first launches and first copies set things up. */
	launch_us(kernel, memory);
	copy_gb_s(memory, host, 1);
	copy_gb_s(memory, host, 0);
	printf("{\"device\": \"%s\", \"launch_us\": %.3f, \"launch_and_wait_us\": %.3f, "
	       "\"to_device_gb_s\": %.2f, \"to_host_gb_s\": %.2f}\n",
	       name, launch_us(kernel, memory), round_trip_us(kernel, memory),
	       copy_gb_s(memory, host, 1), copy_gb_s(memory, host, 0));
	OK(cuMemFreeHost(host));
	OK(cuMemFree(memory));
	OK(cuDevicePrimaryCtxRelease(device));
	return 0;
}
