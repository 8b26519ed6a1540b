// Heat on a chip: several time steps of a five-point stencil in shared memory, whose valid inner
// part shrinks by one cell on each side at each step. The border of the chip lets no heat through.
#define SIDE 16

// Neighbour (dx, dy) of a cell in the tile; beyond the chip's border, the cell itself.
__device__ float neighbour(const float tile[SIDE][SIDE], int x, int y, bool inside, int dx, int dy)
{
    return inside ? tile[y + dy][x + dx] : tile[y][x];
}

extern "C" __global__ void hotspot(const float *heat, const float *power, float *result, int width,
                                   int height, int steps, float along_x, float along_y,
                                   float upwards, float ambient)
{
    __shared__ float tile[SIDE][SIDE];
    int x = threadIdx.x, y = threadIdx.y;
    int valid = SIDE - 2 * steps;
    int column = (int)blockIdx.x * valid + x - steps, row = (int)blockIdx.y * valid + y - steps;
    bool on_chip = column >= 0 && column < width && row >= 0 && row < height;
    float watts = 0.0f;

    if (on_chip) {
        tile[y][x] = heat[row * width + column];
        watts = power[row * width + column];
    }
    __syncthreads();
    for (int step = 1; step <= steps; step++) {
        bool computes = on_chip && x >= step && x < SIDE - step && y >= step && y < SIDE - step;
        float next = 0.0f;
        if (computes) {
            float own = tile[y][x];
            float sides = neighbour(tile, x, y, column > 0, -1, 0) +
                          neighbour(tile, x, y, column < width - 1, 1, 0);
            float ends = neighbour(tile, x, y, row > 0, 0, -1) +
                         neighbour(tile, x, y, row < height - 1, 0, 1);
            next = own + watts + along_x * (sides - 2.0f * own) + along_y * (ends - 2.0f * own) +
                   upwards * (ambient - own);
        }
        __syncthreads();
        if (computes)
            tile[y][x] = next;
        __syncthreads();
    }
    if (on_chip && x >= steps && x < SIDE - steps && y >= steps && y < SIDE - steps)
        result[row * width + column] = tile[y][x];
}
