/* SPDX-License-Identifier: MIT */
/* Checks for test programs: each failure is one line on standard error and is counted. */
#ifndef VGPU_TESTS_EXPECT_H
#define VGPU_TESTS_EXPECT_H

#include <stdio.h>
#include <stdlib.h>

#include <cuda.h>

static unsigned int failures;

static void expect(CUresult got, CUresult wanted, const char *what, int line)
{
	const char *name = "?";

	if (got == wanted)
		return;
	failures++;
	cuGetErrorName(got, &name);
	fprintf(stderr, "line %d: %s: %s (%d), expected %d\n", line, what, name, (int)got,
		(int)wanted);
	if (wanted == CUDA_SUCCESS)
		exit(1);
}

#define OK(CALL)	    expect(CALL, CUDA_SUCCESS, #CALL, __LINE__)
#define FAILS(CALL, WANTED) expect(CALL, WANTED, #CALL, __LINE__)
#define CHECK(CONDITION)                                                                           \
	do {                                                                                       \
		if (!(CONDITION)) {                                                                \
			failures++;                                                                \
			fprintf(stderr, "line %d: not true: %s\n", __LINE__, #CONDITION);          \
		}                                                                                  \
	} while (0)

/* Ends a program: says what came of it. */
static inline int report(void)
{
	if (failures)
		fprintf(stderr, "%u checks failed\n", failures);
	else
		puts("passed");
	return failures != 0;
}

#endif /* VGPU_TESTS_EXPECT_H */
