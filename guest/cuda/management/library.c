// SPDX-License-Identifier: MIT
/* nvmlInit, nvmlShutdown, error texts, and what is asked of the system. */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "management.h"

static pthread_mutex_t init_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned int references; /* init_lock */
static bool present;		/* init_lock, changed only while references is 0 */
static struct vgpu_nvml_device the_device;

void vgpu_nvml_log(const char *format, ...)
{
	const char *level = getenv("VGPU_STUB_LOG");
	char text[512];
	va_list arguments;

	if (!level || (strcasecmp(level, "info") && strcasecmp(level, "debug")))
		return;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	fprintf(stderr, "libnvidia-ml (VGPU-STUB) [%d]: %s\n", (int)getpid(), text);
}

nvmlReturn_t vgpu_nvml_refuse(const char *symbol)
{
	nvmlReturn_t status = vgpu_nvml_check();

	if (status != NVML_SUCCESS)
		return status;
	vgpu_nvml_log("%s is not supported", symbol);
	return NVML_ERROR_NOT_SUPPORTED;
}

nvmlReturn_t vgpu_nvml_copy(char *to, unsigned int room, const char *from)
{
	if (!to)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (strlen(from) >= room)
		return NVML_ERROR_INSUFFICIENT_SIZE;
	strcpy(to, from);
	return NVML_SUCCESS;
}

nvmlReturn_t vgpu_nvml_check(void)
{
	nvmlReturn_t status;

	pthread_mutex_lock(&init_lock);
	status = references ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
	pthread_mutex_unlock(&init_lock);
	return status;
}

struct vgpu_nvml_device *vgpu_nvml_device(void)
{
	return present ? &the_device : NULL;
}

nvmlReturn_t vgpu_nvml_check_device(nvmlDevice_t device, const void *out)
{
	nvmlReturn_t status = vgpu_nvml_check();

	if (status != NVML_SUCCESS)
		return status;
	return device && device == vgpu_nvml_device() && out ? NVML_SUCCESS
							     : NVML_ERROR_INVALID_ARGUMENT;
}

NVML_API nvmlReturn_t nvmlInitWithFlags(unsigned int flags)
{
	nvmlReturn_t status = NVML_SUCCESS;

	if (flags & ~(NVML_INIT_FLAG_NO_GPUS | NVML_INIT_FLAG_NO_ATTACH))
		return NVML_ERROR_INVALID_ARGUMENT;
	pthread_mutex_lock(&init_lock);
	if (!references) {
		status = vgpu_access_open(&the_device);
		present = status == NVML_SUCCESS;
		if (status == NVML_ERROR_DRIVER_NOT_LOADED && flags & NVML_INIT_FLAG_NO_GPUS)
			status = NVML_SUCCESS;
	}
	if (status == NVML_SUCCESS)
		references++;
	pthread_mutex_unlock(&init_lock);
	return status;
}

NVML_API nvmlReturn_t nvmlInit_v2(void)
{
	return nvmlInitWithFlags(0);
}

NVML_API nvmlReturn_t nvmlInit(void)
{
	return nvmlInitWithFlags(0);
}

NVML_API nvmlReturn_t nvmlShutdown(void)
{
	nvmlReturn_t status = NVML_SUCCESS;

	pthread_mutex_lock(&init_lock);
	if (!references)
		status = NVML_ERROR_UNINITIALIZED;
	else if (!--references && present)
		vgpu_access_close();
	pthread_mutex_unlock(&init_lock);
	return status;
}

NVML_API const char *nvmlErrorString(nvmlReturn_t code)
{
	static const char *const texts[] = {
		[NVML_SUCCESS] = "The operation was successful",
		[NVML_ERROR_UNINITIALIZED] = "NVML was not first initialized with nvmlInit()",
		[NVML_ERROR_INVALID_ARGUMENT] = "A supplied argument is invalid",
		[NVML_ERROR_NOT_SUPPORTED] = "The requested operation is not available",
		[NVML_ERROR_NO_PERMISSION] = "The user has no permission for this operation",
		[5] = "NVML has already been initialized",
		[NVML_ERROR_NOT_FOUND] = "A query to find an object was unsuccessful",
		[NVML_ERROR_INSUFFICIENT_SIZE] = "An input argument is not large enough",
		[8] = "External power cables are not properly attached",
		[NVML_ERROR_DRIVER_NOT_LOADED] = "No VGPU-STUB device or driver is there",
		[NVML_ERROR_TIMEOUT] = "The device did not answer in time",
		[11] = "The device has an interrupt problem",
		[12] = "A library that NVML needs could not be found",
		[13] = "This version of NVML has no such function",
		[14] = "The infoROM is corrupted",
		[NVML_ERROR_GPU_IS_LOST] = "The device is not accessible any more",
		[16] = "The device must be reset before it can be used again",
		[17] = "The operating system has blocked the request",
		[NVML_ERROR_LIB_RM_VERSION_MISMATCH] = "The device has another ABI than NVML",
		[19] = "The device is in use",
		[NVML_ERROR_MEMORY] = "Insufficient memory",
		[21] = "No data",
		[22] = "The operation is not available because ECC is enabled",
		[23] = "Insufficient resources",
		[24] = "The requested frequency is not supported",
		[NVML_ERROR_ARGUMENT_VERSION_MISMATCH] = "The version of an argument is not known",
		[26] = "The function is deprecated",
		[27] = "The system is not ready for the request",
		[28] = "No GPU was found",
		[29] = "The state does not allow the operation",
		[30] = "This kind of reset is not supported",
	};
	size_t count = sizeof(texts) / sizeof(texts[0]);

	return (size_t)code < count && texts[code] ? texts[code] : "Unknown error";
}

static nvmlReturn_t driver_version(struct vgpu_measurement *measurement)
{
	nvmlReturn_t status = vgpu_nvml_check();

	if (status != NVML_SUCCESS)
		return status;
	if (!vgpu_nvml_device())
		return NVML_ERROR_DRIVER_NOT_LOADED;
	return vgpu_access_measure(measurement);
}

NVML_API nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length)
{
	struct vgpu_measurement found;
	nvmlReturn_t status = driver_version(&found);

	if (status != NVML_SUCCESS)
		return status;
	return vgpu_nvml_copy(version, length, (const char *)found.status.driver_version);
}

NVML_API nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned int length)
{
	struct vgpu_measurement found;
	char text[64];
	nvmlReturn_t status = driver_version(&found);

	if (status != NVML_SUCCESS)
		return status;
	snprintf(text, sizeof(text), "%d.%s", vgpu_nvml_device()->info.driver_version / 1000,
		 (const char *)found.status.driver_version);
	return vgpu_nvml_copy(version, length, text);
}

/* NVIDIA's answers before nvmlInit() too. */
NVML_API nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version)
{
	nvmlReturn_t status;

	if (!version)
		return NVML_ERROR_INVALID_ARGUMENT;
	status = nvmlInit_v2();
	if (status != NVML_SUCCESS)
		return status;
	*version = vgpu_nvml_device() ? vgpu_nvml_device()->info.driver_version : 0;
	nvmlShutdown();
	return *version ? NVML_SUCCESS : NVML_ERROR_DRIVER_NOT_LOADED;
}

NVML_API nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version)
{
	return nvmlSystemGetCudaDriverVersion(version);
}

NVML_API nvmlReturn_t nvmlSystemGetProcessName(unsigned int pid, char *name, unsigned int length)
{
	char path[40];
	char text[4096];
	nvmlReturn_t status = vgpu_nvml_check();
	size_t got;
	FILE *file;

	if (status != NVML_SUCCESS)
		return status;
	if (!name || !length)
		return NVML_ERROR_INVALID_ARGUMENT;
	snprintf(path, sizeof(path), "/proc/%u/cmdline", pid);
	file = fopen(path, "re");
	if (!file)
		return NVML_ERROR_NOT_FOUND;
	got = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[got] = '\0'; /* arguments are NUL-terminated: what counts is the first */
	return got ? vgpu_nvml_copy(name, length, text) : NVML_ERROR_NOT_FOUND;
}

static nvmlReturn_t none(unsigned int *count)
{
	nvmlReturn_t status = vgpu_nvml_check();

	if (status != NVML_SUCCESS)
		return status;
	if (!count)
		return NVML_ERROR_INVALID_ARGUMENT;
	*count = 0;
	return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlUnitGetCount(unsigned int *count)
{
	return none(count);
}

NVML_API nvmlReturn_t nvmlGetExcludedDeviceCount(unsigned int *count)
{
	return none(count);
}
