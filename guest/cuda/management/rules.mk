# libnvidia-ml.so.1: NVML. It shares the way to the device with libcuda, not its channel.

MANAGEMENT_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard management/*.c) \
	driver/device_info.c driver/socket_device.c driver/vfio_user.c)
LIBRARIES_MADE += $(BUILD)/libnvidia-ml.so

$(BUILD)/libnvidia-ml.so.1: $(MANAGEMENT_OBJECTS) generated/libnvidia-ml.so.1.map
	$(CC) -shared $(CFLAGS) $(LDFLAGS) -pthread -Wl,-soname,libnvidia-ml.so.1 -Wl,-z,defs -Wl,-z,now \
		-Wl,--version-script=generated/libnvidia-ml.so.1.map $(MANAGEMENT_OBJECTS) -o $@

$(BUILD)/libnvidia-ml.so: $(BUILD)/libnvidia-ml.so.1
	ln -sf libnvidia-ml.so.1 $@

-include $(MANAGEMENT_OBJECTS:.o=.d)
