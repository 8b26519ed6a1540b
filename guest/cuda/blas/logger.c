// SPDX-License-Identifier: MIT
/*
 * cuBLAS' own log: one line for each command, where a program or the variables
 * CUBLAS_LOGINFO_DBG and CUBLAS_LOGDEST_DBG ask for it.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static bool to_stdout;
static bool to_stderr;
static FILE *to_file;
static cublasLogCallback callback;
static bool environment_read;

atomic_bool blas_logging; /* somebody listens */

static const char *const routines[] = {
#define NAME(ROUTINE) [VGPU_BLAS_##ROUTINE] = #ROUTINE
	NAME(GEMM),  NAME(TRSM),  NAME(SYMM),  NAME(HEMM),  NAME(SYRK), NAME(HERK),
	NAME(SYR2K), NAME(HER2K), NAME(SYRKX), NAME(HERKX), NAME(TRMM), NAME(GEAM),
	NAME(DGMM),  NAME(GEMV),  NAME(GER),   NAME(GERC),  NAME(SYMV), NAME(HEMV),
	NAME(TRMV),  NAME(TRSV),  NAME(AXPY),  NAME(SCAL),  NAME(COPY), NAME(SWAP),
	NAME(DOT),   NAME(DOTC),  NAME(NRM2),  NAME(ASUM),  NAME(AMAX), NAME(AMIN),
#undef NAME
};

/* log_lock is held. */
static void update_logging(bool on)
{
	atomic_store(&blas_logging, (on && (to_stdout || to_stderr || to_file)) || callback);
}

/* log_lock is held. */
static bool open_file(const char *name)
{
	if (to_file)
		fclose(to_file);
	to_file = name ? fopen(name, "w") : NULL;
	return !name || to_file;
}

void blas_log_from_environment(void)
{
	const char *on = getenv("CUBLAS_LOGINFO_DBG");
	const char *destination = getenv("CUBLAS_LOGDEST_DBG");

	pthread_mutex_lock(&log_lock);
	if (!environment_read && on && !strcmp(on, "1") && destination) {
		to_stdout = !strcmp(destination, "stdout");
		to_stderr = !strcmp(destination, "stderr");
		if (!to_stdout && !to_stderr)
			open_file(destination);
		update_logging(true);
	}
	environment_read = true;
	pthread_mutex_unlock(&log_lock);
}

void blas_log_command(const struct vgpu_cmd_blas *command, cublasStatus_t status)
{
	cublasLogCallback listener;
	char line[256];

	snprintf(line, sizeof(line),
		 "cuBLAS (VGPU-STUB) %s: m=%lld n=%lld k=%lld batch=%lld types=%u,%u,%u: %s\n",
		 routines[command->routine], (long long)command->m, (long long)command->n,
		 (long long)command->k, (long long)command->batch, command->a_type, command->b_type,
		 command->c_type, cublasGetStatusName(status));
	pthread_mutex_lock(&log_lock);
	if (to_stdout)
		fputs(line, stdout);
	if (to_stderr)
		fputs(line, stderr);
	if (to_file) {
		fputs(line, to_file);
		fflush(to_file);
	}
	listener = callback;
	pthread_mutex_unlock(&log_lock);
	if (listener)
		listener(line);
}

CUBLAS_EXPORT cublasStatus_t cublasLoggerConfigure(int on, int stdout_too, int stderr_too,
						   const char *file)
{
	bool opened;

	pthread_mutex_lock(&log_lock);
	environment_read = true;
	to_stdout = stdout_too;
	to_stderr = stderr_too;
	opened = open_file(on ? file : NULL);
	update_logging(on);
	pthread_mutex_unlock(&log_lock);
	return opened ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

CUBLAS_EXPORT cublasStatus_t cublasSetLoggerCallback(cublasLogCallback listener)
{
	pthread_mutex_lock(&log_lock);
	callback = listener;
	update_logging(true);
	pthread_mutex_unlock(&log_lock);
	return CUBLAS_STATUS_SUCCESS;
}

CUBLAS_EXPORT cublasStatus_t cublasGetLoggerCallback(cublasLogCallback *listener)
{
	if (!listener)
		return CUBLAS_STATUS_INVALID_VALUE;
	pthread_mutex_lock(&log_lock);
	*listener = callback;
	pthread_mutex_unlock(&log_lock);
	return CUBLAS_STATUS_SUCCESS;
}
