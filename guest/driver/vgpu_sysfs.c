// SPDX-License-Identifier: GPL-2.0-only
/* Attributes in /sys/bus/pci/devices/<address>/, one value each. */
#include <linux/kstrtox.h>
#include <linux/sysfs.h>

#include "vgpu.h"

static const char *const vgpu_state_names[] = {
	[VGPU_LIVE] = "live", [VGPU_RESETTING] = "resetting", [VGPU_FAILED] = "failed",
	[VGPU_DEAD] = "dead", [VGPU_GONE] = "gone",
};

static int vgpu_sysfs_read(struct device *dev, u32 offset, u32 *value)
{
	struct vgpu_device *vgpu = dev_get_drvdata(dev);
	int section;

	if (!vgpu_enter(vgpu, &section))
		return vgpu_state_error(vgpu);
	*value = vgpu_read(vgpu, offset);
	vgpu_exit(vgpu, section);
	return 0;
}

static ssize_t abi_version_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct vgpu_device *vgpu = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%u.%u\n", vgpu->layout.abi_version >> 16,
			  vgpu->layout.abi_version & 0xffff);
}
static DEVICE_ATTR_RO(abi_version);

static ssize_t state_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct vgpu_device *vgpu = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%s\n", vgpu_state_names[READ_ONCE(vgpu->state)]);
}
static DEVICE_ATTR_RO(state);

/* Register STATUS, in hexadecimal; fails while the device is not live. */
static ssize_t status_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	u32 value;
	int err = vgpu_sysfs_read(dev, VGPU_REG_STATUS, &value);

	return err ?: sysfs_emit(buf, "0x%x\n", value);
}
static DEVICE_ATTR_RO(status);

static ssize_t features_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	u32 low, high;
	int err = vgpu_sysfs_read(dev, VGPU_REG_FEATURES_LOW, &low)
			  ?: vgpu_sysfs_read(dev, VGPU_REG_FEATURES_HIGH, &high);

	return err ?: sysfs_emit(buf, "0x%llx\n", (u64)high << 32 | low);
}
static DEVICE_ATTR_RO(features);

static ssize_t reset_count_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	u32 value;
	int err = vgpu_sysfs_read(dev, VGPU_REG_RESET_COUNT, &value);

	return err ?: sysfs_emit(buf, "%u\n", value);
}
static DEVICE_ATTR_RO(reset_count);

static ssize_t access_count_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	u32 value;
	int err = vgpu_sysfs_read(dev, VGPU_REG_ACCESS_COUNT, &value);

	return err ?: sysfs_emit(buf, "%u\n", value);
}
static DEVICE_ATTR_RO(access_count);

/* The last device error since the device was started (the register itself is cleared). */
static ssize_t error_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct vgpu_device *vgpu = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%u\n", READ_ONCE(vgpu->last_error));
}
static DEVICE_ATTR_RO(error);

static ssize_t error_count_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct vgpu_device *vgpu = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%lld\n", atomic64_read(&vgpu->errors));
}
static DEVICE_ATTR_RO(error_count);

/* Channels that are in use, and how many there are, the admin channel not included. */
static ssize_t channels_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct vgpu_device *vgpu = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%d/%u\n", atomic_read(&vgpu->channels_used),
			  vgpu->layout.channels - 1);
}
static DEVICE_ATTR_RO(channels);

static ssize_t registered_bytes_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct vgpu_device *vgpu = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%lld\n", atomic64_read(&vgpu->registered_bytes));
}
static DEVICE_ATTR_RO(registered_bytes);

static ssize_t vectors_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct vgpu_device *vgpu = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%d\n", vgpu->vectors);
}
static DEVICE_ATTR_RO(vectors);

static ssize_t interrupts_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%llu\n", vgpu_irq_count(dev_get_drvdata(dev)));
}
static DEVICE_ATTR_RO(interrupts);

static ssize_t doorbells_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct vgpu_device *vgpu = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%lld\n", atomic64_read(&vgpu->doorbells));
}
static DEVICE_ATTR_RO(doorbells);

/* Has the device signal the vector that is written, to test the path of interrupts. */
static ssize_t interrupt_test_store(struct device *dev, struct device_attribute *attr,
				    const char *buf, size_t count)
{
	struct vgpu_device *vgpu = dev_get_drvdata(dev);
	unsigned int vector;
	int section, err;

	err = kstrtouint(buf, 0, &vector);
	if (err)
		return err;
	if (vector >= vgpu->vectors)
		return -EINVAL;
	if (!vgpu_enter(vgpu, &section))
		return vgpu_state_error(vgpu);
	vgpu_write(vgpu, VGPU_REG_INTERRUPT_TEST, vector);
	vgpu_exit(vgpu, section);
	return count;
}
static DEVICE_ATTR_WO(interrupt_test);

static struct attribute *vgpu_sysfs_attrs[] = {
	&dev_attr_abi_version.attr,
	&dev_attr_state.attr,
	&dev_attr_status.attr,
	&dev_attr_features.attr,
	&dev_attr_reset_count.attr,
	&dev_attr_access_count.attr,
	&dev_attr_error.attr,
	&dev_attr_error_count.attr,
	&dev_attr_channels.attr,
	&dev_attr_registered_bytes.attr,
	&dev_attr_vectors.attr,
	&dev_attr_interrupts.attr,
	&dev_attr_doorbells.attr,
	&dev_attr_interrupt_test.attr,
	NULL,
};

static const struct attribute_group vgpu_sysfs_group = {
	.attrs = vgpu_sysfs_attrs,
};

const struct attribute_group *vgpu_sysfs_groups[] = {
	&vgpu_sysfs_group,
	NULL,
};
