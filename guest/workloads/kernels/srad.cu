// Speckle-reducing anisotropic diffusion of an image: statistics of the whole, a diffusion
// coefficient for each pixel, then one step of diffusion. Beyond the border the image repeats its
// last pixels.

__device__ double block_sum(double value)
{
    __shared__ double warp_sums[32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;

    for (int offset = 16; offset > 0; offset /= 2)
        value += __shfl_down_sync(0xffffffff, value, offset);
    __syncthreads();
    if (lane == 0)
        warp_sums[warp] = value;
    __syncthreads();
    value = threadIdx.x < blockDim.x / 32 ? warp_sums[lane] : 0.0;
    if (warp == 0)
        for (int offset = 16; offset > 0; offset /= 2)
            value += __shfl_down_sync(0xffffffff, value, offset);
    return value;
}

// sums[b] and sums[gridDim.x + b]: sum and sum of squares of the pixels that block b has.
extern "C" __global__ void srad_sums(const float *image, int count, double *sums)
{
    double sum = 0.0, squares = 0.0;

    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
        double pixel = image[i];
        sum += pixel;
        squares += pixel * pixel;
    }
    sum = block_sum(sum);
    squares = block_sum(squares);
    if (threadIdx.x == 0) {
        sums[blockIdx.x] = sum;
        sums[gridDim.x + blockIdx.x] = squares;
    }
}

// One block; statistics[0] becomes the squared coefficient of variation.
extern "C" __global__ void srad_variation(const double *sums, int blocks, int count,
                                          float *statistics)
{
    double sum = 0.0, squares = 0.0;

    for (int i = threadIdx.x; i < blocks; i += blockDim.x) {
        sum += sums[i];
        squares += sums[blocks + i];
    }
    sum = block_sum(sum);
    squares = block_sum(squares);
    if (threadIdx.x == 0) {
        double mean = sum / count;
        statistics[0] = (float)((squares / count - mean * mean) / (mean * mean));
    }
}

// coefficient = 1 / (1 + (q - q0) / (q0 (1 + q0))), limited to 0..1, where q is the local
// variation.
extern "C" __global__ void srad_coefficients(const float *image, float *coefficients, int width,
                                             int height, const float *statistics)
{
    int column = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y * blockDim.y + threadIdx.y;

    if (column >= width || row >= height)
        return;
    float own = image[row * width + column];
    float north = image[max(row - 1, 0) * width + column] - own;
    float south = image[min(row + 1, height - 1) * width + column] - own;
    float west = image[row * width + max(column - 1, 0)] - own;
    float east = image[row * width + min(column + 1, width - 1)] - own;
    float gradient = (north * north + south * south + west * west + east * east) / (own * own);
    float laplacian = (north + south + west + east) / own;
    float scale = 1.0f + 0.25f * laplacian;
    float local = (0.5f * gradient - laplacian * laplacian / 16.0f) / (scale * scale);
    float whole = statistics[0];
    float coefficient = 1.0f / (1.0f + (local - whole) / (whole * (1.0f + whole)));
    coefficients[row * width + column] = __saturatef(coefficient);
}

extern "C" __global__ void srad_diffuse(const float *image, const float *coefficients,
                                        float *result, int width, int height, float rate)
{
    int column = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y * blockDim.y + threadIdx.y;

    if (column >= width || row >= height)
        return;
    int here = row * width + column;
    int below = min(row + 1, height - 1) * width + column,
        right = row * width + min(column + 1, width - 1);
    float own = image[here], toward_north_and_west = coefficients[here];
    float flow = toward_north_and_west * (image[max(row - 1, 0) * width + column] - own) +
                 toward_north_and_west * (image[row * width + max(column - 1, 0)] - own) +
                 coefficients[below] * (image[below] - own) +
                 coefficients[right] * (image[right] - own);
    result[here] = own + 0.25f * rate * flow;
}
