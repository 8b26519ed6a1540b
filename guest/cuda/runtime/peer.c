// SPDX-License-Identifier: MIT
/* Several devices: there is one, so these are copies on it and the documented errors. */
#include "internal.h"

cudaError_t cudaDeviceCanAccessPeer(int *can, int ordinal, int peer)
{
	CUdevice device;
	CUdevice other;
	cudaError_t error = vgpu_device_of(ordinal, &device);

	if (error == cudaSuccess)
		error = vgpu_device_of(peer, &other);
	if (error == cudaSuccess)
		error = vgpu_error(cuDeviceCanAccessPeer(can, device, other));
	return vgpu_done(error);
}

/* A device is no peer of itself, and there is no other: the driver says what CUDA says then. */
cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned int flags)
{
	CUdevice device;
	CUdevice other;
	int can = 0;
	cudaError_t error = flags ? cudaErrorInvalidValue : vgpu_current_device(&device);

	if (error == cudaSuccess)
		error = vgpu_device_of(peer, &other);
	if (error == cudaSuccess)
		error = vgpu_error(cuDeviceCanAccessPeer(&can, device, other));
	if (error == cudaSuccess)
		error = can ? cudaErrorNotSupported : cudaErrorPeerAccessUnsupported;
	return vgpu_done(error);
}

cudaError_t cudaDeviceDisablePeerAccess(int peer)
{
	CUdevice other;
	cudaError_t error = vgpu_device_of(peer, &other);

	return vgpu_done(error == cudaSuccess ? cudaErrorPeerAccessNotEnabled : error);
}

cudaError_t cudaDeviceGetP2PAttribute(int *value, enum cudaDeviceP2PAttr attribute, int ordinal,
				      int peer)
{
	CUdevice device;
	CUdevice other;
	cudaError_t error = vgpu_device_of(ordinal, &device);

	if (error == cudaSuccess)
		error = vgpu_device_of(peer, &other);
	if (error == cudaSuccess)
		error = vgpu_error(cuDeviceGetP2PAttribute(value, (CUdevice_P2PAttribute)attribute,
							   device, other));
	return vgpu_done(error);
}

static cudaError_t both(int one, int other)
{
	CUdevice device;
	cudaError_t error = vgpu_device_of(one, &device);

	return error == cudaSuccess ? vgpu_device_of(other, &device) : error;
}

cudaError_t cudaMemcpyPeer(void *to, int to_device, const void *from, int from_device, size_t bytes)
{
	cudaError_t error = both(to_device, from_device);

	if (error != cudaSuccess)
		return vgpu_done(error);
	return cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToDevice);
}

cudaError_t cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device,
				size_t bytes, cudaStream_t stream)
{
	cudaError_t error = both(to_device, from_device);

	if (error != cudaSuccess)
		return vgpu_done(error);
	return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream);
}
