// SPDX-License-Identifier: MIT
/* Modules, their kernels and their variables. What was looked up once is kept. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

#define REPLY_BYTES    (48u << 10) /* of MODULE_GET_FUNCTION: more parameters than CUDA allows */
#define NAME_MAX_BYTES (32u << 10)
#define PARAMETER_BYTES_MAX (32u << 10) /* more than the 32764 that CUDA allows */
#define BLOCK_THREADS_MAX   65536
#define PARAMETERS_NOTED    256 /* of one kernel; the sizes of more are believed */

struct global {
	char *name;
	CUdeviceptr address;
	size_t size;
	struct global *next;
};

struct vgpu_module {
	struct vgpu_object object;
	pthread_mutex_t lock; /* guards both lists */
	char *names;	      /* of its kernels, each with its NUL; constant */
	size_t name_bytes;
	uint32_t name_count;
	uint32_t *layouts; /* of each kernel: number and sizes of its parameters; constant */
	size_t layout_words;
	struct vgpu_function *functions;
	struct global *globals;
};

static struct vgpu_pool modules = {
	.name = "module",
	.object_bytes = 128,
	.capacity = 1u << 16,
	.lock = PTHREAD_MUTEX_INITIALIZER,
};

static struct vgpu_pool functions = {
	.name = "function",
	.object_bytes = 256,
	.capacity = 1u << 20,
	.lock = PTHREAD_MUTEX_INITIALIZER,
};

static_assert(sizeof(struct vgpu_module) <= 128, "a module fits its pool");
static_assert(sizeof(struct vgpu_function) <= 256, "a function fits its pool");

/* Sends an image that was picked and unpacked. */
static CUresult load_image(struct vgpu_context *context, const struct vgpu_image *image,
			   struct vgpu_jit_log *log, uint32_t *remote)
{
	struct vgpu_cmd_module_load command;
	struct vgpu_scratch scratch;
	struct vgpu_reply reply = { 0 };
	uint64_t log_offset = (image->size + 63) & ~63ull;
	size_t log_bytes;
	char *text;
	CUresult status = vgpu_scratch_take(log_offset + VGPU_JIT_LOG_BYTES, &scratch);

	if (status != CUDA_SUCCESS)
		return status;
	memcpy(scratch.address, image->data, image->size);
	text = (char *)scratch.address + log_offset;
	text[0] = '\0';
	command = vgpu_encode_module_load(vgpu_context_handle(context), scratch.offset, image->size,
					  scratch.offset + log_offset, scratch.registration,
					  scratch.registration, VGPU_JIT_LOG_BYTES, image->kind);
	status = vgpu_context_call(context, &command, sizeof(command), NULL, 0, &reply);
	if (status == CUDA_SUCCESS)
		status = vgpu_handle_of(&reply, remote);
	/* A failed command has no results, so the log ends where its NUL is. */
	log_bytes = strnlen(text, VGPU_JIT_LOG_BYTES);
	if (status != CUDA_SUCCESS && log_bytes)
		vgpu_log("module image refused: %.*s", (int)log_bytes, text);
	vgpu_jit_write_log(log, status, text, log_bytes);
	vgpu_scratch_give(&scratch);
	return status;
}

/* Notes how large the parameters of a kernel are, where the image is a text that says it. */
static bool note_layout(struct vgpu_module *module, const char *after_name, bool text)
{
	uint32_t sizes[PARAMETERS_NOTED];
	uint32_t count =
		text ? vgpu_ptx_parameters(after_name, sizes, PARAMETERS_NOTED) : UINT32_MAX;
	size_t words = 1 + (count == UINT32_MAX ? 0 : count);
	uint32_t *longer =
		realloc(module->layouts, (module->layout_words + words) * sizeof(*longer));

	if (!longer)
		return false;
	module->layouts = longer;
	longer += module->layout_words;
	module->layout_words += words;
	*longer++ = count;
	if (words > 1)
		memcpy(longer, sizes, (words - 1) * sizeof(*sizes));
	return true;
}

struct naming {
	struct vgpu_module *module;
	bool text; /* the image is PTX */
};

/* Notes the name of a kernel of an image; gives up for good where memory has run out. */
static void note_name(const char *name, size_t length, void *data)
{
	const struct naming *naming = data;
	struct vgpu_module *module = naming->module;
	char *longer = realloc(module->names, module->name_bytes + length + 1);

	if (longer)
		module->names = longer;
	if (!longer || !note_layout(module, name + length, naming->text)) {
		module->name_count = UINT32_MAX;
		return;
	}
	memcpy(longer + module->name_bytes, name, length);
	longer[module->name_bytes + length] = '\0';
	module->name_bytes += length + 1;
	if (module->name_count != UINT32_MAX)
		module->name_count++;
}

static CUresult load(CUmodule *out, const void *data, struct vgpu_jit_log *log)
{
	struct vgpu_context *context;
	struct vgpu_module *module;
	struct vgpu_image image;
	CUresult status = vgpu_current(&context);

	if (status != CUDA_SUCCESS)
		return status;
	if (!out || !data)
		return CUDA_ERROR_INVALID_VALUE;
	status = vgpu_image_open(data, &image);
	if (status != CUDA_SUCCESS)
		return status;
	module = vgpu_pool_take(&modules);
	if (module)
		status = load_image(context, &image, log, &module->object.remote);
	else
		status = CUDA_ERROR_OUT_OF_MEMORY;
	if (status == CUDA_SUCCESS)
		vgpu_image_each_kernel(&image, note_name,
				       &(struct naming){ module, image.kind == VGPU_IMAGE_PTX });
	vgpu_image_close(&image);
	if (status == CUDA_SUCCESS) {
		pthread_mutex_init(&module->lock, NULL);
		module->object.context = context;
		module->object.context_id = atomic_load(&context->id);
		*out = (CUmodule)module;
	} else if (module) {
		vgpu_pool_give(&modules, module);
	}
	return status;
}

CUresult cuModuleLoadData(CUmodule *out, const void *image)
{
	struct vgpu_jit_log log = { 0 };

	return load(out, image, &log);
}

CUresult cuModuleLoadDataEx(CUmodule *out, const void *image, unsigned int count,
			    CUjit_option *options, void **values)
{
	struct vgpu_jit_log log = { 0 };
	CUresult status = vgpu_jit_read_options(count, options, values, &log);

	return status == CUDA_SUCCESS ? load(out, image, &log) : status;
}

CUresult cuModuleLoadFatBinary(CUmodule *out, const void *image)
{
	return cuModuleLoadData(out, image);
}

CUresult vgpu_image_read(const char *path, void **image, size_t *size)
{
	struct stat about;
	ssize_t got = 0;
	char *data;
	int file;

	if (!path)
		return CUDA_ERROR_INVALID_VALUE;
	file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0 || fstat(file, &about) || about.st_size <= 0) {
		if (file >= 0)
			close(file);
		return CUDA_ERROR_FILE_NOT_FOUND;
	}
	/* PTX text ends in NUL, which the file does not have. */
	data = calloc(1, (size_t)about.st_size + 1);
	while (data && got < about.st_size) {
		ssize_t part = read(file, data + got, (size_t)(about.st_size - got));

		if (part <= 0 && errno != EINTR)
			break;
		got += part > 0 ? part : 0;
	}
	close(file);
	if (!data)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (got != about.st_size) {
		free(data);
		return CUDA_ERROR_FILE_NOT_FOUND;
	}
	*image = data;
	*size = (size_t)about.st_size;
	return CUDA_SUCCESS;
}

CUresult cuModuleLoad(CUmodule *out, const char *path)
{
	struct vgpu_jit_log log = { 0 };
	void *image;
	size_t size;
	CUresult status = vgpu_check_initialized();

	if (status == CUDA_SUCCESS)
		status = vgpu_image_read(path, &image, &size);
	if (status != CUDA_SUCCESS)
		return status;
	status = load(out, image, &log);
	free(image);
	return status;
}

/* Frees what the library keeps of a module; the device's part is another matter. */
static void discard(struct vgpu_module *module)
{
	while (module->functions) {
		struct vgpu_function *function = module->functions;

		module->functions = function->next;
		free(function->name);
		free(function->parameters);
		free(function->execution);
		vgpu_pool_give(&functions, function);
	}
	while (module->globals) {
		struct global *global = module->globals;
		struct vgpu_range range;

		module->globals = global->next;
		if (vgpu_ranges_find(VGPU_SIDE_DEVICE, global->address, &range) &&
		    range.kind == VGPU_RANGE_GLOBAL)
			vgpu_ranges_remove(VGPU_SIDE_DEVICE, global->address, &range);
		free(global->name);
		free(global);
	}
	free(module->names);
	free(module->layouts);
	pthread_mutex_destroy(&module->lock);
	vgpu_pool_give(&modules, module);
}

struct forgotten {
	struct vgpu_context *context;
	uint64_t context_id;
};

static void forget_one(void *object, void *data)
{
	struct vgpu_module *module = object;
	struct forgotten *forgotten = data;

	if (module->object.context == forgotten->context &&
	    module->object.context_id == forgotten->context_id)
		discard(module);
}

void vgpu_modules_forget(struct vgpu_context *context, uint64_t context_id)
{
	struct forgotten forgotten = { context, context_id };

	vgpu_pool_each(&modules, forget_one, &forgotten);
}

static CUresult resolve(CUmodule handle, struct vgpu_module **module)
{
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	*module = (void *)handle;
	if (!vgpu_pool_holds(&modules, handle))
		return CUDA_ERROR_INVALID_HANDLE;
	if (!vgpu_object_alive(&(*module)->object))
		return CUDA_ERROR_CONTEXT_IS_DESTROYED;
	return vgpu_context_check((*module)->object.context);
}

CUresult cuModuleUnload(CUmodule handle)
{
	struct vgpu_cmd_module_unload command;
	struct vgpu_context *context;
	struct vgpu_module *module;
	struct vgpu_reply reply;
	CUresult status = resolve(handle, &module);

	if (status != CUDA_SUCCESS)
		return status;
	context = module->object.context;
	command = vgpu_encode_module_unload(vgpu_context_handle(context), module->object.remote);
	discard(module);
	return vgpu_context_call(context, &command, sizeof(command), NULL, 0, &reply);
}

CUresult cuModuleGetLoadingMode(CUmoduleLoadingMode *mode)
{
	CUresult status = vgpu_check_initialized();

	if (status == CUDA_SUCCESS && !mode)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		*mode = CU_MODULE_LAZY_LOADING;
	return status;
}

/* What the image says of a kernel's parameters: a number and as many sizes, or NULL. */
static const uint32_t *noted_layout(const struct vgpu_module *module, const char *name)
{
	const uint32_t *layout = module->layouts;
	const char *noted = module->names;

	if (module->name_count == UINT32_MAX)
		return NULL;
	for (uint32_t i = 0; i < module->name_count; i++) {
		if (!strcmp(noted, name))
			return *layout == UINT32_MAX ? NULL : layout;
		noted += strlen(noted) + 1;
		layout += 1 + (*layout == UINT32_MAX ? 0 : *layout);
	}
	return NULL;
}

/* Whether the device describes the parameters that the image declares. */
static bool layout_agrees(const struct vgpu_function *function, const uint32_t *noted)
{
	if (!noted)
		return true;
	if (*noted != function->info.parameter_count)
		return false;
	for (uint32_t i = 0; i < *noted; i++)
		if (noted[1 + i] != function->parameters[i].size)
			return false;
	return true;
}

/*
 * Copies what the device says of a kernel. A launch packs the caller's parameters as it says:
 * every one must lie in the block, which must fit a command.
 */
static CUresult take_layout(struct vgpu_function *function, const uint32_t *noted,
			    const struct vgpu_reply *reply, const void *told)
{
	struct vgpu_function_info *info = &function->info;
	size_t layout_bytes;

	memcpy(info, told, sizeof(*info));
	layout_bytes = info->parameter_count * sizeof(*function->parameters);
	if (reply->result[1] > REPLY_BYTES || reply->result[1] < sizeof(*info) + layout_bytes ||
	    info->parameter_bytes > PARAMETER_BYTES_MAX || info->max_threads_per_block < 0 ||
	    info->max_threads_per_block > BLOCK_THREADS_MAX)
		goto impossible;
	function->parameters = malloc(layout_bytes + 1);
	if (!function->parameters)
		return CUDA_ERROR_OUT_OF_MEMORY;
	memcpy(function->parameters, (const uint8_t *)told + sizeof(*info), layout_bytes);
	for (uint32_t i = 0; i < info->parameter_count; i++) {
		const struct vgpu_parameter_info *place = &function->parameters[i];

		if ((uint64_t)place->offset + place->size > info->parameter_bytes)
			goto impossible;
	}
	if (!layout_agrees(function, noted))
		goto impossible;
	return CUDA_SUCCESS;
impossible:
	vgpu_log("the device's reply about kernel %s is impossible", function->name);
	return CUDA_ERROR_UNKNOWN;
}

/* Asks the device for a kernel and its parameter layout. */
static CUresult fetch_function(struct vgpu_module *module, const char *name, size_t length,
			       struct vgpu_function **out)
{
	struct vgpu_context *context = module->object.context;
	struct vgpu_cmd_module_get_function command;
	struct vgpu_function *function;
	struct vgpu_scratch scratch;
	struct vgpu_reply reply;
	CUresult status = vgpu_scratch_take(REPLY_BYTES, &scratch);

	if (status != CUDA_SUCCESS)
		return status;
	command = vgpu_encode_module_get_function(vgpu_context_handle(context), scratch.offset,
						  scratch.registration, REPLY_BYTES,
						  module->object.remote, (__u32)length);
	status = vgpu_context_call(context, &command, sizeof(command), name, length, &reply);
	if (status != CUDA_SUCCESS) {
		vgpu_scratch_give(&scratch);
		return status;
	}
	function = vgpu_pool_take(&functions);
	if (function) {
		function->name = strdup(name);
		status = function->name ? take_layout(function, noted_layout(module, name), &reply,
						      scratch.address)
					: CUDA_ERROR_OUT_OF_MEMORY;
	} else {
		status = CUDA_ERROR_OUT_OF_MEMORY;
	}
	if (status == CUDA_SUCCESS)
		status = vgpu_handle_of(&reply, &function->object.remote);
	vgpu_scratch_give(&scratch);
	if (status != CUDA_SUCCESS) {
		if (function) {
			free(function->name);
			free(function->parameters);
			vgpu_pool_give(&functions, function);
		}
		return status;
	}
	function->object.context = context;
	function->object.context_id = module->object.context_id;
	function->module = module;
	atomic_store(&function->dynamic_shared_limit, function->info.max_dynamic_shared_bytes);
	*out = function;
	return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction *out, CUmodule handle, const char *name)
{
	struct vgpu_function *function;
	struct vgpu_module *module;
	size_t length;
	CUresult status = resolve(handle, &module);

	if (status != CUDA_SUCCESS)
		return status;
	if (!out || !name)
		return CUDA_ERROR_INVALID_VALUE;
	length = strlen(name);
	if (!length || length > NAME_MAX_BYTES)
		return CUDA_ERROR_NOT_FOUND;
	pthread_mutex_lock(&module->lock);
	for (function = module->functions; function; function = function->next)
		if (!strcmp(function->name, name))
			break;
	if (!function) {
		status = fetch_function(module, name, length, &function);
		if (status == CUDA_SUCCESS) {
			function->next = module->functions;
			module->functions = function;
		}
	}
	pthread_mutex_unlock(&module->lock);
	if (status == CUDA_SUCCESS)
		*out = (CUfunction)function;
	return status;
}

CUresult cuModuleGetFunctionCount(unsigned int *count, CUmodule handle)
{
	struct vgpu_module *module;
	CUresult status = resolve(handle, &module);

	if (status != CUDA_SUCCESS)
		return status;
	if (!count)
		return CUDA_ERROR_INVALID_VALUE;
	if (module->name_count == UINT32_MAX)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*count = module->name_count;
	return CUDA_SUCCESS;
}

CUresult cuModuleEnumerateFunctions(CUfunction *functions_out, unsigned int room, CUmodule handle)
{
	struct vgpu_module *module;
	const char *name;
	unsigned int count;
	CUresult status = resolve(handle, &module);

	if (status == CUDA_SUCCESS && (!functions_out || !room))
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		status = cuModuleGetFunctionCount(&count, handle);
	if (status != CUDA_SUCCESS)
		return status;
	name = module->names;
	for (unsigned int i = 0; i < room && i < count && status == CUDA_SUCCESS; i++) {
		status = cuModuleGetFunction(&functions_out[i], handle, name);
		name += strlen(name) + 1;
	}
	return status;
}

static CUresult fetch_global(struct vgpu_module *module, const char *name, size_t length,
			     struct global **out)
{
	struct vgpu_context *context = module->object.context;
	struct vgpu_cmd_module_get_global command = vgpu_encode_module_get_global(
		vgpu_context_handle(context), module->object.remote, (__u32)length);
	struct vgpu_range range = { .kind = VGPU_RANGE_GLOBAL, .context = context };
	struct vgpu_reply reply;
	struct global *global;
	CUresult status =
		vgpu_context_call(context, &command, sizeof(command), name, length, &reply);

	if (status != CUDA_SUCCESS)
		return status;
	global = calloc(1, sizeof(*global));
	if (global)
		global->name = strdup(name);
	if (!global || !global->name) {
		free(global);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	global->address = reply.result[0];
	global->size = reply.result[1];
	if (!global->address || !global->size || global->address + global->size < global->address) {
		free(global->name);
		free(global);
		return CUDA_ERROR_UNKNOWN;
	}
	range.start = global->address;
	range.size = global->size;
	range.context_id = module->object.context_id;
	range.unique = vgpu_unique();
	status = vgpu_ranges_insert(VGPU_SIDE_DEVICE, &range);
	if (status != CUDA_SUCCESS) {
		free(global->name);
		free(global);
		return status;
	}
	*out = global;
	return CUDA_SUCCESS;
}

CUresult cuModuleGetGlobal_v2(CUdeviceptr *address, size_t *size, CUmodule handle, const char *name)
{
	struct vgpu_module *module;
	struct global *global;
	size_t length;
	CUresult status = resolve(handle, &module);

	if (status != CUDA_SUCCESS)
		return status;
	if (!name || (!address && !size))
		return CUDA_ERROR_INVALID_VALUE;
	length = strlen(name);
	if (!length || length > NAME_MAX_BYTES)
		return CUDA_ERROR_NOT_FOUND;
	pthread_mutex_lock(&module->lock);
	for (global = module->globals; global; global = global->next)
		if (!strcmp(global->name, name))
			break;
	if (!global) {
		status = fetch_global(module, name, length, &global);
		if (status == CUDA_SUCCESS) {
			global->next = module->globals;
			module->globals = global;
		}
	}
	pthread_mutex_unlock(&module->lock);
	if (status != CUDA_SUCCESS)
		return status;
	if (address)
		*address = global->address;
	if (size)
		*size = global->size;
	return CUDA_SUCCESS;
}

CUresult vgpu_function_resolve(CUfunction handle, struct vgpu_function **function)
{
	/* Where a function is wanted a kernel will do, as CUDA has it. */
	if (!vgpu_pool_holds(&functions, handle)) {
		CUresult status = vgpu_kernel_function(handle, &handle);

		if (status != CUDA_SUCCESS)
			return status;
	}
	*function = (void *)handle;
	return vgpu_object_alive(&(*function)->object) ? CUDA_SUCCESS
						       : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

CUresult cuFuncGetModule(CUmodule *out, CUfunction handle)
{
	struct vgpu_function *function;
	CUresult status = vgpu_check_initialized();

	if (status == CUDA_SUCCESS)
		status = vgpu_function_resolve(handle, &function);
	if (status == CUDA_SUCCESS && !out)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		*out = (CUmodule)function->module;
	return status;
}
