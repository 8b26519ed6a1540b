// SPDX-License-Identifier: MIT
/* cudaCreateChannelDesc, which only puts its arguments together. */
#include "internal.h"

struct cudaChannelFormatDesc cudaCreateChannelDesc(int x, int y, int z, int w,
						   enum cudaChannelFormatKind kind)
{
	return (struct cudaChannelFormatDesc){ x, y, z, w, kind };
}
