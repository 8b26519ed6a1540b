// SPDX-License-Identifier: MIT
/* Products of general matrices: C = alpha op(A) op(B) + beta C, alone and in batches. */
#include "internal.h"

struct operand {
	const void *data; /* device memory: the matrices, or pointers to them */
	cudaDataType type;
	int64_t step; /* leading dimension */
	int64_t stride;
};

struct gemm {
	cublasOperation_t a_operation;
	cublasOperation_t b_operation;
	int64_t m;
	int64_t n;
	int64_t k;
	const void *alpha;
	const void *beta;
	struct operand a;
	struct operand b;
	struct operand c;
	int64_t batch;
	cublasComputeType_t compute;
	bool pointer_arrays;
};

static bool is_integer(cublasComputeType_t compute)
{
	return compute == CUBLAS_COMPUTE_32I || compute == CUBLAS_COMPUTE_32I_PEDANTIC;
}

/* Which types a compute type takes: the table of cublasGemmEx(). */
static bool combination_exists(cublasComputeType_t compute, cudaDataType ab, cudaDataType c)
{
	switch (compute) {
	case CUBLAS_COMPUTE_16F:
	case CUBLAS_COMPUTE_16F_PEDANTIC:
		return ab == CUDA_R_16F && c == CUDA_R_16F;
	case CUBLAS_COMPUTE_32I:
	case CUBLAS_COMPUTE_32I_PEDANTIC:
		return ab == CUDA_R_8I && c == CUDA_R_32I;
	case CUBLAS_COMPUTE_32F:
	case CUBLAS_COMPUTE_32F_PEDANTIC:
		switch (ab) {
		case CUDA_R_16F:
		case CUDA_R_16BF:
			return c == ab || c == CUDA_R_32F;
		case CUDA_R_8I:
		case CUDA_R_32F:
			return c == CUDA_R_32F;
		case CUDA_C_8I:
		case CUDA_C_32F:
			return c == CUDA_C_32F;
		default:
			return false;
		}
	case CUBLAS_COMPUTE_32F_FAST_16F:
	case CUBLAS_COMPUTE_32F_FAST_16BF:
	case CUBLAS_COMPUTE_32F_FAST_TF32:
	case CUBLAS_COMPUTE_32F_EMULATED_16BFX9:
		return (ab == CUDA_R_32F || ab == CUDA_C_32F) && c == ab;
	case CUBLAS_COMPUTE_64F:
	case CUBLAS_COMPUTE_64F_PEDANTIC:
	case CUBLAS_COMPUTE_64F_EMULATED_FIXEDPOINT:
		return (ab == CUDA_R_64F || ab == CUDA_C_64F) && c == ab;
	}
	return false;
}

/* Bytes of alpha and beta. */
static size_t scale_bytes(const struct gemm *gemm)
{
	switch (gemm->compute) {
	case CUBLAS_COMPUTE_16F:
	case CUBLAS_COMPUTE_16F_PEDANTIC:
		return 2;
	case CUBLAS_COMPUTE_32I:
	case CUBLAS_COMPUTE_32I_PEDANTIC:
		return 4;
	default:
		/* half and bfloat16 results are scaled in float */
		return blas_type_bytes(gemm->c.type) < 4 ? 4 : blas_type_bytes(gemm->c.type);
	}
}

static cublasStatus_t check(const struct gemm *gemm)
{
	int64_t a_rows = gemm->a_operation == CUBLAS_OP_N ? gemm->m : gemm->k;
	int64_t b_rows = gemm->b_operation == CUBLAS_OP_N ? gemm->k : gemm->n;

	if (!blas_is_operation(gemm->a_operation) || !blas_is_operation(gemm->b_operation) ||
	    gemm->m < 0 || gemm->n < 0 || gemm->k < 0 || gemm->batch < 0 ||
	    gemm->a.step < blas_at_least_1(a_rows) || gemm->b.step < blas_at_least_1(b_rows) ||
	    gemm->c.step < blas_at_least_1(gemm->m) || !gemm->alpha || !gemm->beta)
		return CUBLAS_STATUS_INVALID_VALUE;
	if (gemm->a.type != gemm->b.type ||
	    !combination_exists(gemm->compute, gemm->a.type, gemm->c.type))
		return CUBLAS_STATUS_NOT_SUPPORTED;
	if (is_integer(gemm->compute) &&
	    (gemm->a.step % 4 || gemm->b.step % 4 || gemm->pointer_arrays ||
	     blas_address(gemm->a.data) % 4 || blas_address(gemm->b.data) % 4))
		return CUBLAS_STATUS_NOT_SUPPORTED;
	return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t run(cublasHandle_t handle, const struct gemm *gemm)
{
	struct vgpu_cmd_blas command;
	cublasStatus_t status;

	if (!blas_handle_alive(handle))
		return CUBLAS_STATUS_NOT_INITIALIZED;
	status = check(gemm);
	if (status != CUBLAS_STATUS_SUCCESS || !gemm->m || !gemm->n || !gemm->batch)
		return status;
	if (!gemm->c.data)
		return CUBLAS_STATUS_INVALID_VALUE;
	command = blas_command(handle, VGPU_BLAS_GEMM);
	command.a_operation = gemm->a_operation;
	command.b_operation = gemm->b_operation;
	command.m = gemm->m;
	command.n = gemm->n;
	command.k = gemm->k;
	command.a = blas_address(gemm->a.data);
	command.b = blas_address(gemm->b.data);
	command.c = blas_address(gemm->c.data);
	command.a_type = gemm->a.type;
	command.b_type = gemm->b.type;
	command.c_type = gemm->c.type;
	command.a_step = gemm->a.step;
	command.b_step = gemm->b.step;
	command.c_step = gemm->c.step;
	command.a_stride = gemm->a.stride;
	command.b_stride = gemm->b.stride;
	command.c_stride = gemm->c.stride;
	command.batch = gemm->batch;
	command.compute_type = gemm->compute;
	if (gemm->pointer_arrays)
		command.blas_flags |= VGPU_BLAS_FLAG_POINTER_ARRAYS;
	blas_set_scalar(handle, command.alpha, gemm->alpha, scale_bytes(gemm));
	blas_set_scalar(handle, command.beta, gemm->beta, scale_bytes(gemm));
	return blas_submit(handle, &command);
}

static bool is_algorithm(cublasGemmAlgo_t algorithm)
{
	int number = algorithm;

	return (number >= CUBLAS_GEMM_DEFAULT && number <= 23) ||
	       (number >= CUBLAS_GEMM_DEFAULT_TENSOR_OP &&
		number <= CUBLAS_GEMM_ALGO15_TENSOR_OP) ||
	       number == CUBLAS_GEMM_AUTOTUNE;
}

/* cublas<t>gemm, -Batched and -StridedBatched, with int and with int64_t. */
#define DEFINE_SINGLE(NAME, TYPE, COMPUTE, INT)                                                    \
	CUBLAS_EXPORT cublasStatus_t NAME(                                                         \
		cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, INT m,  \
		INT n, INT k, const void *alpha, const void *a, INT lda, const void *b, INT ldb,   \
		const void *beta, void *c, INT ldc)                                                \
	{                                                                                          \
		return run(handle,                                                                 \
			   &(struct gemm){ transa, transb, m, n, k, alpha, beta,                   \
					   .a = { a, TYPE, lda, 0 }, .b = { b, TYPE, ldb, 0 },     \
					   .c = { c, TYPE, ldc, 0 }, .batch = 1,                   \
					   .compute = COMPUTE });                                  \
	}

#define DEFINE_BATCHED(NAME, TYPE, COMPUTE, INT)                                                   \
	CUBLAS_EXPORT cublasStatus_t NAME(cublasHandle_t handle, cublasOperation_t transa,         \
					  cublasOperation_t transb, INT m, INT n, INT k,           \
					  const void *alpha, const void *const a[], INT lda,       \
					  const void *const b[], INT ldb, const void *beta,        \
					  void *const c[], INT ldc, INT count)                     \
	{                                                                                          \
		return run(handle,                                                                 \
			   &(struct gemm){ transa, transb, m, n, k, alpha, beta,                   \
					   .a = { a, TYPE, lda, 0 }, .b = { b, TYPE, ldb, 0 },     \
					   .c = { c, TYPE, ldc, 0 }, .batch = count,               \
					   .compute = COMPUTE, .pointer_arrays = true });          \
	}

#define DEFINE_STRIDED(NAME, TYPE, COMPUTE, INT)                                                   \
	CUBLAS_EXPORT cublasStatus_t NAME(                                                         \
		cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, INT m,  \
		INT n, INT k, const void *alpha, const void *a, INT lda, long long stride_a,       \
		const void *b, INT ldb, long long stride_b, const void *beta, void *c, INT ldc,    \
		long long stride_c, INT count)                                                     \
	{                                                                                          \
		return run(handle, &(struct gemm){ transa, transb, m, n, k, alpha, beta,           \
						   .a = { a, TYPE, lda, stride_a },                \
						   .b = { b, TYPE, ldb, stride_b },                \
						   .c = { c, TYPE, ldc, stride_c },                \
						   .batch = count, .compute = COMPUTE });          \
	}

/* cublasGemmEx, -BatchedEx and -StridedBatchedEx. */
#define DEFINE_EX(INT, SUFFIX)                                                                     \
	CUBLAS_EXPORT cublasStatus_t cublasGemmEx##SUFFIX(                                         \
		cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, INT m,  \
		INT n, INT k, const void *alpha, const void *a, cudaDataType a_type, INT lda,      \
		const void *b, cudaDataType b_type, INT ldb, const void *beta, void *c,            \
		cudaDataType c_type, INT ldc, cublasComputeType_t compute,                         \
		cublasGemmAlgo_t algorithm)                                                        \
	{                                                                                          \
		if (!is_algorithm(algorithm))                                                      \
			return CUBLAS_STATUS_INVALID_VALUE;                                        \
		return run(handle,                                                                 \
			   &(struct gemm){ transa, transb, m, n, k, alpha, beta,                   \
					   .a = { a, a_type, lda, 0 }, .b = { b, b_type, ldb, 0 }, \
					   .c = { c, c_type, ldc, 0 }, .batch = 1,                 \
					   .compute = compute });                                  \
	}                                                                                          \
	CUBLAS_EXPORT cublasStatus_t cublasGemmBatchedEx##SUFFIX(                                  \
		cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, INT m,  \
		INT n, INT k, const void *alpha, const void *const a[], cudaDataType a_type,       \
		INT lda, const void *const b[], cudaDataType b_type, INT ldb, const void *beta,    \
		void *const c[], cudaDataType c_type, INT ldc, INT count,                          \
		cublasComputeType_t compute, cublasGemmAlgo_t algorithm)                           \
	{                                                                                          \
		if (!is_algorithm(algorithm))                                                      \
			return CUBLAS_STATUS_INVALID_VALUE;                                        \
		return run(handle,                                                                 \
			   &(struct gemm){ transa, transb, m, n, k, alpha, beta,                   \
					   .a = { a, a_type, lda, 0 }, .b = { b, b_type, ldb, 0 }, \
					   .c = { c, c_type, ldc, 0 }, .batch = count,             \
					   .compute = compute, .pointer_arrays = true });          \
	}                                                                                          \
	CUBLAS_EXPORT cublasStatus_t cublasGemmStridedBatchedEx##SUFFIX(                           \
		cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, INT m,  \
		INT n, INT k, const void *alpha, const void *a, cudaDataType a_type, INT lda,      \
		long long stride_a, const void *b, cudaDataType b_type, INT ldb,                   \
		long long stride_b, const void *beta, void *c, cudaDataType c_type, INT ldc,       \
		long long stride_c, INT count, cublasComputeType_t compute,                        \
		cublasGemmAlgo_t algorithm)                                                        \
	{                                                                                          \
		if (!is_algorithm(algorithm))                                                      \
			return CUBLAS_STATUS_INVALID_VALUE;                                        \
		return run(handle, &(struct gemm){ transa, transb, m, n, k, alpha, beta,           \
						   .a = { a, a_type, lda, stride_a },              \
						   .b = { b, b_type, ldb, stride_b },              \
						   .c = { c, c_type, ldc, stride_c },              \
						   .batch = count, .compute = compute });          \
	}

/* cublasSgemmEx and cublasCgemmEx: what is stored varies, the scalars do not. */
#define DEFINE_MIXED(NAME, INT)                                                                    \
	CUBLAS_EXPORT cublasStatus_t NAME(cublasHandle_t handle, cublasOperation_t transa,         \
					  cublasOperation_t transb, INT m, INT n, INT k,           \
					  const void *alpha, const void *a, cudaDataType a_type,   \
					  INT lda, const void *b, cudaDataType b_type, INT ldb,    \
					  const void *beta, void *c, cudaDataType c_type, INT ldc) \
	{                                                                                          \
		return run(handle,                                                                 \
			   &(struct gemm){ transa, transb, m, n, k, alpha, beta,                   \
					   .a = { a, a_type, lda, 0 }, .b = { b, b_type, ldb, 0 }, \
					   .c = { c, c_type, ldc, 0 }, .batch = 1,                 \
					   .compute = CUBLAS_COMPUTE_32F });                       \
	}

#define DEFINE_TYPED(LETTER, TYPE, COMPUTE, AFTER, INT, SUFFIX)                                    \
	DEFINE_SINGLE(cublas##LETTER##gemm##AFTER##SUFFIX, TYPE, COMPUTE, INT)                     \
	DEFINE_BATCHED(cublas##LETTER##gemmBatched##SUFFIX, TYPE, COMPUTE, INT)                    \
	DEFINE_STRIDED(cublas##LETTER##gemmStridedBatched##SUFFIX, TYPE, COMPUTE, INT)

/* The functions named 3m may use an algorithm of fewer multiplications; here they do not. */
#define DEFINE_ALL(INT, SUFFIX)                                                                    \
	DEFINE_TYPED(S, CUDA_R_32F, CUBLAS_COMPUTE_32F, _v2, INT, SUFFIX)                          \
	DEFINE_TYPED(D, CUDA_R_64F, CUBLAS_COMPUTE_64F, _v2, INT, SUFFIX)                          \
	DEFINE_TYPED(C, CUDA_C_32F, CUBLAS_COMPUTE_32F, _v2, INT, SUFFIX)                          \
	DEFINE_TYPED(Z, CUDA_C_64F, CUBLAS_COMPUTE_64F, _v2, INT, SUFFIX)                          \
	DEFINE_TYPED(H, CUDA_R_16F, CUBLAS_COMPUTE_16F, , INT, SUFFIX)                             \
	DEFINE_SINGLE(cublasCgemm3m##SUFFIX, CUDA_C_32F, CUBLAS_COMPUTE_32F, INT)                  \
	DEFINE_SINGLE(cublasZgemm3m##SUFFIX, CUDA_C_64F, CUBLAS_COMPUTE_64F, INT)                  \
	DEFINE_BATCHED(cublasCgemm3mBatched##SUFFIX, CUDA_C_32F, CUBLAS_COMPUTE_32F, INT)          \
	DEFINE_STRIDED(cublasCgemm3mStridedBatched##SUFFIX, CUDA_C_32F, CUBLAS_COMPUTE_32F, INT)   \
	DEFINE_MIXED(cublasSgemmEx##SUFFIX, INT)                                                   \
	DEFINE_MIXED(cublasCgemmEx##SUFFIX, INT)                                                   \
	DEFINE_MIXED(cublasCgemm3mEx##SUFFIX, INT)                                                 \
	DEFINE_EX(INT, SUFFIX)

DEFINE_ALL(int, )
DEFINE_ALL(int64_t, _64)
