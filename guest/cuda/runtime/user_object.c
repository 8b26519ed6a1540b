// SPDX-License-Identifier: MIT
/* Objects of the program that graphs keep alive. */
#include "internal.h"

cudaError_t cudaUserObjectCreate(cudaUserObject_t *object, void *data, cudaHostFn_t destroy,
				 unsigned int references, unsigned int flags)
{
	VGPU_RETURN_DRIVER(cuUserObjectCreate(object, data, destroy, references, flags));
}

cudaError_t cudaUserObjectRetain(cudaUserObject_t object, unsigned int count)
{
	VGPU_RETURN_DRIVER(cuUserObjectRetain(object, count));
}

cudaError_t cudaUserObjectRelease(cudaUserObject_t object, unsigned int count)
{
	VGPU_RETURN_DRIVER(cuUserObjectRelease(object, count));
}

cudaError_t cudaGraphRetainUserObject(cudaGraph_t graph, cudaUserObject_t object,
				      unsigned int count, unsigned int flags)
{
	VGPU_RETURN_DRIVER(cuGraphRetainUserObject(graph, object, count, flags));
}

cudaError_t cudaGraphReleaseUserObject(cudaGraph_t graph, cudaUserObject_t object,
				       unsigned int count)
{
	VGPU_RETURN_DRIVER(cuGraphReleaseUserObject(graph, object, count));
}
