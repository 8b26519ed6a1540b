// SPDX-License-Identifier: MIT
/*
 * Peers and affinity. There is one device, and a device is not its own peer; no context
 * can be kept to some of the multiprocessors.
 */
#include "internal.h"

static CUresult check(CUdevice device)
{
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	return device == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

/* CUDA wants two different devices. */
CUresult cuDeviceGetP2PAttribute(int *value, CUdevice_P2PAttribute attribute, CUdevice source,
				 CUdevice destination)
{
	CUresult status = check(source);

	if (status == CUDA_SUCCESS)
		status = check(destination);
	if (status != CUDA_SUCCESS)
		return status;
	if (!value || (int)attribute < CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK ||
	    attribute > CU_DEVICE_P2P_ATTRIBUTE_CUDA_ARRAY_ACCESS_SUPPORTED)
		return CUDA_ERROR_INVALID_VALUE;
	return CUDA_ERROR_INVALID_DEVICE;
}

static CUresult check_peer(CUcontext handle)
{
	struct vgpu_context *current;
	struct vgpu_context *peer;
	CUresult status = vgpu_current(&current);

	if (status != CUDA_SUCCESS)
		return status;
	peer = vgpu_context_from_handle(handle);
	return peer && peer != current ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned int flags)
{
	CUresult status = check_peer(peer);

	if (status != CUDA_SUCCESS)
		return status;
	return flags ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
}

CUresult cuCtxDisablePeerAccess(CUcontext peer)
{
	CUresult status = check_peer(peer);

	return status == CUDA_SUCCESS ? CUDA_ERROR_PEER_ACCESS_NOT_ENABLED : status;
}

CUresult cuDeviceGetExecAffinitySupport(int *supported, CUexecAffinityType type, CUdevice device)
{
	CUresult status = check(device);

	if (status != CUDA_SUCCESS)
		return status;
	if (!supported || (unsigned int)type >= CU_EXEC_AFFINITY_TYPE_MAX)
		return CUDA_ERROR_INVALID_VALUE;
	*supported = 0;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetExecAffinity(CUexecAffinityParam *parameter, CUexecAffinityType type)
{
	struct vgpu_context *context;
	CUresult status = vgpu_current(&context);

	if (status != CUDA_SUCCESS)
		return status;
	if (!parameter || (unsigned int)type >= CU_EXEC_AFFINITY_TYPE_MAX)
		return CUDA_ERROR_INVALID_VALUE;
	return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
}
