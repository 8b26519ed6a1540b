// SPDX-License-Identifier: MIT
/*
 * The core path of the driver API against a real device: every result is checked.
 * Run it under `vgpu-stub exec` or in a guest. Exit status 0: all passed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "add_ptx.h"
#include "expect.h"

#define COUNT 100003u

static void check_device(CUdevice device)
{
	char name[100] = "";
	char bus[32] = "";
	CUuuid uuid;
	size_t memory = 0;
	int value = 0;

	OK(cuDeviceGetName(name, sizeof(name), device));
	OK(cuDeviceGetUuid(&uuid, device));
	OK(cuDeviceTotalMem(&memory, device));
	OK(cuDeviceGetPCIBusId(bus, sizeof(bus), device));
	OK(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_WARP_SIZE, device));
	CHECK(value == 32);
	CHECK(*name && memory > 0 && strlen(bus) == 12);
	FAILS(cuDeviceGet(&device, 1), CUDA_ERROR_INVALID_DEVICE);
	printf("device: %s, %zu MiB, at %s\n", name, memory >> 20, bus);
}

static void check_memory(void)
{
	size_t bytes = 9u << 20;
	unsigned char *from = malloc(bytes);
	unsigned char *to = calloc(1, bytes);
	unsigned char *pinned;
	CUmemorytype type;
	CUdeviceptr memory;
	CUdeviceptr base;
	size_t size;
	unsigned int word = 0;

	for (size_t i = 0; i < bytes; i++)
		from[i] = (unsigned char)(i * 2654435761u >> 13);
	OK(cuMemAlloc(&memory, bytes));
	FAILS(cuMemAlloc(&base, 0), CUDA_ERROR_INVALID_VALUE);
	OK(cuMemGetAddressRange(&base, &size, memory + 12345));
	CHECK(base == memory && size == bytes);
	OK(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, memory + 7));
	CHECK(type == CU_MEMORYTYPE_DEVICE);

	/* Staged in several chunks, and a ragged end. */
	OK(cuMemcpyHtoD(memory, from, bytes - 5));
	OK(cuMemcpyDtoH(to, memory, bytes - 5));
	CHECK(!memcmp(from, to, bytes - 5) && !to[bytes - 1]);
	/* Small enough for the ring. */
	OK(cuMemcpyHtoD(memory + 3, "inline", 6));
	OK(cuMemcpyDtoH(to, memory, 16));
	CHECK(!memcmp(to + 3, "inline", 6) && !memcmp(to, from, 3));
	/* Registered memory, directly. */
	OK(cuMemHostAlloc((void **)&pinned, bytes, 0));
	memcpy(pinned, from, bytes);
	OK(cuMemcpyHtoDAsync(memory, pinned, bytes, 0));
	OK(cuStreamSynchronize(0));
	memset(pinned, 0, bytes);
	OK(cuMemcpyDtoHAsync(pinned + 4096, memory + 4096, bytes - 4096, 0));
	OK(cuStreamSynchronize(0));
	CHECK(!pinned[4095] && !memcmp(pinned + 4096, from + 4096, bytes - 4096));
	/* Kinds by address. */
	OK(cuMemcpy((CUdeviceptr)(uintptr_t)to, memory, bytes));
	CHECK(!memcmp(to, from, bytes));
	OK(cuMemcpy(memory + 1000000, memory, 4096));
	OK(cuMemcpyDtoH(to, memory + 1000000, 4096));
	CHECK(!memcmp(to, from, 4096));

	OK(cuMemsetD32(memory, 0xdeadbeef, 1000));
	OK(cuMemsetD8(memory + 4, 0x11, 4));
	OK(cuMemcpyDtoH(&word, memory + 4, 4));
	CHECK(word == 0x11111111);
	OK(cuMemcpyDtoH(&word, memory + 3996, 4));
	CHECK(word == 0xdeadbeef);
	FAILS(cuMemcpyHtoD(memory + bytes - 4, from, 8), CUDA_ERROR_INVALID_VALUE);
	FAILS(cuMemFree(memory + 8), CUDA_ERROR_INVALID_VALUE);
	OK(cuMemFreeHost(pinned));
	OK(cuMemFree(memory));
	FAILS(cuMemcpyHtoD(memory, from, 8), CUDA_ERROR_INVALID_VALUE);
	free(from);
	free(to);
}

static void check_rectangles(void)
{
	enum { WIDTH = 300, HEIGHT = 70, PITCH = 321 };
	static unsigned char from[HEIGHT * PITCH];
	static unsigned char to[HEIGHT * PITCH];
	CUDA_MEMCPY2D copy = { 0 };
	CUdeviceptr memory;
	size_t pitch;

	for (size_t i = 0; i < sizeof(from); i++)
		from[i] = (unsigned char)(i * 7 + 1);
	OK(cuMemAllocPitch(&memory, &pitch, WIDTH, HEIGHT, 4));
	CHECK(pitch >= WIDTH);
	copy.srcMemoryType = CU_MEMORYTYPE_HOST;
	copy.srcHost = from;
	copy.srcPitch = PITCH;
	copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
	copy.dstDevice = memory;
	copy.dstPitch = pitch;
	copy.WidthInBytes = WIDTH;
	copy.Height = HEIGHT;
	OK(cuMemcpy2D(&copy));
	copy = (CUDA_MEMCPY2D){ 0 };
	copy.srcMemoryType = CU_MEMORYTYPE_DEVICE;
	copy.srcDevice = memory;
	copy.srcPitch = pitch;
	copy.srcXInBytes = 10;
	copy.srcY = 5;
	copy.dstMemoryType = CU_MEMORYTYPE_HOST;
	copy.dstHost = to;
	copy.dstPitch = PITCH;
	copy.WidthInBytes = WIDTH - 10;
	copy.Height = HEIGHT - 5;
	OK(cuMemcpy2D(&copy));
	for (size_t y = 0; y < HEIGHT - 5; y++)
		CHECK(!memcmp(to + y * PITCH, from + (y + 5) * PITCH + 10, WIDTH - 10));
	OK(cuMemFree(memory));
}

static void check_kernel(void)
{
	CUstream stream;
	CUevent start;
	CUevent stop;
	CUmodule module;
	CUfunction add;
	CUfunction again;
	CUdeviceptr memory[3];
	CUdeviceptr table;
	size_t table_bytes;
	unsigned int n = COUNT;
	void *parameters[] = { &memory[0], &memory[1], &memory[2], &n };
	struct {
		CUdeviceptr x, y, z;
		unsigned int n;
	} packed;
	size_t packed_bytes = 28;
	void *extra[] = { CU_LAUNCH_PARAM_BUFFER_POINTER, &packed, CU_LAUNCH_PARAM_BUFFER_SIZE,
			  &packed_bytes, CU_LAUNCH_PARAM_END };
	float *values = malloc(3 * COUNT * sizeof(float));
	float milliseconds = -1;
	int threads = 0;
	int blocks = 0;

	OK(cuModuleLoadData(&module, add_ptx));
	OK(cuModuleGetFunction(&add, module, "add"));
	OK(cuModuleGetFunction(&again, module, "add"));
	CHECK(add == again);
	FAILS(cuModuleGetFunction(&again, module, "subtract"), CUDA_ERROR_NOT_FOUND);
	OK(cuModuleGetGlobal(&table, &table_bytes, module, "table"));
	CHECK(table && table_bytes == 64);
	OK(cuFuncGetAttribute(&threads, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, add));
	CHECK(threads >= 256);
	OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, add, 256, 0));
	CHECK(blocks >= 1);
	OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	OK(cuEventCreate(&start, CU_EVENT_DEFAULT));
	OK(cuEventCreate(&stop, CU_EVENT_DEFAULT));
	for (unsigned int i = 0; i < 3; i++)
		OK(cuMemAlloc(&memory[i], COUNT * sizeof(float)));
	for (unsigned int i = 0; i < COUNT; i++) {
		values[i] = (float)i;
		values[COUNT + i] = 0.5f * (float)i;
	}
	OK(cuMemcpyHtoDAsync(memory[0], values, COUNT * sizeof(float), stream));
	OK(cuMemcpyHtoDAsync(memory[1], values + COUNT, COUNT * sizeof(float), stream));
	OK(cuEventRecord(start, stream));
	OK(cuLaunchKernel(add, (COUNT + 255) / 256, 1, 1, 256, 1, 1, 0, stream, parameters, NULL));
	OK(cuEventRecord(stop, stream));
	OK(cuMemcpyDtoHAsync(values + 2 * COUNT, memory[2], COUNT * sizeof(float), stream));
	OK(cuStreamSynchronize(stream));
	for (unsigned int i = 0; i < COUNT; i++)
		if (values[2 * COUNT + i] != values[i] + values[COUNT + i]) {
			fprintf(stderr, "add: element %u is %g\n", i, values[2 * COUNT + i]);
			failures++;
			break;
		}
	OK(cuEventSynchronize(stop));
	OK(cuEventElapsedTime(&milliseconds, start, stop));
	CHECK(milliseconds >= 0);

	packed.x = memory[2];
	packed.y = memory[1];
	packed.z = memory[0];
	packed.n = 10;
	OK(cuLaunchKernel(add, 1, 1, 1, 32, 1, 1, 0, CU_STREAM_PER_THREAD, NULL, extra));
	OK(cuStreamSynchronize(CU_STREAM_PER_THREAD));
	OK(cuMemcpyDtoH(values, memory[0], 12 * sizeof(float)));
	CHECK(values[9] == 18.0f && values[10] == 10.0f);

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
	/* The deprecated way, which pycuda still takes: z = x + y over 7 elements. */
	packed.x = memory[1];
	packed.z = memory[2];
	packed.n = 7;
	OK(cuMemsetD8(memory[2], 0, 8 * sizeof(float)));
	OK(cuFuncSetBlockShape(add, 32, 1, 1));
	OK(cuParamSetv(add, 0, &packed, 24));
	OK(cuParamSeti(add, 24, packed.n));
	OK(cuParamSetSize(add, 28));
	OK(cuLaunchGrid(add, 1, 1));
	OK(cuMemcpyDtoH(values, memory[2], 8 * sizeof(float)));
	CHECK(values[6] == 6.0f && values[7] == 0.0f);
	FAILS(cuFuncSetBlockShape(add, 0, 1, 1), CUDA_ERROR_INVALID_VALUE);
	FAILS(cuParamSetv(add, 4090, &packed, 24), CUDA_ERROR_INVALID_VALUE);
#pragma GCC diagnostic pop

	FAILS(cuLaunchKernel(add, 1, 1, 1, 2048, 1, 1, 0, stream, parameters, NULL),
	      CUDA_ERROR_INVALID_VALUE);
	FAILS(cuLaunchKernel(add, 0, 1, 1, 32, 1, 1, 0, stream, parameters, NULL),
	      CUDA_ERROR_INVALID_VALUE);
	FAILS(cuLaunchKernel(add, 1, 1, 1, 32, 1, 1, 0, stream, NULL, NULL),
	      CUDA_ERROR_INVALID_VALUE);
	FAILS(cuLaunchCooperativeKernel(add, 1, 1, 1, 2048, 1, 1, 0, stream, parameters),
	      CUDA_ERROR_INVALID_VALUE);
	FAILS(cuLaunchCooperativeKernel(add, 1 << 20, 1, 1, 32, 1, 1, 0, stream, parameters),
	      CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
	FAILS(cuStreamSynchronize((CUstream)0x12345), CUDA_ERROR_INVALID_HANDLE);
	for (unsigned int i = 0; i < 3; i++)
		OK(cuMemFree(memory[i]));
	OK(cuEventDestroy(start));
	OK(cuEventDestroy(stop));
	OK(cuStreamDestroy(stream));
	FAILS(cuStreamQuery(stream), CUDA_ERROR_INVALID_HANDLE);
	OK(cuModuleUnload(module));
	FAILS(cuModuleGetFunction(&add, module, "add"), CUDA_ERROR_INVALID_HANDLE);
	free(values);
}

struct order {
	CUdeviceptr memory;
	unsigned int seen;
};

static void CUDA_CB host_function(void *data)
{
	struct order *order = data;

	order->seen++;
}

static void CUDA_CB callback(CUstream stream, CUresult status, void *data)
{
	struct order *order = data;

	(void)stream;
	order->seen += status == CUDA_SUCCESS ? 10 : 1000;
}

static void check_host_functions(void)
{
	struct order order = { 0 };
	CUstream stream;

	OK(cuStreamCreate(&stream, CU_STREAM_DEFAULT));
	OK(cuMemAlloc(&order.memory, 64));
	OK(cuMemsetD8Async(order.memory, 1, 64, stream));
	OK(cuLaunchHostFunc(stream, host_function, &order));
	OK(cuStreamAddCallback(stream, callback, &order, 0));
	OK(cuStreamSynchronize(stream));
	CHECK(order.seen == 11);
	OK(cuMemFree(order.memory));
	OK(cuStreamDestroy(stream));
}

static void check_errors_and_lookup(void)
{
	CUresult (*total)(size_t *, CUdevice) = NULL;
	CUdriverProcAddressQueryResult found;
	CUmodule module;
	const char *text;
	char log[4096] = "";
	CUjit_option options[] = { CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES };
	void *values[] = { log, (void *)sizeof(log) };
	size_t memory = 0;

	OK(cuGetErrorString(CUDA_ERROR_OUT_OF_MEMORY, &text));
	CHECK(!strcmp(text, "out of memory"));
	OK(cuGetProcAddress("cuDeviceTotalMem", (void **)&total, 3020, 0, &found));
	CHECK(found == CU_GET_PROC_ADDRESS_SUCCESS);
	OK(total(&memory, 0));
	CHECK(memory > 0);
	FAILS(cuGetProcAddress("cuNothing", (void **)&total, 13000, 0, &found),
	      CUDA_ERROR_NOT_FOUND);
	CHECK(found == CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND && !total);
	FAILS(cuGetProcAddress("cuKernelGetName", (void **)&total, 2000, 0, &found),
	      CUDA_ERROR_NOT_FOUND);
	CHECK(found == CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
	FAILS(cuModuleLoadDataEx(&module, ".version 6.0\n.target sm_50\nnonsense\n", 2, options,
				 values),
	      CUDA_ERROR_INVALID_PTX);
	CHECK(*log);
	FAILS(cuMemAllocManaged((CUdeviceptr *)values, 64, CU_MEM_ATTACH_GLOBAL),
	      CUDA_ERROR_NOT_SUPPORTED);
}

/* An illegal address ends its context, and only that. */
static void check_sticky_error(CUdevice device)
{
	CUcontext context;
	CUmodule module;
	CUfunction add;
	CUdeviceptr memory;
	CUdeviceptr wild = 64;
	unsigned int n = 32;
	void *parameters[] = { &wild, &wild, &wild, &n };

	OK(cuCtxCreate(&context, NULL, 0, device));
	OK(cuModuleLoadData(&module, add_ptx));
	OK(cuModuleGetFunction(&add, module, "add"));
	OK(cuMemAlloc(&memory, 64));
	OK(cuLaunchKernel(add, 1, 1, 1, 32, 1, 1, 0, 0, parameters, NULL));
	FAILS(cuCtxSynchronize(), CUDA_ERROR_ILLEGAL_ADDRESS);
	FAILS(cuMemAlloc(&memory, 64), CUDA_ERROR_ILLEGAL_ADDRESS);
	FAILS(cuLaunchKernel(add, 1, 1, 1, 32, 1, 1, 0, 0, parameters, NULL),
	      CUDA_ERROR_ILLEGAL_ADDRESS);
	OK(cuCtxDestroy(context));
}

static void check_fork(void)
{
	int status = -1;
	pid_t child = fork();

	if (!child) {
		CUcontext context;
		CUdeviceptr memory;

		if (cuInit(0) != CUDA_ERROR_NOT_INITIALIZED ||
		    cuCtxGetCurrent(&context) != CUDA_ERROR_NOT_INITIALIZED ||
		    cuMemAlloc(&memory, 64) != CUDA_ERROR_NOT_INITIALIZED ||
		    cuMemAllocManaged(&memory, 64, CU_MEM_ATTACH_GLOBAL) !=
			    CUDA_ERROR_NOT_INITIALIZED)
			_exit(1);
		_exit(0);
	}
	waitpid(child, &status, 0);
	CHECK(WIFEXITED(status) && !WEXITSTATUS(status));
	OK(cuCtxSynchronize());
}

int main(void)
{
	CUcontext context;
	CUcontext primary;
	CUcontext current;
	CUdevice device;
	CUdeviceptr memory;
	int version = 0;

	FAILS(cuDeviceGet(&device, 0), CUDA_ERROR_NOT_INITIALIZED);
	OK(cuInit(0));
	OK(cuDriverGetVersion(&version));
	CHECK(version >= 12000);
	OK(cuDeviceGet(&device, 0));
	check_device(device);
	FAILS(cuMemAlloc(&memory, 64), CUDA_ERROR_INVALID_CONTEXT);
	OK(cuCtxCreate(&context, NULL, 0, device));
	check_memory();
	check_rectangles();
	check_kernel();
	check_host_functions();
	check_errors_and_lookup();
	check_fork();

	OK(cuDevicePrimaryCtxRetain(&primary, device));
	OK(cuCtxPushCurrent(primary));
	OK(cuMemAlloc(&memory, 1000));
	OK(cuCtxPopCurrent(&current));
	CHECK(current == primary);
	OK(cuDevicePrimaryCtxRelease(device));
	FAILS(cuDevicePrimaryCtxRelease(device), CUDA_ERROR_INVALID_CONTEXT);
	OK(cuCtxDestroy(context));
	FAILS(cuCtxSynchronize(), CUDA_ERROR_INVALID_CONTEXT);
	FAILS(cuCtxSetCurrent(context), CUDA_ERROR_INVALID_CONTEXT);
	/* Last: on a physical GPU a fault ends every context of the process. */
	check_sticky_error(device);
	return report();
}
