// SPDX-License-Identifier: MIT
/* The device, its properties, the thread's device, and the driver behind it. */
#include <pthread.h>

#include "program.h"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

cudaError_t cudaProfilerStart(void);
cudaError_t cudaProfilerStop(void);
/* Names that the headers of CUDA 13 leave out. */
cudaError_t cudaDeviceGetSharedMemConfig(enum cudaSharedMemConfig *config);
cudaError_t cudaDeviceSetSharedMemConfig(enum cudaSharedMemConfig config);
cudaError_t cudaFuncSetSharedMemConfig(const void *host, enum cudaSharedMemConfig config);
#if defined(CUDA_API_PER_THREAD_DEFAULT_STREAM) && !defined(cudaGetDriverEntryPoint)
#define cudaGetDriverEntryPoint cudaGetDriverEntryPoint_ptsz
#endif
cudaError_t cudaGetDriverEntryPoint(const char *name, void **function, unsigned long long flags,
				    enum cudaDriverEntryPointQueryResult *found);

/* What a device does not know it has not got. */
static int attribute(enum cudaDeviceAttr which)
{
	int value = -1;
	cudaError_t error = cudaDeviceGetAttribute(&value, which, 0);

	CHECK(error == cudaSuccess || error == cudaErrorInvalidValue);
	return error == cudaSuccess ? value : 0;
}

static void check_properties(void)
{
	struct cudaDeviceProp properties;
	char bus[32];
	char expected[32];
	size_t free_bytes;
	size_t total;
	int device = -1;

	memset(&properties, 0xa5, sizeof(properties));
	OK(cudaGetDeviceProperties(&properties, 0));
	CHECK(strnlen(properties.name, sizeof(properties.name)) > 3 &&
	      properties.name[0] != '\xa5');
	CHECK(properties.major == attribute(cudaDevAttrComputeCapabilityMajor));
	CHECK(properties.minor == attribute(cudaDevAttrComputeCapabilityMinor));
	CHECK(properties.warpSize == 32 && attribute(cudaDevAttrWarpSize) == 32);
	CHECK(properties.maxThreadsPerBlock == 1024 && properties.maxThreadsDim[2] == 64);
	CHECK(properties.maxGridSize[0] == 2147483647 &&
	      properties.maxGridSize[1] == attribute(cudaDevAttrMaxGridDimY));
	CHECK(properties.sharedMemPerBlock == 48 << 10 && properties.totalConstMem == 64 << 10);
	CHECK(properties.multiProcessorCount == attribute(cudaDevAttrMultiProcessorCount));
	CHECK(properties.sharedMemPerBlockOptin ==
	      (size_t)attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
	CHECK(properties.unifiedAddressing == 1);
	CHECK(properties.memoryPoolsSupported == attribute(cudaDevAttrMemoryPoolsSupported));
	CHECK(properties.maxBlocksPerMultiProcessor ==
	      attribute(cudaDevAttrMaxBlocksPerMultiprocessor));
#if CUDART_VERSION < 13000
	CHECK(properties.clockRate == attribute(cudaDevAttrClockRate));
#else
	CHECK(properties.clusterLaunch == attribute(cudaDevAttrClusterLaunch));
#endif
	OK(cudaMemGetInfo(&free_bytes, &total));
	CHECK(total == properties.totalGlobalMem && free_bytes <= total && free_bytes > 0);
	OK(cudaDeviceGetPCIBusId(bus, sizeof(bus), 0));
	snprintf(expected, sizeof(expected), "%08x:%02x:%02x.0", properties.pciDomainID,
		 properties.pciBusID, properties.pciDeviceID);
	CHECK(!strcasecmp(bus, expected + 4) || !strcasecmp(bus, expected));
	OK(cudaDeviceGetByPCIBusId(&device, bus));
	CHECK(device == 0);
	OK(cudaChooseDevice(&device, &properties));
	CHECK(device == 0);
	FAILS(cudaGetDeviceProperties(&properties, 99), cudaErrorInvalidDevice);
	FAILS(cudaDeviceGetAttribute(&device, cudaDevAttrWarpSize, -1), cudaErrorInvalidDevice);
}

static void check_versions(void)
{
	int driver = 0;
	int runtime = 0;

	OK(cudaDriverGetVersion(&driver));
	OK(cudaRuntimeGetVersion(&runtime));
	CHECK(runtime / 1000 == CUDART_VERSION / 1000 && driver / 1000 >= runtime / 1000);
}

static void check_driver_entry_points(void)
{
	enum cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
	int (*version)(int *) = NULL;
	void *allocate[2] = { NULL, NULL };
	int number = 0;
	int expected = 0;

	OK(cudaGetDriverEntryPoint("cuDriverGetVersion", (void **)&version, cudaEnableDefault,
				   &found));
	CHECK(found == cudaDriverEntryPointSuccess && version && !version(&number));
	OK(cudaDriverGetVersion(&expected));
	CHECK(number == expected);
	OK(cudaGetDriverEntryPointByVersion("cuMemAlloc", &allocate[0], 12000, cudaEnableDefault,
					    &found));
	CHECK(found == cudaDriverEntryPointSuccess);
	OK(cudaGetDriverEntryPointByVersion("cuMemAlloc", &allocate[1], 2000, cudaEnableDefault,
					    &found));
	CHECK(allocate[0] && allocate[1] && allocate[0] != allocate[1]);
	OK(cudaGetDriverEntryPointByVersion("cuNoSuchFunction", &allocate[0], 12000,
					    cudaEnableDefault, &found));
	CHECK(found == cudaDriverEntryPointSymbolNotFound && !allocate[0]);
}

static void check_configuration(void)
{
	enum cudaFuncCache cache;
	enum cudaSharedMemConfig banks;
	size_t stack = 0;
	int least = -1;
	int greatest = 1;

	OK(cudaDeviceSetLimit(cudaLimitStackSize, 4096));
	OK(cudaDeviceGetLimit(&stack, cudaLimitStackSize));
	CHECK(stack >= 4096 && stack < 8192);
	CHECK(cudaDeviceGetLimit(&stack, (enum cudaLimit)99) != cudaSuccess);
	OK(cudaDeviceSetCacheConfig(cudaFuncCachePreferShared));
	OK(cudaDeviceGetCacheConfig(&cache));
	CHECK(cache == cudaFuncCachePreferShared);
	OK(cudaDeviceSetCacheConfig(cudaFuncCachePreferNone));
	OK(cudaDeviceSetSharedMemConfig(cudaSharedMemBankSizeFourByte));
	OK(cudaDeviceGetSharedMemConfig(&banks));
	CHECK(banks == cudaSharedMemBankSizeFourByte);
	OK(cudaFuncSetSharedMemConfig((const void *)scale_kernel, cudaSharedMemBankSizeFourByte));
	FAILS(cudaFuncSetSharedMemConfig((const void *)unknown_kernel,
					 cudaSharedMemBankSizeFourByte),
	      NO_KERNEL);
	OK(cudaDeviceGetStreamPriorityRange(&least, &greatest));
	CHECK(least == 0 && greatest <= 0);
	OK(cudaProfilerStart());
	OK(cudaProfilerStop());
}

static void check_channel(void)
{
	struct cudaChannelFormatDesc format =
		cudaCreateChannelDesc(8, 16, 32, 0, cudaChannelFormatKindFloat);

	CHECK(format.x == 8 && format.y == 16 && format.z == 32 && format.w == 0);
	CHECK(format.f == cudaChannelFormatKindFloat);
}

static void *other_thread(void *flags)
{
	int device = -1;

	/* A thread begins on device 0, with no error of another thread's. */
	CHECK(cudaGetLastError() == cudaSuccess);
	OK(cudaGetDevice(&device));
	CHECK(device == 0);
	OK(cudaGetDeviceFlags(flags));
	FAILS(cudaSetDevice(1234), cudaErrorInvalidDevice);
	CHECK(cudaPeekAtLastError() == cudaErrorInvalidDevice);
	return NULL;
}

static void check_selection(void)
{
	pthread_t thread;
	unsigned int flags = 0;
	unsigned int others = ~0u;
	int valid[] = { 0 };
	int device = -1;
	int count = -1;

	OK(cudaSetDeviceFlags(cudaDeviceScheduleBlockingSync));
	OK(cudaSetValidDevices(valid, 1));
	OK(cudaInitDevice(0, 0, 0));
	OK(cudaGetDeviceCount(&count));
	CHECK(count >= 1);
	OK(cudaSetDevice(0));
	OK(cudaGetDevice(&device));
	CHECK(device == 0);
	OK(cudaGetDeviceFlags(&flags));
	CHECK((flags & cudaDeviceScheduleMask) == cudaDeviceScheduleBlockingSync);
	FAILS(cudaSetDevice(count), cudaErrorInvalidDevice);
	FAILS(cudaSetDevice(-1), cudaErrorInvalidDevice);
	CHECK(cudaPeekAtLastError() == cudaErrorInvalidDevice);
	CHECK(!pthread_create(&thread, NULL, other_thread, &others));
	pthread_join(thread, NULL);
	CHECK(others == flags);
	CHECK(cudaGetLastError() == cudaErrorInvalidDevice);
	FAILS(cudaGetDeviceCount(NULL), cudaErrorInvalidValue);
	FAILS(cudaInitDevice(7777, 0, 0), cudaErrorInvalidDevice);
	cudaGetLastError();
}

static void check_peers(void)
{
	int can = -1;
	float *from;
	float *to;
	float word = 42;

	OK(cudaDeviceCanAccessPeer(&can, 0, 0));
	CHECK(can == 0);
	FAILS(cudaDeviceGetP2PAttribute(&can, cudaDevP2PAttrAccessSupported, 0, 0),
	      cudaErrorInvalidDevice);
	FAILS(cudaDeviceEnablePeerAccess(0, 0), cudaErrorPeerAccessUnsupported);
	FAILS(cudaDeviceDisablePeerAccess(0), cudaErrorPeerAccessNotEnabled);
	OK(cudaMalloc((void **)&from, 4));
	OK(cudaMalloc((void **)&to, 4));
	OK(cudaMemcpy(from, &word, 4, cudaMemcpyHostToDevice));
	OK(cudaMemcpyPeer(to, 0, from, 0, 4));
	word = 0;
	OK(cudaMemcpy(&word, to, 4, cudaMemcpyDeviceToHost));
	CHECK(word == 42);
	OK(cudaMemset(to, 0, 4));
	OK(cudaMemcpyPeerAsync(to, 0, from, 0, 4, 0));
	OK(cudaDeviceSynchronize());
	word = 0;
	OK(cudaMemcpy(&word, to, 4, cudaMemcpyDeviceToHost));
	CHECK(word == 42);
	FAILS(cudaMemcpyPeer(to, 99, from, 0, 4), cudaErrorInvalidDevice);
	OK(cudaFree(from));
	OK(cudaFree(to));
	cudaGetLastError();
}

static pthread_barrier_t barrier;

/* Uses the device before and after another thread resets it. */
static void *survivor(void *unused)
{
	void *memory;

	(void)unused;
	OK(cudaMalloc(&memory, 4096));
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	OK(cudaMalloc(&memory, 4096));
	OK(cudaMemset(memory, 0, 4096));
	OK(launch_scale(memory, 2, 100, NULL));
	OK(cudaDeviceSynchronize());
	OK(cudaFree(memory));
	return NULL;
}

static void check_reset_under_another_thread(void)
{
	pthread_t thread;

	pthread_barrier_init(&barrier, NULL, 2);
	CHECK(!pthread_create(&thread, NULL, survivor, NULL));
	pthread_barrier_wait(&barrier);
	OK(cudaDeviceReset());
	pthread_barrier_wait(&barrier);
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&barrier);
	OK(cudaFree(NULL));
}

static void check_reset(void)
{
	void *memory;
	size_t before;
	size_t after;
	size_t total;

	OK(cudaMalloc(&memory, 64 << 20));
	OK(cudaMemGetInfo(&before, &total));
	OK(cudaDeviceReset());
	OK(cudaMemGetInfo(&after, &total));
	CHECK(after >= before + (60 << 20));
	FAILS(cudaFree(memory), cudaErrorInvalidValue);
	/* Kernels are loaded anew. */
	OK(cudaMalloc(&memory, 400));
	OK(cudaMemset(memory, 0, 400));
	OK(launch_scale(memory, 2, 100, NULL));
	OK(cudaDeviceSynchronize());
	cudaGetLastError();
}

#if CUDART_VERSION < 13000
static void check_old_names(void)
{
	enum cudaFuncCache cache;
	size_t bytes = 0;
	void *memory;

	OK(cudaThreadSetLimit(cudaLimitStackSize, 2048));
	OK(cudaThreadGetLimit(&bytes, cudaLimitStackSize));
	CHECK(bytes >= 2048 && bytes < 4096);
	OK(cudaThreadSetCacheConfig(cudaFuncCachePreferL1));
	OK(cudaThreadGetCacheConfig(&cache));
	CHECK(cache == cudaFuncCachePreferL1);
	OK(cudaMalloc(&memory, 1024));
	OK(cudaThreadSynchronize());
	OK(cudaThreadExit());
	FAILS(cudaFree(memory), cudaErrorInvalidValue);
	cudaGetLastError();
}

/* Under its older name the structure ends where that of CUDA 11 did. */
#undef cudaGetDeviceProperties
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device);

static void check_old_properties(void)
{
	struct cudaDeviceProp all;
	struct cudaDeviceProp old;
	size_t bytes = offsetof(struct cudaDeviceProp, hostRegisterSupported);

	memset(&old, 0x5a, sizeof(old));
	OK(cudaGetDeviceProperties_v2(&all, 0));
	OK(cudaGetDeviceProperties(&old, 0));
	CHECK(!memcmp(&all, &old, bytes));
	CHECK(((unsigned char *)&old)[bytes] == 0x5a && old.reserved[62] == 0x5a5a5a5a);
}
#endif

int main(void)
{
	check_selection();
	check_properties();
	check_versions();
	check_driver_entry_points();
	check_configuration();
	check_channel();
	check_peers();
	check_reset();
	check_reset_under_another_thread();
#if CUDART_VERSION < 13000
	check_old_names();
	check_old_properties();
#endif
	return report();
}
