// A matrix, row by row, times a vector: a warp takes a row.
extern "C" __global__ void matrix_vector(const float *matrix, const float *vector, float *result,
                                         int rows, int columns)
{
    int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
    float sum = 0;

    if (row >= rows)
        return;
    for (int column = lane; column < columns; column += 32)
        sum += matrix[(size_t)row * columns + column] * vector[column];
    for (int step = 16; step; step /= 2)
        sum += __shfl_xor_sync(0xffffffff, sum, step);
    if (lane == 0)
        result[row] = sum;
}
