// One step of training a network with one hidden layer: forward through a layer, the error at each
// unit, and the change of the weights with momentum. Weights are (inputs + 1) x outputs; their
// first row is the bias.
#define SIDE 16

// A block has SIDE outputs; its rows of threads share the inputs, and meet in a tree. blockDim is
// SIDE x SIDE.
extern "C" __global__ void backprop_forward(const float *inputs, const float *weights,
                                            float *outputs, int input_count, int output_count)
{
    __shared__ float partial[SIDE][SIDE];
    int x = threadIdx.x, y = threadIdx.y, output = blockIdx.x * SIDE + x;
    float sum = 0.0f;

    if (output < output_count)
        for (int input = y; input < input_count; input += SIDE)
            sum += inputs[input] * weights[(input + 1) * output_count + output];
    partial[y][x] = sum;
    for (int half = SIDE / 2; half > 0; half /= 2) {
        __syncthreads();
        if (y < half)
            partial[y][x] += partial[y + half][x];
    }
    if (y == 0 && output < output_count)
        outputs[output] = 1.0f / (1.0f + expf(-(partial[0][x] + weights[output])));
}

// Error of the last layer's units.
extern "C" __global__ void backprop_output_error(const float *outputs, const float *targets,
                                                 float *errors, int count)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;

    if (i < count)
        errors[i] = outputs[i] * (1.0f - outputs[i]) * (targets[i] - outputs[i]);
}

// Error of a hidden layer's units, one warp each. blockDim.x is a multiple of 32.
extern "C" __global__ void backprop_hidden_error(const float *hidden, const float *weights,
                                                 const float *next_errors, float *errors,
                                                 int hidden_count, int next_count)
{
    int unit = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
    float sum = 0.0f;

    if (unit >= hidden_count)
        return;
    for (int next = lane; next < next_count; next += 32)
        sum += weights[(unit + 1) * next_count + next] * next_errors[next];
    for (int offset = 16; offset > 0; offset /= 2)
        sum += __shfl_xor_sync(0xffffffff, sum, offset);
    if (lane == 0)
        errors[unit] = hidden[unit] * (1.0f - hidden[unit]) * sum;
}

extern "C" __global__ void backprop_adjust(const float *inputs, const float *errors, float *weights,
                                           float *changes, int input_count, int output_count,
                                           float rate, float momentum)
{
    int output = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y * blockDim.y + threadIdx.y;

    if (output >= output_count || row > input_count)
        return;
    int i = row * output_count + output;
    float change = rate * errors[output] * (row ? inputs[row - 1] : 1.0f) + momentum * changes[i];
    weights[i] += change;
    changes[i] = change;
}
