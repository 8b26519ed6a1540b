// SPDX-License-Identifier: MIT
/* Last errors, and errors in words. */
#include "internal.h"
#include "vgpu_stub_export.h"

static _Thread_local cudaError_t last;

cudaError_t vgpu_done(cudaError_t error)
{
	/* Not being ready is an answer, not an error. */
	if (error != cudaSuccess && error != cudaErrorNotReady)
		last = error;
	return error;
}

cudaError_t cudaGetLastError(void)
{
	cudaError_t error = last;

	last = cudaSuccess;
	return error;
}

cudaError_t cudaPeekAtLastError(void)
{
	return last;
}

struct text {
	cudaError_t error;
	const char *name;
	const char *words;
};

/* Codes that the driver does not have, or calls by another name. */
static const struct text texts[] = {
	{ cudaSuccess, "cudaSuccess", "no error" },
	{ cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument" },
	{ cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory" },
	{ cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error" },
	{ cudaErrorCudartUnloading, "cudaErrorCudartUnloading", "driver shutting down" },
	{ cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
	  "invalid configuration argument" },
	{ cudaErrorInvalidPitchValue, "cudaErrorInvalidPitchValue", "invalid pitch argument" },
	{ cudaErrorInvalidSymbol, "cudaErrorInvalidSymbol", "invalid device symbol" },
	{ cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection",
	  "invalid copy direction for memcpy" },
	{ cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
	  "CUDA driver version is insufficient for CUDA runtime version" },
	{ cudaErrorMissingConfiguration, "cudaErrorMissingConfiguration",
	  "__global__ function call is not configured" },
	{ cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction",
	  "invalid device function" },
	{ cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected" },
	{ cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal" },
	{ cudaErrorInvalidKernelImage, "cudaErrorInvalidKernelImage",
	  "device kernel image is invalid" },
	{ cudaErrorDeviceUninitialized, "cudaErrorDeviceUninitialized", "invalid device context" },
	{ cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
	  "no kernel image is available for execution on the device" },
	{ cudaErrorInvalidPtx, "cudaErrorInvalidPtx", "a PTX JIT compilation failed" },
	{ cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle",
	  "invalid resource handle" },
	{ cudaErrorSymbolNotFound, "cudaErrorSymbolNotFound", "named symbol not found" },
	{ cudaErrorNotReady, "cudaErrorNotReady", "device not ready" },
	{ cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
	  "an illegal memory access was encountered" },
	{ cudaErrorLaunchOutOfResources, "cudaErrorLaunchOutOfResources",
	  "too many resources requested for launch" },
	{ cudaErrorLaunchTimeout, "cudaErrorLaunchTimeout",
	  "the launch timed out and was terminated" },
	{ cudaErrorAssert, "cudaErrorAssert", "device-side assert triggered" },
	{ cudaErrorHostMemoryAlreadyRegistered, "cudaErrorHostMemoryAlreadyRegistered",
	  "part or all of the requested memory range is already mapped" },
	{ cudaErrorHostMemoryNotRegistered, "cudaErrorHostMemoryNotRegistered",
	  "pointer does not correspond to a registered memory region" },
	{ cudaErrorIllegalInstruction, "cudaErrorIllegalInstruction",
	  "an illegal instruction was encountered" },
	{ cudaErrorMisalignedAddress, "cudaErrorMisalignedAddress", "misaligned address" },
	{ cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure" },
	{ cudaErrorCooperativeLaunchTooLarge, "cudaErrorCooperativeLaunchTooLarge",
	  "too many blocks in cooperative launch" },
	{ cudaErrorNotPermitted, "cudaErrorNotPermitted", "operation not permitted" },
	{ cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported" },
	{ cudaErrorSystemDriverMismatch, "cudaErrorSystemDriverMismatch",
	  "system has unsupported display driver / cuda driver combination" },
	{ cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
	  "operation not permitted when stream is capturing" },
	{ cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
	  "operation failed due to a previous error during capture" },
	{ cudaErrorGraphExecUpdateFailure, "cudaErrorGraphExecUpdateFailure",
	  "the graph update was not performed because it included changes which violated "
	  "constraints specific to instantiated graph update" },
	{ cudaErrorUnknown, "cudaErrorUnknown", "unknown error" },
};

static const struct text *find(cudaError_t error)
{
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (texts[i].error == error)
			return &texts[i];
	}
	return NULL;
}

const char *cudaGetErrorName(cudaError_t error)
{
	const struct text *text = find(error);
	const char *name;

	if (text)
		return text->name;
	return cuGetErrorName((CUresult)error, &name) == CUDA_SUCCESS ? name
								      : "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error)
{
	const struct text *text = find(error);
	const char *words;

	if (text)
		return text->words;
	return cuGetErrorString((CUresult)error, &words) == CUDA_SUCCESS
		       ? words
		       : "unrecognized error code";
}

/* refused.c: counts a call that is not supported. */
int vgpu_runtime_refuse(const char *symbol);

int vgpu_runtime_refuse(const char *symbol)
{
	const CUuuid id = VGPU_EXPORT_ID;
	const void *table;

	if (cuGetExportTable(&table, &id) == CUDA_SUCCESS)
		((const struct vgpu_export *)table)->refuse(symbol);
	return vgpu_done(cudaErrorNotSupported);
}
