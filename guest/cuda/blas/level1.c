// SPDX-License-Identifier: MIT
/*
 * Level 1: vectors. Results always go to device memory; in host pointer mode that
 * is the handle's own, from where the call fetches them when the stream is done.
 */
#include "internal.h"

struct vectors {
	int64_t n;
	const void *x;
	int64_t incx;
	const void *y;
	int64_t incy;
};

static struct vgpu_cmd_blas command_of(cublasHandle_t handle, __u32 routine, cudaDataType type,
				       const struct vectors *of)
{
	struct vgpu_cmd_blas command = blas_command(handle, routine);

	command.a_type = command.b_type = command.c_type = type;
	command.n = of->n > 0 ? of->n : 0;
	command.a = blas_address(of->x);
	command.a_step = of->incx;
	command.b = blas_address(of->y);
	command.b_step = of->incy;
	return command;
}

/* Changes vectors; `alpha`, of type `scale`, where the routine has one. */
static cublasStatus_t change(cublasHandle_t handle, __u32 routine, cudaDataType type,
			     const struct vectors *of, const void *alpha, cudaDataType scale)
{
	struct vgpu_cmd_blas command;

	if (!blas_handle_alive(handle))
		return CUBLAS_STATUS_NOT_INITIALIZED;
	if (of->n <= 0)
		return CUBLAS_STATUS_SUCCESS;
	command = command_of(handle, routine, type, of);
	if (alpha) {
		blas_set_scalar(handle, command.alpha, alpha, blas_type_bytes(scale));
		command.c_type = scale;
	}
	return blas_submit(handle, &command);
}

static cublasStatus_t scaled(cublasHandle_t handle, __u32 routine, cudaDataType type,
			     const struct vectors *of, const void *alpha, cudaDataType scale)
{
	if (!blas_handle_alive(handle))
		return CUBLAS_STATUS_NOT_INITIALIZED;
	if (!alpha)
		return CUBLAS_STATUS_INVALID_VALUE;
	return change(handle, routine, type, of, alpha, scale);
}

/* Computes one value of type `kind` from vectors. */
static cublasStatus_t reduce(cublasHandle_t handle, __u32 routine, cudaDataType type,
			     const struct vectors *of, void *result, cudaDataType kind)
{
	struct vgpu_cmd_blas command;
	cublasStatus_t status;

	if (!blas_handle_alive(handle))
		return CUBLAS_STATUS_NOT_INITIALIZED;
	if (!result)
		return CUBLAS_STATUS_INVALID_VALUE;
	command = command_of(handle, routine, type, of);
	command.c_type = kind;
	command.blas_flags |= VGPU_BLAS_FLAG_DEVICE_SCALARS;
	if (handle->pointer_mode == CUBLAS_POINTER_MODE_DEVICE) {
		command.c = blas_address(result);
		return blas_submit(handle, &command);
	}
	status = blas_result_memory(handle, &command.c);
	if (status == CUBLAS_STATUS_SUCCESS)
		status = blas_submit(handle, &command);
	if (status == CUBLAS_STATUS_SUCCESS)
		status = blas_fetch_result(handle, result, blas_type_bytes(kind));
	return status;
}

#define X(N, DATA, STEP)		 (&(struct vectors){ N, DATA, STEP, NULL, 1 })
#define XY(N, DATA, STEP, OTHER, BESIDE) (&(struct vectors){ N, DATA, STEP, OTHER, BESIDE })

#define DEFINE_COMMON(LETTER, TYPE, INT, SUFFIX)                                                   \
	CUBLAS_EXPORT cublasStatus_t cublas##LETTER##axpy_v2##SUFFIX(                              \
		cublasHandle_t handle, INT n, const void *alpha, const void *x, INT incx, void *y, \
		INT incy)                                                                          \
	{                                                                                          \
		return scaled(handle, VGPU_BLAS_AXPY, TYPE, XY(n, x, incx, y, incy), alpha, TYPE); \
	}                                                                                          \
	CUBLAS_EXPORT cublasStatus_t cublas##LETTER##copy_v2##SUFFIX(                              \
		cublasHandle_t handle, INT n, const void *x, INT incx, void *y, INT incy)          \
	{                                                                                          \
		return change(handle, VGPU_BLAS_COPY, TYPE, XY(n, x, incx, y, incy), NULL, TYPE);  \
	}                                                                                          \
	CUBLAS_EXPORT cublasStatus_t cublas##LETTER##swap_v2##SUFFIX(                              \
		cublasHandle_t handle, INT n, void *x, INT incx, void *y, INT incy)                \
	{                                                                                          \
		return change(handle, VGPU_BLAS_SWAP, TYPE, XY(n, x, incx, y, incy), NULL, TYPE);  \
	}

#define DEFINE_SCAL(NAME, TYPE, SCALE, INT, SUFFIX)                                                \
	CUBLAS_EXPORT cublasStatus_t cublas##NAME##_v2##SUFFIX(                                    \
		cublasHandle_t handle, INT n, const void *alpha, void *x, INT incx)                \
	{                                                                                          \
		return scaled(handle, VGPU_BLAS_SCAL, TYPE, X(n, x, incx), alpha, SCALE);          \
	}

#define DEFINE_DOT(NAME, ROUTINE, TYPE, INT, SUFFIX)                                               \
	CUBLAS_EXPORT cublasStatus_t cublas##NAME##_v2##SUFFIX(                                    \
		cublasHandle_t handle, INT n, const void *x, INT incx, const void *y, INT incy,    \
		void *result)                                                                      \
	{                                                                                          \
		return reduce(handle, ROUTINE, TYPE, XY(n, x, incx, y, incy), result, TYPE);       \
	}

#define DEFINE_REDUCTION(NAME, ROUTINE, TYPE, RESULT, INT, SUFFIX)                                 \
	CUBLAS_EXPORT cublasStatus_t cublas##NAME##_v2##SUFFIX(                                    \
		cublasHandle_t handle, INT n, const void *x, INT incx, void *result)               \
	{                                                                                          \
		return reduce(handle, ROUTINE, TYPE, X(n, x, incx), result, RESULT);               \
	}

/* What the functions named Ex compute with: float for half and bfloat16, else the type itself. */
static bool is_execution_type(cudaDataType execution, cudaDataType type)
{
	switch (type) {
	case CUDA_R_16F:
	case CUDA_R_16BF:
		return execution == CUDA_R_32F;
	case CUDA_R_32F:
	case CUDA_R_64F:
	case CUDA_C_32F:
	case CUDA_C_64F:
		return execution == type;
	default:
		return false;
	}
}

static cudaDataType real_of(cudaDataType type)
{
	if (type == CUDA_C_32F)
		return CUDA_R_32F;
	return type == CUDA_C_64F ? CUDA_R_64F : type;
}

static cublasStatus_t scaled_ex(cublasHandle_t handle, __u32 routine, cudaDataType type,
				const struct vectors *of, const void *alpha, cudaDataType scale,
				cudaDataType execution)
{
	if (!blas_handle_alive(handle))
		return CUBLAS_STATUS_NOT_INITIALIZED;
	if (!is_execution_type(execution, type) || scale != execution)
		return CUBLAS_STATUS_NOT_SUPPORTED;
	return scaled(handle, routine, type, of, alpha, scale);
}

static cublasStatus_t reduce_ex(cublasHandle_t handle, __u32 routine, cudaDataType type,
				const struct vectors *of, void *result, cudaDataType kind,
				cudaDataType execution)
{
	if (!blas_handle_alive(handle))
		return CUBLAS_STATUS_NOT_INITIALIZED;
	if (!is_execution_type(execution, kind))
		return CUBLAS_STATUS_NOT_SUPPORTED;
	return reduce(handle, routine, type, of, result, kind);
}

#define DEFINE_DOT_EX(NAME, ROUTINE, INT)                                                          \
	CUBLAS_EXPORT cublasStatus_t NAME(cublasHandle_t handle, INT n, const void *x,             \
					  cudaDataType x_type, INT incx, const void *y,            \
					  cudaDataType y_type, INT incy, void *result,             \
					  cudaDataType result_type, cudaDataType execution)        \
	{                                                                                          \
		if (x_type != y_type || x_type != result_type)                                     \
			return CUBLAS_STATUS_NOT_SUPPORTED;                                        \
		return reduce_ex(handle, ROUTINE, x_type, XY(n, x, incx, y, incy), result,         \
				 result_type, execution);                                          \
	}

#define DEFINE_EX(INT, SUFFIX)                                                                     \
	DEFINE_DOT_EX(cublasDotEx##SUFFIX, VGPU_BLAS_DOT, INT)                                     \
	DEFINE_DOT_EX(cublasDotcEx##SUFFIX, VGPU_BLAS_DOTC, INT)                                   \
	CUBLAS_EXPORT cublasStatus_t cublasNrm2Ex##SUFFIX(                                         \
		cublasHandle_t handle, INT n, const void *x, cudaDataType x_type, INT incx,        \
		void *result, cudaDataType result_type, cudaDataType execution)                    \
	{                                                                                          \
		if (result_type != real_of(x_type))                                                \
			return CUBLAS_STATUS_NOT_SUPPORTED;                                        \
		return reduce_ex(handle, VGPU_BLAS_NRM2, x_type, X(n, x, incx), result,            \
				 result_type, execution);                                          \
	}                                                                                          \
	CUBLAS_EXPORT cublasStatus_t cublasScalEx##SUFFIX(                                         \
		cublasHandle_t handle, INT n, const void *alpha, cudaDataType alpha_type, void *x, \
		cudaDataType x_type, INT incx, cudaDataType execution)                             \
	{                                                                                          \
		return scaled_ex(handle, VGPU_BLAS_SCAL, x_type, X(n, x, incx), alpha, alpha_type, \
				 execution);                                                       \
	}                                                                                          \
	CUBLAS_EXPORT cublasStatus_t cublasAxpyEx##SUFFIX(                                         \
		cublasHandle_t handle, INT n, const void *alpha, cudaDataType alpha_type,          \
		const void *x, cudaDataType x_type, INT incx, void *y, cudaDataType y_type,        \
		INT incy, cudaDataType execution)                                                  \
	{                                                                                          \
		if (x_type != y_type)                                                              \
			return CUBLAS_STATUS_NOT_SUPPORTED;                                        \
		return scaled_ex(handle, VGPU_BLAS_AXPY, x_type, XY(n, x, incx, y, incy), alpha,   \
				 alpha_type, execution);                                           \
	}

#define DEFINE_ALL(INT, INDEX, SUFFIX)                                                             \
	DEFINE_EX(INT, SUFFIX)                                                                     \
	DEFINE_COMMON(S, CUDA_R_32F, INT, SUFFIX)                                                  \
	DEFINE_COMMON(D, CUDA_R_64F, INT, SUFFIX)                                                  \
	DEFINE_COMMON(C, CUDA_C_32F, INT, SUFFIX)                                                  \
	DEFINE_COMMON(Z, CUDA_C_64F, INT, SUFFIX)                                                  \
	DEFINE_SCAL(Sscal, CUDA_R_32F, CUDA_R_32F, INT, SUFFIX)                                    \
	DEFINE_SCAL(Dscal, CUDA_R_64F, CUDA_R_64F, INT, SUFFIX)                                    \
	DEFINE_SCAL(Cscal, CUDA_C_32F, CUDA_C_32F, INT, SUFFIX)                                    \
	DEFINE_SCAL(Zscal, CUDA_C_64F, CUDA_C_64F, INT, SUFFIX)                                    \
	DEFINE_SCAL(Csscal, CUDA_C_32F, CUDA_R_32F, INT, SUFFIX)                                   \
	DEFINE_SCAL(Zdscal, CUDA_C_64F, CUDA_R_64F, INT, SUFFIX)                                   \
	DEFINE_DOT(Sdot, VGPU_BLAS_DOT, CUDA_R_32F, INT, SUFFIX)                                   \
	DEFINE_DOT(Ddot, VGPU_BLAS_DOT, CUDA_R_64F, INT, SUFFIX)                                   \
	DEFINE_DOT(Cdotu, VGPU_BLAS_DOT, CUDA_C_32F, INT, SUFFIX)                                  \
	DEFINE_DOT(Zdotu, VGPU_BLAS_DOT, CUDA_C_64F, INT, SUFFIX)                                  \
	DEFINE_DOT(Cdotc, VGPU_BLAS_DOTC, CUDA_C_32F, INT, SUFFIX)                                 \
	DEFINE_DOT(Zdotc, VGPU_BLAS_DOTC, CUDA_C_64F, INT, SUFFIX)                                 \
	DEFINE_REDUCTION(Snrm2, VGPU_BLAS_NRM2, CUDA_R_32F, CUDA_R_32F, INT, SUFFIX)               \
	DEFINE_REDUCTION(Dnrm2, VGPU_BLAS_NRM2, CUDA_R_64F, CUDA_R_64F, INT, SUFFIX)               \
	DEFINE_REDUCTION(Scnrm2, VGPU_BLAS_NRM2, CUDA_C_32F, CUDA_R_32F, INT, SUFFIX)              \
	DEFINE_REDUCTION(Dznrm2, VGPU_BLAS_NRM2, CUDA_C_64F, CUDA_R_64F, INT, SUFFIX)              \
	DEFINE_REDUCTION(Sasum, VGPU_BLAS_ASUM, CUDA_R_32F, CUDA_R_32F, INT, SUFFIX)               \
	DEFINE_REDUCTION(Dasum, VGPU_BLAS_ASUM, CUDA_R_64F, CUDA_R_64F, INT, SUFFIX)               \
	DEFINE_REDUCTION(Scasum, VGPU_BLAS_ASUM, CUDA_C_32F, CUDA_R_32F, INT, SUFFIX)              \
	DEFINE_REDUCTION(Dzasum, VGPU_BLAS_ASUM, CUDA_C_64F, CUDA_R_64F, INT, SUFFIX)              \
	DEFINE_REDUCTION(Isamax, VGPU_BLAS_AMAX, CUDA_R_32F, INDEX, INT, SUFFIX)                   \
	DEFINE_REDUCTION(Idamax, VGPU_BLAS_AMAX, CUDA_R_64F, INDEX, INT, SUFFIX)                   \
	DEFINE_REDUCTION(Icamax, VGPU_BLAS_AMAX, CUDA_C_32F, INDEX, INT, SUFFIX)                   \
	DEFINE_REDUCTION(Izamax, VGPU_BLAS_AMAX, CUDA_C_64F, INDEX, INT, SUFFIX)                   \
	DEFINE_REDUCTION(Isamin, VGPU_BLAS_AMIN, CUDA_R_32F, INDEX, INT, SUFFIX)                   \
	DEFINE_REDUCTION(Idamin, VGPU_BLAS_AMIN, CUDA_R_64F, INDEX, INT, SUFFIX)                   \
	DEFINE_REDUCTION(Icamin, VGPU_BLAS_AMIN, CUDA_C_32F, INDEX, INT, SUFFIX)                   \
	DEFINE_REDUCTION(Izamin, VGPU_BLAS_AMIN, CUDA_C_64F, INDEX, INT, SUFFIX)

DEFINE_ALL(int, CUDA_R_32I, )
DEFINE_ALL(int64_t, CUDA_R_64I, _64)
