// One step of gravity among all bodies; a body is (x, y, z, mass). Positions are staged in shared memory.
extern "C" __global__ void nbody(const float4 *bodies, float4 *velocities, float4 *moved, int count,
                                 float time_step, float softening)
{
    extern __shared__ float4 staged[];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    float4 own = i < count ? bodies[i] : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    float ax = 0.0f, ay = 0.0f, az = 0.0f;

    for (int start = 0; start < count; start += blockDim.x) {
        int other = start + threadIdx.x;
        staged[threadIdx.x] = other < count ? bodies[other] : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        __syncthreads();
        for (int j = 0; j < blockDim.x; j++) {
            float4 body = staged[j];
            float dx = body.x - own.x, dy = body.y - own.y, dz = body.z - own.z;
            float inverse = rsqrtf(dx * dx + dy * dy + dz * dz + softening * softening);
            float pull = body.w * inverse * inverse * inverse;
            ax += pull * dx;
            ay += pull * dy;
            az += pull * dz;
        }
        __syncthreads();
    }
    if (i < count) {
        float4 velocity = velocities[i];
        velocity.x += ax * time_step;
        velocity.y += ay * time_step;
        velocity.z += az * time_step;
        velocities[i] = velocity;
        moved[i] = make_float4(own.x + velocity.x * time_step, own.y + velocity.y * time_step,
                               own.z + velocity.z * time_step, own.w);
    }
}
