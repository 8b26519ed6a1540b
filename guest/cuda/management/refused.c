// SPDX-License-Identifier: MIT
/* Functions that only refuse. Their arguments do not matter: all have the type `int (void)` here.
 */
#include "management.h"

#define VGPU_REFUSED(symbol)                                                                       \
	NVML_API nvmlReturn_t symbol(void);                                                        \
	nvmlReturn_t symbol(void)                                                                  \
	{                                                                                          \
		return vgpu_nvml_refuse(#symbol);                                                  \
	}

#include "../generated/libnvidia-ml.so.1.inc"
