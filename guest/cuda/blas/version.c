// SPDX-License-Identifier: MIT
/* The release of cuBLAS whose API this library has; compiled once for each major version. */
#include "internal.h"

#if CUBLAS_MAJOR == 12
#define CUBLAS_MINOR   9
#define CUDART_VERSION 12090
#else
#define CUBLAS_MINOR   10
#define CUDART_VERSION 13000
#endif
#define CUBLAS_PATCH 0

CUBLAS_EXPORT cublasStatus_t cublasGetVersion_v2(cublasHandle_t handle, int *version)
{
	(void)handle;
	if (!version)
		return CUBLAS_STATUS_INVALID_VALUE;
	*version = CUBLAS_MAJOR * 10000 + CUBLAS_MINOR * 100 + CUBLAS_PATCH;
	return CUBLAS_STATUS_SUCCESS;
}

CUBLAS_EXPORT cublasStatus_t cublasGetProperty(libraryPropertyType type, int *value)
{
	static const int properties[] = { CUBLAS_MAJOR, CUBLAS_MINOR, CUBLAS_PATCH };

	if (!value || (unsigned int)type > PATCH_LEVEL)
		return CUBLAS_STATUS_INVALID_VALUE;
	*value = properties[type];
	return CUBLAS_STATUS_SUCCESS;
}

CUBLAS_EXPORT size_t cublasGetCudartVersion(void)
{
	return CUDART_VERSION;
}
