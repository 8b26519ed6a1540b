// SPDX-License-Identifier: MIT
/* Memory: allocations, what a pointer is, copies and fills of every shape. */
#include "program.h"

#define BYTES ((3u << 20) + 5)

static unsigned char *random_bytes(size_t bytes)
{
	unsigned char *data = malloc(bytes);

	for (size_t i = 0; i < bytes; i++)
		data[i] = (unsigned char)(i * 2654435761u >> 11);
	return data;
}

static void check_allocation(void)
{
	struct cudaPitchedPtr box;
	size_t before;
	size_t during;
	size_t total;
	size_t pitch = 0;
	void *memory;

	OK(cudaMalloc(&memory, 1));
	OK(cudaFree(memory));
	OK(cudaMemGetInfo(&before, &total));
	OK(cudaMalloc(&memory, 64 << 20));
	OK(cudaMemGetInfo(&during, &total));
	CHECK(before >= during + (64 << 20));
	OK(cudaFree(memory));
	OK(cudaMemGetInfo(&during, &total));
	CHECK(before == during);
	FAILS(cudaFree(memory), cudaErrorInvalidValue);
	FAILS(cudaMalloc(&memory, total * 2), cudaErrorMemoryAllocation);
	CHECK(cudaGetLastError() == cudaErrorMemoryAllocation);
	memory = &total;
	OK(cudaMalloc(&memory, 0));
	CHECK(!memory);
	OK(cudaFree(NULL));
	OK(cudaMallocPitch(&memory, &pitch, 100, 7));
	CHECK(pitch >= 100 && pitch % 32 == 0);
	OK(cudaFree(memory));
	OK(cudaMalloc3D(&box, (struct cudaExtent){ 100, 7, 3 }));
	CHECK(box.ptr && box.pitch >= 100 && box.xsize == 100 && box.ysize == 7);
	OK(cudaMemset(box.ptr, 0, box.pitch * 7 * 3));
	OK(cudaFree(box.ptr));
}

static void check_pointers(void)
{
	struct cudaPointerAttributes attributes;
	unsigned int flags = ~0u;
	void *device;
	void *pinned;
	void *host = NULL;
	int word;

	OK(cudaMalloc(&device, 4096));
	OK(cudaPointerGetAttributes(&attributes, (char *)device + 100));
	CHECK(attributes.type == cudaMemoryTypeDevice && attributes.device == 0);
	CHECK(attributes.devicePointer == (char *)device + 100 && !attributes.hostPointer);
	OK(cudaHostAlloc(&pinned, 8192, cudaHostAllocDefault));
	OK(cudaPointerGetAttributes(&attributes, pinned));
	CHECK(attributes.type == cudaMemoryTypeHost && attributes.hostPointer == pinned);
	OK(cudaHostGetFlags(&flags, pinned));
	CHECK(!(flags & cudaHostAllocWriteCombined));
	OK(cudaPointerGetAttributes(&attributes, &word));
	CHECK(attributes.type == cudaMemoryTypeUnregistered && !attributes.devicePointer);
	CHECK(!posix_memalign(&host, 4096, 16384));
	OK(cudaHostRegister(host, 16384, cudaHostRegisterDefault));
	OK(cudaPointerGetAttributes(&attributes, (char *)host + 5));
	CHECK(attributes.type == cudaMemoryTypeHost);
	CHECK(attributes.hostPointer == (char *)host + 5);
	FAILS(cudaHostRegister(host, 16384, cudaHostRegisterDefault),
	      cudaErrorHostMemoryAlreadyRegistered);
	OK(cudaHostUnregister(host));
	FAILS(cudaHostUnregister(host), cudaErrorHostMemoryNotRegistered);
	OK(cudaPointerGetAttributes(&attributes, host));
	CHECK(attributes.type == cudaMemoryTypeUnregistered);
	free(host);
	OK(cudaFreeHost(pinned));
	OK(cudaFreeHost(NULL));
	OK(cudaFree(device));
	cudaGetLastError();
}

static void check_copies(void)
{
	unsigned char *from = random_bytes(BYTES);
	unsigned char *to = calloc(1, BYTES);
	unsigned char *pinned;
	unsigned char *device;
	unsigned char *other;
	cudaStream_t stream;

	OK(cudaMalloc((void **)&device, BYTES));
	OK(cudaMalloc((void **)&other, BYTES));
	OK(cudaMallocHost((void **)&pinned, BYTES));
	OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));

	OK(cudaMemcpy(device, from, BYTES, cudaMemcpyHostToDevice));
	OK(cudaMemcpy(other, device, BYTES, cudaMemcpyDeviceToDevice));
	OK(cudaMemcpy(to, other, BYTES, cudaMemcpyDeviceToHost));
	CHECK(!memcmp(from, to, BYTES));

	/* The kind follows from the pointers. */
	memset(to, 0, BYTES);
	OK(cudaMemset(device, 0, BYTES));
	OK(cudaMemcpy(device + 7, from + 7, BYTES - 7, cudaMemcpyDefault));
	OK(cudaMemcpy(to + 7, device + 7, BYTES - 7, cudaMemcpyDefault));
	CHECK(!memcmp(from + 7, to + 7, BYTES - 7) && !to[6]);
	memset(to, 0, BYTES);
	OK(cudaMemcpy(to, from, BYTES, cudaMemcpyHostToHost));
	CHECK(!memcmp(from, to, BYTES));

	/* In a stream. */
	memcpy(pinned, from, BYTES);
	OK(cudaMemsetAsync(device, 0, BYTES, stream));
	OK(cudaMemcpyAsync(device, pinned, BYTES, cudaMemcpyHostToDevice, stream));
	OK(cudaMemcpyAsync(other, device, BYTES, cudaMemcpyDefault, stream));
	OK(cudaStreamSynchronize(stream));
	memset(pinned, 0, BYTES);
	OK(cudaMemcpyAsync(pinned, other, BYTES, cudaMemcpyDeviceToHost, stream));
	OK(cudaStreamSynchronize(stream));
	CHECK(!memcmp(from, pinned, BYTES));

	OK(cudaMemcpy(NULL, NULL, 0, cudaMemcpyHostToDevice));
	FAILS(cudaMemcpy(device, from, 4, (enum cudaMemcpyKind)9), cudaErrorInvalidMemcpyDirection);
	FAILS(cudaMemcpy(device, from, BYTES + 4096 * 1024, cudaMemcpyHostToDevice),
	      cudaErrorInvalidValue);
	cudaGetLastError();
	OK(cudaStreamDestroy(stream));
	OK(cudaFreeHost(pinned));
	OK(cudaFree(device));
	OK(cudaFree(other));
	free(from);
	free(to);
}

#define WIDTH  90u
#define HEIGHT 11u

static void check_rectangles(void)
{
	unsigned char *from = random_bytes(128 * HEIGHT);
	unsigned char to[128 * HEIGHT];
	unsigned char *device;
	size_t pitch;

	OK(cudaMallocPitch((void **)&device, &pitch, WIDTH, HEIGHT));
	OK(cudaMemcpy2D(device, pitch, from, 128, WIDTH, HEIGHT, cudaMemcpyHostToDevice));
	memset(to, 0, sizeof(to));
	OK(cudaMemcpy2DAsync(to, 100, device, pitch, WIDTH, HEIGHT, cudaMemcpyDeviceToHost, 0));
	OK(cudaDeviceSynchronize());
	for (unsigned int y = 0; y < HEIGHT; y++) {
		CHECK(!memcmp(to + 100 * y, from + 128 * y, WIDTH));
		CHECK(!to[100 * y + WIDTH]);
	}
	OK(cudaMemset2D(device + 10, pitch, 0x11, 30, HEIGHT - 1));
	OK(cudaMemset2DAsync(device + 40, pitch, 0x22, 5, 2, 0));
	OK(cudaMemcpy2D(to, 100, device, pitch, WIDTH, HEIGHT, cudaMemcpyDefault));
	CHECK(to[9] == from[9] && to[10] == 0x11 && to[39] == 0x11 && to[40] == 0x22);
	CHECK(to[45] == from[45] && to[100 + 44] == 0x22 && to[200 + 40] == from[256 + 40]);
	CHECK(to[100 * (HEIGHT - 1) + 10] == from[128 * (HEIGHT - 1) + 10]);
	FAILS(cudaMemcpy2D(device, 10, from, 128, WIDTH, HEIGHT, cudaMemcpyHostToDevice),
	      cudaErrorInvalidPitchValue);
	cudaGetLastError();
	OK(cudaFree(device));
	free(from);
}

static void check_boxes(void)
{
	unsigned char from[4][6][40];
	unsigned char to[3][5][32];
	struct cudaExtent extent = { 20, 4, 3 };
	struct cudaPitchedPtr device;
	struct cudaMemcpy3DParms in = {
		.srcPtr = { from, 40, 40, 6 },
		.srcPos = { 3, 1, 1 },
		.extent = extent,
		.kind = cudaMemcpyHostToDevice,
	};
	struct cudaMemcpy3DParms out = {
		.dstPtr = { to, 32, 32, 5 },
		.dstPos = { 2, 1, 0 },
		.extent = extent,
		.kind = cudaMemcpyDeviceToHost,
	};

	for (size_t i = 0; i < sizeof(from); i++)
		((unsigned char *)from)[i] = (unsigned char)(i * 7 + 1);
	OK(cudaMalloc3D(&device, extent));
	in.dstPtr = device;
	out.srcPtr = device;
	OK(cudaMemset3D(device, 0x33, extent));
	OK(cudaMemcpy3D(&in));
	memset(to, 0, sizeof(to));
	OK(cudaMemcpy3DAsync(&out, 0));
	OK(cudaDeviceSynchronize());
	for (size_t z = 0; z < 3; z++) {
		for (size_t y = 0; y < 4; y++) {
			CHECK(!memcmp(&to[z][y + 1][2], &from[z + 1][y + 1][3], 20));
			CHECK(!to[z][y + 1][1] && !to[z][y + 1][22]);
		}
		CHECK(!to[z][0][5]);
	}
	OK(cudaMemset3DAsync(device, 0x44, (struct cudaExtent){ 5, 2, 2 }, 0));
	OK(cudaMemcpy3D(&out));
	CHECK(to[0][1][2] == 0x44 && to[1][2][6] == 0x44 && to[2][1][2] == from[3][1][3]);
	CHECK(to[0][1][7] == from[1][1][8] && to[0][3][2] == from[1][3][3]);
	OK(cudaFree(device.ptr));
}

int main(void)
{
	check_allocation();
	check_pointers();
	check_copies();
	check_rectangles();
	check_boxes();
	return report();
}
