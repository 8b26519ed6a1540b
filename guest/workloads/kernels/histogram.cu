// Counts of 256 byte values: atomics on shared memory within a block, on global memory across blocks.
extern "C" __global__ void histogram(const unsigned char *input, unsigned *counts, unsigned count)
{
    __shared__ unsigned local_counts[256];

    for (unsigned i = threadIdx.x; i < 256; i += blockDim.x)
        local_counts[i] = 0;
    __syncthreads();
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x)
        atomicAdd(&local_counts[input[i]], 1u);
    __syncthreads();
    for (unsigned i = threadIdx.x; i < 256; i += blockDim.x)
        if (local_counts[i])
            atomicAdd(&counts[i], local_counts[i]);
}
