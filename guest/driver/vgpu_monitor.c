// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/vgpuN opened read only: a monitor. It has no channel, so it costs the host
 * no worker, and it outlives resets. All monitors share one page into which the
 * device writes what it measured.
 */
#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/uaccess.h>

#include "vgpu.h"

int vgpu_status_alloc(struct vgpu_device *vgpu)
{
	static_assert(VGPU_STATUS_BYTES <= PAGE_SIZE);
	vgpu->status =
		dma_alloc_coherent(&vgpu->pdev->dev, PAGE_SIZE, &vgpu->status_address, GFP_KERNEL);
	return vgpu->status ? 0 : -ENOMEM;
}

/* Called once the device is shut down. */
void vgpu_status_free(struct vgpu_device *vgpu)
{
	mutex_lock(&vgpu->status_lock);
	/* Without an answer, and without a verified reset since, the device may still write. */
	if (vgpu->status_epoch && vgpu->status_epoch == vgpu->epoch)
		dev_err(&vgpu->pdev->dev, "the status page stays: the device could not be reset\n");
	else
		dma_free_coherent(&vgpu->pdev->dev, PAGE_SIZE, vgpu->status, vgpu->status_address);
	vgpu->status = NULL;
	mutex_unlock(&vgpu->status_lock);
}

static int vgpu_ioctl_device_status(struct vgpu_device *vgpu, void __user *argument)
{
	u32 epoch;
	int err;

	static_assert(sizeof(struct vgpu_ioctl_device_status) == VGPU_STATUS_BYTES);
	err = mutex_lock_killable(&vgpu->status_lock);
	if (err)
		return err;
	if (!vgpu->status) { /* the driver was unbound */
		err = -ENODEV;
		goto unlock;
	}
	err = vgpu_admin_device_status(vgpu, &epoch);
	if (err == -ETIMEDOUT || err == -ECANCELED || err == -EINTR) {
		/* The answer may still come, until the next reset. */
		vgpu->status_epoch = epoch;
		err = err == -EINTR ? err : -EIO;
	}
	if (!err && copy_to_user(argument, vgpu->status, VGPU_STATUS_BYTES))
		err = -EFAULT;
unlock:
	mutex_unlock(&vgpu->status_lock);
	return err;
}

static long vgpu_monitor_ioctl(struct file *file, unsigned int command, unsigned long value)
{
	if (command != VGPU_IOCTL_DEVICE_STATUS)
		return -ENOTTY;
	return vgpu_ioctl_device_status(file->private_data, (void __user *)value);
}

const struct file_operations vgpu_monitor_operations = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = vgpu_monitor_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = vgpu_monitor_mmap,
};
