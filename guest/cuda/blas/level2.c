// SPDX-License-Identifier: MIT
/* Level 2: matrices with vectors. */
#include "internal.h"

struct operands { /* steps: leading dimension of a matrix, increment of a vector */
	cublasFillMode_t fill;
	cublasOperation_t operation;
	cublasDiagType_t diagonal;
	int64_t m;
	int64_t n;
	const void *a;
	int64_t a_step;
	int64_t a_stride;
	const void *b;
	int64_t b_step;
	int64_t b_stride;
	const void *c;
	int64_t c_step;
	int64_t c_stride;
	int64_t batch;
	bool pointer_arrays;
	const void *alpha;
	const void *beta;
};

static bool fits(const struct operands *of)
{
	return (unsigned int)of->fill <= CUBLAS_FILL_MODE_UPPER &&
	       blas_is_operation(of->operation) && (unsigned int)of->diagonal <= CUBLAS_DIAG_UNIT &&
	       of->m >= 0 && of->n >= 0 && of->batch >= 0;
}

static cublasStatus_t run(cublasHandle_t handle, __u32 routine, cudaDataType type,
			  const struct operands *of)
{
	struct vgpu_cmd_blas command = blas_command(handle, routine);

	if (!of->m || !of->n || !of->batch)
		return CUBLAS_STATUS_SUCCESS;
	command.a_type = command.b_type = command.c_type = type;
	command.fill = of->fill;
	command.a_operation = of->operation;
	command.diagonal = of->diagonal;
	command.m = of->m;
	command.n = of->n;
	command.a = blas_address(of->a);
	command.a_step = of->a_step;
	command.a_stride = of->a_stride;
	command.b = blas_address(of->b);
	command.b_step = of->b_step;
	command.b_stride = of->b_stride;
	command.c = blas_address(of->c);
	command.c_step = of->c_step;
	command.c_stride = of->c_stride;
	command.batch = of->batch;
	if (of->pointer_arrays)
		command.blas_flags |= VGPU_BLAS_FLAG_POINTER_ARRAYS;
	if (of->alpha)
		blas_set_scalar(handle, command.alpha, of->alpha, blas_type_bytes(type));
	if (of->beta)
		blas_set_scalar(handle, command.beta, of->beta, blas_type_bytes(type));
	return blas_submit(handle, &command);
}

/* y = alpha op(A) x + beta y */
static cublasStatus_t gemv(cublasHandle_t handle, cudaDataType type, const struct operands *of)
{
	if (!blas_handle_alive(handle))
		return CUBLAS_STATUS_NOT_INITIALIZED;
	if (!fits(of) || of->a_step < blas_at_least_1(of->m) || !of->b_step || !of->c_step ||
	    !of->alpha || !of->beta)
		return CUBLAS_STATUS_INVALID_VALUE;
	return run(handle, VGPU_BLAS_GEMV, type, of);
}

/* A = alpha x y' + A; c is A */
static cublasStatus_t ger(cublasHandle_t handle, __u32 routine, cudaDataType type,
			  const struct operands *of)
{
	if (!blas_handle_alive(handle))
		return CUBLAS_STATUS_NOT_INITIALIZED;
	if (!fits(of) || !of->a_step || !of->b_step || of->c_step < blas_at_least_1(of->m) ||
	    !of->alpha)
		return CUBLAS_STATUS_INVALID_VALUE;
	return run(handle, routine, type, of);
}

/* y = alpha A x + beta y, A symmetric or Hermitian of order n */
static cublasStatus_t symv(cublasHandle_t handle, __u32 routine, cudaDataType type,
			   const struct operands *of)
{
	if (!blas_handle_alive(handle))
		return CUBLAS_STATUS_NOT_INITIALIZED;
	if (!fits(of) || of->a_step < blas_at_least_1(of->n) || !of->b_step || !of->c_step ||
	    !of->alpha || !of->beta)
		return CUBLAS_STATUS_INVALID_VALUE;
	return run(handle, routine, type, of);
}

/* b = op(A) b, or its inverse; A is triangular of order n */
static cublasStatus_t triangular(cublasHandle_t handle, __u32 routine, cudaDataType type,
				 const struct operands *of)
{
	if (!blas_handle_alive(handle))
		return CUBLAS_STATUS_NOT_INITIALIZED;
	if (!fits(of) || of->a_step < blas_at_least_1(of->n) || !of->b_step)
		return CUBLAS_STATUS_INVALID_VALUE;
	return run(handle, routine, type, of);
}

#define DEFINE_GEMV(LETTER, TYPE, INT, SUFFIX)                                                     \
	CUBLAS_EXPORT cublasStatus_t cublas##LETTER##gemv_v2##SUFFIX(                              \
		cublasHandle_t handle, cublasOperation_t trans, INT m, INT n, const void *alpha,   \
		const void *a, INT lda, const void *x, INT incx, const void *beta, void *y,        \
		INT incy)                                                                          \
	{                                                                                          \
		return gemv(handle, TYPE,                                                          \
			    &(struct operands){ .operation = trans,                                \
						.m = m,                                            \
						.n = n,                                            \
						.a = a,                                            \
						.a_step = lda,                                     \
						.b = x,                                            \
						.b_step = incx,                                    \
						.c = y,                                            \
						.c_step = incy,                                    \
						.batch = 1,                                        \
						.alpha = alpha,                                    \
						.beta = beta });                                   \
	}                                                                                          \
	CUBLAS_EXPORT cublasStatus_t cublas##LETTER##gemvBatched##SUFFIX(                          \
		cublasHandle_t handle, cublasOperation_t trans, INT m, INT n, const void *alpha,   \
		const void *const a[], INT lda, const void *const x[], INT incx, const void *beta, \
		void *const y[], INT incy, INT count)                                              \
	{                                                                                          \
		return gemv(handle, TYPE,                                                          \
			    &(struct operands){ .operation = trans,                                \
						.m = m,                                            \
						.n = n,                                            \
						.a = a,                                            \
						.a_step = lda,                                     \
						.b = x,                                            \
						.b_step = incx,                                    \
						.c = y,                                            \
						.c_step = incy,                                    \
						.batch = count,                                    \
						.pointer_arrays = true,                            \
						.alpha = alpha,                                    \
						.beta = beta });                                   \
	}                                                                                          \
	CUBLAS_EXPORT cublasStatus_t cublas##LETTER##gemvStridedBatched##SUFFIX(                   \
		cublasHandle_t handle, cublasOperation_t trans, INT m, INT n, const void *alpha,   \
		const void *a, INT lda, long long stride_a, const void *x, INT incx,               \
		long long stride_x, const void *beta, void *y, INT incy, long long stride_y,       \
		INT count)                                                                         \
	{                                                                                          \
		return gemv(handle, TYPE,                                                          \
			    &(struct operands){ .operation = trans,                                \
						.m = m,                                            \
						.n = n,                                            \
						.a = a,                                            \
						.a_step = lda,                                     \
						.a_stride = stride_a,                              \
						.b = x,                                            \
						.b_step = incx,                                    \
						.b_stride = stride_x,                              \
						.c = y,                                            \
						.c_step = incy,                                    \
						.c_stride = stride_y,                              \
						.batch = count,                                    \
						.alpha = alpha,                                    \
						.beta = beta });                                   \
	}

#define DEFINE_GER(NAME, ROUTINE, TYPE, INT, SUFFIX)                                               \
	CUBLAS_EXPORT cublasStatus_t NAME##_v2##SUFFIX(cublasHandle_t handle, INT m, INT n,        \
						       const void *alpha, const void *x, INT incx, \
						       const void *y, INT incy, void *a, INT lda)  \
	{                                                                                          \
		return ger(handle, ROUTINE, TYPE,                                                  \
			   &(struct operands){ .m = m,                                             \
					       .n = n,                                             \
					       .a = x,                                             \
					       .a_step = incx,                                     \
					       .b = y,                                             \
					       .b_step = incy,                                     \
					       .c = a,                                             \
					       .c_step = lda,                                      \
					       .batch = 1,                                         \
					       .alpha = alpha });                                  \
	}

#define DEFINE_SYMV(NAME, ROUTINE, TYPE, INT, SUFFIX)                                              \
	CUBLAS_EXPORT cublasStatus_t NAME##_v2##SUFFIX(                                            \
		cublasHandle_t handle, cublasFillMode_t uplo, INT n, const void *alpha,            \
		const void *a, INT lda, const void *x, INT incx, const void *beta, void *y,        \
		INT incy)                                                                          \
	{                                                                                          \
		return symv(handle, ROUTINE, TYPE,                                                 \
			    &(struct operands){ .fill = uplo,                                      \
						.m = n,                                            \
						.n = n,                                            \
						.a = a,                                            \
						.a_step = lda,                                     \
						.b = x,                                            \
						.b_step = incx,                                    \
						.c = y,                                            \
						.c_step = incy,                                    \
						.batch = 1,                                        \
						.alpha = alpha,                                    \
						.beta = beta });                                   \
	}

#define DEFINE_TRIANGULAR(NAME, ROUTINE, TYPE, INT, SUFFIX)                                        \
	CUBLAS_EXPORT cublasStatus_t NAME##_v2##SUFFIX(                                            \
		cublasHandle_t handle, cublasFillMode_t uplo, cublasOperation_t trans,             \
		cublasDiagType_t diag, INT n, const void *a, INT lda, void *x, INT incx)           \
	{                                                                                          \
		return triangular(handle, ROUTINE, TYPE,                                           \
				  &(struct operands){ .fill = uplo,                                \
						      .operation = trans,                          \
						      .diagonal = diag,                            \
						      .m = n,                                      \
						      .n = n,                                      \
						      .a = a,                                      \
						      .a_step = lda,                               \
						      .b = x,                                      \
						      .b_step = incx,                              \
						      .batch = 1 });                               \
	}

#define DEFINE_COMMON(LETTER, TYPE, INT, SUFFIX)                                                   \
	DEFINE_GEMV(LETTER, TYPE, INT, SUFFIX)                                                     \
	DEFINE_SYMV(cublas##LETTER##symv, VGPU_BLAS_SYMV, TYPE, INT, SUFFIX)                       \
	DEFINE_TRIANGULAR(cublas##LETTER##trmv, VGPU_BLAS_TRMV, TYPE, INT, SUFFIX)                 \
	DEFINE_TRIANGULAR(cublas##LETTER##trsv, VGPU_BLAS_TRSV, TYPE, INT, SUFFIX)

#define DEFINE_ALL(INT, SUFFIX)                                                                    \
	DEFINE_COMMON(S, CUDA_R_32F, INT, SUFFIX)                                                  \
	DEFINE_COMMON(D, CUDA_R_64F, INT, SUFFIX)                                                  \
	DEFINE_COMMON(C, CUDA_C_32F, INT, SUFFIX)                                                  \
	DEFINE_COMMON(Z, CUDA_C_64F, INT, SUFFIX)                                                  \
	DEFINE_SYMV(cublasChemv, VGPU_BLAS_HEMV, CUDA_C_32F, INT, SUFFIX)                          \
	DEFINE_SYMV(cublasZhemv, VGPU_BLAS_HEMV, CUDA_C_64F, INT, SUFFIX)                          \
	DEFINE_GER(cublasSger, VGPU_BLAS_GER, CUDA_R_32F, INT, SUFFIX)                             \
	DEFINE_GER(cublasDger, VGPU_BLAS_GER, CUDA_R_64F, INT, SUFFIX)                             \
	DEFINE_GER(cublasCgeru, VGPU_BLAS_GER, CUDA_C_32F, INT, SUFFIX)                            \
	DEFINE_GER(cublasZgeru, VGPU_BLAS_GER, CUDA_C_64F, INT, SUFFIX)                            \
	DEFINE_GER(cublasCgerc, VGPU_BLAS_GERC, CUDA_C_32F, INT, SUFFIX)                           \
	DEFINE_GER(cublasZgerc, VGPU_BLAS_GERC, CUDA_C_64F, INT, SUFFIX)

DEFINE_ALL(int, )
DEFINE_ALL(int64_t, _64)
