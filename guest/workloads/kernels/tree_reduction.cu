// Sum per block by halving in dynamic shared memory; blockDim.x must be a power of two.
extern "C" __global__ void tree_reduction(const float *input, float *block_sums, unsigned count)
{
    extern __shared__ float partial[];
    unsigned thread = threadIdx.x, i = blockIdx.x * blockDim.x + thread;

    partial[thread] = i < count ? input[i] : 0.0f;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (thread < half)
            partial[thread] += partial[thread + half];
        __syncthreads();
    }
    if (thread == 0)
        block_sums[blockIdx.x] = partial[0];
}
