// SPDX-License-Identifier: MIT
/* Code that a program loads itself: libraries, their kernels and variables. */
#include "internal.h"

_Static_assert(sizeof(enum cudaJitOption) == sizeof(CUjit_option),
	       "the runtime's options of the compiler are the driver's");
_Static_assert(sizeof(enum cudaLibraryOption) == sizeof(CUlibraryOption),
	       "the runtime's options of libraries are the driver's");

cudaError_t cudaLibraryLoadData(cudaLibrary_t *library, const void *code,
				enum cudaJitOption *jit_options, void **jit_values,
				unsigned int jit_count, enum cudaLibraryOption *options,
				void **values, unsigned int count)
{
	VGPU_RETURN_DRIVER(cuLibraryLoadData((CUlibrary *)library, code,
					     (CUjit_option *)jit_options, jit_values, jit_count,
					     (CUlibraryOption *)options, values, count));
}

cudaError_t cudaLibraryLoadFromFile(cudaLibrary_t *library, const char *path,
				    enum cudaJitOption *jit_options, void **jit_values,
				    unsigned int jit_count, enum cudaLibraryOption *options,
				    void **values, unsigned int count)
{
	VGPU_RETURN_DRIVER(cuLibraryLoadFromFile((CUlibrary *)library, path,
						 (CUjit_option *)jit_options, jit_values, jit_count,
						 (CUlibraryOption *)options, values, count));
}

cudaError_t cudaLibraryUnload(cudaLibrary_t library)
{
	VGPU_RETURN_DRIVER(cuLibraryUnload((CUlibrary)library));
}

cudaError_t cudaLibraryGetKernel(cudaKernel_t *kernel, cudaLibrary_t library, const char *name)
{
	VGPU_RETURN_DRIVER(cuLibraryGetKernel((CUkernel *)kernel, (CUlibrary)library, name));
}

cudaError_t cudaLibraryGetKernelCount(unsigned int *count, cudaLibrary_t library)
{
	VGPU_RETURN_DRIVER(cuLibraryGetKernelCount(count, (CUlibrary)library));
}

cudaError_t cudaLibraryEnumerateKernels(cudaKernel_t *kernels, unsigned int room,
					cudaLibrary_t library)
{
	VGPU_RETURN_DRIVER(
		cuLibraryEnumerateKernels((CUkernel *)kernels, room, (CUlibrary)library));
}

cudaError_t cudaLibraryGetGlobal(void **address, size_t *bytes, cudaLibrary_t library,
				 const char *name)
{
	CUdeviceptr found;
	cudaError_t error = vgpu_context();

	if (error == cudaSuccess)
		error = vgpu_error(cuLibraryGetGlobal(address ? &found : NULL, bytes,
						      (CUlibrary)library, name));
	if (error == cudaSuccess && address)
		*address = (void *)(uintptr_t)found;
	return vgpu_done(error);
}

cudaError_t cudaKernelSetAttributeForDevice(cudaKernel_t kernel, enum cudaFuncAttribute attribute,
					    int value, int ordinal)
{
	CUdevice device;
	cudaError_t error = vgpu_device_of(ordinal, &device);

	if (error == cudaSuccess)
		error = vgpu_context();
	if (error == cudaSuccess)
		error = vgpu_error(cuKernelSetAttribute((CUfunction_attribute)attribute, value,
							(CUkernel)kernel, device));
	return vgpu_done(error);
}
