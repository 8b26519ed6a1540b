// SPDX-License-Identifier: MIT
/*
 * Kernel launches. What CUDA checks before a launch is checked here against the
 * layout and limits that came with the function; then the parameters are packed
 * straight into the ring.
 */
#include <string.h>

#include "internal.h"

static unsigned int limit(CUdevice_attribute attribute, unsigned int otherwise)
{
	__s32 value = vgpu_device.attributes[attribute];

	return value > 0 ? (unsigned int)value : otherwise;
}

static CUresult check_shape(const struct vgpu_function *function, const __u32 grid[3],
			    const __u32 block[3], unsigned int shared_bytes)
{
	static const CUdevice_attribute block_limits[3] = {
		CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X,
		CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y,
		CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z,
	};
	static const CUdevice_attribute grid_limits[3] = {
		CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X,
		CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y,
		CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z,
	};
	static const unsigned int usual_block[3] = { 1024, 1024, 64 };
	static const unsigned int usual_grid[3] = { 0x7fffffff, 65535, 65535 };
	uint64_t threads = 1;
	int dynamic_limit;

	for (size_t i = 0; i < 3; i++) {
		if (!grid[i] || !block[i] || grid[i] > limit(grid_limits[i], usual_grid[i]) ||
		    block[i] > limit(block_limits[i], usual_block[i]))
			return CUDA_ERROR_INVALID_VALUE;
		threads *= block[i];
	}
	if (threads > limit(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024))
		return CUDA_ERROR_INVALID_VALUE;
	if (function->info.max_threads_per_block > 0 &&
	    threads > (uint64_t)function->info.max_threads_per_block)
		return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
	dynamic_limit = atomic_load_explicit(&function->dynamic_shared_limit, memory_order_relaxed);
	if (dynamic_limit >= 0 && shared_bytes > (unsigned int)dynamic_limit)
		return CUDA_ERROR_INVALID_VALUE;
	return CUDA_SUCCESS;
}

/* The parameter block of CU_LAUNCH_PARAM_BUFFER_POINTER; NULL: `extra` is not understood. */
static const void *packed_parameters(void **extra, size_t *bytes)
{
	const void *buffer = NULL;
	const size_t *size = NULL;

	for (; *extra != CU_LAUNCH_PARAM_END; extra += 2) {
		if (*extra == CU_LAUNCH_PARAM_BUFFER_POINTER)
			buffer = extra[1];
		else if (*extra == CU_LAUNCH_PARAM_BUFFER_SIZE)
			size = extra[1];
		else
			return NULL;
	}
	*bytes = size ? *size : 0;
	return size ? buffer : NULL;
}

CUresult vgpu_launch_check(const struct vgpu_launch *launch, const void **packed)
{
	uint32_t bytes = launch->function->info.parameter_bytes;
	size_t packed_bytes = 0;
	CUresult status =
		check_shape(launch->function, launch->grid, launch->block, launch->shared_bytes);

	*packed = NULL;
	if (status != CUDA_SUCCESS)
		return status;
	if (launch->parameters && launch->extra)
		return CUDA_ERROR_INVALID_VALUE;
	if (launch->cooperative) {
		status = vgpu_occupancy_check(launch->function, launch->grid, launch->block,
					      launch->shared_bytes);
		if (status != CUDA_SUCCESS)
			return status;
	}
	if (!launch->extra)
		return bytes && !launch->parameters ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
	*packed = packed_parameters(launch->extra, &packed_bytes);
	return (!*packed && bytes) || packed_bytes < bytes ? CUDA_ERROR_INVALID_VALUE
							   : CUDA_SUCCESS;
}

void vgpu_launch_encode(const struct vgpu_launch *launch, const void *packed, uint32_t stream,
			struct vgpu_cmd_launch_kernel *command)
{
	static_assert(sizeof(struct vgpu_cmd_launch_kernel) ==
			      sizeof(struct vgpu_cmd_launch_cooperative),
		      "the two launches differ in their opcode alone");
	const struct vgpu_function *function = launch->function;
	uint8_t *tail = (uint8_t *)(command + 1);

	*command = vgpu_encode_launch_kernel(vgpu_context_handle(function->object.context),
					     function->object.remote, launch->grid, launch->block,
					     launch->shared_bytes, stream,
					     function->info.parameter_bytes);
	if (launch->cooperative)
		command->header.opcode = VGPU_OP_LAUNCH_COOPERATIVE;
	if (packed) {
		memcpy(tail, packed, function->info.parameter_bytes);
		return;
	}
	for (uint32_t i = 0; i < function->info.parameter_count; i++) {
		const struct vgpu_parameter_info *place = &function->parameters[i];

		memcpy(tail + place->offset, launch->parameters[i], place->size);
	}
}

static CUresult launch(CUfunction handle, struct vgpu_launch *launch, CUstream stream)
{
	struct vgpu_cmd_launch_kernel *command;
	struct vgpu_stream_ref ref;
	const void *packed;
	CUresult status = vgpu_stream_resolve_work(stream, &ref);

	if (status == CUDA_SUCCESS)
		status = vgpu_function_resolve(handle, &launch->function);
	if (status == CUDA_SUCCESS && launch->function->object.context != ref.context)
		status = CUDA_ERROR_INVALID_HANDLE;
	if (status == CUDA_SUCCESS)
		status = vgpu_launch_check(launch, &packed);
	if (status != CUDA_SUCCESS)
		return status;
	if (ref.capturing)
		return vgpu_capture_kernel(&ref, launch, packed);
	status = vgpu_ring_begin(sizeof(*command) + launch->function->info.parameter_bytes,
				 (void **)&command);
	if (status != CUDA_SUCCESS)
		return status;
	vgpu_launch_encode(launch, packed, ref.remote, command);
	vgpu_ring_commit(command);
	return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y,
			unsigned int grid_z, unsigned int block_x, unsigned int block_y,
			unsigned int block_z, unsigned int shared_bytes, CUstream stream,
			void **parameters, void **extra)
{
	return launch(function,
		      &(struct vgpu_launch){ .grid = { grid_x, grid_y, grid_z },
					     .block = { block_x, block_y, block_z },
					     .shared_bytes = shared_bytes,
					     .parameters = parameters,
					     .extra = extra },
		      stream);
}

CUresult cuLaunchKernel_ptsz(CUfunction function, unsigned int grid_x, unsigned int grid_y,
			     unsigned int grid_z, unsigned int block_x, unsigned int block_y,
			     unsigned int block_z, unsigned int shared_bytes, CUstream stream,
			     void **parameters, void **extra)
{
	return cuLaunchKernel(function, grid_x, grid_y, grid_z, block_x, block_y, block_z,
			      shared_bytes, vgpu_per_thread(stream), parameters, extra);
}

CUresult cuLaunchCooperativeKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y,
				   unsigned int grid_z, unsigned int block_x, unsigned int block_y,
				   unsigned int block_z, unsigned int shared_bytes, CUstream stream,
				   void **parameters)
{
	return launch(function,
		      &(struct vgpu_launch){ .grid = { grid_x, grid_y, grid_z },
					     .block = { block_x, block_y, block_z },
					     .shared_bytes = shared_bytes,
					     .parameters = parameters,
					     .cooperative = true },
		      stream);
}

CUresult cuLaunchCooperativeKernel_ptsz(CUfunction function, unsigned int grid_x,
					unsigned int grid_y, unsigned int grid_z,
					unsigned int block_x, unsigned int block_y,
					unsigned int block_z, unsigned int shared_bytes,
					CUstream stream, void **parameters)
{
	return cuLaunchCooperativeKernel(function, grid_x, grid_y, grid_z, block_x, block_y,
					 block_z, shared_bytes, vgpu_per_thread(stream),
					 parameters);
}

/* Attributes that a launch honours, most of them by doing nothing; any other is refused. */
static CUresult check_attribute(const CUlaunchAttribute *attribute)
{
	switch (attribute->id) {
	case CU_LAUNCH_ATTRIBUTE_IGNORE:
	case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:			   /* the caller's */
	case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:		   /* a hint to the cache */
	case CU_LAUNCH_ATTRIBUTE_PRIORITY:			   /* there is one priority */
	case CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT: /* a hint */
	/* Permits overlap with the kernel before; running after it is always right. */
	case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION:
		return CUDA_SUCCESS;
	case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
		return attribute->value.clusterDim.x == 1 && attribute->value.clusterDim.y == 1 &&
				       attribute->value.clusterDim.z == 1
			       ? CUDA_SUCCESS
			       : CUDA_ERROR_NOT_SUPPORTED;
	default:
		return CUDA_ERROR_NOT_SUPPORTED;
	}
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **parameters,
			  void **extra)
{
	bool cooperative = false;
	CUresult status = vgpu_check_initialized();

	if (status != CUDA_SUCCESS)
		return status;
	if (!config || (config->numAttrs && !config->attrs))
		return CUDA_ERROR_INVALID_VALUE;
	for (unsigned int i = 0; i < config->numAttrs && status == CUDA_SUCCESS; i++) {
		status = check_attribute(&config->attrs[i]);
		if (status != CUDA_SUCCESS)
			vgpu_log("launch attribute %d is not supported", (int)config->attrs[i].id);
		else if (config->attrs[i].id == CU_LAUNCH_ATTRIBUTE_COOPERATIVE)
			cooperative = config->attrs[i].value.cooperative != 0;
	}
	if (status != CUDA_SUCCESS)
		return status;
	return launch(function,
		      &(struct vgpu_launch){
			      .grid = { config->gridDimX, config->gridDimY, config->gridDimZ },
			      .block = { config->blockDimX, config->blockDimY, config->blockDimZ },
			      .shared_bytes = config->sharedMemBytes,
			      .parameters = parameters,
			      .extra = extra,
			      .cooperative = cooperative },
		      config->hStream);
}

CUresult cuLaunchKernelEx_ptsz(const CUlaunchConfig *config, CUfunction function, void **parameters,
			       void **extra)
{
	CUlaunchConfig changed;

	if (!config)
		return cuLaunchKernelEx(config, function, parameters, extra);
	changed = *config;
	changed.hStream = vgpu_per_thread(config->hStream);
	return cuLaunchKernelEx(&changed, function, parameters, extra);
}
