/* SPDX-License-Identifier: MIT */
/*
 * What the files of libcublas share. An API file checks its arguments as cuBLAS
 * documents it, fills in one struct vgpu_cmd_blas, and blas_submit() hands it to
 * libcuda.so.1, which puts it into the ring in the order of the handle's stream.
 *
 * Data pointers are `void *` throughout: the types of the API's prototypes differ
 * in nothing that the ABI sees.
 */
#ifndef VGPU_CUBLAS_INTERNAL_H
#define VGPU_CUBLAS_INTERNAL_H

#include <cuda.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cublas_types.h"
#include "vgpu_stub_abi.h"
#include "vgpu_stub_commands.h"
#include "vgpu_stub_export.h"

#define CUBLAS_EXPORT __attribute__((visibility("default")))

/* handle.c */

struct cublasContext {
	uint64_t magic; /* while the handle lives */
	CUcontext context;
	CUstream stream;
	cublasPointerMode_t pointer_mode;
	cublasAtomicsMode_t atomics_mode;
	unsigned int math_mode; /* cublasMath_t */
	void *workspace;	/* NULL: cuBLAS' own */
	size_t workspace_bytes;
	CUdeviceptr result; /* 16 bytes of device memory, or 0; see blas_result_memory() */
};

bool blas_handle_alive(cublasHandle_t handle);

/* submit.c */

const struct vgpu_export *blas_driver(void); /* NULL: libcuda.so.1 is not ours */
cublasStatus_t blas_status(CUresult result);
/* Has a current context, the device's primary one where the thread has none. */
CUresult blas_require_context(void);
/* Makes the host ready for routines; waits until it is. */
CUresult blas_prepare(cublasHandle_t handle);

/* Scalars of a routine: values in the handle's pointer mode. */
void blas_set_scalar(cublasHandle_t handle, __u8 place[16], const void *scalar, size_t bytes);
size_t blas_type_bytes(cudaDataType type);

/* A command in which nothing is set but what every routine has. */
struct vgpu_cmd_blas blas_command(cublasHandle_t handle, __u32 routine);
cublasStatus_t blas_submit(cublasHandle_t handle, struct vgpu_cmd_blas *command);

/* Device memory of the handle for one result, and that result once the stream is done. */
cublasStatus_t blas_result_memory(cublasHandle_t handle, __u64 *pointer);
cublasStatus_t blas_fetch_result(cublasHandle_t handle, void *result, size_t bytes);

static inline bool blas_is_operation(cublasOperation_t operation)
{
	return (unsigned int)operation <= CUBLAS_OP_C;
}

static inline int64_t blas_at_least_1(int64_t number)
{
	return number > 1 ? number : 1;
}

static inline __u64 blas_address(const void *pointer)
{
	return (__u64)(uintptr_t)pointer;
}

/* logger.c */
extern atomic_bool blas_logging;
void blas_log_from_environment(void);
void blas_log_command(const struct vgpu_cmd_blas *command, cublasStatus_t status);

/* status.c */
const char *cublasGetStatusName(cublasStatus_t status);

/* refused.c; counts the call and returns CUBLAS_STATUS_NOT_SUPPORTED. */
int blas_refuse(const char *symbol);

#endif /* VGPU_CUBLAS_INTERNAL_H */
