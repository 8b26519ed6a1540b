// SPDX-License-Identifier: MIT
/* Triangular systems: op(A) X = alpha B or X op(A) = alpha B, alone and in batches. */
#include "internal.h"

struct system {
	cublasSideMode_t side;
	cublasFillMode_t fill;
	cublasOperation_t operation;
	cublasDiagType_t diagonal;
	int64_t m;
	int64_t n;
	const void *alpha;
	const void *a;
	int64_t lda;
	const void *b;
	int64_t ldb;
	int64_t batch;
	bool pointer_arrays;
};

static cublasStatus_t solve(cublasHandle_t handle, cudaDataType type, const struct system *system)
{
	int64_t order = system->side == CUBLAS_SIDE_LEFT ? system->m : system->n;
	struct vgpu_cmd_blas command;

	if (!blas_handle_alive(handle))
		return CUBLAS_STATUS_NOT_INITIALIZED;
	if ((unsigned int)system->side > CUBLAS_SIDE_RIGHT ||
	    (unsigned int)system->fill > CUBLAS_FILL_MODE_UPPER ||
	    !blas_is_operation(system->operation) ||
	    (unsigned int)system->diagonal > CUBLAS_DIAG_UNIT || system->m < 0 || system->n < 0 ||
	    system->batch < 0 || system->lda < blas_at_least_1(order) ||
	    system->ldb < blas_at_least_1(system->m) || !system->alpha)
		return CUBLAS_STATUS_INVALID_VALUE;
	if (!system->m || !system->n || !system->batch)
		return CUBLAS_STATUS_SUCCESS;
	command = blas_command(handle, VGPU_BLAS_TRSM);
	command.a_type = type;
	command.b_type = type;
	command.c_type = type;
	command.side = system->side;
	command.fill = system->fill;
	command.a_operation = system->operation;
	command.diagonal = system->diagonal;
	command.m = system->m;
	command.n = system->n;
	command.a = blas_address(system->a);
	command.a_step = system->lda;
	command.b = blas_address(system->b);
	command.b_step = system->ldb;
	command.batch = system->batch;
	if (system->pointer_arrays)
		command.blas_flags |= VGPU_BLAS_FLAG_POINTER_ARRAYS;
	blas_set_scalar(handle, command.alpha, system->alpha, blas_type_bytes(type));
	return blas_submit(handle, &command);
}

#define DEFINE_TRSM(LETTER, TYPE, INT, SUFFIX)                                                     \
	CUBLAS_EXPORT cublasStatus_t cublas##LETTER##trsm_v2##SUFFIX(                              \
		cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t uplo,               \
		cublasOperation_t trans, cublasDiagType_t diag, INT m, INT n, const void *alpha,   \
		const void *a, INT lda, void *b, INT ldb)                                          \
	{                                                                                          \
		return solve(handle, TYPE,                                                         \
			     &(struct system){ side, uplo, trans, diag, m, n, alpha, a, lda, b,    \
					       ldb, 1, false });                                   \
	}                                                                                          \
	CUBLAS_EXPORT cublasStatus_t cublas##LETTER##trsmBatched##SUFFIX(                          \
		cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t uplo,               \
		cublasOperation_t trans, cublasDiagType_t diag, INT m, INT n, const void *alpha,   \
		const void *const a[], INT lda, void *const b[], INT ldb, INT count)               \
	{                                                                                          \
		return solve(handle, TYPE,                                                         \
			     &(struct system){ side, uplo, trans, diag, m, n, alpha, a, lda, b,    \
					       ldb, count, true });                                \
	}

DEFINE_TRSM(S, CUDA_R_32F, int, )
DEFINE_TRSM(D, CUDA_R_64F, int, )
DEFINE_TRSM(C, CUDA_C_32F, int, )
DEFINE_TRSM(Z, CUDA_C_64F, int, )
DEFINE_TRSM(S, CUDA_R_32F, int64_t, _64)
DEFINE_TRSM(D, CUDA_R_64F, int64_t, _64)
DEFINE_TRSM(C, CUDA_C_32F, int64_t, _64)
DEFINE_TRSM(Z, CUDA_C_64F, int64_t, _64)
