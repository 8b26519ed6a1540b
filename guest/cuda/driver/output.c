// SPDX-License-Identifier: MIT
/* What kernels print: taken from the device where CUDA prints it, after calls that wait. */
#include <stdio.h>

#include "internal.h"

#define PART_BYTES 65536u
#define PARTS_MAX  4096u /* of one call: a device that always has more must not hold it up */

static pthread_mutex_t output_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t printed; /* output_lock; bytes taken from the device */

void vgpu_output_print(void)
{
	struct vgpu_scratch scratch;
	struct vgpu_reply reply;

	if (vgpu_output_bytes() == __atomic_load_n(&printed, __ATOMIC_ACQUIRE))
		return;
	if (vgpu_scratch_take(PART_BYTES, &scratch) != CUDA_SUCCESS)
		return;
	pthread_mutex_lock(&output_lock);
	for (uint32_t part = 0; part < PARTS_MAX; part++) {
		struct vgpu_cmd_output_read command = vgpu_encode_output_read(
			0, scratch.offset, scratch.registration, PART_BYTES);

		if (vgpu_call(&command, sizeof(command), NULL, 0, &reply) != CUDA_SUCCESS ||
		    !reply.result[0] || reply.result[0] > PART_BYTES)
			break;
		fwrite(scratch.address, 1, reply.result[0], stdout);
		__atomic_store_n(&printed, printed + reply.result[0], __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&output_lock);
	vgpu_scratch_give(&scratch);
}
