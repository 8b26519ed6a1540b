// SPDX-License-Identifier: GPL-2.0-only
/*
 * Life of the hardware: identify, start, stop, restart, and the watchdog that
 * notices a device that stopped on its own.
 */
#include <linux/delay.h>
#include <linux/iopoll.h>
#include <linux/jiffies.h>

#include "vgpu.h"

#define VGPU_RESET_TIMEOUT_US  (2 * USEC_PER_SEC)
#define VGPU_ENABLE_TIMEOUT_US (5 * USEC_PER_SEC)
#define VGPU_POLL_US	       1000
#define VGPU_WATCHDOG_PERIOD   HZ
#define VGPU_MAJOR(version)    ((version) >> 16)
#define VGPU_MINOR(version)    ((version) & 0xffff)

/* Why vgpu_enter() refused. */
int vgpu_state_error(struct vgpu_device *vgpu)
{
	return READ_ONCE(vgpu->state) == VGPU_GONE ? -ENODEV : -EIO;
}

static int vgpu_read_layout(struct vgpu_device *vgpu, struct vgpu_layout *layout)
{
	struct device *dev = &vgpu->pdev->dev;
	u64 size = pci_resource_len(vgpu->pdev, VGPU_SHARED_BAR);

	layout->channels = min_t(u32, vgpu_read(vgpu, VGPU_REG_CHANNEL_COUNT), VGPU_CHANNEL_LIMIT);
	layout->base = vgpu_read(vgpu, VGPU_REG_CHANNEL_BASE);
	layout->stride = vgpu_read(vgpu, VGPU_REG_CHANNEL_STRIDE);
	layout->sq_entries = vgpu_read(vgpu, VGPU_REG_SQ_ENTRIES);
	layout->cq_entries = vgpu_read(vgpu, VGPU_REG_CQ_ENTRIES);

	if (layout->channels < 2 || !PAGE_ALIGNED(layout->base) || !PAGE_ALIGNED(layout->stride) ||
	    layout->base < PAGE_ALIGN(sizeof(struct vgpu_device_info)) ||
	    layout->base + (u64)layout->channels * layout->stride > size) {
		dev_err(dev, "%u channels of 0x%x bytes at 0x%x do not fit BAR2 of 0x%llx bytes\n",
			layout->channels, layout->stride, layout->base, size);
		return -EINVAL;
	}
	if (!is_power_of_2(layout->sq_entries) || !is_power_of_2(layout->cq_entries) ||
	    VGPU_SQ_OFFSET + (u64)layout->sq_entries * VGPU_SLOT_BYTES > layout->stride ||
	    VGPU_CQ_OFFSET + (u64)layout->cq_entries * VGPU_SLOT_BYTES > VGPU_SQ_OFFSET) {
		dev_err(dev,
			"rings of %u slots and %u completions do not fit a channel of 0x%x bytes\n",
			layout->sq_entries, layout->cq_entries, layout->stride);
		return -EINVAL;
	}
	return 0;
}

/* Reads what the device is; changes nothing. */
int vgpu_identify(struct vgpu_device *vgpu)
{
	struct device *dev = &vgpu->pdev->dev;
	u32 magic = vgpu_read(vgpu, VGPU_REG_MAGIC);
	u32 version = vgpu_read(vgpu, VGPU_REG_ABI_VERSION);

	if (magic != VGPU_MAGIC) {
		dev_err(dev, "magic is 0x%08x, expected 0x%08x: no VGPU-STUB device\n", magic,
			VGPU_MAGIC);
		return -ENODEV;
	}
	if (VGPU_MAJOR(version) != VGPU_ABI_MAJOR || VGPU_MINOR(version) < VGPU_ABI_MINOR) {
		dev_err(dev, "device has ABI %u.%u, driver needs %u.%u: update the older one\n",
			VGPU_MAJOR(version), VGPU_MINOR(version), VGPU_ABI_MAJOR, VGPU_ABI_MINOR);
		return -EPROTONOSUPPORT;
	}
	vgpu->layout.abi_version = version;
	return vgpu_read_layout(vgpu, &vgpu->layout);
}

/* Resets the hardware; 0 only when the device has shown that it did. */
static int vgpu_reset_hardware(struct vgpu_device *vgpu)
{
	u32 count, status;
	int err;

	if (vgpu_read(vgpu, VGPU_REG_MAGIC) != VGPU_MAGIC)
		return -ENODEV;
	count = vgpu_read(vgpu, VGPU_REG_RESET_COUNT);
	vgpu_write(vgpu, VGPU_REG_CONTROL, VGPU_CONTROL_RESET);
	err = read_poll_timeout(vgpu_read, status,
				status == VGPU_ALL_ONES ||
					((status & (VGPU_STATUS_READY | VGPU_STATUS_ENABLED)) ==
					 VGPU_STATUS_READY),
				VGPU_POLL_US, VGPU_RESET_TIMEOUT_US, false, vgpu, VGPU_REG_STATUS);
	if (err)
		return err;
	if (status == VGPU_ALL_ONES)
		return -ENODEV;
	return vgpu_read(vgpu, VGPU_REG_RESET_COUNT) == count ? -EIO : 0;
}

/* Keeps a copy of the device information, which outlives the device for those who mapped it. */
static void vgpu_copy_info(struct vgpu_device *vgpu)
{
	memcpy(page_address(vgpu->info), vgpu->shared + VGPU_INFO_OFFSET,
	       sizeof(struct vgpu_device_info));
}

static int vgpu_enable(struct vgpu_device *vgpu)
{
	struct device *dev = &vgpu->pdev->dev;
	u32 status;
	int err;

	vgpu_write(vgpu, VGPU_REG_GUEST_ABI_VERSION, VGPU_ABI_VERSION);
	vgpu_write(vgpu, VGPU_REG_CONTROL, VGPU_CONTROL_ENABLE);
	err = read_poll_timeout(vgpu_read, status,
				status & (VGPU_STATUS_ENABLED | VGPU_STATUS_ABI_REFUSED),
				VGPU_POLL_US, VGPU_ENABLE_TIMEOUT_US, false, vgpu, VGPU_REG_STATUS);
	if (status == VGPU_ALL_ONES)
		return -ENODEV;
	if (err) {
		dev_err(dev, "device does not start, status 0x%x\n", status);
		return err;
	}
	if (status & VGPU_STATUS_ABI_REFUSED) {
		dev_err(dev,
			"device with ABI %u.%u refused the driver's %u.%u: update the older one\n",
			VGPU_MAJOR(vgpu->layout.abi_version), VGPU_MINOR(vgpu->layout.abi_version),
			VGPU_ABI_MAJOR, VGPU_ABI_MINOR);
		return -EPROTONOSUPPORT;
	}
	return 0;
}

/* Brings the device from any state to live. The caller holds reset_lock. */
static int vgpu_start_locked(struct vgpu_device *vgpu)
{
	int err;

	lockdep_assert_held(&vgpu->reset_lock);
	err = vgpu_reset_hardware(vgpu);
	if (err) {
		dev_err(&vgpu->pdev->dev, "reset failed: %d\n", err);
		goto fail;
	}
	WRITE_ONCE(vgpu->epoch, vgpu->epoch + 1);
	vgpu_copy_info(vgpu);
	vgpu_admin_start(vgpu);
	err = vgpu_enable(vgpu);
	if (err) {
		vgpu_admin_stop(vgpu);
		goto fail;
	}
	vgpu->last_error = VGPU_DEVICE_ERROR_NONE;
	smp_store_release(&vgpu->state, VGPU_LIVE); /* after all that vgpu_enter() promises */
	return 0;
fail:
	WRITE_ONCE(vgpu->state, err == -ENODEV ? VGPU_GONE : VGPU_DEAD);
	return err;
}

int vgpu_start(struct vgpu_device *vgpu)
{
	int err;

	mutex_lock(&vgpu->reset_lock);
	err = vgpu_start_locked(vgpu);
	mutex_unlock(&vgpu->reset_lock);
	return err;
}

static void vgpu_bury_all(struct vgpu_device *vgpu)
{
	struct vgpu_client *client;
	u32 channel;

	for (channel = 1; channel < vgpu->layout.channels; channel++) {
		client = vgpu_client_get(vgpu, channel);
		if (client) {
			vgpu_client_bury(client);
			vgpu_client_put(client);
		}
	}
}

/*
 * Stops the device in a state other than live, for good as far as the present
 * channels are concerned. The caller holds reset_lock, and calls vgpu_reap()
 * once it has released it.
 */
static void vgpu_stop_locked(struct vgpu_device *vgpu, enum vgpu_state state)
{
	bool live = vgpu->state == VGPU_LIVE;
	int err;

	lockdep_assert_held(&vgpu->reset_lock);
	WRITE_ONCE(vgpu->state, state);
	if (!live)
		return;
	synchronize_srcu(&vgpu->srcu);
	vgpu_admin_stop(vgpu);
	vgpu_bury_all(vgpu);
	err = vgpu_reset_hardware(vgpu);
	if (!err)
		WRITE_ONCE(vgpu->epoch, vgpu->epoch + 1);
	else
		dev_err(&vgpu->pdev->dev, "reset failed: %d; memory in use stays pinned\n", err);
	vgpu_admin_cancel(vgpu);
	vgpu_wake_all(vgpu);
}

/*
 * Stops a device that does not work as it should, unless somebody else has done
 * so since `epoch`, and has it restarted.
 */
void vgpu_fail(struct vgpu_device *vgpu, u32 epoch, const char *reason)
{
	mutex_lock(&vgpu->reset_lock);
	if (vgpu->state == VGPU_LIVE && vgpu->epoch == epoch) {
		bool present = pci_device_is_present(vgpu->pdev);

		dev_err(&vgpu->pdev->dev, "%s; %s\n", reason,
			present ? "resetting the device" : "the device is gone");
		vgpu_stop_locked(vgpu, present ? VGPU_FAILED : VGPU_GONE);
		queue_work(vgpu->workqueue, &vgpu->restart_work);
	}
	mutex_unlock(&vgpu->reset_lock);
}

/* Takes back the memory of dead channels, then restarts a device that failed. */
void vgpu_restart_work(struct work_struct *work)
{
	struct vgpu_device *vgpu = container_of(work, struct vgpu_device, restart_work);

	vgpu_reap(vgpu);
	mutex_lock(&vgpu->reset_lock);
	if (vgpu->state == VGPU_FAILED && !vgpu_start_locked(vgpu))
		dev_info(&vgpu->pdev->dev, "restarted\n");
	mutex_unlock(&vgpu->reset_lock);
	vgpu_reap(vgpu);
}

/* Stops the device until vgpu_start(), and takes back the memory of its channels. */
void vgpu_stop(struct vgpu_device *vgpu, enum vgpu_state state)
{
	mutex_lock(&vgpu->reset_lock);
	vgpu_stop_locked(vgpu, state);
	mutex_unlock(&vgpu->reset_lock);
	vgpu_reap(vgpu);
}

/* Called by the PCI core before it resets the function, for example through sysfs. */
void vgpu_pci_reset_prepare(struct pci_dev *pdev)
{
	vgpu_stop(pci_get_drvdata(pdev), VGPU_RESETTING);
}

void vgpu_pci_reset_done(struct pci_dev *pdev)
{
	struct vgpu_device *vgpu = pci_get_drvdata(pdev);

	if (!vgpu_start(vgpu))
		dev_info(&pdev->dev, "reset, ready for new channels\n");
	vgpu_reap(vgpu);
}

/* Stops the device for good; nothing of it runs afterwards. */
void vgpu_shut_down(struct vgpu_device *vgpu)
{
	mutex_lock(&vgpu->reset_lock);
	vgpu->removed = true;
	vgpu_stop_locked(vgpu, VGPU_GONE);
	mutex_unlock(&vgpu->reset_lock);
	cancel_delayed_work_sync(&vgpu->watchdog);
	cancel_work_sync(&vgpu->restart_work);
	vgpu_reap(vgpu);
	vgpu_memory_abandon_orphans(vgpu);
}

/*
 * Runs every second while there are channels: an absent device raises no
 * interrupt, and those that it does raise are hints.
 */
void vgpu_watchdog_work(struct work_struct *work)
{
	struct vgpu_device *vgpu =
		container_of(to_delayed_work(work), struct vgpu_device, watchdog);
	const char *reason = NULL;
	u32 status, epoch;
	int section;

	vgpu_admin_drain(vgpu);
	if (!vgpu_enter(vgpu, &section))
		return;
	epoch = vgpu->epoch;
	status = vgpu_read(vgpu, VGPU_REG_STATUS);
	if (status == VGPU_ALL_ONES)
		reason = "registers read all ones";
	else if (!(status & VGPU_STATUS_ENABLED))
		reason = "device was disabled or reset by somebody else";
	else if (!READ_ONCE(vgpu->admin.running))
		reason = "admin ring is inconsistent";
	else if (atomic_read(&vgpu->channels_used))
		queue_delayed_work(vgpu->workqueue, &vgpu->watchdog, VGPU_WATCHDOG_PERIOD);
	vgpu_exit(vgpu, section);

	if (reason) {
		vgpu_fail(vgpu, epoch, reason);
	} else {
		if (status & VGPU_STATUS_ERROR)
			vgpu_check_error(vgpu);
		vgpu_wake_all(vgpu);
	}
}
