// SPDX-License-Identifier: MIT
// Language constructs of CUDA C++ as nvcc compiles them; every line of output is checked.
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cstdio>
#include <cstdlib>

namespace cg = cooperative_groups;

static void ok(cudaError_t error)
{
	if (error != cudaSuccess) {
		printf("%s\n", cudaGetErrorName(error));
		exit(1);
	}
}

// Every block adds what all blocks had in the round before.
__global__ void rounds(unsigned *cells, int count)
{
	cg::grid_group grid = cg::this_grid();
	for (int round = 0; round < count; round++) {
		unsigned sum = 0;
		for (unsigned block = 0; block < gridDim.x; block++)
			sum += cells[block];
		grid.sync();
		if (threadIdx.x == 0)
			cells[blockIdx.x] = sum + blockIdx.x;
		grid.sync();
	}
}

static void cooperative()
{
	int each, processors, count = 3;
	ok(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0));
	ok(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, rounds, 64, 0));
	unsigned blocks = (unsigned)(each * processors), *cells, sum = 0;
	ok(cudaMalloc(&cells, blocks * sizeof(*cells)));
	ok(cudaMemset(cells, 0, blocks * sizeof(*cells)));
	void *arguments[] = {&cells, &count};
	ok(cudaLaunchCooperativeKernel(rounds, dim3(blocks), dim3(64), arguments));
	unsigned *found = new unsigned[blocks];
	ok(cudaMemcpy(found, cells, blocks * sizeof(*cells), cudaMemcpyDeviceToHost));
	bool right = blocks > 1;
	for (int round = 1; round < count; round++)
		sum = sum * blocks + blocks * (blocks - 1) / 2;
	for (unsigned block = 0; block < blocks; block++)
		right = right && found[block] == sum + block;
	printf("grid %s\n", right ? "right" : "wrong");
	cudaError_t refused =
		cudaLaunchCooperativeKernel(rounds, dim3(blocks + 1), dim3(64), arguments);
	printf("grid %s\n", cudaGetErrorName(refused));
	cudaGetLastError();
}

typedef int (*operation)(int, int);
__device__ int add(int a, int b) { return a + b; }
__device__ int multiply(int a, int b) { return a * b; }
__device__ operation multiply_pointer = multiply;
__device__ operation table[2] = {add, multiply};

__global__ void apply(operation given, int *out)
{
	out[threadIdx.x] = given(threadIdx.x, 3) * 1000 + table[threadIdx.x & 1](threadIdx.x, 5);
}

static void pointers(int *out)
{
	operation given;
	int found[8];
	ok(cudaMemcpyFromSymbol(&given, multiply_pointer, sizeof(given)));
	apply<<<1, 8>>>(given, out);
	ok(cudaMemcpy(found, out, sizeof(found), cudaMemcpyDeviceToHost));
	for (int value : found)
		printf("%d ", value);
	printf("pointers\n");
}

__device__ __noinline__ void sort(int *data, int first, int last)
{
	if (first >= last)
		return;
	int pivot = data[(first + last) / 2], i = first, j = last;
	while (i <= j) {
		while (data[i] < pivot)
			i++;
		while (data[j] > pivot)
			j--;
		if (i <= j) {
			int kept = data[i];
			data[i++] = data[j];
			data[j--] = kept;
		}
	}
	sort(data, first, j);
	sort(data, i, last);
}

__device__ __noinline__ int factorial(int n)
{
	int below = n ? factorial(n - 1) : 1;
	if (threadIdx.x == 3)
		printf("factorial(%d) of thread %d\n", n, threadIdx.x);
	return n ? n * below : 1;
}

__global__ void recurse(int *out)
{
	sort(out, 8 * threadIdx.x, 8 * threadIdx.x + 7);
	out[8 * threadIdx.x] += factorial(threadIdx.x);
}

static void recursion(int *out)
{
	int data[32], found[32];
	for (int i = 0; i < 32; i++)
		data[i] = (i * 37 + 11) % 100;
	ok(cudaMemcpy(out, data, sizeof(data), cudaMemcpyHostToDevice));
	recurse<<<1, 4>>>(out);
	ok(cudaMemcpy(found, out, sizeof(found), cudaMemcpyDeviceToHost));
	for (int value : found)
		printf("%d ", value);
	printf("sorted\n");
}

// Groups that threads of a warp form where their ways part.
__global__ void groups(int *out)
{
	int t = threadIdx.x;
	cg::thread_block_tile<8> tile = cg::tiled_partition<8>(cg::this_thread_block());
	int sum = tile.thread_rank() < 3 ? cg::reduce(cg::coalesced_threads(), t, cg::plus<int>())
					 : -1;
	out[t] = cg::reduce(tile, sum, cg::plus<int>());
}

static void partitions(int *out)
{
	int found[32];
	groups<<<1, 32>>>(out);
	ok(cudaMemcpy(found, out, sizeof(found), cudaMemcpyDeviceToHost));
	for (int i = 0; i < 32; i += 8)
		printf("%d ", found[i]);
	printf("groups\n");
}

int main()
{
	int *out;
	ok(cudaMalloc(&out, 32 * sizeof(*out)));
	cooperative();
	pointers(out);
	recursion(out);
	partitions(out);
	ok(cudaDeviceSynchronize());
}
