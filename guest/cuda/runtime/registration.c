// SPDX-License-Identifier: MIT
/*
 * Fat binaries, kernels and variables that compiled programs register while they are
 * loaded. Registering is an insertion into a table and no more; an image is loaded
 * into a context when the first of its kernels or variables is used there.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define FIRST_ROOM 1024u

struct vgpu_binary {
	const void *wrapper; /* as the compiler laid it out; the driver takes it so */
	pthread_mutex_t lock;
	CUlibrary library; /* NULL before its first use; guarded by lock */
};

/*
 * Open addressing; a slot once written keeps its symbol. Readers take no lock: a table
 * that became too small stays where it is, as somebody may be reading it.
 */
struct table {
	size_t room; /* a power of two */
	struct vgpu_symbol *_Atomic slots[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* for writers */
static struct table *_Atomic current;
static size_t used;

static size_t hash(const void *host)
{
	return (size_t)(((uintptr_t)host >> 2) * 0x9e3779b97f4a7c15ull >> 20);
}

static void put(struct table *table, struct vgpu_symbol *symbol)
{
	for (size_t i = hash(symbol->host);; i++) {
		struct vgpu_symbol *_Atomic *slot = &table->slots[i & (table->room - 1)];
		struct vgpu_symbol *there = atomic_load_explicit(slot, memory_order_relaxed);

		/* A library loaded where another one was takes the place of its symbols. */
		if (there && there->host != symbol->host)
			continue;
		if (!there)
			used++;
		atomic_store_explicit(slot, symbol, memory_order_release);
		return;
	}
}

/* lock is held. */
static struct table *table_with_room(void)
{
	struct table *table = atomic_load(&current);
	struct table *larger;
	size_t room = table ? 2 * table->room : FIRST_ROOM;

	if (table && 4 * (used + 1) <= 3 * table->room)
		return table;
	larger = calloc(1, sizeof(*larger) + room * sizeof(larger->slots[0]));
	if (!larger)
		return NULL;
	larger->room = room;
	used = 0;
	for (size_t i = 0; table && i < table->room; i++) {
		struct vgpu_symbol *symbol = atomic_load(&table->slots[i]);

		if (symbol)
			put(larger, symbol);
	}
	atomic_store_explicit(&current, larger, memory_order_release);
	return larger;
}

struct vgpu_symbol *vgpu_symbol_find(const void *host)
{
	struct table *table = atomic_load_explicit(&current, memory_order_acquire);

	for (size_t i = hash(host); table; i++) {
		struct vgpu_symbol *symbol = atomic_load_explicit(
			&table->slots[i & (table->room - 1)], memory_order_acquire);

		if (!symbol)
			return NULL;
		if (symbol->host == host)
			return symbol->binary ? symbol : NULL;
	}
	return NULL;
}

static void insert(void **handle, const void *host, const char *name, bool variable, size_t bytes)
{
	struct vgpu_symbol *symbol = calloc(1, sizeof(*symbol));
	struct table *table;

	if (!symbol)
		return; /* its use will say that it is not known */
	*symbol = (struct vgpu_symbol){
		.host = host,
		.name = name,
		.binary = (struct vgpu_binary *)handle,
		.variable = variable,
		.bytes = bytes,
	};
	pthread_mutex_lock(&lock);
	table = table_with_room();
	if (table)
		put(table, symbol);
	else
		free(symbol);
	pthread_mutex_unlock(&lock);
}

/* The functions that compiled programs call; no header declares them. */

VGPU_EXPORT void **__cudaRegisterFatBinary(void *wrapper)
{
	struct vgpu_binary *binary = calloc(1, sizeof(*binary));

	if (!binary)
		return NULL;
	binary->wrapper = wrapper;
	pthread_mutex_init(&binary->lock, NULL);
	return (void **)binary;
}

VGPU_EXPORT void __cudaRegisterFatBinaryEnd(void **handle)
{
	(void)handle;
}

VGPU_EXPORT void __cudaUnregisterFatBinary(void **handle)
{
	struct vgpu_binary *binary = (struct vgpu_binary *)handle;
	struct table *table;

	if (!binary)
		return;
	/*
	 * The program is about to take its code away. What it registered is no longer
	 * found; the modules stay until their context ends, as work may be queued that
	 * uses them, and the small tables too, as somebody may be reading them.
	 */
	pthread_mutex_lock(&lock);
	table = atomic_load(&current);
	for (size_t i = 0; table && i < table->room; i++) {
		struct vgpu_symbol *symbol = atomic_load(&table->slots[i]);

		if (symbol && symbol->binary == binary)
			symbol->binary = NULL;
	}
	pthread_mutex_unlock(&lock);
}

VGPU_EXPORT void __cudaRegisterFunction(void **handle, const char *host, char *device,
					const char *name, int thread_limit, uint3 *thread,
					uint3 *block, dim3 *block_dim, dim3 *grid_dim, int *warp)
{
	(void)device, (void)thread_limit, (void)thread, (void)block;
	(void)block_dim, (void)grid_dim, (void)warp;
	insert(handle, host, name, false, 0);
}

VGPU_EXPORT void __cudaRegisterVar(void **handle, char *host, char *device, const char *name,
				   int external, size_t bytes, int constant, int global)
{
	(void)device, (void)external, (void)constant, (void)global;
	insert(handle, host, name, true, bytes);
}

/* Images. */

/* Costs nothing yet: the driver loads the image where it is used first. */
static cudaError_t library_of(struct vgpu_binary *binary, CUlibrary *library)
{
	CUlibraryOption option = CU_LIBRARY_BINARY_IS_PRESERVED;
	void *preserved = (void *)1;
	CUresult result = CUDA_SUCCESS;

	pthread_mutex_lock(&binary->lock);
	if (!binary->library)
		result = cuLibraryLoadData(&binary->library, binary->wrapper, NULL, NULL, 0,
					   &option, &preserved, 1);
	*library = binary->library;
	pthread_mutex_unlock(&binary->lock);
	return vgpu_error(result);
}

static cudaError_t module_of(struct vgpu_binary *binary, CUmodule *module)
{
	CUlibrary library;
	cudaError_t error = library_of(binary, &library);

	return error == cudaSuccess ? vgpu_error(cuLibraryGetModule(module, library)) : error;
}

static cudaError_t current_context_id(uint64_t *id)
{
	unsigned long long number;
	cudaError_t error = vgpu_context();

	if (error == cudaSuccess)
		error = vgpu_error(cuCtxGetId(NULL, &number));
	if (error == cudaSuccess)
		*id = number;
	return error;
}

cudaError_t vgpu_kernel(struct vgpu_symbol *symbol, CUfunction *function)
{
	CUmodule module;
	uint64_t id;
	cudaError_t error = current_context_id(&id);

	if (error != cudaSuccess)
		return error;
	if (__builtin_expect(atomic_load_explicit(&symbol->context_id, memory_order_acquire) == id,
			     1)) {
		*function = (CUfunction)(uintptr_t)atomic_load(&symbol->address);
		/* Another thread may have moved it to another context in between. */
		if (atomic_load(&symbol->context_id) == id)
			return cudaSuccess;
	}
	error = module_of(symbol->binary, &module);
	if (error == cudaSuccess)
		error = vgpu_error(cuModuleGetFunction(function, module, symbol->name));
	if (error == cudaErrorSymbolNotFound)
		return cudaErrorInvalidDeviceFunction;
	if (error != cudaSuccess)
		return error;
	atomic_store(&symbol->context_id, 0);
	atomic_store(&symbol->address, (uintptr_t)*function);
	atomic_store_explicit(&symbol->context_id, id, memory_order_release);
	return cudaSuccess;
}

cudaError_t vgpu_kernel_of(const void *host, CUfunction *function)
{
	struct vgpu_symbol *symbol = vgpu_symbol_find(host);
	cudaError_t error;

	if (symbol)
		return symbol->variable ? cudaErrorInvalidResourceHandle
					: vgpu_kernel(symbol, function);
	/* What is no address of the program's may be a kernel's handle. */
	error = vgpu_context();
	if (error == cudaSuccess)
		error = vgpu_error(cuKernelGetFunction(function, (CUkernel)host));
	return error;
}

const void *vgpu_host_of(CUfunction function)
{
	struct table *table = atomic_load_explicit(&current, memory_order_acquire);

	for (size_t i = 0; table && i < table->room; i++) {
		struct vgpu_symbol *symbol = atomic_load(&table->slots[i]);

		if (symbol && symbol->binary && !symbol->variable &&
		    atomic_load(&symbol->address) == (uintptr_t)function)
			return symbol->host;
	}
	return NULL;
}

cudaError_t vgpu_variable_of(const void *host, CUdeviceptr *address, size_t *bytes)
{
	struct vgpu_symbol *symbol = vgpu_symbol_find(host);
	CUmodule module;
	cudaError_t error;

	if (!symbol || !symbol->variable)
		return cudaErrorInvalidSymbol;
	error = vgpu_context();
	if (error == cudaSuccess)
		error = module_of(symbol->binary, &module);
	if (error == cudaSuccess)
		error = vgpu_error(cuModuleGetGlobal(address, bytes, module, symbol->name));
	return error == cudaErrorSymbolNotFound ? cudaErrorInvalidSymbol : error;
}

cudaError_t vgpu_part_of(const void *symbol, size_t offset, size_t bytes, CUdeviceptr *address)
{
	size_t size;
	cudaError_t error = vgpu_variable_of(symbol, address, &size);

	if (error == cudaSuccess && (offset > size || bytes > size - offset))
		error = cudaErrorInvalidValue;
	*address += error == cudaSuccess ? offset : 0;
	return error;
}

cudaError_t cudaGetKernel(cudaKernel_t *kernel, const void *host)
{
	struct vgpu_symbol *symbol = vgpu_symbol_find(host);
	CUlibrary library;
	cudaError_t error;

	if (!kernel)
		return vgpu_done(cudaErrorInvalidValue);
	if (!symbol || symbol->variable)
		return vgpu_done(cudaErrorInvalidDeviceFunction);
	error = vgpu_context();
	if (error == cudaSuccess)
		error = library_of(symbol->binary, &library);
	if (error == cudaSuccess)
		error = vgpu_error(cuLibraryGetKernel((CUkernel *)kernel, library, symbol->name));
	return vgpu_done(error);
}

cudaError_t cudaGetSymbolAddress(void **address, const void *symbol)
{
	CUdeviceptr found;
	size_t bytes;
	cudaError_t error = vgpu_variable_of(symbol, &found, &bytes);

	if (error == cudaSuccess && !address)
		error = cudaErrorInvalidValue;
	if (error == cudaSuccess)
		*address = (void *)(uintptr_t)found;
	return vgpu_done(error);
}

cudaError_t cudaGetSymbolSize(size_t *bytes, const void *symbol)
{
	CUdeviceptr found;
	size_t size;
	cudaError_t error = vgpu_variable_of(symbol, &found, &size);

	if (error == cudaSuccess && !bytes)
		error = cudaErrorInvalidValue;
	if (error == cudaSuccess)
		*bytes = size;
	return vgpu_done(error);
}
