// Inference of a Llama-shaped model, all of it on the device (guest/workloads/llm_resident).
//
// Weights stay in the blocks of their GGUF file and are decoded where they are used. Rows are
// multiples of 256 weights; a warp takes 256 at a time, each lane eight of them.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

enum { WARP = 32, CHUNK = 256 };

// What a step of decoding leaves for the next one.
struct State {
	int position; // tokens in the key and value caches
	int token;    // the newest token, not yet in them
	int produced; // tokens written to the output
	u32 seed;
};

__device__ static float half_bits(u16 bits)
{
	float value;
	asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
	return value;
}

__device__ static u16 to_half(float value)
{
	u16 bits;
	asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
	return bits;
}

__device__ static u32 two_halves(const u8 *at)
{
	return *(const u16 *)at | (u32) * (const u16 *)(at + 2) << 16;
}

__device__ static float warp_sum(float value)
{
	for (int step = WARP / 2; step; step /= 2)
		value += __shfl_xor_sync(0xffffffff, value, step);
	return value;
}

__device__ static float warp_max(float value)
{
	for (int step = WARP / 2; step; step /= 2)
		value = fmaxf(value, __shfl_xor_sync(0xffffffff, value, step));
	return value;
}

// -- formats -------------------------------------------------------------------------------------
//
// decode() gives the lane's eight weights of a chunk, in RUNS runs of 8 / RUNS neighbours; place()
// says where in the chunk a run begins.

struct F32 {
	enum { BYTES = 1024, RUNS = 1 };
	__device__ static int place(int lane, int)
	{
		return 8 * lane;
	}
	__device__ static void decode(const u8 *chunk, int lane, float *w)
	{
		const float4 *at = (const float4 *)chunk + 2 * lane;
		float4 low = at[0], high = at[1];
		w[0] = low.x, w[1] = low.y, w[2] = low.z, w[3] = low.w;
		w[4] = high.x, w[5] = high.y, w[6] = high.z, w[7] = high.w;
	}
};

struct F16 {
	enum { BYTES = 512, RUNS = 1 };
	__device__ static int place(int lane, int)
	{
		return 8 * lane;
	}
	__device__ static void decode(const u8 *chunk, int lane, float *w)
	{
		uint4 at = ((const uint4 *)chunk)[lane];
		u32 pairs[4] = { at.x, at.y, at.z, at.w };
#pragma unroll
		for (int i = 0; i < 4; i++) {
			w[2 * i] = half_bits(pairs[i] & 0xffff);
			w[2 * i + 1] = half_bits(pairs[i] >> 16);
		}
	}
};

// 32 weights: the scale as a half, then signed bytes.
struct Q8_0 {
	enum { BYTES = 8 * 34, RUNS = 1 };
	__device__ static int place(int lane, int)
	{
		return 8 * lane;
	}
	__device__ static void decode(const u8 *chunk, int lane, float *w)
	{
		const u8 *block = chunk + lane / 4 * 34;
		float scale = half_bits(*(const u16 *)block);
		const u16 *pairs = (const u16 *)(block + 2 + lane % 4 * 8);
#pragma unroll
		for (int i = 0; i < 4; i++) {
			w[2 * i] = scale * (signed char)(pairs[i] & 0xff);
			w[2 * i + 1] = scale * (signed char)(pairs[i] >> 8);
		}
	}
};

// Scale and minimum of a group of 32: six bits each, eight pairs in twelve bytes.
__device__ static void scale_and_minimum(const u8 *packed, int group, int *scale, int *minimum)
{
	if (group < 4) {
		*scale = packed[group] & 63;
		*minimum = packed[group + 4] & 63;
	} else {
		*scale = (packed[group + 4] & 15) | (packed[group - 4] >> 6) << 4;
		*minimum = (packed[group + 4] >> 4) | (packed[group] >> 6) << 4;
	}
}

// 256 weights: scale and minimum as halves, twelve bytes of both for eight groups, nibbles.
struct Q4_K {
	enum { BYTES = 144, RUNS = 2 };
	__device__ static int place(int lane, int run)
	{
		return lane / 8 * 64 + run * 32 + lane % 8 * 4;
	}
	__device__ static void decode(const u8 *chunk, int lane, float *w)
	{
		uint4 head = *(const uint4 *)chunk;
		u32 words[3] = { head.y, head.z, head.w };
		u32 nibbles = *(const u32 *)(chunk + 16 + lane * 4);
		float scale = half_bits(head.x & 0xffff), minimum = half_bits(head.x >> 16);
#pragma unroll
		for (int run = 0; run < 2; run++) {
			int s, m;
			scale_and_minimum((const u8 *)words, lane / 8 * 2 + run, &s, &m);
			float step = scale * s, low = minimum * m;
#pragma unroll
			for (int i = 0; i < 4; i++)
				w[4 * run + i] = step * (nibbles >> (8 * i + 4 * run) & 15) - low;
		}
	}
};

// As Q4_K, with a fifth bit of each weight: a byte has it for the same place of eight groups.
struct Q5_K {
	enum { BYTES = 176, RUNS = 2 };
	__device__ static int place(int lane, int run)
	{
		return Q4_K::place(lane, run);
	}
	__device__ static void decode(const u8 *chunk, int lane, float *w)
	{
		uint4 head = *(const uint4 *)chunk;
		u32 words[3] = { head.y, head.z, head.w };
		u32 high = *(const u32 *)(chunk + 16 + lane % 8 * 4);
		u32 nibbles = *(const u32 *)(chunk + 48 + lane * 4);
		float scale = half_bits(head.x & 0xffff), minimum = half_bits(head.x >> 16);
#pragma unroll
		for (int run = 0; run < 2; run++) {
			int s, m, group = lane / 8 * 2 + run;
			scale_and_minimum((const u8 *)words, group, &s, &m);
			float step = scale * s, low = minimum * m;
#pragma unroll
			for (int i = 0; i < 4; i++) {
				u32 value = (nibbles >> (8 * i + 4 * run) & 15) |
					    (high >> (8 * i + group) & 1) << 4;
				w[4 * run + i] = step * value - low;
			}
		}
	}
};

// 256 weights: low nibbles, high pairs of bits, sixteen signed scales, the scale as a half.
struct Q6_K {
	enum { BYTES = 210, RUNS = 4 };
	__device__ static int place(int lane, int run)
	{
		return lane / 16 * 128 + run * 32 + lane % 16 * 2;
	}
	__device__ static void decode(const u8 *chunk, int lane, float *w)
	{
		int part = lane / 16, first = lane % 16 * 2;
		u32 low0 = *(const u16 *)(chunk + part * 64 + first);
		u32 low1 = *(const u16 *)(chunk + part * 64 + 32 + first);
		u32 high = *(const u16 *)(chunk + 128 + part * 32 + first);
		const signed char *scales =
			(const signed char *)chunk + 192 + part * 8 + first / 16;
		float scale = half_bits(*(const u16 *)(chunk + 208));
#pragma unroll
		for (int run = 0; run < 4; run++) {
			u32 low = run & 1 ? low1 : low0;
			float step = scale * scales[2 * run];
#pragma unroll
			for (int i = 0; i < 2; i++) {
				int value = (low >> (8 * i + (run & 2 ? 4 : 0)) & 15) |
					    (high >> (8 * i + 2 * run) & 3) << 4;
				w[2 * run + i] = step * (value - 32);
			}
		}
	}
};

// Product of a row's chunk with the vector's; the lane's part of it.
template <class Format> __device__ static float dot(const u8 *chunk, const float *x, int lane)
{
	enum { RUN = 8 / Format::RUNS };
	float w[8], sum = 0;

	Format::decode(chunk, lane, w);
#pragma unroll
	for (int run = 0; run < Format::RUNS; run++)
#pragma unroll
		for (int i = 0; i < RUN; i += 2) {
			float2 pair = *(const float2 *)(x + Format::place(lane, run) + i);
			sum += w[RUN * run + i] * pair.x + w[RUN * run + i + 1] * pair.y;
		}
	return sum;
}

// -- matrices and vectors ------------------------------------------------------------------------

// y = W x (+ residual); a warp takes a row.
template <class Format>
__device__ static void matvec(const u8 *weights, const float *x, float *y, const float *residual,
			      int columns, int rows)
{
	int row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
	int chunks = columns / CHUNK;
	float sum = 0;

	if (row >= rows)
		return;
	const u8 *chunk = weights + (u64)row * chunks * Format::BYTES;
#pragma unroll 4
	for (int i = 0; i < chunks; i++)
		sum += dot<Format>(chunk + i * Format::BYTES, x + i * CHUNK, lane);
	sum = warp_sum(sum);
	if (lane == 0)
		y[row] = residual ? sum + residual[row] : sum;
}

// y = silu(gate x) * (up x)
template <class Format>
__device__ static void matvec_swiglu(const u8 *gate, const u8 *up, const float *x, float *y,
				     int columns, int rows)
{
	int row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
	int chunks = columns / CHUNK;
	float a = 0, b = 0;

	if (row >= rows)
		return;
	u64 start = (u64)row * chunks * Format::BYTES;
#pragma unroll 2
	for (int i = 0; i < chunks; i++) {
		a += dot<Format>(gate + start + i * Format::BYTES, x + i * CHUNK, lane);
		b += dot<Format>(up + start + i * Format::BYTES, x + i * CHUNK, lane);
	}
	a = warp_sum(a);
	b = warp_sum(b);
	if (lane == 0)
		y[row] = a / (1 + expf(-a)) * b;
}

// Rows `tokens[block]` of the embedding.
template <class Format>
__device__ static void embed(const u8 *table, const int *tokens, float *x, int columns)
{
	enum { RUN = 8 / Format::RUNS };
	int lane = threadIdx.x % WARP, chunks = columns / CHUNK;
	const u8 *row = table + (u64)tokens[blockIdx.x] * chunks * Format::BYTES;

	for (int i = threadIdx.x / WARP; i < chunks; i += blockDim.x / WARP) {
		float w[8];
		Format::decode(row + i * Format::BYTES, lane, w);
		for (int k = 0; k < 8; k++)
			x[(u64)blockIdx.x * columns + i * CHUNK + Format::place(lane, k / RUN) +
			  k % RUN] = w[k];
	}
}

__device__ static void store(float *at, float value)
{
	*at = value;
}
__device__ static void store(u16 *at, float value)
{
	*at = to_half(value);
}

// A warp decodes a chunk, to floats or to halves.
template <class Format, class Out>
__device__ static void dequantise(const u8 *weights, Out *out, int chunks)
{
	enum { RUN = 8 / Format::RUNS };
	int chunk = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP,
	    lane = threadIdx.x % WARP;
	float w[8];

	if (chunk >= chunks)
		return;
	Format::decode(weights + (u64)chunk * Format::BYTES, lane, w);
	for (int k = 0; k < 8; k++)
		store(out + (u64)chunk * CHUNK + Format::place(lane, k / RUN) + k % RUN, w[k]);
}

#define KERNELS_OF(NAME, FORMAT)                                                                   \
	extern "C" __global__ void matvec_##NAME(const u8 *weights, const float *x, float *y,      \
						 const float *residual, int columns, int rows)     \
	{                                                                                          \
		matvec<FORMAT>(weights, x, y, residual, columns, rows);                            \
	}                                                                                          \
	extern "C" __global__ void matvec_swiglu_##NAME(                                           \
		const u8 *gate, const u8 *up, const float *x, float *y, int columns, int rows)     \
	{                                                                                          \
		matvec_swiglu<FORMAT>(gate, up, x, y, columns, rows);                              \
	}                                                                                          \
	extern "C" __global__ void embed_##NAME(const u8 *table, const int *tokens, float *x,      \
						int columns)                                       \
	{                                                                                          \
		embed<FORMAT>(table, tokens, x, columns);                                          \
	}                                                                                          \
	extern "C" __global__ void dequantise_##NAME(const u8 *weights, float *out, int chunks)    \
	{                                                                                          \
		dequantise<FORMAT>(weights, out, chunks);                                          \
	}                                                                                          \
	extern "C" __global__ void to_halves_##NAME(const u8 *weights, u16 *out, int chunks)       \
	{                                                                                          \
		dequantise<FORMAT>(weights, out, chunks);                                          \
	}

KERNELS_OF(f32, F32)
KERNELS_OF(f16, F16)
KERNELS_OF(q8_0, Q8_0)
KERNELS_OF(q4_k, Q4_K)
KERNELS_OF(q5_k, Q5_K)
KERNELS_OF(q6_k, Q6_K)

// y[t] = W x[t] (+ residual[t]) for many tokens, W as floats: tiles of 64 tokens by 64 rows.
extern "C" __global__ void matmul(const float *x, const float *weights, float *y,
				  const float *residual, int tokens, int columns, int rows)
{
	enum { TILE = 64, DEPTH = 16 };
	__shared__ float xs[DEPTH][TILE + 4], ws[DEPTH][TILE + 4];
	int first_token = blockIdx.y * TILE, first_row = blockIdx.x * TILE;
	int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
	int place = threadIdx.x / 4, depth = threadIdx.x % 4 * 4;
	float sum[4][4] = {};

	for (int k = 0; k < columns; k += DEPTH) {
		int token = first_token + place, row = first_row + place;
		float4 zero = make_float4(0, 0, 0, 0);
		float4 a = token < tokens ? *(const float4 *)(x + (u64)token * columns + k + depth)
					  : zero;
		float4 b = row < rows ? *(const float4 *)(weights + (u64)row * columns + k + depth)
				      : zero;
		__syncthreads();
		xs[depth][place] = a.x, xs[depth + 1][place] = a.y, xs[depth + 2][place] = a.z,
		xs[depth + 3][place] = a.w;
		ws[depth][place] = b.x, ws[depth + 1][place] = b.y, ws[depth + 2][place] = b.z,
		ws[depth + 3][place] = b.w;
		__syncthreads();
#pragma unroll
		for (int d = 0; d < DEPTH; d++) {
			float4 a4 = *(const float4 *)&xs[d][4 * ty],
			       b4 = *(const float4 *)&ws[d][4 * tx];
			float av[4] = { a4.x, a4.y, a4.z, a4.w },
			      bv[4] = { b4.x, b4.y, b4.z, b4.w };
#pragma unroll
			for (int i = 0; i < 4; i++)
#pragma unroll
				for (int j = 0; j < 4; j++)
					sum[i][j] += av[i] * bv[j];
		}
	}
	for (int i = 0; i < 4; i++)
		for (int j = 0; j < 4; j++) {
			int token = first_token + 4 * ty + i, row = first_row + 4 * tx + j;
			u64 at = (u64)token * rows + row;
			if (token < tokens && row < rows)
				y[at] = residual ? sum[i][j] + residual[at] : sum[i][j];
		}
}

// -- the other parts of a layer ------------------------------------------------------------------

__device__ static float block_sum(float value)
{
	__shared__ float parts[WARP];
	int warp = threadIdx.x / WARP, warps = blockDim.x / WARP;

	value = warp_sum(value);
	__syncthreads();
	if (threadIdx.x % WARP == 0)
		parts[warp] = value;
	__syncthreads();
	value = 0;
	for (int i = 0; i < warps; i++)
		value += parts[i];
	return value;
}

// A block takes a token.
extern "C" __global__ void rms_norm(const float *x, const float *weight, float *y, int width,
				    float epsilon)
{
	const float *row = x + (u64)blockIdx.x * width;
	float sum = 0;

	for (int i = threadIdx.x; i < width; i += blockDim.x)
		sum += row[i] * row[i];
	float scale = rsqrtf(block_sum(sum) / width + epsilon);
	for (int i = threadIdx.x; i < width; i += blockDim.x)
		y[(u64)blockIdx.x * width + i] = row[i] * scale * weight[i];
}

extern "C" __global__ void swiglu(const float *gate, const float *up, float *y, int count)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;

	if (i < count)
		y[i] = gate[i] / (1 + expf(-gate[i])) * up[i];
}

// Rotates queries and keys of token `blockIdx.y` by its position, and stores keys and values.
extern "C" __global__ void rope_and_store(float *q, const float *k, const float *v, u16 *keys,
					  u16 *values, const State *state, int heads, int kv_heads,
					  int head_width, float log_base)
{
	int token = blockIdx.y, head = blockIdx.x, position = state->position + token;
	int kv_width = kv_heads * head_width;

	for (int i = threadIdx.x; i < head_width / 2; i += blockDim.x) {
		float sine, cosine, angle = position * expf(-log_base * (2 * i) / head_width);
		sincosf(angle, &sine, &cosine);
		float2 *query = (float2 *)(q + ((u64)token * heads + head) * head_width) + i;
		float2 old = *query;
		*query = make_float2(old.x * cosine - old.y * sine, old.x * sine + old.y * cosine);
		if (head >= kv_heads)
			continue;
		u64 from = (u64)token * kv_width + head * head_width + 2 * i;
		u64 to = (u64)position * kv_width + head * head_width + 2 * i;
		float x = k[from], y = k[from + 1];
		keys[to] = to_half(x * cosine - y * sine);
		keys[to + 1] = to_half(x * sine + y * cosine);
		values[to] = to_half(v[from]);
		values[to + 1] = to_half(v[from + 1]);
	}
}

// Halves of a lane's part of a head, as floats; EACH of them side by side.
template <int EACH> __device__ static void load_halves(const u16 *at, float *out)
{
	if (EACH % 4 == 0) {
#pragma unroll
		for (int i = 0; i < EACH; i += 4) {
			uint2 four = *(const uint2 *)(at + i);
			out[i] = half_bits(four.x & 0xffff), out[i + 1] = half_bits(four.x >> 16);
			out[i + 2] = half_bits(four.y & 0xffff),
				out[i + 3] = half_bits(four.y >> 16);
		}
	} else {
#pragma unroll
		for (int i = 0; i < EACH; i++)
			out[i] = half_bits(at[i]);
	}
}

// A block takes a head of a token; each warp a part of the keys, several at a time so that their
// loads overlap, with a softmax of its own that is corrected as larger scores come, and at the end
// for those of the others. A head is 32 * EACH wide.
template <int EACH>
__device__ static void attend(const float *q, const u16 *keys, const u16 *values, float *out,
			      const State *state, int heads, int kv_heads)
{
	enum { WARPS = 16, AT_ONCE = 4, WIDTH = WARP * EACH };
	__shared__ float peaks[WARPS], totals[WARPS], sums[WARPS][WIDTH];
	int head = blockIdx.x, token = blockIdx.y, warp = threadIdx.x / WARP,
	    lane = threadIdx.x % WARP;
	int count = state->position + token + 1, kv_width = kv_heads * WIDTH;
	int first = head / (heads / kv_heads) * WIDTH + lane * EACH;
	u64 place = ((u64)token * heads + head) * WIDTH;
	float peak = -1e30f, total = 0, part[EACH], mine[EACH];

#pragma unroll
	for (int i = 0; i < EACH; i++) {
		part[i] = 0;
		mine[i] = q[place + lane * EACH + i] * rsqrtf(WIDTH);
	}
	for (int base = warp * AT_ONCE; base < count; base += WARPS * AT_ONCE) {
		float scores[AT_ONCE], higher = peak, loaded[AT_ONCE][EACH];
#pragma unroll
		for (int k = 0; k < AT_ONCE; k++)
			load_halves<EACH>(keys + (u64)min(base + k, count - 1) * kv_width + first,
					  loaded[k]);
#pragma unroll
		for (int k = 0; k < AT_ONCE; k++) {
			float score = 0;
#pragma unroll
			for (int i = 0; i < EACH; i++)
				score += mine[i] * loaded[k][i];
			score = warp_sum(score);
			scores[k] = base + k < count ? score : -1e30f;
			higher = fmaxf(higher, scores[k]);
		}
#pragma unroll
		for (int k = 0; k < AT_ONCE; k++)
			load_halves<EACH>(values + (u64)min(base + k, count - 1) * kv_width + first,
					  loaded[k]);
		float shrink = expf(peak - higher);
		peak = higher;
		total *= shrink;
#pragma unroll
		for (int i = 0; i < EACH; i++)
			part[i] *= shrink;
#pragma unroll
		for (int k = 0; k < AT_ONCE; k++) {
			float weight = base + k < count ? expf(scores[k] - peak) : 0;
			total += weight;
#pragma unroll
			for (int i = 0; i < EACH; i++)
				part[i] += weight * loaded[k][i];
		}
	}
	if (lane == 0) {
		peaks[warp] = peak;
		totals[warp] = total;
	}
#pragma unroll
	for (int i = 0; i < EACH; i++)
		sums[warp][lane * EACH + i] = part[i];
	__syncthreads();
	if (threadIdx.x >= WIDTH)
		return;
	for (int w = 0; w < WARPS; w++)
		peak = fmaxf(peak, peaks[w]);
	total = 0;
	float sum = 0;
	for (int w = 0; w < WARPS; w++) {
		float weight = expf(peaks[w] - peak);
		total += totals[w] * weight;
		sum += sums[w][threadIdx.x] * weight;
	}
	out[place + threadIdx.x] = sum / total;
}

#define ATTENTION_OF(WIDTH)                                                                        \
	extern "C" __global__ void attention_##WIDTH(const float *q, const u16 *keys,              \
						     const u16 *values, float *out,                \
						     const State *state, int heads, int kv_heads)  \
	{                                                                                          \
		attend<WIDTH / WARP>(q, keys, values, out, state, heads, kv_heads);                \
	}

ATTENTION_OF(32)
ATTENTION_OF(64)
ATTENTION_OF(96)
ATTENTION_OF(128)
ATTENTION_OF(256)

// -- the next token ------------------------------------------------------------------------------

struct Best {
	float value;
	int token;
};

__device__ static Best better(Best a, Best b)
{
	// Of equals the first, as numpy's argmax has it.
	return b.value > a.value || (b.value == a.value && b.token < a.token) ? b : a;
}

__device__ static Best block_best(Best best)
{
	__shared__ Best parts[WARP];
	int warp = threadIdx.x / WARP, warps = blockDim.x / WARP;

	for (int step = WARP / 2; step; step /= 2) {
		Best other = { __shfl_xor_sync(0xffffffff, best.value, step),
			       __shfl_xor_sync(0xffffffff, best.token, step) };
		best = better(best, other);
	}
	if (threadIdx.x % WARP == 0)
		parts[warp] = best;
	__syncthreads();
	best = parts[0];
	for (int i = 1; i < warps; i++)
		best = better(best, parts[i]);
	return best;
}

// Noise that turns the largest sum into a draw from the softmax: -log(-log(u)), u by hashing.
__device__ static float gumbel(u32 seed, u32 position, u32 token)
{
	u32 x = seed ^ position * 0x9e3779b9u ^ token * 0x85ebca6bu;
	x = (x ^ x >> 16) * 0x7feb352du;
	x = (x ^ x >> 15) * 0x846ca68bu;
	x ^= x >> 16;
	return -logf(-logf(((x >> 8) + 0.5f) / 16777216.0f));
}

// The best of each block's share of the logits; with a temperature, a draw.
extern "C" __global__ void choose_parts(const float *logits, Best *parts, const State *state,
					int vocabulary, float temperature)
{
	Best best = { -3e38f, vocabulary };

	for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < vocabulary;
	     i += gridDim.x * blockDim.x) {
		float value = logits[i];
		if (temperature > 0)
			value = value / temperature + gumbel(state->seed, state->position, i);
		Best other = { value, i };
		best = better(best, other);
	}
	best = block_best(best);
	if (threadIdx.x == 0)
		parts[blockIdx.x] = best;
}

// The best of all: the next token. `tokens` are those which are now in the caches.
extern "C" __global__ void choose(const Best *parts, int count, State *state, int *output,
				  int tokens)
{
	Best best = { -3e38f, 0x7fffffff };

	for (int i = threadIdx.x; i < count; i += blockDim.x)
		best = better(best, parts[i]);
	best = block_best(best);
	if (threadIdx.x == 0) {
		state->position += tokens;
		state->token = best.token;
		output[state->produced++] = best.token;
	}
}
