// SPDX-License-Identifier: MIT
/* Copies of vectors and matrices between the host and the device. */
#include "internal.h"

struct side { /* `steps` elements from one row of the copy to the next */
	CUmemorytype type;
	const void *data;
	int64_t step;
};

/* Copies `rows` rows of `width` elements; synchronous unless a stream is given. */
static cublasStatus_t copy(struct side from, struct side to, int64_t width, int64_t rows,
			   int64_t element, const CUstream *stream)
{
	CUDA_MEMCPY2D rectangle = {
		.srcMemoryType = from.type,
		.srcHost = from.data,
		.srcDevice = blas_address(from.data),
		.srcPitch = (size_t)(from.step * element),
		.dstMemoryType = to.type,
		.dstHost = (void *)to.data,
		.dstDevice = blas_address(to.data),
		.dstPitch = (size_t)(to.step * element),
		.WidthInBytes = (size_t)(width * element),
		.Height = (size_t)rows,
	};
	CUresult result;

	if (blas_require_context() != CUDA_SUCCESS)
		return CUBLAS_STATUS_NOT_INITIALIZED;
	if (from.step == width && to.step == width) { /* without gaps: one row */
		rectangle.WidthInBytes *= rectangle.Height;
		rectangle.srcPitch = rectangle.dstPitch = rectangle.WidthInBytes;
		rectangle.Height = 1;
	}
	result = stream ? cuMemcpy2DAsync(&rectangle, *stream) : cuMemcpy2D(&rectangle);
	if (result == CUDA_ERROR_INVALID_VALUE)
		return CUBLAS_STATUS_MAPPING_ERROR;
	return blas_status(result);
}

static cublasStatus_t copy_vector(int64_t n, int64_t element, struct side from, struct side to,
				  const CUstream *stream)
{
	if (n < 0 || element <= 0 || from.step <= 0 || to.step <= 0)
		return CUBLAS_STATUS_INVALID_VALUE;
	return n ? copy(from, to, 1, n, element, stream) : CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t copy_matrix(int64_t rows, int64_t columns, int64_t element, struct side from,
				  struct side to, const CUstream *stream)
{
	if (rows < 0 || columns < 0 || element <= 0 || from.step < blas_at_least_1(rows) ||
	    to.step < blas_at_least_1(rows))
		return CUBLAS_STATUS_INVALID_VALUE;
	if (!rows || !columns)
		return CUBLAS_STATUS_SUCCESS;
	return copy(from, to, rows, columns, element, stream);
}

#define HOST(DATA, STEP)   ((struct side){ CU_MEMORYTYPE_HOST, DATA, STEP })
#define DEVICE(DATA, STEP) ((struct side){ CU_MEMORYTYPE_DEVICE, DATA, STEP })

#define DEFINE_COPIES(DIRECTION, FROM, TO, INT, SUFFIX)                                            \
	CUBLAS_EXPORT cublasStatus_t cublas##DIRECTION##Vector##SUFFIX(                            \
		INT n, INT element, const void *x, INT incx, void *y, INT incy)                    \
	{                                                                                          \
		return copy_vector(n, element, FROM(x, incx), TO(y, incy), NULL);                  \
	}                                                                                          \
	CUBLAS_EXPORT cublasStatus_t cublas##DIRECTION##VectorAsync##SUFFIX(                       \
		INT n, INT element, const void *x, INT incx, void *y, INT incy, CUstream stream)   \
	{                                                                                          \
		return copy_vector(n, element, FROM(x, incx), TO(y, incy), &stream);               \
	}                                                                                          \
	CUBLAS_EXPORT cublasStatus_t cublas##DIRECTION##Matrix##SUFFIX(                            \
		INT rows, INT columns, INT element, const void *a, INT lda, void *b, INT ldb)      \
	{                                                                                          \
		return copy_matrix(rows, columns, element, FROM(a, lda), TO(b, ldb), NULL);        \
	}                                                                                          \
	CUBLAS_EXPORT cublasStatus_t cublas##DIRECTION##MatrixAsync##SUFFIX(                       \
		INT rows, INT columns, INT element, const void *a, INT lda, void *b, INT ldb,      \
		CUstream stream)                                                                   \
	{                                                                                          \
		return copy_matrix(rows, columns, element, FROM(a, lda), TO(b, ldb), &stream);     \
	}

DEFINE_COPIES(Set, HOST, DEVICE, int, )
DEFINE_COPIES(Get, DEVICE, HOST, int, )
DEFINE_COPIES(Set, HOST, DEVICE, int64_t, _64)
DEFINE_COPIES(Get, DEVICE, HOST, int64_t, _64)
