// SPDX-License-Identifier: MIT
/* Calls that are not supported say so, and are the thread's last error. */
#include "program.h"

int main(void)
{
	void *memory;

	OK(cudaFree(NULL));
	FAILS(cudaMallocManaged(&memory, 64, cudaMemAttachGlobal), cudaErrorNotSupported);
	CHECK(cudaGetLastError() == cudaErrorNotSupported);
	FAILS(cudaCtxResetPersistingL2Cache(), cudaErrorNotSupported);
	CHECK(cudaPeekAtLastError() == cudaErrorNotSupported);
	return report();
}
