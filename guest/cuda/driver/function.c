// SPDX-License-Identifier: MIT
/* Attributes and parameters of kernels. */
#include "internal.h"

static CUresult resolve(CUfunction handle, struct vgpu_function **function)
{
	CUresult status = vgpu_check_initialized();

	if (status == CUDA_SUCCESS)
		status = vgpu_function_resolve(handle, function);
	if (status == CUDA_SUCCESS)
		status = vgpu_context_check((*function)->object.context);
	return status;
}

/* Attributes that never change came with the function. */
static bool known_attribute(const struct vgpu_function_info *info, CUfunction_attribute attribute,
			    int *value)
{
	switch (attribute) {
	case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
		*value = info->max_threads_per_block;
		return true;
	case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
		*value = info->shared_bytes;
		return true;
	case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
		*value = info->const_bytes;
		return true;
	case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
		*value = info->local_bytes;
		return true;
	case CU_FUNC_ATTRIBUTE_NUM_REGS:
		*value = info->registers;
		return true;
	case CU_FUNC_ATTRIBUTE_PTX_VERSION:
		*value = info->ptx_version;
		return true;
	case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
		*value = info->binary_version;
		return true;
	default:
		return false;
	}
}

CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction handle)
{
	struct vgpu_cmd_function_get_attribute command;
	struct vgpu_function *function;
	struct vgpu_reply reply;
	CUresult status = resolve(handle, &function);

	if (status != CUDA_SUCCESS)
		return status;
	if (!value || (int)attribute < 0 || attribute >= CU_FUNC_ATTRIBUTE_MAX)
		return CUDA_ERROR_INVALID_VALUE;
	if (known_attribute(&function->info, attribute, value))
		return CUDA_SUCCESS;
	command = vgpu_encode_function_get_attribute(vgpu_context_handle(function->object.context),
						     function->object.remote, (__s32)attribute);
	status = vgpu_context_call(function->object.context, &command, sizeof(command), NULL, 0,
				   &reply);
	if (status == CUDA_SUCCESS)
		*value = (int)reply.result[0];
	return status;
}

CUresult cuFuncSetAttribute(CUfunction handle, CUfunction_attribute attribute, int value)
{
	struct vgpu_cmd_function_set_attribute command;
	struct vgpu_function *function;
	struct vgpu_reply reply;
	CUresult status = resolve(handle, &function);

	if (status != CUDA_SUCCESS)
		return status;
	if ((int)attribute < 0 || attribute >= CU_FUNC_ATTRIBUTE_MAX)
		return CUDA_ERROR_INVALID_VALUE;
	command = vgpu_encode_function_set_attribute(vgpu_context_handle(function->object.context),
						     function->object.remote, (__s32)attribute,
						     value);
	status = vgpu_context_call(function->object.context, &command, sizeof(command), NULL, 0,
				   &reply);
	vgpu_occupancies_forget(function);
	if (status == CUDA_SUCCESS && attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES)
		atomic_store(&function->dynamic_shared_limit, value);
	return status;
}

/* Hints by definition: the driver may choose otherwise. */
CUresult cuFuncSetCacheConfig(CUfunction handle, CUfunc_cache config)
{
	struct vgpu_function *function;
	CUresult status = resolve(handle, &function);

	if (status == CUDA_SUCCESS && (unsigned int)config > CU_FUNC_CACHE_PREFER_EQUAL)
		status = CUDA_ERROR_INVALID_VALUE;
	return status;
}

CUresult cuFuncSetSharedMemConfig(CUfunction handle, CUsharedconfig config)
{
	struct vgpu_function *function;
	CUresult status = resolve(handle, &function);

	if (status == CUDA_SUCCESS &&
	    (unsigned int)config > CU_SHARED_MEM_CONFIG_EIGHT_BYTE_BANK_SIZE)
		status = CUDA_ERROR_INVALID_VALUE;
	return status;
}

CUresult cuFuncGetName(const char **name, CUfunction handle)
{
	struct vgpu_function *function;
	CUresult status = resolve(handle, &function);

	if (status == CUDA_SUCCESS && !name)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		*name = function->name;
	return status;
}

CUresult cuFuncGetParamInfo(CUfunction handle, size_t index, size_t *offset, size_t *size)
{
	struct vgpu_function *function;
	CUresult status = resolve(handle, &function);

	if (status != CUDA_SUCCESS)
		return status;
	if (!offset || index >= function->info.parameter_count)
		return CUDA_ERROR_INVALID_VALUE;
	*offset = function->parameters[index].offset;
	if (size)
		*size = function->parameters[index].size;
	return CUDA_SUCCESS;
}

CUresult cuFuncGetParamCount(CUfunction handle, size_t *count)
{
	struct vgpu_function *function;
	CUresult status = resolve(handle, &function);

	if (status == CUDA_SUCCESS && !count)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		*count = function->info.parameter_count;
	return status;
}

/* A function handle exists only after its module was loaded. */
CUresult cuFuncIsLoaded(CUfunctionLoadingState *state, CUfunction handle)
{
	struct vgpu_function *function;
	CUresult status = resolve(handle, &function);

	if (status == CUDA_SUCCESS && !state)
		status = CUDA_ERROR_INVALID_VALUE;
	if (status == CUDA_SUCCESS)
		*state = CU_FUNCTION_LOADING_STATE_LOADED;
	return status;
}

CUresult cuFuncLoad(CUfunction handle)
{
	struct vgpu_function *function;

	return resolve(handle, &function);
}
