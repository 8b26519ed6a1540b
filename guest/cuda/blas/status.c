// SPDX-License-Identifier: MIT
/* Names and meanings of the statuses. */
#include "internal.h"

static const struct {
	cublasStatus_t status;
	const char *name;
	const char *meaning;
} statuses[] = {
#define STATUS(NAME, MEANING) { NAME, #NAME, MEANING }
	STATUS(CUBLAS_STATUS_SUCCESS, "success"),
	STATUS(CUBLAS_STATUS_NOT_INITIALIZED, "there is no handle, or no device to make one for"),
	STATUS(CUBLAS_STATUS_ALLOC_FAILED, "out of memory"),
	STATUS(CUBLAS_STATUS_INVALID_VALUE, "an argument has a value that the function forbids"),
	STATUS(CUBLAS_STATUS_ARCH_MISMATCH, "the device lacks a feature that the function needs"),
	STATUS(CUBLAS_STATUS_MAPPING_ERROR, "device memory could not be accessed"),
	STATUS(CUBLAS_STATUS_EXECUTION_FAILED, "the device failed to carry out the function"),
	STATUS(CUBLAS_STATUS_INTERNAL_ERROR, "internal error"),
	STATUS(CUBLAS_STATUS_NOT_SUPPORTED, "the function or its combination of arguments is not "
					    "supported"),
	STATUS(CUBLAS_STATUS_LICENSE_ERROR, "license error"),
#undef STATUS
};

CUBLAS_EXPORT const char *cublasGetStatusName(cublasStatus_t status)
{
	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
		if (statuses[i].status == status)
			return statuses[i].name;
	}
	return "unknown status";
}

CUBLAS_EXPORT const char *cublasGetStatusString(cublasStatus_t status)
{
	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
		if (statuses[i].status == status)
			return statuses[i].meaning;
	}
	return "unknown status";
}
