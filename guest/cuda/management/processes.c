// SPDX-License-Identifier: MIT
/* Processes that use the device: those that have a channel. */
#include <string.h>

#include "management.h"

static struct vgpu_device_process *find(struct vgpu_device_process *rows, unsigned int count,
					unsigned int pid)
{
	for (unsigned int i = 0; i < count; i++)
		if (rows[i].pid == pid)
			return &rows[i];
	return NULL;
}

static uint32_t sum(uint32_t a, uint32_t b)
{
	return a + b > 100 ? 100 : a + b;
}

/* A process with several channels is one row; returns how many rows are left. */
static unsigned int merge(struct vgpu_measurement *measurement)
{
	struct vgpu_device_process *rows = measurement->processes;
	unsigned int count = 0;

	for (unsigned int i = 0; i < measurement->status.process_count; i++) {
		struct vgpu_device_process *row = find(rows, count, rows[i].pid);

		if (!row) {
			rows[count++] = rows[i];
			continue;
		}
		row->memory_bytes += rows[i].memory_bytes;
		row->gpu_percent = sum(row->gpu_percent, rows[i].gpu_percent);
		row->memory_percent = sum(row->memory_percent, rows[i].memory_percent);
		row->encoder_percent = sum(row->encoder_percent, rows[i].encoder_percent);
		row->decoder_percent = sum(row->decoder_percent, rows[i].decoder_percent);
	}
	return count;
}

/* Room for `found` entries in the caller's array, whose size is *count. */
static nvmlReturn_t take_room(unsigned int *count, unsigned int found, const void *array)
{
	unsigned int room = *count;

	*count = found;
	if (found > room)
		return NVML_ERROR_INSUFFICIENT_SIZE;
	return found && !array ? NVML_ERROR_INVALID_ARGUMENT : NVML_SUCCESS;
}

static nvmlReturn_t compute_processes(const char *symbol, nvmlDevice_t device, unsigned int *count,
				      void *infos, size_t entry_bytes)
{
	struct vgpu_measurement measurement;
	unsigned int found;
	nvmlReturn_t status = vgpu_nvml_measure(symbol, device, count, 0, &measurement);

	if (status != NVML_SUCCESS)
		return status;
	found = merge(&measurement);
	status = take_room(count, found, infos);
	for (unsigned int i = 0; status == NVML_SUCCESS && i < found; i++) {
		nvmlProcessInfo_t info = {
			.pid = measurement.processes[i].pid,
			.usedGpuMemory = measurement.processes[i].memory_bytes,
			/* Not of a MIG instance. */
			.gpuInstanceId = UINT32_MAX,
			.computeInstanceId = UINT32_MAX,
		};

		memcpy((uint8_t *)infos + i * entry_bytes, &info, entry_bytes);
	}
	return status;
}

NVML_API nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device,
							      unsigned int *count,
							      nvmlProcessInfo_t *infos)
{
	return compute_processes(__func__, device, count, infos, sizeof(*infos));
}

NVML_API nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device,
							      unsigned int *count,
							      nvmlProcessInfo_t *infos)
{
	return compute_processes(__func__, device, count, infos, sizeof(*infos));
}

NVML_API nvmlReturn_t nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t device, unsigned int *count,
							   nvmlProcessInfo_v1_t *infos)
{
	return compute_processes(__func__, device, count, infos, sizeof(*infos));
}

/* The device draws nothing and has no MPS. */
static nvmlReturn_t none(nvmlDevice_t device, unsigned int *count)
{
	nvmlReturn_t status = vgpu_nvml_check_device(device, count);

	if (status == NVML_SUCCESS)
		*count = 0;
	return status;
}

#define NO_PROCESSES(symbol)                                                                       \
	NVML_API nvmlReturn_t symbol(nvmlDevice_t device, unsigned int *count, void *infos)        \
	{                                                                                          \
		(void)infos;                                                                       \
		return none(device, count);                                                        \
	}

NO_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses)
NO_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2)
NO_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3)
NO_PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses)
NO_PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v2)
NO_PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v3)

NVML_API nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device,
						      nvmlProcessUtilizationSample_t *samples,
						      unsigned int *count,
						      unsigned long long last_seen)
{
	struct vgpu_measurement measurement;
	unsigned int found;
	nvmlReturn_t status =
		vgpu_nvml_measure(__func__, device, count, VGPU_KNOWN_PROCESS_USE, &measurement);

	if (status != NVML_SUCCESS)
		return status;
	found = merge(&measurement);
	if (!found || measurement.status.time_us <= last_seen)
		return NVML_ERROR_NOT_FOUND;
	status = take_room(count, found, samples);
	for (unsigned int i = 0; status == NVML_SUCCESS && i < found; i++)
		samples[i] = (nvmlProcessUtilizationSample_t){
			.pid = measurement.processes[i].pid,
			.timeStamp = measurement.status.time_us,
			.smUtil = measurement.processes[i].gpu_percent,
			.memUtil = measurement.processes[i].memory_percent,
			.encUtil = measurement.processes[i].encoder_percent,
			.decUtil = measurement.processes[i].decoder_percent,
		};
	return status;
}
