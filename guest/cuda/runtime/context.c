// SPDX-License-Identifier: MIT
/* The device and the context of a thread, and what ends them. */
#include <pthread.h>
#include <stdatomic.h>

#include "internal.h"

#define MAX_DEVICES 64

static atomic_bool ready;	 /* cuInit has succeeded and the driver is new enough */
static _Thread_local int chosen; /* cudaSetDevice of this thread */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned int flags_wanted[MAX_DEVICES]; /* cudaSetDeviceFlags, before the context is made */
static CUcontext primary[MAX_DEVICES];	       /* retained; guarded by lock */

cudaError_t vgpu_initialize(void)
{
	CUresult result;
	int version;

	if (atomic_load_explicit(&ready, memory_order_acquire))
		return cudaSuccess;
	result = cuInit(0);
	if (result != CUDA_SUCCESS)
		return vgpu_error(result);
	if (cuDriverGetVersion(&version) != CUDA_SUCCESS || version / 1000 < CUDART_VERSION / 1000)
		return cudaErrorInsufficientDriver;
	atomic_store_explicit(&ready, true, memory_order_release);
	return cudaSuccess;
}

cudaError_t vgpu_device_of(int ordinal, CUdevice *device)
{
	cudaError_t error = vgpu_initialize();

	if (error != cudaSuccess)
		return error;
	/* In a forked child it fails otherwise than by the ordinal. */
	return vgpu_error(cuDeviceGet(device, ordinal));
}

/* Makes the primary context of the device current. */
static cudaError_t enter(int ordinal)
{
	CUcontext context;
	CUdevice device;
	cudaError_t error = vgpu_device_of(ordinal, &device);
	CUresult result = CUDA_SUCCESS;

	if (error != cudaSuccess)
		return error;
	if (ordinal >= MAX_DEVICES)
		return cudaErrorInvalidDevice;
	pthread_mutex_lock(&lock);
	if (!primary[ordinal]) {
		if (flags_wanted[ordinal])
			cuDevicePrimaryCtxSetFlags(device, flags_wanted[ordinal]);
		result = cuDevicePrimaryCtxRetain(&primary[ordinal], device);
	}
	context = primary[ordinal];
	pthread_mutex_unlock(&lock);
	if (result == CUDA_SUCCESS)
		result = cuCtxSetCurrent(context);
	return vgpu_error(result);
}

cudaError_t vgpu_context(void)
{
	CUcontext current;
	CUresult result = cuCtxGetCurrent(&current);

	if (__builtin_expect(result == CUDA_SUCCESS && current, 1))
		return cudaSuccess;
	if (result != CUDA_SUCCESS && result != CUDA_ERROR_NOT_INITIALIZED)
		return vgpu_error(result);
	return enter(chosen);
}

cudaError_t vgpu_current_device(CUdevice *device)
{
	CUcontext current;
	cudaError_t error = vgpu_initialize();

	if (error != cudaSuccess)
		return error;
	if (cuCtxGetCurrent(&current) == CUDA_SUCCESS && current)
		return vgpu_error(cuCtxGetDevice(device));
	return vgpu_device_of(chosen, device);
}

cudaError_t cudaGetDeviceCount(int *count)
{
	cudaError_t error;

	if (!count)
		return vgpu_done(cudaErrorInvalidValue);
	*count = 0;
	error = vgpu_initialize();
	if (error != cudaSuccess)
		return vgpu_done(error);
	error = vgpu_error(cuDeviceGetCount(count));
	if (error == cudaSuccess && *count == 0)
		error = cudaErrorNoDevice;
	return vgpu_done(error);
}

cudaError_t cudaSetDevice(int device)
{
	cudaError_t error = enter(device);

	if (error == cudaSuccess)
		chosen = device;
	return vgpu_done(error);
}

cudaError_t cudaInitDevice(int device, unsigned int flags, unsigned int which)
{
	CUdevice found;
	cudaError_t error = vgpu_device_of(device, &found);

	if (error == cudaSuccess && which & ~cudaInitDeviceFlagsAreValid)
		error = cudaErrorInvalidValue;
	if (error == cudaSuccess && which & cudaInitDeviceFlagsAreValid)
		error = vgpu_error(cuDevicePrimaryCtxSetFlags(found, flags));
	return vgpu_done(error);
}

cudaError_t cudaGetDevice(int *device)
{
	CUdevice found;
	cudaError_t error;

	if (!device)
		return vgpu_done(cudaErrorInvalidValue);
	error = vgpu_current_device(&found);
	if (error == cudaSuccess)
		*device = found;
	return vgpu_done(error);
}

cudaError_t cudaSetValidDevices(int *devices, int count)
{
	cudaError_t error = vgpu_initialize();
	CUdevice device;

	if (error != cudaSuccess || !count)
		return vgpu_done(error);
	if (!devices || count < 0)
		return vgpu_done(cudaErrorInvalidValue);
	for (int i = 0; i < count; i++) {
		if (cuDeviceGet(&device, devices[i]) != CUDA_SUCCESS)
			return vgpu_done(cudaErrorInvalidDevice);
	}
	chosen = devices[0];
	return cudaSuccess;
}

cudaError_t cudaSetDeviceFlags(unsigned int flags)
{
	CUdevice device;
	cudaError_t error = vgpu_device_of(chosen, &device);

	if (error == cudaSuccess && flags & ~(unsigned int)cudaDeviceMask)
		error = cudaErrorInvalidValue;
	if (error == cudaSuccess) {
		pthread_mutex_lock(&lock);
		flags_wanted[device] = flags;
		pthread_mutex_unlock(&lock);
		error = vgpu_error(cuDevicePrimaryCtxSetFlags(device, flags));
	}
	return vgpu_done(error);
}

cudaError_t cudaGetDeviceFlags(unsigned int *flags)
{
	CUdevice device;
	int active;
	cudaError_t error;

	if (!flags)
		return vgpu_done(cudaErrorInvalidValue);
	error = vgpu_current_device(&device);
	if (error == cudaSuccess)
		error = vgpu_error(cuDevicePrimaryCtxGetState(device, flags, &active));
	return vgpu_done(error);
}

cudaError_t cudaDeviceSynchronize(void)
{
	VGPU_RETURN_DRIVER(cuCtxSynchronize());
}

cudaError_t cudaDeviceReset(void)
{
	CUdevice device;
	cudaError_t error = vgpu_current_device(&device);

	if (error != cudaSuccess)
		return vgpu_done(error);
	pthread_mutex_lock(&lock);
	error = vgpu_error(cuDevicePrimaryCtxReset(device));
	primary[device] = NULL;
	pthread_mutex_unlock(&lock);
	if (error == cudaSuccess)
		error = vgpu_error(cuCtxSetCurrent(NULL));
	return vgpu_done(error);
}

cudaError_t cudaDeviceSetLimit(enum cudaLimit limit, size_t value)
{
	VGPU_RETURN_DRIVER(cuCtxSetLimit((CUlimit)limit, value));
}

cudaError_t cudaDeviceGetLimit(size_t *value, enum cudaLimit limit)
{
	VGPU_RETURN_DRIVER(cuCtxGetLimit(value, (CUlimit)limit));
}

cudaError_t cudaDeviceGetCacheConfig(enum cudaFuncCache *config)
{
	VGPU_RETURN_DRIVER(cuCtxGetCacheConfig((CUfunc_cache *)config));
}

cudaError_t cudaDeviceSetCacheConfig(enum cudaFuncCache config)
{
	VGPU_RETURN_DRIVER(cuCtxSetCacheConfig((CUfunc_cache)config));
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
	VGPU_RETURN_DRIVER(cuCtxGetStreamPriorityRange(least, greatest));
}

cudaError_t cudaDriverGetVersion(int *version)
{
	if (!version)
		return vgpu_done(cudaErrorInvalidValue);
	/* Without a driver the documented answer is success and 0. */
	if (cuDriverGetVersion(version) != CUDA_SUCCESS)
		*version = 0;
	return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
	if (!version)
		return vgpu_done(cudaErrorInvalidValue);
	*version = CUDART_VERSION;
	return cudaSuccess;
}
