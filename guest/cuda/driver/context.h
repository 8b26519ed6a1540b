/* SPDX-License-Identifier: MIT */
/* What the files of contexts share: context.c, context_current.c, context_primary.c,
 * context_state.c. */
#ifndef VGPU_CONTEXT_H
#define VGPU_CONTEXT_H

#include "internal.h"

/* An object for a context, not yet alive; NULL: none left. */
struct vgpu_context *vgpu_context_take(void);
/* Brings a context to life on the device. */
CUresult vgpu_context_make(struct vgpu_context *context, unsigned int flags);
/* Ends the life of a context with all that is in it; its object stays. */
CUresult vgpu_context_destroy(struct vgpu_context *context);
CUresult vgpu_context_check_flags(unsigned int flags);
/* Whether the library is initialized and there is such a device. */
CUresult vgpu_check_device(CUdevice device);
/* Makes a context the current one of this thread, above those that it had. */
CUresult vgpu_push_current(struct vgpu_context *context);

#endif
