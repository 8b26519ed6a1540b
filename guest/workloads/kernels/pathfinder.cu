// The cheapest way down a grid, one column left or right at each row: several rows per launch, in
// shared memory, where the part of the block's row that is right shrinks by one at each end with
// each row.
#define WIDTH 256

extern "C" __global__ void pathfinder(const int *costs, const int *before, int *after, int columns,
                                      int first_row, int rows)
{
    __shared__ int line[2][WIDTH];
    int x = threadIdx.x, column = (int)blockIdx.x * (WIDTH - 2 * rows) + x - rows;
    bool inside = column >= 0 && column < columns;
    int current = 0;

    line[0][x] = inside ? before[column] : 0x7fffffff;
    __syncthreads();
    for (int row = 0; row < rows; row++) {
        int cheapest = line[current][x];
        if (x > 0)
            cheapest = min(cheapest, line[current][x - 1]);
        if (x < WIDTH - 1)
            cheapest = min(cheapest, line[current][x + 1]);
        current = 1 - current;
        line[current][x] =
            inside ? cheapest + costs[(first_row + row) * columns + column] : 0x7fffffff;
        __syncthreads();
    }
    if (inside && x >= rows && x < WIDTH - rows)
        after[column] = line[current][x];
}
