// SPDX-License-Identifier: MIT
/* Level 3 beside gemm.c and triangular.c: symmetric, triangular and added matrices. */
#include "internal.h"

struct matrices {
	cublasSideMode_t side;
	cublasFillMode_t fill;
	cublasOperation_t a_operation;
	cublasOperation_t b_operation;
	cublasDiagType_t diagonal;
	int64_t m;
	int64_t n;
	int64_t k;
	const void *a;
	int64_t lda;
	const void *b;
	int64_t ldb;
	const void *c;
	int64_t ldc;
};

/* A scalar and the type that it has. */
struct scalar {
	const void *value;
	cudaDataType type;
};

static bool enumerations_fit(const struct matrices *of)
{
	return (unsigned int)of->side <= CUBLAS_SIDE_RIGHT &&
	       (unsigned int)of->fill <= CUBLAS_FILL_MODE_UPPER &&
	       blas_is_operation(of->a_operation) && blas_is_operation(of->b_operation) &&
	       (unsigned int)of->diagonal <= CUBLAS_DIAG_UNIT && of->m >= 0 && of->n >= 0 &&
	       of->k >= 0;
}

/* Submits the command of checked arguments; nothing is done for an empty result. */
static cublasStatus_t run(cublasHandle_t handle, __u32 routine, cudaDataType type,
			  const struct matrices *of, struct scalar alpha, struct scalar beta)
{
	struct vgpu_cmd_blas command = blas_command(handle, routine);

	if (!of->m || !of->n)
		return CUBLAS_STATUS_SUCCESS;
	command.a_type = command.b_type = command.c_type = type;
	command.side = of->side;
	command.fill = of->fill;
	command.a_operation = of->a_operation;
	command.b_operation = of->b_operation;
	command.diagonal = of->diagonal;
	command.m = of->m;
	command.n = of->n;
	command.k = of->k;
	command.a = blas_address(of->a);
	command.a_step = of->lda;
	command.b = blas_address(of->b);
	command.b_step = of->ldb;
	command.c = blas_address(of->c);
	command.c_step = of->ldc;
	if (alpha.value)
		blas_set_scalar(handle, command.alpha, alpha.value, blas_type_bytes(alpha.type));
	if (beta.value)
		blas_set_scalar(handle, command.beta, beta.value, blas_type_bytes(beta.type));
	return blas_submit(handle, &command);
}

/* C (m x n) = alpha A B + beta C; A is of order m or n. */
static cublasStatus_t symmetric(cublasHandle_t handle, __u32 routine, cudaDataType type,
				struct matrices of, const void *alpha, const void *beta)
{
	int64_t order = of.side == CUBLAS_SIDE_LEFT ? of.m : of.n;

	if (!blas_handle_alive(handle))
		return CUBLAS_STATUS_NOT_INITIALIZED;
	if (!enumerations_fit(&of) || of.lda < blas_at_least_1(order) ||
	    of.ldb < blas_at_least_1(of.m) || of.ldc < blas_at_least_1(of.m) || !alpha || !beta)
		return CUBLAS_STATUS_INVALID_VALUE;
	return run(handle, routine, type, &of, (struct scalar){ alpha, type },
		   (struct scalar){ beta, type });
}

/* C (n x n) = alpha op(A) op(B)' + beta C; `conjugated` where the adjoint is meant. */
static cublasStatus_t rank_k(cublasHandle_t handle, __u32 routine, cudaDataType type,
			     struct matrices of, struct scalar alpha, struct scalar beta)
{
	int64_t rows = of.a_operation == CUBLAS_OP_N ? of.n : of.k;
	bool is_complex = type == CUDA_C_32F || type == CUDA_C_64F;
	bool hermitian = routine == VGPU_BLAS_HERK || routine == VGPU_BLAS_HER2K ||
			 routine == VGPU_BLAS_HERKX;

	of.m = of.n;
	if (!of.b) {
		of.b = of.a;
		of.ldb = of.lda;
	}
	if (!blas_handle_alive(handle))
		return CUBLAS_STATUS_NOT_INITIALIZED;
	if (!enumerations_fit(&of) || of.lda < blas_at_least_1(rows) ||
	    of.ldb < blas_at_least_1(rows) || of.ldc < blas_at_least_1(of.n) || !alpha.value ||
	    !beta.value)
		return CUBLAS_STATUS_INVALID_VALUE;
	/* Symmetric updates take no conjugates, Hermitian ones no plain transposes. */
	if (is_complex && of.a_operation == (hermitian ? CUBLAS_OP_T : CUBLAS_OP_C))
		return CUBLAS_STATUS_INVALID_VALUE;
	return run(handle, routine, type, &of, alpha, beta);
}

/* C (m x n) = alpha op(A) B; A is triangular of order m or n. */
static cublasStatus_t triangular(cublasHandle_t handle, cudaDataType type, struct matrices of,
				 const void *alpha)
{
	int64_t order = of.side == CUBLAS_SIDE_LEFT ? of.m : of.n;

	if (!blas_handle_alive(handle))
		return CUBLAS_STATUS_NOT_INITIALIZED;
	if (!enumerations_fit(&of) || of.lda < blas_at_least_1(order) ||
	    of.ldb < blas_at_least_1(of.m) || of.ldc < blas_at_least_1(of.m) || !alpha)
		return CUBLAS_STATUS_INVALID_VALUE;
	return run(handle, VGPU_BLAS_TRMM, type, &of, (struct scalar){ alpha, type },
		   (struct scalar){ 0 });
}

/* C (m x n) = alpha op(A) + beta op(B) */
static cublasStatus_t add(cublasHandle_t handle, cudaDataType type, struct matrices of,
			  const void *alpha, const void *beta)
{
	int64_t a_rows = of.a_operation == CUBLAS_OP_N ? of.m : of.n;
	int64_t b_rows = of.b_operation == CUBLAS_OP_N ? of.m : of.n;

	if (!blas_handle_alive(handle))
		return CUBLAS_STATUS_NOT_INITIALIZED;
	if (!enumerations_fit(&of) || of.lda < blas_at_least_1(a_rows) ||
	    of.ldb < blas_at_least_1(b_rows) || of.ldc < blas_at_least_1(of.m) || !alpha || !beta)
		return CUBLAS_STATUS_INVALID_VALUE;
	/* In place only where the elements stay where they are. */
	if ((of.c == of.a && (of.a_operation != CUBLAS_OP_N || of.lda != of.ldc)) ||
	    (of.c == of.b && (of.b_operation != CUBLAS_OP_N || of.ldb != of.ldc)))
		return CUBLAS_STATUS_INVALID_VALUE;
	return run(handle, VGPU_BLAS_GEAM, type, &of, (struct scalar){ alpha, type },
		   (struct scalar){ beta, type });
}

/* C (m x n) = diag(b) A or A diag(b); ldb is the increment of b. */
static cublasStatus_t scale(cublasHandle_t handle, cudaDataType type, struct matrices of)
{
	if (!blas_handle_alive(handle))
		return CUBLAS_STATUS_NOT_INITIALIZED;
	if (!enumerations_fit(&of) || of.lda < blas_at_least_1(of.m) ||
	    of.ldc < blas_at_least_1(of.m))
		return CUBLAS_STATUS_INVALID_VALUE;
	return run(handle, VGPU_BLAS_DGMM, type, &of, (struct scalar){ 0 }, (struct scalar){ 0 });
}

#define DEFINE_SYMMETRIC(NAME, ROUTINE, TYPE, INT, SUFFIX)                                         \
	CUBLAS_EXPORT cublasStatus_t NAME##_v2##SUFFIX(                                            \
		cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t uplo, INT m, INT n, \
		const void *alpha, const void *a, INT lda, const void *b, INT ldb,                 \
		const void *beta, void *c, INT ldc)                                                \
	{                                                                                          \
		return symmetric(handle, ROUTINE, TYPE,                                            \
				 (struct matrices){ .side = side,                                  \
						    .fill = uplo,                                  \
						    .m = m,                                        \
						    .n = n,                                        \
						    .a = a,                                        \
						    .lda = lda,                                    \
						    .b = b,                                        \
						    .ldb = ldb,                                    \
						    .c = c,                                        \
						    .ldc = ldc },                                  \
				 alpha, beta);                                                     \
	}

#define DEFINE_RANK_K(NAME, ROUTINE, TYPE, ALPHA, BETA, INT, SUFFIX)                               \
	CUBLAS_EXPORT cublasStatus_t NAME##SUFFIX(cublasHandle_t handle, cublasFillMode_t uplo,    \
						  cublasOperation_t trans, INT n, INT k,           \
						  const void *alpha, const void *a, INT lda,       \
						  const void *beta, void *c, INT ldc)              \
	{                                                                                          \
		return rank_k(handle, ROUTINE, TYPE,                                               \
			      (struct matrices){ .fill = uplo,                                     \
						 .a_operation = trans,                             \
						 .n = n,                                           \
						 .k = k,                                           \
						 .a = a,                                           \
						 .lda = lda,                                       \
						 .c = c,                                           \
						 .ldc = ldc },                                     \
			      (struct scalar){ alpha, ALPHA }, (struct scalar){ beta, BETA });     \
	}

#define DEFINE_RANK_2K(NAME, ROUTINE, TYPE, BETA, INT, SUFFIX)                                     \
	CUBLAS_EXPORT cublasStatus_t NAME##SUFFIX(                                                 \
		cublasHandle_t handle, cublasFillMode_t uplo, cublasOperation_t trans, INT n,      \
		INT k, const void *alpha, const void *a, INT lda, const void *b, INT ldb,          \
		const void *beta, void *c, INT ldc)                                                \
	{                                                                                          \
		return rank_k(handle, ROUTINE, TYPE,                                               \
			      (struct matrices){ .fill = uplo,                                     \
						 .a_operation = trans,                             \
						 .n = n,                                           \
						 .k = k,                                           \
						 .a = a,                                           \
						 .lda = lda,                                       \
						 .b = b,                                           \
						 .ldb = ldb,                                       \
						 .c = c,                                           \
						 .ldc = ldc },                                     \
			      (struct scalar){ alpha, TYPE }, (struct scalar){ beta, BETA });      \
	}

/* What each of the four types has. */
#define DEFINE_COMMON(LETTER, TYPE, INT, SUFFIX)                                                   \
	DEFINE_SYMMETRIC(cublas##LETTER##symm, VGPU_BLAS_SYMM, TYPE, INT, SUFFIX)                  \
	DEFINE_RANK_K(cublas##LETTER##syrk_v2, VGPU_BLAS_SYRK, TYPE, TYPE, TYPE, INT, SUFFIX)      \
	DEFINE_RANK_2K(cublas##LETTER##syr2k_v2, VGPU_BLAS_SYR2K, TYPE, TYPE, INT, SUFFIX)         \
	DEFINE_RANK_2K(cublas##LETTER##syrkx, VGPU_BLAS_SYRKX, TYPE, TYPE, INT, SUFFIX)            \
	CUBLAS_EXPORT cublasStatus_t cublas##LETTER##trmm_v2##SUFFIX(                              \
		cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t uplo,               \
		cublasOperation_t trans, cublasDiagType_t diag, INT m, INT n, const void *alpha,   \
		const void *a, INT lda, const void *b, INT ldb, void *c, INT ldc)                  \
	{                                                                                          \
		return triangular(handle, TYPE,                                                    \
				  (struct matrices){ side, uplo, trans, CUBLAS_OP_N, diag, m, n,   \
						     0, a, lda, b, ldb, c, ldc },                  \
				  alpha);                                                          \
	}                                                                                          \
	CUBLAS_EXPORT cublasStatus_t cublas##LETTER##geam##SUFFIX(                                 \
		cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, INT m,  \
		INT n, const void *alpha, const void *a, INT lda, const void *beta, const void *b, \
		INT ldb, void *c, INT ldc)                                                         \
	{                                                                                          \
		return add(handle, TYPE,                                                           \
			   (struct matrices){ .a_operation = transa,                               \
					      .b_operation = transb,                               \
					      .m = m,                                              \
					      .n = n,                                              \
					      .a = a,                                              \
					      .lda = lda,                                          \
					      .b = b,                                              \
					      .ldb = ldb,                                          \
					      .c = c,                                              \
					      .ldc = ldc },                                        \
			   alpha, beta);                                                           \
	}                                                                                          \
	CUBLAS_EXPORT cublasStatus_t cublas##LETTER##dgmm##SUFFIX(                                 \
		cublasHandle_t handle, cublasSideMode_t mode, INT m, INT n, const void *a,         \
		INT lda, const void *x, INT incx, void *c, INT ldc)                                \
	{                                                                                          \
		return scale(handle, TYPE,                                                         \
			     (struct matrices){ .side = mode,                                      \
						.m = m,                                            \
						.n = n,                                            \
						.a = a,                                            \
						.lda = lda,                                        \
						.b = x,                                            \
						.ldb = incx,                                       \
						.c = c,                                            \
						.ldc = ldc });                                     \
	}

#define DEFINE_HERMITIAN(LETTER, TYPE, REAL, INT, SUFFIX)                                          \
	DEFINE_SYMMETRIC(cublas##LETTER##hemm, VGPU_BLAS_HEMM, TYPE, INT, SUFFIX)                  \
	DEFINE_RANK_K(cublas##LETTER##herk_v2, VGPU_BLAS_HERK, TYPE, REAL, REAL, INT, SUFFIX)      \
	DEFINE_RANK_2K(cublas##LETTER##her2k_v2, VGPU_BLAS_HER2K, TYPE, REAL, INT, SUFFIX)         \
	DEFINE_RANK_2K(cublas##LETTER##herkx, VGPU_BLAS_HERKX, TYPE, REAL, INT, SUFFIX)

#define DEFINE_ALL(INT, SUFFIX)                                                                    \
	DEFINE_COMMON(S, CUDA_R_32F, INT, SUFFIX)                                                  \
	DEFINE_COMMON(D, CUDA_R_64F, INT, SUFFIX)                                                  \
	DEFINE_COMMON(C, CUDA_C_32F, INT, SUFFIX)                                                  \
	DEFINE_COMMON(Z, CUDA_C_64F, INT, SUFFIX)                                                  \
	DEFINE_HERMITIAN(C, CUDA_C_32F, CUDA_R_32F, INT, SUFFIX)                                   \
	DEFINE_HERMITIAN(Z, CUDA_C_64F, CUDA_R_64F, INT, SUFFIX)

DEFINE_ALL(int, )
DEFINE_ALL(int64_t, _64)
