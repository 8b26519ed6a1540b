// Needleman-Wunsch: scores of the best global alignment of every pair of prefixes. The matrix is
// cut into tiles; a launch computes one diagonal of tiles, and a block goes through its tile
// diagonal by diagonal.
#define TILE    32
#define LETTERS 24

__constant__ int substitution[LETTERS][LETTERS];

// scores is (rows + 1) x (columns + 1); its first row and column are set. blockDim.x is TILE.
extern "C" __global__ void needle_diagonal(const unsigned char *down, const unsigned char *across,
                                           int *scores, int rows, int columns, int gap,
                                           int diagonal, int first_tile_row)
{
    __shared__ int tile[TILE + 1][TILE + 1];
    int tile_row = first_tile_row + blockIdx.x, tile_column = diagonal - tile_row;
    int top = tile_row * TILE, left = tile_column * TILE, pitch = columns + 1;
    int height = min(TILE, rows - top), width = min(TILE, columns - left);
    int x = threadIdx.x;

    if (x <= height)
        tile[x][0] = scores[(top + x) * pitch + left];
    if (x == 0 && height == TILE)
        tile[TILE][0] = scores[(top + TILE) * pitch + left];
    if (x < width)
        tile[0][x + 1] = scores[top * pitch + left + x + 1];
    __syncthreads();
    unsigned char letter = x < width ? across[left + x] : 0;
    for (int step = 0; step < height + width - 1; step++) {
        int y = step - x;
        if (x < width && y >= 0 && y < height) {
            int aligned = tile[y][x] + substitution[down[top + y]][letter];
            tile[y + 1][x + 1] = max(aligned, max(tile[y][x + 1], tile[y + 1][x]) - gap);
        }
        __syncthreads();
    }
    if (x < width)
        for (int y = 0; y < height; y++)
            scores[(top + y + 1) * pitch + left + x + 1] = tile[y + 1][x + 1];
}
