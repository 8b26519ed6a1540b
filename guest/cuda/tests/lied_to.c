// SPDX-License-Identifier: MIT
/*
 * The guest's libraries against a device that lies (docs/villain-device.md). Reads lines
 * "SECONDS SOCKET" and, for each, calls the libraries in a child of its own: a device is
 * opened once in a process. The child says what each call returned ("call NAME STATUS") and
 * what was wrong with an answer that claimed success ("wrong TEXT"); the parent how the child
 * ended ("end exit N" or "end signal N"). The socket "-" stands for /dev/vgpu0, whose own
 * interface is called too. Built with sanitizers, whose reports go to standard error and
 * make the child's exit status another than 0.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cuda.h>

#include "add_ptx.h"
#include "vgpu_stub_abi.h"
#include "vgpu_stub_uapi.h"

#define COUNT	     3000u
#define BYTES	     (COUNT * sizeof(float))
#define NVML_ARRAY   4u
#define PROCESSES    118u /* that a device lists at most */
#define PROPERTIES   4096u
#define NODE	     "/dev/vgpu0"
#define PAGE	     4096u
#define MEMORY_BYTES (300u << 10)

static int say(const char *name, int status)
{
	printf("call %s %d\n", name, status);
	return status;
}

#define CALL(FUNCTION, ...) say(#FUNCTION, (int)FUNCTION(__VA_ARGS__))

__attribute__((format(printf, 2, 3))) static void check(bool right, const char *format, ...)
{
	va_list arguments;

	if (right)
		return;
	va_start(arguments, format);
	printf("wrong ");
	vprintf(format, arguments);
	putchar('\n');
	va_end(arguments);
}

static unsigned int open_descriptors(void)
{
	DIR *folder = opendir("/proc/self/fd");
	unsigned int count = 0;

	if (!folder)
		return 0;
	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}

/* The node of the kernel driver, without the libraries. */

static int result(const char *name, int returned)
{
	/* Beyond are numbers that only parts of the kernel tell each other. */
	check(returned >= 0 || errno <= EHWPOISON, "%s failed with %d", name, errno);
	return say(name, returned < 0 ? errno : 0);
}

static void monitor(void)
{
	static struct vgpu_ioctl_device_status status;
	int file = open(NODE, O_RDONLY | O_CLOEXEC);
	void *info;

	if (result("open monitor", file))
		return;
	result("ioctl DEVICE_STATUS", ioctl(file, VGPU_IOCTL_DEVICE_STATUS, &status));
	info = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, (off_t)VGPU_MMAP_INFO);
	if (!result("mmap info", info == MAP_FAILED ? -1 : 0))
		munmap(info, PAGE);
	close(file);
}

static void use_channel(int file, uint8_t *channel, void *memory)
{
	struct vgpu_channel_control *control = (void *)channel;
	struct vgpu_command_header *header = (void *)(channel + VGPU_SQ_OFFSET);
	struct vgpu_ioctl_register request = {
		.address = (uintptr_t)memory,
		.length = MEMORY_BYTES,
		.access = VGPU_REGISTER_READ | VGPU_REGISTER_WRITE,
	};
	struct vgpu_ioctl_wait wait = { .timeout_ns = 300000000 };
	struct vgpu_ioctl_unregister unregister;
	struct pollfd watched = { .fd = file, .events = POLLIN };

	result("ioctl REGISTER", ioctl(file, VGPU_IOCTL_REGISTER, &request));
	unregister = (struct vgpu_ioctl_unregister){ .registration = request.registration };
	for (uint32_t i = 1; i <= 3; i++) {
		*header++ = (struct vgpu_command_header){
			.slots = 1,
			.flags = VGPU_COMMAND_COMPLETE,
			.sequence = i,
		};
		header = (void *)(channel + VGPU_SQ_OFFSET + i * VGPU_SLOT_BYTES);
		__atomic_store_n(&control->cq_waiting, 1, __ATOMIC_SEQ_CST);
		__atomic_store_n(&control->sq_tail, i, __ATOMIC_SEQ_CST);
		result("ioctl DOORBELL", ioctl(file, VGPU_IOCTL_DOORBELL));
		wait.cq_tail = i - 1;
		result("ioctl WAIT", ioctl(file, VGPU_IOCTL_WAIT, &wait));
		result("poll", poll(&watched, 1, 50));
	}
	result("ioctl UNREGISTER", ioctl(file, VGPU_IOCTL_UNREGISTER, &unregister));
	/* What is left is for close(). */
	result("ioctl REGISTER", ioctl(file, VGPU_IOCTL_REGISTER, &request));
}

static void node(void)
{
	struct vgpu_ioctl_channel_info info;
	void *memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);
	void *channel;
	int file;

	monitor();
	file = open(NODE, O_RDWR | O_CLOEXEC);
	if (memory == MAP_FAILED || result("open", file))
		return;
	if (!result("ioctl CHANNEL_INFO", ioctl(file, VGPU_IOCTL_CHANNEL_INFO, &info))) {
		channel = mmap(NULL, info.channel_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file,
			       (off_t)VGPU_MMAP_CHANNEL);
		if (!result("mmap", channel == MAP_FAILED ? -1 : 0)) {
			use_channel(file, channel, memory);
			munmap(channel, info.channel_bytes);
		}
	}
	close(file);
	munmap(memory, MEMORY_BYTES);
}

/* NVML, which has no header of NVIDIA's here: what is called, as nvml.h declares it. */

static void *nvml;

static int nvml_number(void *device, const char *name, uint64_t *value)
{
	int (*function)(void *, void *) = (int (*)(void *, void *))dlsym(nvml, name);

	*value = 0;
	return say(name, function ? function(device, value) : -1);
}

static void nvml_processes(void *device)
{
	struct {
		uint32_t pid;
		uint64_t memory;
		uint32_t instances[2];
	} few[NVML_ARRAY], many[PROCESSES];
	int (*list)(void *, unsigned int *, void *) =
		(int (*)(void *, unsigned int *, void *))dlsym(
			nvml, "nvmlDeviceGetComputeRunningProcesses_v3");
	unsigned int count = NVML_ARRAY;

	if (!list)
		return;
	if (!say("nvmlDeviceGetComputeRunningProcesses_v3", list(device, &count, few)))
		check(count <= NVML_ARRAY, "%u processes in an array of %u", count, NVML_ARRAY);
	count = PROCESSES;
	if (!say("nvmlDeviceGetComputeRunningProcesses_v3", list(device, &count, many)))
		check(count <= PROCESSES, "%u processes in an array of %u", count, PROCESSES);
}

static void nvml_values(void *device)
{
	static const char *const numbers[] = {
		"nvmlDeviceGetPowerUsage",
		"nvmlDeviceGetFanSpeed",
		"nvmlDeviceGetPerformanceState",
		"nvmlDeviceGetNumGpuCores",
		"nvmlDeviceGetTotalEnergyConsumption",
		"nvmlDeviceGetCurrPcieLinkWidth",
	};
	uint64_t memory[3] = { 0 };
	uint32_t use[2] = { 0 };
	uint64_t value;
	char text[96];
	int (*text_of)(void *, char *, unsigned int);
	int (*pair)(void *, void *);

	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		nvml_number(device, numbers[i], &value);
	pair = (int (*)(void *, void *))dlsym(nvml, "nvmlDeviceGetMemoryInfo");
	if (pair && !say("nvmlDeviceGetMemoryInfo", pair(device, memory)))
		check(memory[1] <= memory[0] && memory[2] <= memory[0],
		      "memory of %llu bytes: %llu free, %llu used", (unsigned long long)memory[0],
		      (unsigned long long)memory[1], (unsigned long long)memory[2]);
	pair = (int (*)(void *, void *))dlsym(nvml, "nvmlDeviceGetBAR1MemoryInfo");
	if (pair && !say("nvmlDeviceGetBAR1MemoryInfo", pair(device, memory)))
		check(memory[1] <= memory[0] && memory[2] <= memory[0], "BAR1 memory");
	pair = (int (*)(void *, void *))dlsym(nvml, "nvmlDeviceGetUtilizationRates");
	if (pair && !say("nvmlDeviceGetUtilizationRates", pair(device, use)))
		check(use[0] <= 100 && use[1] <= 100, "utilisation of %u %% and %u %%", use[0],
		      use[1]);
	text_of = (int (*)(void *, char *, unsigned int))dlsym(nvml, "nvmlDeviceGetName");
	if (text_of && !say("nvmlDeviceGetName", text_of(device, text, sizeof(text))))
		check(strnlen(text, sizeof(text)) < sizeof(text), "a name without an end");
	text_of = (int (*)(void *, char *, unsigned int))dlsym(nvml, "nvmlDeviceGetUUID");
	if (text_of && !say("nvmlDeviceGetUUID", text_of(device, text, sizeof(text))))
		check(strnlen(text, sizeof(text)) < sizeof(text), "a UUID without an end");
	nvml_processes(device);
}

static void management(void)
{
	int (*init)(void) = (int (*)(void))dlsym(nvml, "nvmlInit_v2");
	int (*shut_down)(void) = (int (*)(void))dlsym(nvml, "nvmlShutdown");
	int (*driver)(char *, unsigned int) =
		(int (*)(char *, unsigned int))dlsym(nvml, "nvmlSystemGetDriverVersion");
	int (*handle)(unsigned int, void **) =
		(int (*)(unsigned int, void **))dlsym(nvml, "nvmlDeviceGetHandleByIndex_v2");
	unsigned int descriptors = open_descriptors();
	char version[80];
	void *device;

	for (int round = 0; round < 2; round++) {
		if (say("nvmlInit_v2", init()))
			continue;
		if (!say("nvmlSystemGetDriverVersion", driver(version, sizeof(version))))
			check(strnlen(version, sizeof(version)) < sizeof(version),
			      "a version without an end");
		if (!say("nvmlDeviceGetHandleByIndex_v2", handle(0, &device)))
			nvml_values(device);
		say("nvmlShutdown", shut_down());
	}
	check(open_descriptors() == descriptors, "%u descriptors before NVML, %u after",
	      descriptors, open_descriptors());
}

/* The CUDA driver API. */

static void device_facts(CUdevice device)
{
	char text[300];
	CUuuid uuid;
	size_t bytes;
	int value;

	memset(text, 1, sizeof(text));
	if (!CALL(cuDeviceGetName, text, 256, device))
		check(strnlen(text, 256) < 256, "a name without an end");
	CALL(cuDeviceGetUuid, &uuid, device);
	if (!CALL(cuDeviceTotalMem, &bytes, device))
		check(bytes > 0, "a device without memory");
	if (!CALL(cuDeviceGetPCIBusId, text, 32, device))
		check(strnlen(text, 32) < 32, "a PCI address without an end");
	for (int i = 1; i < CU_DEVICE_ATTRIBUTE_MAX; i++)
		if (!cuDeviceGetAttribute(&value, (CUdevice_attribute)i, device) &&
		    (i == CU_DEVICE_ATTRIBUTE_WARP_SIZE ||
		     i == CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK))
			check(value > 0, "device attribute %d is %d", i, value);
}

static void information(void)
{
	size_t available, total;

	if (!CALL(cuMemGetInfo, &available, &total))
		check(available <= total, "%zu of %zu bytes are free", available, total);
}

static void kernel(CUmodule module, CUdeviceptr x, CUdeviceptr y, CUdeviceptr z)
{
	unsigned int count = COUNT;
	void *parameters[] = { &x, &y, &z, &count };
	CUdeviceptr address;
	CUfunction add;
	size_t bytes;
	int value, grid;

	if (!CALL(cuModuleGetGlobal, &address, &bytes, module, "table"))
		check(address && address + bytes > address, "a variable of %zu bytes at 0x%llx",
		      bytes, (unsigned long long)address);
	if (CALL(cuModuleGetFunction, &add, module, "add"))
		return;
	for (int i = 0; i < CU_FUNC_ATTRIBUTE_MAX; i++)
		cuFuncGetAttribute(&value, (CUfunction_attribute)i, add);
	if (!CALL(cuOccupancyMaxActiveBlocksPerMultiprocessor, &value, add, 128, 0))
		check(value >= 0, "%d blocks on a multiprocessor", value);
	if (!CALL(cuOccupancyMaxPotentialBlockSize, &grid, &value, add, NULL, 0, 0))
		check(grid >= 0 && value >= 0, "a grid of %d blocks of %d", grid, value);
	CALL(cuOccupancyAvailableDynamicSMemPerBlock, &bytes, add, 1, 128);
	CALL(cuLaunchKernel, add, (COUNT + 127) / 128, 1, 1, 128, 1, 1, 0, NULL, parameters, NULL);
	CALL(cuLaunchCooperativeKernel, add, 2, 1, 1, 128, 1, 1, 0, NULL, parameters);
}

static void linking(void)
{
	CUlinkState link;
	CUmodule module;
	void *image;
	size_t bytes;

	if (CALL(cuLinkCreate, 0, NULL, NULL, &link))
		return;
	if (!CALL(cuLinkAddData, link, CU_JIT_INPUT_PTX, (void *)(uintptr_t)add_ptx,
		  sizeof(add_ptx), "add.ptx", 0, NULL, NULL) &&
	    !CALL(cuLinkComplete, link, &image, &bytes)) {
		check(image && bytes, "an image of %zu bytes", bytes);
		if (image && !CALL(cuModuleLoadData, &module, image))
			CALL(cuModuleUnload, module);
	}
	CALL(cuLinkDestroy, link);
}

static void streams(void)
{
	CUevent events[2];
	CUstream stream;
	float milliseconds;

	if (CALL(cuStreamCreate, &stream, CU_STREAM_NON_BLOCKING))
		return;
	if (!CALL(cuEventCreate, &events[0], 0) && !CALL(cuEventCreate, &events[1], 0)) {
		CALL(cuEventRecord, events[0], stream);
		CALL(cuEventRecord, events[1], stream);
		CALL(cuEventSynchronize, events[1]);
		CALL(cuEventQuery, events[0]);
		CALL(cuEventElapsedTime, &milliseconds, events[0], events[1]);
		CALL(cuEventDestroy, events[0]);
		CALL(cuEventDestroy, events[1]);
	}
	CALL(cuStreamQuery, stream);
	CALL(cuStreamSynchronize, stream);
	CALL(cuStreamDestroy, stream);
}

static void work(void)
{
	float *values = malloc(2 * BYTES);
	CUdeviceptr memory[3] = { 0 };
	CUdeviceptr base;
	CUmodule module;
	size_t bytes;
	bool copied = true;

	if (!values)
		exit(1);
	for (unsigned int i = 0; i < COUNT; i++)
		values[i] = (float)i;
	for (size_t i = 0; i < 3; i++) {
		if (CALL(cuMemAlloc, &memory[i], BYTES)) {
			memory[i] = 0;
			copied = false;
			continue;
		}
		for (size_t j = 0; j < i; j++)
			check(memory[i] + BYTES <= memory[j] || memory[j] + BYTES <= memory[i],
			      "two allocations in one place");
		if (!CALL(cuMemGetAddressRange, &base, &bytes, memory[i] + 5))
			check(base == memory[i] && bytes == BYTES, "an allocation of %zu bytes",
			      bytes);
		copied &= !CALL(cuMemcpyHtoD, memory[i], values, BYTES);
	}
	information();
	if (!CALL(cuModuleLoadData, &module, add_ptx)) {
		kernel(module, memory[0], memory[1], memory[2]);
		CALL(cuModuleUnload, module);
	}
	linking();
	streams();
	copied &= !CALL(cuCtxSynchronize);
	copied &= !CALL(cuMemcpyDtoH, values + COUNT, memory[0], BYTES);
	check(!copied || !memcmp(values, values + COUNT, BYTES), "memory came back changed");
	for (size_t i = 0; i < 3; i++)
		if (memory[i])
			CALL(cuMemFree, memory[i]);
	free(values);
}

static void driver(void)
{
	CUcontext context;
	CUdevice device;
	size_t limit;

	if (CALL(cuInit, 0))
		return;
	CALL(cuDeviceGet, &device, 0);
	device_facts(device);
	if (CALL(cuCtxCreate, &context, NULL, 0, device))
		return;
	CALL(cuCtxGetLimit, &limit, CU_LIMIT_PRINTF_FIFO_SIZE);
	work();
	CALL(cuCtxDestroy, context);
}

/* The runtime, by its symbols: it is there in two versions. */
static void runtime(void *library)
{
	static unsigned char properties[PROPERTIES];
	int (*get_properties)(void *, int) =
		(int (*)(void *, int))dlsym(library, "cudaGetDeviceProperties");
	int (*allocate)(void **, size_t) = (int (*)(void **, size_t))dlsym(library, "cudaMalloc");
	int (*copy)(void *, const void *, size_t, int) =
		(int (*)(void *, const void *, size_t, int))dlsym(library, "cudaMemcpy");
	int (*release)(void *) = (int (*)(void *))dlsym(library, "cudaFree");
	int (*wait)(void) = (int (*)(void))dlsym(library, "cudaDeviceSynchronize");
	const char *(*text)(int) = (const char *(*)(int))dlsym(library, "cudaGetErrorString");
	void *memory;
	char byte = 1;
	int status;

	if (!get_properties || !allocate || !copy || !release || !wait || !text)
		return;
	say("cudaGetDeviceProperties", get_properties(properties, 0));
	status = say("cudaMalloc", allocate(&memory, sizeof(byte)));
	check(text(status) != NULL, "no text for error %d", status);
	if (status)
		return;
	say("cudaMemcpy", copy(memory, &byte, sizeof(byte), 1));
	say("cudaDeviceSynchronize", wait());
	say("cudaFree", release(memory));
}

int main(void)
{
	void *library = dlopen("libcudart.so.13", RTLD_NOW);
	char path[256];
	unsigned int seconds;

	nvml = dlopen("libnvidia-ml.so.1", RTLD_NOW);
	if (!library || !nvml) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
	while (scanf("%u %255s", &seconds, path) == 2) {
		int status = 0;
		pid_t child = fork();

		if (child < 0) {
			perror("fork");
			return 1;
		}
		if (!child) {
			alarm(seconds);
			setvbuf(stdout, NULL, _IOLBF, 0);
			if (strcmp(path, "-")) {
				setenv("VGPU_STUB_SOCKET", path, 1);
			} else {
				unsetenv("VGPU_STUB_SOCKET");
				node();
			}
			management();
			driver();
			runtime(library);
			return 0;
		}
		waitpid(child, &status, 0);
		if (WIFSIGNALED(status))
			printf("end signal %d\n", WTERMSIG(status));
		else
			printf("end exit %d\n", WEXITSTATUS(status));
		fflush(stdout);
	}
	return 0;
}
