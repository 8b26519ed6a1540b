// SPDX-License-Identifier: MIT
/*
 * The functions that programs call: each passes its arguments to the implementation
 * and tells the journal about it. This file includes cuda.h without internal.h, which
 * gives the implementations other names.
 */
#include <stdint.h>

#define __CUDA_API_VERSION_INTERNAL
#pragma GCC visibility push(default)
#include <cuda.h>
#pragma GCC visibility pop

#include "journal.h"

#include "../generated/implementations.h"
/* cuda.h does not declare all of them. */
#pragma GCC visibility push(default)
#include "../generated/calls.inc"
#pragma GCC visibility pop
