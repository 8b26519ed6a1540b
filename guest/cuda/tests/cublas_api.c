// SPDX-License-Identifier: MIT
/*
 * The cuBLAS API as a program uses it: results against plain loops, statuses of
 * wrong arguments, pointer modes, streams, batches. Prints "passed" at the end.
 */
#include <cuda.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../blas/cublas_types.h"

cublasStatus_t cublasCreate_v2(cublasHandle_t *);
cublasStatus_t cublasDestroy_v2(cublasHandle_t);
cublasStatus_t cublasGetVersion_v2(cublasHandle_t, int *);
cublasStatus_t cublasGetProperty(libraryPropertyType, int *);
cublasStatus_t cublasSetStream_v2(cublasHandle_t, CUstream);
cublasStatus_t cublasGetStream_v2(cublasHandle_t, CUstream *);
cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t, void *, size_t);
cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t);
cublasStatus_t cublasGetMathMode(cublasHandle_t, cublasMath_t *);
cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t, cublasPointerMode_t);
cublasStatus_t cublasGetPointerMode_v2(cublasHandle_t, cublasPointerMode_t *);
const char *cublasGetStatusName(cublasStatus_t);
const char *cublasGetStatusString(cublasStatus_t);
cublasStatus_t cublasSetVector(int, int, const void *, int, void *, int);
cublasStatus_t cublasGetVector(int, int, const void *, int, void *, int);
cublasStatus_t cublasSetMatrix(int, int, int, const void *, int, void *, int);
cublasStatus_t cublasGetMatrix(int, int, int, const void *, int, void *, int);
cublasStatus_t cublasSgemm_v2(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int,
			      const float *, const float *, int, const float *, int, const float *,
			      float *, int);
cublasStatus_t cublasSgemmBatched(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int,
				  int, const float *, const float *const[], int,
				  const float *const[], int, const float *, float *const[], int,
				  int);
cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t, cublasOperation_t, cublasOperation_t, int,
					 int, int, const float *, const float *, int, long long,
					 const float *, int, long long, const float *, float *, int,
					 long long, int);
cublasStatus_t cublasGemmEx(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int,
			    const void *, const void *, cudaDataType, int, const void *,
			    cudaDataType, int, const void *, void *, cudaDataType, int,
			    cublasComputeType_t, cublasGemmAlgo_t);
cublasStatus_t cublasGemmBatchedEx(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int,
				   int, const void *, const void *const[], cudaDataType, int,
				   const void *const[], cudaDataType, int, const void *,
				   void *const[], cudaDataType, int, int, cublasComputeType_t,
				   cublasGemmAlgo_t);
cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t, cublasOperation_t, cublasOperation_t, int,
					  int, int, const void *, const void *, cudaDataType, int,
					  long long, const void *, cudaDataType, int, long long,
					  const void *, void *, cudaDataType, int, long long, int,
					  cublasComputeType_t, cublasGemmAlgo_t);
cublasStatus_t cublasStrsmBatched(cublasHandle_t, cublasSideMode_t, cublasFillMode_t,
				  cublasOperation_t, cublasDiagType_t, int, int, const float *,
				  const float *const[], int, float *const[], int, int);
cublasStatus_t cublasLoggerConfigure(int, int, int, const char *);
cublasStatus_t cublasSetLoggerCallback(cublasLogCallback);
cublasStatus_t cublasGetLoggerCallback(cublasLogCallback *);
cublasStatus_t cublasSdot_v2(cublasHandle_t, int, const float *, int, const float *, int, float *);
cublasStatus_t cublasIsamax_v2(cublasHandle_t, int, const float *, int, int *);
cublasStatus_t cublasSscal_v2(cublasHandle_t, int, const float *, float *, int);
cublasStatus_t cublasSetBackdoor(cublasHandle_t, int);

#define CHECK(CONDITION)                                                                           \
	do {                                                                                       \
		if (!(CONDITION)) {                                                                \
			printf("%s:%d: %s\n", __FILE__, __LINE__, #CONDITION);                     \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

#define GIVES(STATUS, CALL)                                                                        \
	do {                                                                                       \
		cublasStatus_t got = (CALL);                                                       \
		if (got != (STATUS)) {                                                             \
			printf("%s:%d: %s gives %s\n", __FILE__, __LINE__, #CALL,                  \
			       cublasGetStatusName(got));                                          \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

#define WORKS(CALL) GIVES(CUBLAS_STATUS_SUCCESS, CALL)

enum { M = 5, N = 7, K = 9, BATCH = 3, LDA = 11, LDB = 13, LDC = 8 };
enum { A_FLOATS = LDA * K, B_FLOATS = LDB * K, C_FLOATS = LDC * N };

static float a[BATCH][A_FLOATS];
static float b[BATCH][B_FLOATS];
static float c[BATCH][C_FLOATS];
static float result[BATCH][C_FLOATS];

static void *on_device(const void *data, size_t bytes)
{
	CUdeviceptr pointer;

	CHECK(cuMemAlloc(&pointer, bytes) == CUDA_SUCCESS);
	CHECK(cuMemcpyHtoD(pointer, data, bytes) == CUDA_SUCCESS);
	return (void *)(uintptr_t)pointer;
}

static void fetch(void *host, const void *device, size_t bytes)
{
	CHECK(cuMemcpyDtoH(host, (CUdeviceptr)(uintptr_t)device, bytes) == CUDA_SUCCESS);
}

static void free_device(void *pointer)
{
	CHECK(cuMemFree((CUdeviceptr)(uintptr_t)pointer) == CUDA_SUCCESS);
}

/* Device array of the addresses of a batch. */
static void *pointers_to(void *first, size_t bytes)
{
	void *pointers[BATCH];

	for (int i = 0; i < BATCH; i++)
		pointers[i] = (char *)first + (size_t)i * bytes;
	return on_device(pointers, sizeof(pointers));
}

static void fill(float *data, size_t count)
{
	static unsigned int state = 1;

	for (size_t i = 0; i < count; i++) {
		state = state * 1664525 + 1013904223;
		data[i] = (float)(state >> 16 & 0xff) / 64 - 2;
	}
}

/* alpha A B' + beta C of one batch entry */
static float expected(int entry, int row, int column, float alpha, float beta)
{
	float sum = 0;

	for (int i = 0; i < K; i++)
		sum += a[entry][i * LDA + row] * b[entry][i * LDB + column];
	return alpha * sum + beta * c[entry][column * LDC + row];
}

static void check_result(const void *device, int entries, float alpha, float beta)
{
	fetch(result, device, sizeof(result));
	for (int entry = 0; entry < BATCH; entry++) {
		for (int column = 0; column < N; column++) {
			for (int row = 0; row < LDC; row++) {
				float want = c[entry][column * LDC + row];

				if (entry < entries && row < M)
					want = expected(entry, row, column, alpha, beta);
				CHECK(fabsf(result[entry][column * LDC + row] - want) < 1e-4f);
			}
		}
	}
}

static void test_products(cublasHandle_t handle)
{
	float alpha = 2, beta = -1;
	void *device_a = on_device(a, sizeof(a)), *device_b = on_device(b, sizeof(b));
	void *pointers_a = pointers_to(device_a, sizeof(a[0]));
	void *pointers_b = pointers_to(device_b, sizeof(b[0]));
	void *device_c, *pointers_c;

#define PRODUCT(ENTRIES, CALL)                                                                     \
	device_c = on_device(c, sizeof(c));                                                        \
	pointers_c = pointers_to(device_c, sizeof(c[0]));                                          \
	WORKS(CALL);                                                                               \
	check_result(device_c, ENTRIES, alpha, beta);                                              \
	free_device(device_c);                                                                     \
	free_device(pointers_c)

	PRODUCT(1, cublasSgemm_v2(handle, CUBLAS_OP_N, CUBLAS_OP_T, M, N, K, &alpha, device_a, LDA,
				  device_b, LDB, &beta, device_c, LDC));
	PRODUCT(1, cublasGemmEx(handle, CUBLAS_OP_N, CUBLAS_OP_T, M, N, K, &alpha, device_a,
				CUDA_R_32F, LDA, device_b, CUDA_R_32F, LDB, &beta, device_c,
				CUDA_R_32F, LDC, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
	PRODUCT(BATCH,
		cublasSgemmBatched(handle, CUBLAS_OP_N, CUBLAS_OP_T, M, N, K, &alpha, pointers_a,
				   LDA, pointers_b, LDB, &beta, pointers_c, LDC, BATCH));
	PRODUCT(BATCH, cublasGemmBatchedEx(handle, CUBLAS_OP_N, CUBLAS_OP_T, M, N, K, &alpha,
					   pointers_a, CUDA_R_32F, LDA, pointers_b, CUDA_R_32F, LDB,
					   &beta, pointers_c, CUDA_R_32F, LDC, BATCH,
					   CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT_TENSOR_OP));
	PRODUCT(BATCH, cublasSgemmStridedBatched(handle, CUBLAS_OP_N, CUBLAS_OP_T, M, N, K, &alpha,
						 device_a, LDA, A_FLOATS, device_b, LDB, B_FLOATS,
						 &beta, device_c, LDC, C_FLOATS, BATCH));
	PRODUCT(BATCH, cublasGemmStridedBatchedEx(handle, CUBLAS_OP_N, CUBLAS_OP_T, M, N, K, &alpha,
						  device_a, CUDA_R_32F, LDA, A_FLOATS, device_b,
						  CUDA_R_32F, LDB, B_FLOATS, &beta, device_c,
						  CUDA_R_32F, LDC, C_FLOATS, BATCH,
						  CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));

	/* The same with scalars on the device, on a stream of its own. */
	float *scalars = on_device((float[]){ alpha, beta }, 2 * sizeof(float));
	CUstream stream, found;
	cublasPointerMode_t mode;

	CHECK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) == CUDA_SUCCESS);
	WORKS(cublasSetStream_v2(handle, stream));
	WORKS(cublasGetStream_v2(handle, &found));
	CHECK(found == stream);
	WORKS(cublasSetPointerMode_v2(handle, CUBLAS_POINTER_MODE_DEVICE));
	WORKS(cublasGetPointerMode_v2(handle, &mode));
	CHECK(mode == CUBLAS_POINTER_MODE_DEVICE);
	device_c = on_device(c, sizeof(c));
	WORKS(cublasSgemm_v2(handle, CUBLAS_OP_N, CUBLAS_OP_T, M, N, K, scalars, device_a, LDA,
			     device_b, LDB, scalars + 1, device_c, LDC));
	CHECK(cuStreamSynchronize(stream) == CUDA_SUCCESS);
	check_result(device_c, 1, alpha, beta);
	WORKS(cublasSetPointerMode_v2(handle, CUBLAS_POINTER_MODE_HOST));
	WORKS(cublasSetStream_v2(handle, NULL));
	CHECK(cuStreamDestroy(stream) == CUDA_SUCCESS);
	free_device(device_c);
	free_device(scalars);
	free_device(pointers_a);
	free_device(pointers_b);
	free_device(device_a);
	free_device(device_b);
}

/* A captured product runs at each launch, and not before. */
static void test_capture(cublasHandle_t handle)
{
	float one = 1, zero = 0, ones[4] = { 1, 1, 1, 1 }, sums[4];
	void *matrix = on_device(ones, sizeof(ones)), *total = on_device(ones, sizeof(ones));
	CUgraphExec executable;
	CUstream stream;
	CUgraph graph;

	CHECK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) == CUDA_SUCCESS);
	WORKS(cublasSetStream_v2(handle, stream));
	CHECK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL) == CUDA_SUCCESS);
	WORKS(cublasSgemm_v2(handle, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &one, matrix, 2, matrix, 2,
			     &one, total, 2));
	CHECK(cuStreamEndCapture(stream, &graph) == CUDA_SUCCESS);
	CHECK(cuGraphInstantiate(&executable, graph, 0) == CUDA_SUCCESS);
	fetch(sums, total, sizeof(sums));
	CHECK(sums[0] == 1);
	one = zero; /* the scalars were read by the call */
	for (int launch = 0; launch < 3; launch++)
		CHECK(cuGraphLaunch(executable, stream) == CUDA_SUCCESS);
	CHECK(cuStreamSynchronize(stream) == CUDA_SUCCESS);
	fetch(sums, total, sizeof(sums));
	CHECK(sums[0] == 7 && sums[3] == 7);
	CHECK(cuGraphExecDestroy(executable) == CUDA_SUCCESS);
	CHECK(cuGraphDestroy(graph) == CUDA_SUCCESS);
	WORKS(cublasSetStream_v2(handle, NULL));
	CHECK(cuStreamDestroy(stream) == CUDA_SUCCESS);
	free_device(matrix);
	free_device(total);
}

static void test_vectors(cublasHandle_t handle)
{
	float x[5] = { 1, -2, 3, -5, 4 }, three = 3, scaled[5], sum;
	float *vector = on_device(x, sizeof(x));
	int place;

	WORKS(cublasSdot_v2(handle, 5, vector, 1, vector, 1, &sum));
	CHECK(sum == 55);
	WORKS(cublasSdot_v2(handle, 2, vector, 2, vector + 1, -3, &sum));
	CHECK(sum == 1 * 4 + 3 * -2);
	WORKS(cublasIsamax_v2(handle, 5, vector, 1, &place));
	CHECK(place == 4);
	WORKS(cublasIsamax_v2(handle, 0, vector, 1, &place));
	CHECK(place == 0);
	WORKS(cublasSscal_v2(handle, 3, &three, vector, 2));
	fetch(scaled, vector, sizeof(scaled));
	CHECK(scaled[0] == 3 && scaled[1] == -2 && scaled[2] == 9 && scaled[4] == 12);
	GIVES(CUBLAS_STATUS_INVALID_VALUE, cublasSdot_v2(handle, 5, vector, 1, vector, 1, NULL));
	free_device(vector);
}

static unsigned int lines_heard;

static void listen(const char *line)
{
	lines_heard += strstr(line, "SCAL: m=0 n=3") && strstr(line, "CUBLAS_STATUS_SUCCESS");
}

static void test_logger(cublasHandle_t handle)
{
	cublasLogCallback callback;
	float two = 2, x[3] = { 1, 2, 3 };
	float *vector = on_device(x, sizeof(x));

	WORKS(cublasSetLoggerCallback(listen));
	WORKS(cublasGetLoggerCallback(&callback));
	CHECK(callback == listen);
	WORKS(cublasSscal_v2(handle, 3, &two, vector, 1));
	CHECK(lines_heard == 1);
	WORKS(cublasSetLoggerCallback(NULL));
	WORKS(cublasSscal_v2(handle, 3, &two, vector, 1));
	CHECK(lines_heard == 1);
	GIVES(CUBLAS_STATUS_INVALID_VALUE, cublasLoggerConfigure(1, 0, 0, "/nonexistent/log"));
	free_device(vector);
}

/* A thread without a context works in that of the handle, and gets none by it. */
static void *use_in_thread(void *handle)
{
	float sum, x[2] = { 3, 4 };
	CUcontext context, owner;
	float *vector;

	CHECK(cuDevicePrimaryCtxRetain(&owner, 0) == CUDA_SUCCESS);
	CHECK(cuCtxPushCurrent(owner) == CUDA_SUCCESS);
	vector = on_device(x, sizeof(x));
	CHECK(cuCtxPopCurrent(&context) == CUDA_SUCCESS);
	WORKS(cublasSdot_v2(handle, 2, vector, 1, vector, 1, &sum));
	CHECK(sum == 25);
	CHECK(cuCtxGetCurrent(&context) == CUDA_SUCCESS && !context);
	CHECK(cuDevicePrimaryCtxRelease(0) == CUDA_SUCCESS);
	return NULL;
}

static void test_threads(cublasHandle_t handle)
{
	pthread_t thread;

	CHECK(!pthread_create(&thread, NULL, use_in_thread, handle));
	CHECK(!pthread_join(thread, NULL));
}

static void test_triangles(cublasHandle_t handle)
{
	/* Lower triangle of order 3, column by column; what lies above it is not read. */
	static const float triangle[9] = { 2, 1, -1, NAN, 4, 2, NAN, NAN, 0.5f };
	static const float x[3] = { 3, -2, 5 };
	float right[BATCH][3], solution[BATCH][3], alpha = 2;
	void *device_a[BATCH], *device_b, *pointers_a, *pointers_b;

	for (int entry = 0; entry < BATCH; entry++) {
		device_a[entry] = on_device(triangle, sizeof(triangle));
		for (int row = 0; row < 3; row++) {
			float sum = 0;

			for (int i = 0; i <= row; i++)
				sum += triangle[i * 3 + row] * x[i];
			right[entry][row] = sum * (float)(entry + 1) / alpha;
		}
	}
	device_b = on_device(right, sizeof(right));
	pointers_a = on_device(device_a, sizeof(device_a));
	pointers_b = pointers_to(device_b, sizeof(right[0]));
	WORKS(cublasStrsmBatched(handle, CUBLAS_SIDE_LEFT, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_N,
				 CUBLAS_DIAG_NON_UNIT, 3, 1, &alpha, pointers_a, 3, pointers_b, 3,
				 BATCH));
	fetch(solution, device_b, sizeof(solution));
	for (int entry = 0; entry < BATCH; entry++) {
		for (int row = 0; row < 3; row++)
			CHECK(fabsf(solution[entry][row] - x[row] * (float)(entry + 1)) < 1e-5f);
		free_device(device_a[entry]);
	}
	GIVES(CUBLAS_STATUS_INVALID_VALUE,
	      cublasStrsmBatched(handle, CUBLAS_SIDE_LEFT, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_N,
				 CUBLAS_DIAG_NON_UNIT, 3, 1, &alpha, pointers_a, 2, pointers_b, 3,
				 BATCH));
	free_device(device_b);
	free_device(pointers_a);
	free_device(pointers_b);
}

static void test_arguments(cublasHandle_t handle)
{
	float one = 1;
	void *memory = on_device(a, sizeof(a));

#define SGEMM(HANDLE, OPERATION, ROWS, ALPHA, STEP_A, STEP_B, STEP_C)                              \
	cublasSgemm_v2(HANDLE, OPERATION, CUBLAS_OP_N, ROWS, N, K, ALPHA, memory, STEP_A, memory,  \
		       STEP_B, &one, memory, STEP_C)
#define EX(TYPE_A, TYPE_B, TYPE_C, COMPUTE, ALGORITHM)                                             \
	cublasGemmEx(handle, CUBLAS_OP_N, CUBLAS_OP_N, 4, 4, 4, &one, memory, TYPE_A, 4, memory,   \
		     TYPE_B, 4, &one, memory, TYPE_C, 4, COMPUTE, ALGORITHM)
	GIVES(CUBLAS_STATUS_NOT_INITIALIZED, SGEMM(NULL, CUBLAS_OP_N, M, &one, M, K, M));
	GIVES(CUBLAS_STATUS_INVALID_VALUE, SGEMM(handle, 3, M, &one, M, K, M));
	GIVES(CUBLAS_STATUS_INVALID_VALUE, SGEMM(handle, CUBLAS_OP_N, -1, &one, M, K, M));
	GIVES(CUBLAS_STATUS_INVALID_VALUE, SGEMM(handle, CUBLAS_OP_N, M, NULL, M, K, M));
	GIVES(CUBLAS_STATUS_INVALID_VALUE, SGEMM(handle, CUBLAS_OP_N, M, &one, M - 1, K, M));
	GIVES(CUBLAS_STATUS_INVALID_VALUE, SGEMM(handle, CUBLAS_OP_T, M, &one, K - 1, K, M));
	GIVES(CUBLAS_STATUS_INVALID_VALUE, SGEMM(handle, CUBLAS_OP_N, M, &one, M, K - 1, M));
	GIVES(CUBLAS_STATUS_INVALID_VALUE, SGEMM(handle, CUBLAS_OP_N, M, &one, M, K, M - 1));
	WORKS(SGEMM(handle, CUBLAS_OP_N, 0, &one, 1, K, 1));
	GIVES(CUBLAS_STATUS_NOT_SUPPORTED,
	      EX(CUDA_R_16F, CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
	GIVES(CUBLAS_STATUS_NOT_SUPPORTED,
	      EX(CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_16F, CUBLAS_GEMM_DEFAULT));
	GIVES(CUBLAS_STATUS_NOT_SUPPORTED,
	      EX(CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, 12345, CUBLAS_GEMM_DEFAULT));
	GIVES(CUBLAS_STATUS_INVALID_VALUE,
	      EX(CUDA_R_32F, CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F, 5000));
	GIVES(CUBLAS_STATUS_INVALID_VALUE, cublasSetWorkspace_v2(handle, (char *)memory + 8, 4096));
	WORKS(cublasSetWorkspace_v2(handle, memory, sizeof(a)));
	free_device(memory);
}

static void test_settings(cublasHandle_t handle)
{
	cublasMath_t mode;
	int version, major;

	WORKS(cublasGetMathMode(handle, &mode));
	CHECK(mode == CUBLAS_DEFAULT_MATH);
	WORKS(cublasSetMathMode(handle, CUBLAS_TF32_TENSOR_OP_MATH));
	WORKS(cublasGetMathMode(handle, &mode));
	CHECK(mode == CUBLAS_TF32_TENSOR_OP_MATH);
	GIVES(CUBLAS_STATUS_INVALID_VALUE, cublasSetMathMode(handle, 77));
	WORKS(cublasSetMathMode(handle, CUBLAS_DEFAULT_MATH));
	WORKS(cublasGetVersion_v2(handle, &version));
	WORKS(cublasGetProperty(MAJOR_VERSION, &major));
	CHECK(version / 10000 == major && major == 13);
	CHECK(!strcmp(cublasGetStatusName(CUBLAS_STATUS_MAPPING_ERROR),
		      "CUBLAS_STATUS_MAPPING_ERROR"));
	CHECK(strstr(cublasGetStatusString(CUBLAS_STATUS_NOT_SUPPORTED), "not supported"));
	GIVES(CUBLAS_STATUS_NOT_INITIALIZED, cublasSetStream_v2(NULL, NULL));
	GIVES(CUBLAS_STATUS_NOT_SUPPORTED, cublasSetBackdoor(handle, 0));
}

static void test_copies(void)
{
	float host[12], back[12] = { 0 };
	void *memory = on_device(a, sizeof(a));

	fill(host, 12);
	WORKS(cublasSetVector(4, sizeof(float), host, 3, memory, 2));
	WORKS(cublasGetVector(4, sizeof(float), memory, 2, back, 1));
	for (int i = 0; i < 4; i++)
		CHECK(back[i] == host[3 * i]);
	WORKS(cublasSetMatrix(2, 3, sizeof(float), host, 4, memory, 5));
	WORKS(cublasGetMatrix(2, 3, sizeof(float), memory, 5, back, 2));
	for (int i = 0; i < 6; i++)
		CHECK(back[i] == host[i / 2 * 4 + i % 2]);
	GIVES(CUBLAS_STATUS_INVALID_VALUE, cublasSetVector(4, sizeof(float), host, 0, memory, 1));
	GIVES(CUBLAS_STATUS_INVALID_VALUE, cublasSetMatrix(4, 1, 4, host, 3, memory, 4));
	free_device(memory);
}

int main(void)
{
	cublasHandle_t handle;
	CUcontext context;

	fill(a[0], BATCH * A_FLOATS);
	fill(b[0], BATCH * B_FLOATS);
	fill(c[0], BATCH * C_FLOATS);
	/* Without a context the library takes the primary one, as the runtime does. */
	WORKS(cublasCreate_v2(&handle));
	CHECK(cuCtxGetCurrent(&context) == CUDA_SUCCESS && context);
	GIVES(CUBLAS_STATUS_INVALID_VALUE, cublasCreate_v2(NULL));
	test_settings(handle);
	test_arguments(handle);
	test_products(handle);
	test_capture(handle);
	test_vectors(handle);
	test_logger(handle);
	test_threads(handle);
	test_triangles(handle);
	test_copies();
	CHECK(cuCtxSynchronize() == CUDA_SUCCESS);
	WORKS(cublasDestroy_v2(handle));
	GIVES(CUBLAS_STATUS_NOT_INITIALIZED, cublasDestroy_v2(NULL));
	puts("passed");
	return 0;
}
