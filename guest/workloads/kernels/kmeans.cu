// Lloyd's iteration: every point joins its nearest centre, then every centre moves to the mean of
// its points. Features are small integers, so that sums are exact in any order. Dynamic shared
// memory holds the centres.
extern "C" __global__ void kmeans_assign(const short *points, const float *centres, int *membership,
                                         int *sums, int *sizes, int count, int clusters,
                                         int features)
{
    extern __shared__ float staged[];
    int i = blockIdx.x * blockDim.x + threadIdx.x;

    for (int k = threadIdx.x; k < clusters * features; k += blockDim.x)
        staged[k] = centres[k];
    __syncthreads();
    if (i >= count)
        return;
    float nearest = __int_as_float(0x7f800000); // infinity
    int chosen = 0;
    for (int cluster = 0; cluster < clusters; cluster++) {
        float distance = 0.0f;
        for (int feature = 0; feature < features; feature++) {
            float apart =
                __fsub_rn(points[feature * count + i], staged[cluster * features + feature]);
            distance = __fadd_rn(distance, __fmul_rn(apart, apart));
        }
        if (distance < nearest) {
            nearest = distance;
            chosen = cluster;
        }
    }
    membership[i] = chosen;
    atomicAdd(&sizes[chosen], 1);
    for (int feature = 0; feature < features; feature++)
        atomicAdd(&sums[chosen * features + feature], (int)points[feature * count + i]);
}

// A centre without points stays where it is.
extern "C" __global__ void kmeans_move(float *centres, const int *sums, const int *sizes,
                                       int clusters, int features)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;

    if (i < clusters * features && sizes[i / features])
        centres[i] = __fdiv_rn((float)sums[i], (float)sizes[i / features]);
}
