// SPDX-License-Identifier: MIT
/*
 * Libraries and kernels: code that belongs to no context. An image is loaded into a
 * context when the first of its kernels or variables is used there; until then a
 * library costs a look at its header, and a kernel a search for its name.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define ATTRIBUTES 64u /* numbers of kernel attributes are below this */

struct loaded { /* a library in one context */
	uint64_t context_id;
	CUmodule module;
	struct loaded *next;
};

struct vgpu_kernel {
	struct vgpu_object object;
	struct vgpu_library *library;
	char *name;
	struct vgpu_kernel *next; /* in its library */
	/* Its function in the context that used it last. */
	_Atomic uint64_t context_id;
	_Atomic(CUfunction) function;
	uint64_t attributes_set; /* by bit; guarded by the library's lock */
	int attributes[ATTRIBUTES];
};

struct vgpu_library {
	struct vgpu_object object;
	const void *code;	 /* what the caller gave */
	bool preserved;		 /* the caller keeps it */
	struct vgpu_image image; /* opened at first need; data NULL before */
	bool names_known;
	struct vgpu_kernel *kernels;
	uint32_t kernel_count;
	struct loaded *loaded;
	pthread_mutex_t lock; /* guards everything above but `code` */
};

static struct vgpu_pool libraries = {
	.name = "library",
	.object_bytes = 256,
	.capacity = 1u << 16,
	.lock = PTHREAD_MUTEX_INITIALIZER,
};

static struct vgpu_pool kernels = {
	.name = "kernel",
	.object_bytes = 512,
	.capacity = 1u << 19,
	.lock = PTHREAD_MUTEX_INITIALIZER,
};

static_assert(sizeof(struct vgpu_library) <= 256, "a library fits its pool");
static_assert(sizeof(struct vgpu_kernel) <= 512, "a kernel fits its pool");

static CUresult resolve_library(CUlibrary handle, struct vgpu_library **library)
{
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	*library = (void *)handle;
	return vgpu_pool_holds(&libraries, handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

static CUresult resolve_kernel(CUkernel handle, struct vgpu_kernel **kernel)
{
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	*kernel = (void *)handle;
	return vgpu_pool_holds(&kernels, handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

/* library->lock is held. Picks and unpacks the image; keeps a copy of what is not ours. */
static CUresult open_image(struct vgpu_library *library)
{
	CUresult status;
	void *copy;

	if (library->image.data)
		return CUDA_SUCCESS;
	status = vgpu_image_open(library->code, &library->image);
	if (status != CUDA_SUCCESS || library->image.owned)
		return status;
	/* PTX text has to end in NUL. */
	copy = calloc(1, library->image.size + 1);
	if (!copy) {
		library->image.data = NULL;
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	memcpy(copy, library->image.data, library->image.size);
	library->image.data = copy;
	library->image.owned = copy;
	return CUDA_SUCCESS;
}

struct naming {
	struct vgpu_library *library;
	CUresult status;
};

static void add_kernel(const char *name, size_t length, void *data)
{
	struct naming *naming = data;
	struct vgpu_kernel *kernel;

	if (naming->status != CUDA_SUCCESS)
		return;
	kernel = vgpu_pool_take(&kernels);
	if (kernel)
		kernel->name = strndup(name, length);
	if (!kernel || !kernel->name) {
		naming->status = CUDA_ERROR_OUT_OF_MEMORY;
		if (kernel)
			vgpu_pool_give(&kernels, kernel);
		return;
	}
	kernel->library = naming->library;
	kernel->next = naming->library->kernels;
	naming->library->kernels = kernel;
	naming->library->kernel_count++;
}

/* library->lock is held. Makes a kernel of each name in the image. */
static CUresult find_names(struct vgpu_library *library)
{
	struct naming naming = { library, CUDA_SUCCESS };

	if (library->names_known)
		return CUDA_SUCCESS;
	naming.status = open_image(library);
	if (naming.status == CUDA_SUCCESS)
		vgpu_image_each_kernel(&library->image, add_kernel, &naming);
	library->names_known = naming.status == CUDA_SUCCESS;
	return naming.status;
}

/* library->lock is held. The library's module in the current context. */
static CUresult module_here(struct vgpu_library *library, CUmodule *module)
{
	struct vgpu_context *context;
	struct loaded *loaded;
	uint64_t id;
	CUresult status = vgpu_current(&context);

	if (status != CUDA_SUCCESS)
		return status;
	id = atomic_load(&context->id);
	for (loaded = library->loaded; loaded; loaded = loaded->next) {
		if (loaded->context_id == id) {
			*module = loaded->module;
			return CUDA_SUCCESS;
		}
	}
	/* An image that can be had again is not kept unpacked. */
	status = library->preserved ? CUDA_SUCCESS : open_image(library);
	if (status != CUDA_SUCCESS)
		return status;
	loaded = calloc(1, sizeof(*loaded));
	if (!loaded)
		return CUDA_ERROR_OUT_OF_MEMORY;
	status = cuModuleLoadData(&loaded->module,
				  library->preserved ? library->code : library->image.data);
	if (status != CUDA_SUCCESS) {
		free(loaded);
		return status;
	}
	loaded->context_id = id;
	loaded->next = library->loaded;
	library->loaded = loaded;
	*module = loaded->module;
	return CUDA_SUCCESS;
}

/* The library's lock is held. Attributes set on a kernel hold in contexts that come later. */
static CUresult apply_attributes(const struct vgpu_kernel *kernel, CUfunction function)
{
	CUresult status = CUDA_SUCCESS;

	for (unsigned int i = 0; i < ATTRIBUTES && status == CUDA_SUCCESS; i++) {
		if (kernel->attributes_set >> i & 1)
			status = cuFuncSetAttribute(function, (CUfunction_attribute)i,
						    kernel->attributes[i]);
	}
	return status;
}

static CUresult function_here(struct vgpu_kernel *kernel, CUfunction *function)
{
	struct vgpu_library *library = kernel->library;
	struct vgpu_context *context;
	CUmodule module;
	CUresult status = vgpu_current(&context);

	if (status != CUDA_SUCCESS)
		return status;
	if (atomic_load(&kernel->context_id) == atomic_load(&context->id)) {
		*function = atomic_load(&kernel->function);
		/* Another thread may have moved it to another context in between. */
		if (atomic_load(&kernel->context_id) == atomic_load(&context->id))
			return CUDA_SUCCESS;
	}
	pthread_mutex_lock(&library->lock);
	status = module_here(library, &module);
	if (status == CUDA_SUCCESS)
		status = cuModuleGetFunction(function, module, kernel->name);
	if (status == CUDA_SUCCESS)
		status = apply_attributes(kernel, *function);
	if (status == CUDA_SUCCESS) {
		atomic_store(&kernel->context_id, 0);
		atomic_store(&kernel->function, *function);
		atomic_store(&kernel->context_id, atomic_load(&context->id));
	}
	pthread_mutex_unlock(&library->lock);
	return status;
}

CUresult vgpu_kernel_function(CUfunction handle, CUfunction *function)
{
	if (!vgpu_pool_holds(&kernels, handle))
		return CUDA_ERROR_INVALID_HANDLE;
	return function_here((struct vgpu_kernel *)handle, function);
}

/* Libraries. */

static CUresult read_options(unsigned int count, const CUlibraryOption *options, void **values,
			     bool *preserved)
{
	*preserved = false;
	if (count && !options)
		return CUDA_ERROR_INVALID_VALUE;
	for (unsigned int i = 0; i < count; i++) {
		if (options[i] != CU_LIBRARY_BINARY_IS_PRESERVED)
			return CUDA_ERROR_NOT_SUPPORTED;
		*preserved = values && values[i];
	}
	return CUDA_SUCCESS;
}

/* With options for the compiler the caller wants to hear from it now. */
static CUresult load_now(struct vgpu_library *library, unsigned int count, CUjit_option *options,
			 void **values)
{
	struct vgpu_context *context;
	struct loaded *loaded;
	CUresult status = open_image(library);

	if (status != CUDA_SUCCESS || vgpu_current(&context) != CUDA_SUCCESS)
		return status;
	loaded = calloc(1, sizeof(*loaded));
	if (!loaded)
		return CUDA_ERROR_OUT_OF_MEMORY;
	status = cuModuleLoadDataEx(&loaded->module, library->image.data, count, options, values);
	if (status != CUDA_SUCCESS) {
		free(loaded);
		return status;
	}
	loaded->context_id = atomic_load(&context->id);
	library->loaded = loaded;
	return CUDA_SUCCESS;
}

CUresult cuLibraryLoadData(CUlibrary *out, const void *code, CUjit_option *jit_options,
			   void **jit_values, unsigned int jit_count, CUlibraryOption *options,
			   void **values, unsigned int count)
{
	struct vgpu_library *library;
	bool preserved;
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	if (!out || !code || (jit_count && (!jit_options || !jit_values)))
		return CUDA_ERROR_INVALID_VALUE;
	status = read_options(count, options, values, &preserved);
	if (status != CUDA_SUCCESS)
		return status;
	library = vgpu_pool_take(&libraries);
	if (!library)
		return CUDA_ERROR_OUT_OF_MEMORY;
	pthread_mutex_init(&library->lock, NULL);
	library->code = code;
	library->preserved = preserved;
	if (jit_count)
		status = load_now(library, jit_count, jit_options, jit_values);
	else if (!preserved)
		status = open_image(library); /* the caller may take its memory back */
	if (status != CUDA_SUCCESS) {
		vgpu_image_close(&library->image);
		vgpu_pool_give(&libraries, library);
		return status;
	}
	*out = (CUlibrary)library;
	return CUDA_SUCCESS;
}

CUresult cuLibraryLoadFromFile(CUlibrary *out, const char *path, CUjit_option *jit_options,
			       void **jit_values, unsigned int jit_count, CUlibraryOption *options,
			       void **values, unsigned int count)
{
	bool preserved;
	void *image;
	size_t size;
	CUresult status = vgpu_check_initialized();

	if (status == CUDA_SUCCESS)
		status = read_options(count, options, values, &preserved);
	/* A file has no memory to preserve. */
	if (status == CUDA_SUCCESS && preserved)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		status = vgpu_image_read(path, &image, &size);
	if (status != CUDA_SUCCESS)
		return status;
	status = cuLibraryLoadData(out, image, jit_options, jit_values, jit_count, NULL, NULL, 0);
	free(image);
	return status;
}

CUresult cuLibraryUnload(CUlibrary handle)
{
	struct vgpu_library *library;
	CUresult status = resolve_library(handle, &library);

	if (status != CUDA_SUCCESS)
		return status;
	while (library->loaded) {
		struct loaded *loaded = library->loaded;

		library->loaded = loaded->next;
		/* Where its context has ended, the module ended with it. */
		cuModuleUnload(loaded->module);
		free(loaded);
	}
	while (library->kernels) {
		struct vgpu_kernel *kernel = library->kernels;

		library->kernels = kernel->next;
		free(kernel->name);
		vgpu_pool_give(&kernels, kernel);
	}
	vgpu_image_close(&library->image);
	pthread_mutex_destroy(&library->lock);
	vgpu_pool_give(&libraries, library);
	return CUDA_SUCCESS;
}

CUresult cuLibraryGetModule(CUmodule *out, CUlibrary handle)
{
	struct vgpu_library *library;
	CUresult status = resolve_library(handle, &library);

	if (status != CUDA_SUCCESS)
		return status;
	if (!out)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&library->lock);
	status = module_here(library, out);
	pthread_mutex_unlock(&library->lock);
	return status;
}

CUresult cuLibraryGetGlobal(CUdeviceptr *address, size_t *bytes, CUlibrary handle, const char *name)
{
	CUmodule module;
	CUresult status = cuLibraryGetModule(&module, handle);

	return status == CUDA_SUCCESS ? cuModuleGetGlobal_v2(address, bytes, module, name) : status;
}

CUresult cuLibraryGetKernel(CUkernel *out, CUlibrary handle, const char *name)
{
	struct vgpu_library *library;
	struct vgpu_kernel *kernel = NULL;
	CUresult status = resolve_library(handle, &library);

	if (status != CUDA_SUCCESS)
		return status;
	if (!out || !name)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&library->lock);
	status = find_names(library);
	if (status == CUDA_SUCCESS) {
		for (kernel = library->kernels; kernel && strcmp(kernel->name, name);)
			kernel = kernel->next;
	}
	pthread_mutex_unlock(&library->lock);
	if (status == CUDA_SUCCESS && !kernel)
		status = CUDA_ERROR_NOT_FOUND;
	if (status == CUDA_SUCCESS)
		*out = (CUkernel)kernel;
	return status;
}

CUresult cuLibraryGetKernelCount(unsigned int *count, CUlibrary handle)
{
	struct vgpu_library *library;
	CUresult status = resolve_library(handle, &library);

	if (status != CUDA_SUCCESS)
		return status;
	if (!count)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&library->lock);
	status = find_names(library);
	if (status == CUDA_SUCCESS)
		*count = library->kernel_count;
	pthread_mutex_unlock(&library->lock);
	return status;
}

CUresult cuLibraryEnumerateKernels(CUkernel *out, unsigned int room, CUlibrary handle)
{
	struct vgpu_library *library;
	CUresult status = resolve_library(handle, &library);

	if (status != CUDA_SUCCESS)
		return status;
	if (!out)
		return CUDA_ERROR_INVALID_VALUE;
	pthread_mutex_lock(&library->lock);
	status = find_names(library);
	if (status == CUDA_SUCCESS) {
		struct vgpu_kernel *kernel = library->kernels;

		for (unsigned int i = 0; i < room && kernel; i++, kernel = kernel->next)
			out[i] = (CUkernel)kernel;
	}
	pthread_mutex_unlock(&library->lock);
	return status;
}

/* Kernels. */

CUresult cuKernelGetFunction(CUfunction *out, CUkernel handle)
{
	struct vgpu_kernel *kernel;
	CUresult status = resolve_kernel(handle, &kernel);

	if (status == CUDA_SUCCESS && !out)
		status = CUDA_ERROR_INVALID_VALUE;
	return status == CUDA_SUCCESS ? function_here(kernel, out) : status;
}

CUresult cuKernelGetLibrary(CUlibrary *out, CUkernel handle)
{
	struct vgpu_kernel *kernel;
	CUresult status = resolve_kernel(handle, &kernel);

	if (status == CUDA_SUCCESS && !out)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		*out = (CUlibrary)kernel->library;
	return status;
}

CUresult cuKernelGetName(const char **name, CUkernel handle)
{
	struct vgpu_kernel *kernel;
	CUresult status = resolve_kernel(handle, &kernel);

	if (status == CUDA_SUCCESS && !name)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		*name = kernel->name;
	return status;
}

/* There is one device, so the function in the current context stands for the kernel on it. */
static CUresult function_on(CUkernel handle, CUdevice device, struct vgpu_kernel **kernel,
			    CUfunction *function)
{
	CUresult status = resolve_kernel(handle, kernel);

	if (status == CUDA_SUCCESS && device != 0)
		status = CUDA_ERROR_INVALID_DEVICE;
	return status == CUDA_SUCCESS ? function_here(*kernel, function) : status;
}

CUresult cuKernelGetAttribute(int *value, CUfunction_attribute attribute, CUkernel handle,
			      CUdevice device)
{
	struct vgpu_kernel *kernel;
	CUfunction function;
	CUresult status = function_on(handle, device, &kernel, &function);

	return status == CUDA_SUCCESS ? cuFuncGetAttribute(value, attribute, function) : status;
}

CUresult cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel handle,
			      CUdevice device)
{
	struct vgpu_kernel *kernel;
	CUfunction function;
	CUresult status = function_on(handle, device, &kernel, &function);

	if (status == CUDA_SUCCESS)
		status = cuFuncSetAttribute(function, attribute, value);
	if (status == CUDA_SUCCESS && (unsigned int)attribute < ATTRIBUTES) {
		pthread_mutex_lock(&kernel->library->lock);
		kernel->attributes_set |= 1ull << attribute;
		kernel->attributes[attribute] = value;
		pthread_mutex_unlock(&kernel->library->lock);
	}
	return status;
}

CUresult cuKernelSetCacheConfig(CUkernel handle, CUfunc_cache config, CUdevice device)
{
	struct vgpu_kernel *kernel;
	CUfunction function;
	CUresult status = function_on(handle, device, &kernel, &function);

	return status == CUDA_SUCCESS ? cuFuncSetCacheConfig(function, config) : status;
}

CUresult cuKernelGetParamInfo(CUkernel handle, size_t index, size_t *offset, size_t *bytes)
{
	CUfunction function;
	CUresult status = cuKernelGetFunction(&function, handle);

	return status == CUDA_SUCCESS ? cuFuncGetParamInfo(function, index, offset, bytes) : status;
}

CUresult cuKernelGetParamCount(CUkernel handle, size_t *count)
{
	CUfunction function;
	CUresult status = cuKernelGetFunction(&function, handle);

	return status == CUDA_SUCCESS ? cuFuncGetParamCount(function, count) : status;
}
