// One level of a breadth-first search: a thread takes a vertex of the frontier and claims the
// neighbours that nobody has reached. Which thread claims a vertex is chance, its level is not. The
// look before the claim is volatile, since others may write meanwhile.
extern "C" __global__ void bfs_expand(const int *offsets, const int *neighbours, int *levels,
                                      int level, const int *frontier, int frontier_size, int *next,
                                      int *next_size)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;

    if (i >= frontier_size)
        return;
    int vertex = frontier[i];
    for (int edge = offsets[vertex]; edge < offsets[vertex + 1]; edge++) {
        int neighbour = neighbours[edge];
        const volatile int *seen = levels;
        if (seen[neighbour] < 0 && atomicCAS(&levels[neighbour], -1, level) == -1)
            next[atomicAdd(next_size, 1)] = neighbour;
    }
}
