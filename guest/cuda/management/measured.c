// SPDX-License-Identifier: MIT
/*
 * Values that the host measures. What this device does not have is
 * NVML_ERROR_NOT_SUPPORTED, never a number.
 */
#include "management.h"

nvmlReturn_t vgpu_nvml_measure(const char *symbol, nvmlDevice_t device, const void *out,
			       uint64_t known, struct vgpu_measurement *measurement)
{
	nvmlReturn_t status = vgpu_nvml_check_device(device, out);

	if (status == NVML_SUCCESS)
		status = vgpu_access_measure(measurement);
	if (status == NVML_SUCCESS && (measurement->status.known & known) != known)
		status = vgpu_nvml_refuse(symbol);
	return status;
}

/* A function that gives one measured value. */
#define MEASURED(symbol, type, member, known_bit)                                                  \
	NVML_API nvmlReturn_t symbol(nvmlDevice_t device, type *value)                             \
	{                                                                                          \
		struct vgpu_measurement found;                                                     \
		nvmlReturn_t status =                                                              \
			vgpu_nvml_measure(__func__, device, value, known_bit, &found);             \
                                                                                                   \
		if (status == NVML_SUCCESS)                                                        \
			*value = found.status.member;                                              \
		return status;                                                                     \
	}

MEASURED(nvmlDeviceGetBrand, unsigned int, brand, VGPU_KNOWN_BRAND)
MEASURED(nvmlDeviceGetArchitecture, unsigned int, architecture, VGPU_KNOWN_ARCHITECTURE)
MEASURED(nvmlDeviceGetNumGpuCores, unsigned int, cores, VGPU_KNOWN_CORES)
MEASURED(nvmlDeviceGetMemoryBusWidth, unsigned int, memory_bus_bits, VGPU_KNOWN_MEMORY_BUS_BITS)
MEASURED(nvmlDeviceGetPersistenceMode, unsigned int, persistence_mode, VGPU_KNOWN_PERSISTENCE_MODE)
MEASURED(nvmlDeviceGetFanSpeed, unsigned int, fan_percent, VGPU_KNOWN_FAN_PERCENT)
MEASURED(nvmlDeviceGetPowerUsage, unsigned int, power_mw, VGPU_KNOWN_POWER_MW)
MEASURED(nvmlDeviceGetPowerManagementLimit, unsigned int, power_limit_mw, VGPU_KNOWN_POWER_LIMIT_MW)
MEASURED(nvmlDeviceGetPowerManagementDefaultLimit, unsigned int, power_default_limit_mw,
	 VGPU_KNOWN_POWER_DEFAULT_LIMIT_MW)
MEASURED(nvmlDeviceGetEnforcedPowerLimit, unsigned int, power_enforced_limit_mw,
	 VGPU_KNOWN_POWER_ENFORCED_LIMIT_MW)
MEASURED(nvmlDeviceGetTotalEnergyConsumption, unsigned long long, energy_mj, VGPU_KNOWN_ENERGY_MJ)
MEASURED(nvmlDeviceGetPerformanceState, unsigned int, performance_state,
	 VGPU_KNOWN_PERFORMANCE_STATE)
MEASURED(nvmlDeviceGetPowerState, unsigned int, performance_state, VGPU_KNOWN_PERFORMANCE_STATE)
MEASURED(nvmlDeviceGetCurrentClocksEventReasons, unsigned long long, throttle_reasons,
	 VGPU_KNOWN_THROTTLE_REASONS)
MEASURED(nvmlDeviceGetCurrentClocksThrottleReasons, unsigned long long, throttle_reasons,
	 VGPU_KNOWN_THROTTLE_REASONS)
MEASURED(nvmlDeviceGetCurrPcieLinkGeneration, unsigned int, pcie_generation,
	 VGPU_KNOWN_PCIE_GENERATION)
MEASURED(nvmlDeviceGetMaxPcieLinkGeneration, unsigned int, pcie_generation_max,
	 VGPU_KNOWN_PCIE_GENERATION_MAX)
MEASURED(nvmlDeviceGetCurrPcieLinkWidth, unsigned int, pcie_width, VGPU_KNOWN_PCIE_WIDTH)
MEASURED(nvmlDeviceGetMaxPcieLinkWidth, unsigned int, pcie_width_max, VGPU_KNOWN_PCIE_WIDTH_MAX)
MEASURED(nvmlDeviceGetPcieReplayCounter, unsigned int, pcie_replays, VGPU_KNOWN_PCIE_REPLAYS)

/* A function that gives two. */
#define MEASURED_PAIR(symbol, member1, known1, member2, known2)                                    \
	NVML_API nvmlReturn_t symbol(nvmlDevice_t device, unsigned int *first,                     \
				     unsigned int *second)                                         \
	{                                                                                          \
		struct vgpu_measurement found;                                                     \
		nvmlReturn_t status =                                                              \
			vgpu_nvml_measure(__func__, device, first, (known1) | (known2), &found);   \
                                                                                                   \
		if (status == NVML_SUCCESS && !second)                                             \
			status = NVML_ERROR_INVALID_ARGUMENT;                                      \
		if (status == NVML_SUCCESS) {                                                      \
			*first = found.status.member1;                                             \
			*second = found.status.member2;                                            \
		}                                                                                  \
		return status;                                                                     \
	}

MEASURED_PAIR(nvmlDeviceGetEccMode, ecc_mode, VGPU_KNOWN_ECC_MODE, ecc_mode_pending,
	      VGPU_KNOWN_ECC_MODE_PENDING)
MEASURED_PAIR(nvmlDeviceGetMigMode, mig_mode, VGPU_KNOWN_MIG_MODE, mig_mode_pending,
	      VGPU_KNOWN_MIG_MODE_PENDING)
MEASURED_PAIR(nvmlDeviceGetEncoderUtilization, encoder_percent, VGPU_KNOWN_ENCODER_PERCENT,
	      encoder_period_us, VGPU_KNOWN_ENCODER_PERIOD_US)
MEASURED_PAIR(nvmlDeviceGetDecoderUtilization, decoder_percent, VGPU_KNOWN_DECODER_PERCENT,
	      decoder_period_us, VGPU_KNOWN_DECODER_PERIOD_US)
MEASURED_PAIR(nvmlDeviceGetPowerManagementLimitConstraints, power_min_limit_mw,
	      VGPU_KNOWN_POWER_MIN_LIMIT_MW, power_max_limit_mw, VGPU_KNOWN_POWER_MAX_LIMIT_MW)

#define KNOWN_MEMORY (VGPU_KNOWN_MEMORY_TOTAL | VGPU_KNOWN_MEMORY_USED | VGPU_KNOWN_MEMORY_FREE)

NVML_API nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
	struct vgpu_measurement found;
	nvmlReturn_t status = vgpu_nvml_measure(__func__, device, memory, KNOWN_MEMORY, &found);

	if (status != NVML_SUCCESS)
		return status;
	/* Here, unlike in version 2, what is reserved counts as used. */
	*memory = (nvmlMemory_t){
		.total = found.status.memory_total,
		.free = found.status.memory_free,
		.used = found.status.memory_used + found.status.memory_reserved,
	};
	return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
	struct vgpu_measurement found;
	nvmlReturn_t status = vgpu_nvml_check_device(device, memory);

	if (status != NVML_SUCCESS)
		return status;
	if (memory->version != NVML_VERSION(*memory, 2))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	status = vgpu_nvml_measure(__func__, device, memory,
				   KNOWN_MEMORY | VGPU_KNOWN_MEMORY_RESERVED, &found);
	if (status != NVML_SUCCESS)
		return status;
	memory->total = found.status.memory_total;
	memory->reserved = found.status.memory_reserved;
	memory->free = found.status.memory_free;
	memory->used = found.status.memory_used;
	return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlBAR1Memory_t *memory)
{
	struct vgpu_measurement found;
	nvmlReturn_t status = vgpu_nvml_measure(
		__func__, device, memory, VGPU_KNOWN_BAR1_TOTAL | VGPU_KNOWN_BAR1_USED, &found);

	if (status != NVML_SUCCESS)
		return status;
	*memory = (nvmlBAR1Memory_t){
		.bar1Total = found.status.bar1_total,
		.bar1Free = found.status.bar1_total - found.status.bar1_used,
		.bar1Used = found.status.bar1_used,
	};
	return NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *use)
{
	struct vgpu_measurement found;
	nvmlReturn_t status = vgpu_nvml_measure(
		__func__, device, use, VGPU_KNOWN_GPU_PERCENT | VGPU_KNOWN_MEMORY_PERCENT, &found);

	if (status == NVML_SUCCESS)
		*use = (nvmlUtilization_t){ found.status.gpu_percent, found.status.memory_percent };
	return status;
}

NVML_API nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, unsigned int sensor,
					       unsigned int *temperature)
{
	struct vgpu_measurement found;
	nvmlReturn_t status = vgpu_nvml_check_device(device, temperature);

	if (status == NVML_SUCCESS && sensor != NVML_TEMPERATURE_GPU)
		status = NVML_ERROR_INVALID_ARGUMENT;
	if (status == NVML_SUCCESS)
		status = vgpu_nvml_measure(__func__, device, temperature, VGPU_KNOWN_TEMPERATURE_C,
					   &found);
	if (status == NVML_SUCCESS)
		*temperature = found.status.temperature_c;
	return status;
}

NVML_API nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *temperature)
{
	unsigned int degrees;
	nvmlReturn_t status = vgpu_nvml_check_device(device, temperature);

	if (status != NVML_SUCCESS)
		return status;
	if (temperature->version != NVML_VERSION(*temperature, 1))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	status = nvmlDeviceGetTemperature(device, temperature->sensorType, &degrees);
	if (status == NVML_SUCCESS)
		temperature->temperature = (int)degrees;
	return status;
}

NVML_API nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, unsigned int kind,
							unsigned int *temperature)
{
	struct vgpu_measurement found;
	bool shutdown = kind == NVML_TEMPERATURE_THRESHOLD_SHUTDOWN;
	nvmlReturn_t status = vgpu_nvml_check_device(device, temperature);

	if (status != NVML_SUCCESS)
		return status;
	if (kind >= NVML_TEMPERATURE_THRESHOLD_COUNT)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (!shutdown && kind != NVML_TEMPERATURE_THRESHOLD_SLOWDOWN)
		return vgpu_nvml_refuse(__func__);
	status = vgpu_nvml_measure(__func__, device, temperature,
				   shutdown ? VGPU_KNOWN_TEMPERATURE_SHUTDOWN_C
					    : VGPU_KNOWN_TEMPERATURE_SLOWDOWN_C,
				   &found);
	if (status == NVML_SUCCESS)
		*temperature = shutdown ? found.status.temperature_shutdown_c
					: found.status.temperature_slowdown_c;
	return status;
}

NVML_API nvmlReturn_t nvmlDeviceGetFanSpeed_v2(nvmlDevice_t device, unsigned int fan,
					       unsigned int *percent)
{
	nvmlReturn_t status = vgpu_nvml_check_device(device, percent);

	if (status == NVML_SUCCESS && fan)
		return NVML_ERROR_INVALID_ARGUMENT;
	return status == NVML_SUCCESS ? nvmlDeviceGetFanSpeed(device, percent) : status;
}

static nvmlReturn_t measure_clock(const char *symbol, nvmlDevice_t device, unsigned int kind,
				  unsigned int *mhz, const uint64_t known[NVML_CLOCK_COUNT],
				  struct vgpu_measurement *found)
{
	nvmlReturn_t status = vgpu_nvml_check_device(device, mhz);

	if (status == NVML_SUCCESS && kind >= NVML_CLOCK_COUNT)
		status = NVML_ERROR_INVALID_ARGUMENT;
	if (status == NVML_SUCCESS)
		status = vgpu_nvml_measure(symbol, device, mhz, known[kind], found);
	return status;
}

NVML_API nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, unsigned int kind,
					     unsigned int *mhz)
{
	static const uint64_t known[NVML_CLOCK_COUNT] = {
		VGPU_KNOWN_CLOCK_GRAPHICS_MHZ,
		VGPU_KNOWN_CLOCK_SM_MHZ,
		VGPU_KNOWN_CLOCK_MEMORY_MHZ,
		VGPU_KNOWN_CLOCK_VIDEO_MHZ,
	};
	struct vgpu_measurement found;
	nvmlReturn_t status = measure_clock(__func__, device, kind, mhz, known, &found);

	if (status == NVML_SUCCESS)
		*mhz = (const unsigned int[]){
			found.status.clock_graphics_mhz,
			found.status.clock_sm_mhz,
			found.status.clock_memory_mhz,
			found.status.clock_video_mhz,
		}[kind];
	return status;
}

NVML_API nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, unsigned int kind,
						unsigned int *mhz)
{
	static const uint64_t known[NVML_CLOCK_COUNT] = {
		VGPU_KNOWN_CLOCK_GRAPHICS_MAX_MHZ,
		VGPU_KNOWN_CLOCK_SM_MAX_MHZ,
		VGPU_KNOWN_CLOCK_MEMORY_MAX_MHZ,
		VGPU_KNOWN_CLOCK_VIDEO_MAX_MHZ,
	};
	struct vgpu_measurement found;
	nvmlReturn_t status = measure_clock(__func__, device, kind, mhz, known, &found);

	if (status == NVML_SUCCESS)
		*mhz = (const unsigned int[]){
			found.status.clock_graphics_max_mhz,
			found.status.clock_sm_max_mhz,
			found.status.clock_memory_max_mhz,
			found.status.clock_video_max_mhz,
		}[kind];
	return status;
}

static nvmlReturn_t check_ecc(nvmlDevice_t device, unsigned int kind, unsigned int since,
			      const void *count)
{
	nvmlReturn_t status = vgpu_nvml_check_device(device, count);

	if (status != NVML_SUCCESS)
		return status;
	return kind > NVML_MEMORY_ERROR_TYPE_UNCORRECTED || since > NVML_AGGREGATE_ECC
		       ? NVML_ERROR_INVALID_ARGUMENT
		       : NVML_SUCCESS;
}

NVML_API nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, unsigned int kind,
						  unsigned int since, unsigned long long *count)
{
	static const uint64_t known[2][2] = {
		{ VGPU_KNOWN_ECC_VOLATILE_CORRECTED, VGPU_KNOWN_ECC_AGGREGATE_CORRECTED },
		{ VGPU_KNOWN_ECC_VOLATILE_UNCORRECTED, VGPU_KNOWN_ECC_AGGREGATE_UNCORRECTED },
	};
	struct vgpu_measurement found;
	nvmlReturn_t status = check_ecc(device, kind, since, count);

	if (status == NVML_SUCCESS)
		status = vgpu_nvml_measure(__func__, device, count, known[kind][since], &found);
	if (status == NVML_SUCCESS)
		*count = (const uint64_t[2][2]){
			{ found.status.ecc_volatile_corrected,
			  found.status.ecc_aggregate_corrected },
			{ found.status.ecc_volatile_uncorrected,
			  found.status.ecc_aggregate_uncorrected },
		}[kind][since];
	return status;
}

NVML_API nvmlReturn_t nvmlDeviceGetMemoryErrorCounter(nvmlDevice_t device, unsigned int kind,
						      unsigned int since, unsigned int location,
						      unsigned long long *count)
{
	static const uint64_t known[2][2] = {
		{ VGPU_KNOWN_ECC_MEMORY_VOLATILE_CORRECTED,
		  VGPU_KNOWN_ECC_MEMORY_AGGREGATE_CORRECTED },
		{ VGPU_KNOWN_ECC_MEMORY_VOLATILE_UNCORRECTED,
		  VGPU_KNOWN_ECC_MEMORY_AGGREGATE_UNCORRECTED },
	};
	struct vgpu_measurement found;
	nvmlReturn_t status = check_ecc(device, kind, since, count);

	if (status == NVML_SUCCESS && location >= NVML_MEMORY_LOCATION_COUNT)
		status = NVML_ERROR_INVALID_ARGUMENT;
	if (status == NVML_SUCCESS && location != NVML_MEMORY_LOCATION_DEVICE_MEMORY)
		status = vgpu_nvml_refuse(__func__);
	if (status == NVML_SUCCESS)
		status = vgpu_nvml_measure(__func__, device, count, known[kind][since], &found);
	if (status == NVML_SUCCESS)
		*count = (const uint64_t[2][2]){
			{ found.status.ecc_memory_volatile_corrected,
			  found.status.ecc_memory_aggregate_corrected },
			{ found.status.ecc_memory_volatile_uncorrected,
			  found.status.ecc_memory_aggregate_uncorrected },
		}[kind][since];
	return status;
}

NVML_API nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count,
					       nvmlFieldValue_t *values)
{
	nvmlReturn_t status = vgpu_nvml_check_device(device, values);

	if (status == NVML_SUCCESS && count <= 0)
		status = NVML_ERROR_INVALID_ARGUMENT;
	for (int i = 0; status == NVML_SUCCESS && i < count; i++)
		values[i].nvmlReturn = NVML_ERROR_NOT_SUPPORTED;
	return status;
}
