// Escape times of the Mandelbrot set: neighbouring threads leave the loop at different times.
extern "C" __global__ void mandelbrot(int *escape, int width, int height, float left, float top,
                                      float step, int limit)
{
    int column = blockIdx.x * blockDim.x + threadIdx.x;
    int row = blockIdx.y * blockDim.y + threadIdx.y;

    if (column >= width || row >= height)
        return;
    float real = __fadd_rn(left, __fmul_rn((float)column, step));
    float imaginary = __fadd_rn(top, __fmul_rn((float)row, step));
    float x = 0.0f, y = 0.0f;
    int iterations = 0;
    while (iterations < limit) {
        float xx = __fmul_rn(x, x), yy = __fmul_rn(y, y);
        if (__fadd_rn(xx, yy) > 4.0f)
            break;
        y = __fadd_rn(__fmul_rn(__fmul_rn(2.0f, x), y), imaginary);
        x = __fadd_rn(__fsub_rn(xx, yy), real);
        iterations++;
    }
    escape[row * width + column] = iterations;
}
