// LU decomposition in place, without pivoting, tile by tile: the diagonal tile, then the tiles
// right of it and below it, then all that remain. Beyond the matrix tiles go on as the identity,
// which changes nothing.
#define TILE 16

__device__ float element(const float *matrix, int order, int row, int column)
{
    if (row < order && column < order)
        return matrix[row * order + column];
    return row == column ? 1.0f : 0.0f;
}

// One block of TILE threads: thread t has row t of the lower factor and column t of the upper one.
extern "C" __global__ void lud_diagonal(float *matrix, int order, int start)
{
    __shared__ float tile[TILE][TILE];
    int t = threadIdx.x;

    for (int row = 0; row < TILE; row++)
        tile[row][t] = element(matrix, order, start + row, start + t);
    __syncthreads();
    for (int k = 0; k < TILE - 1; k++) {
        if (t > k) {
            float factor = tile[t][k] / tile[k][k];
            tile[t][k] = factor;
            for (int column = k + 1; column < TILE; column++)
                tile[t][column] -= factor * tile[k][column];
        }
        __syncthreads();
    }
    for (int row = 0; row < TILE; row++)
        if (start + row < order && start + t < order)
            matrix[(start + row) * order + start + t] = tile[row][t];
}

// blockIdx.y 0: a tile right of the diagonal one, thread t solves column t with the lower factor.
// blockIdx.y 1: a tile below it, thread t solves row t with the upper factor.
extern "C" __global__ void lud_perimeter(float *matrix, int order, int start)
{
    __shared__ float factor[TILE][TILE];
    __shared__ float tile[TILE][TILE + 1];
    int t = threadIdx.x, away = start + TILE * (blockIdx.x + 1);
    bool below = blockIdx.y == 1;

    for (int row = 0; row < TILE; row++) {
        factor[row][t] = element(matrix, order, start + row, start + t);
        tile[row][t] = below ? element(matrix, order, away + row, start + t)
                             : element(matrix, order, start + row, away + t);
    }
    __syncthreads();
    if (below) {
        for (int column = 0; column < TILE; column++) {
            float value = tile[t][column];
            for (int k = 0; k < column; k++)
                value -= tile[t][k] * factor[k][column];
            tile[t][column] = value / factor[column][column];
        }
    } else {
        for (int row = 1; row < TILE; row++) {
            float value = tile[row][t];
            for (int k = 0; k < row; k++)
                value -= factor[row][k] * tile[k][t];
            tile[row][t] = value;
        }
    }
    __syncthreads();
    for (int row = 0; row < TILE; row++) {
        int to_row = below ? away + row : start + row, to_column = below ? start + t : away + t;
        if (to_row < order && to_column < order)
            matrix[to_row * order + to_column] = tile[row][t];
    }
}

// TILE x TILE threads: subtracts the product of the tile to the left by the tile above.
extern "C" __global__ void lud_internal(float *matrix, int order, int start)
{
    __shared__ float left[TILE][TILE];
    __shared__ float above[TILE][TILE];
    int x = threadIdx.x, y = threadIdx.y;
    int row = start + TILE * (blockIdx.y + 1) + y, column = start + TILE * (blockIdx.x + 1) + x;
    float sum = 0.0f;

    left[y][x] = element(matrix, order, row, start + x);
    above[y][x] = element(matrix, order, start + y, column);
    __syncthreads();
    for (int k = 0; k < TILE; k++)
        sum += left[y][k] * above[k][x];
    if (row < order && column < order)
        matrix[row * order + column] -= sum;
}
