/* SPDX-License-Identifier: MIT */
/*
 * What the files of libcudart share. The library is a thin layer over the driver API:
 * it keeps the table of registered kernels and variables, the current device of each
 * thread, and the last error; everything else goes to libcuda.so.1.
 */
#ifndef VGPU_RUNTIME_INTERNAL_H
#define VGPU_RUNTIME_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)
#include <cuda.h>
#include <cuda_runtime_api.h>
#pragma GCC visibility pop

#define VGPU_EXPORT __attribute__((visibility("default")))

/* error.c */

/* Remembers what is not success as the thread's last error; returns it. */
cudaError_t vgpu_done(cudaError_t error);
/* The runtime's codes are the driver's where both have one. */
static inline cudaError_t vgpu_error(CUresult result)
{
	return (cudaError_t)result;
}
/* Of the driver's answer. */
static inline cudaError_t vgpu_driver_done(CUresult result)
{
	return __builtin_expect(result == CUDA_SUCCESS, 1) ? cudaSuccess
							   : vgpu_done(vgpu_error(result));
}

/* Counts a call that is not supported; cudaErrorNotSupported, the last error now. */
int vgpu_runtime_refuse(const char *symbol);

/* context.c */

/* cuInit, and whether the driver is new enough for this runtime. */
cudaError_t vgpu_initialize(void);
/* The device of that ordinal. */
cudaError_t vgpu_device_of(int ordinal, CUdevice *device);
/* Makes sure that the thread has a current context: the primary one of its device. */
cudaError_t vgpu_context(void);
/* The device of the thread's current context, or the one it has chosen. */
cudaError_t vgpu_current_device(CUdevice *device);

/* The body of nearly every function: a context, then one call of the driver. */
#define VGPU_RETURN_DRIVER(call)                                                                   \
	do {                                                                                       \
		cudaError_t vgpu_ready = vgpu_context();                                           \
                                                                                                   \
		if (vgpu_ready != cudaSuccess)                                                     \
			return vgpu_done(vgpu_ready);                                              \
		return vgpu_driver_done(call);                                                     \
	} while (0)

/* In CUDA 12 the oldest functions of kernels do not call a bad address a bad handle. */
static inline cudaError_t vgpu_error_before_13(cudaError_t error)
{
	return CUDART_VERSION < 13000 && error == cudaErrorInvalidResourceHandle
		       ? cudaErrorInvalidDeviceFunction
		       : error;
}

/* registration.c: what compiled programs tell about their device code. */

struct vgpu_binary;

struct vgpu_symbol {	  /* a kernel or a variable */
	const void *host; /* address by which the program names it */
	const char *name; /* in the image; belongs to the program */
	struct vgpu_binary *binary;
	bool variable;
	size_t bytes; /* of a variable, as declared */
	/* Where it is in the context that used it last. */
	_Atomic uint64_t context_id;
	_Atomic uint64_t address; /* CUfunction or CUdeviceptr */
};

/* The symbol of that host address, or NULL. Takes no lock. */
struct vgpu_symbol *vgpu_symbol_find(const void *host);
/* A kernel in the current context; loads its image at first use. */
cudaError_t vgpu_kernel(struct vgpu_symbol *symbol, CUfunction *function);
/* The same by host address, or by the handle of a kernel: cudaErrorInvalidResourceHandle if it is
 * neither. */
cudaError_t vgpu_kernel_of(const void *host, CUfunction *function);
/* A variable in the current context: cudaErrorInvalidSymbol if nothing is known of it. */
cudaError_t vgpu_variable_of(const void *host, CUdeviceptr *address, size_t *bytes);
/* A part of one: cudaErrorInvalidValue where it has not as many bytes. */
cudaError_t vgpu_part_of(const void *symbol, size_t offset, size_t bytes, CUdeviceptr *address);

/* The kernel that is that function in the current context, or NULL. */
const void *vgpu_host_of(CUfunction function);

/* box.c */

/* A copy of a box in linear memory, as the driver describes it. */
cudaError_t vgpu_box(const struct cudaMemcpy3DParms *wanted, CUDA_MEMCPY3D *box);
/* The rectangle of the box at depth `z`. */
void vgpu_box_slice(const CUDA_MEMCPY3D *box, size_t z, CUDA_MEMCPY2D *slice);

#endif /* VGPU_RUNTIME_INTERNAL_H */
