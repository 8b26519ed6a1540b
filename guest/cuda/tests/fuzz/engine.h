/* SPDX-License-Identifier: MIT */
/* What a fuzzer of C code is made of: its own input format, and seeds to start from. */
#ifndef FUZZ_ENGINE_H
#define FUZZ_ENGINE_H

#include <stddef.h>
#include <stdint.h>

/* Largest input, in bytes. */
#define FUZZ_INPUT_MAX 4096u

/* Carries out one input; a sanitizer ends the process where it finds an error. */
void fuzz_one(const uint8_t *data, size_t size);

/* Adds inputs to start from, with fuzz_seed(). */
void fuzz_add_seeds(void);

void fuzz_seed(const void *data, size_t size);

#endif
