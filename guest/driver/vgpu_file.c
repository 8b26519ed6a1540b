// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/vgpuN: one channel for each file that is open for writing. The interface is
 * described in vgpu_stub_uapi.h.
 */
#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/uaccess.h>

#include <asm/barrier.h>

#include "vgpu.h"

static int vgpu_open(struct inode *inode, struct file *file)
{
	struct vgpu_device *vgpu = container_of(inode->i_cdev, struct vgpu_device, cdev);
	struct vgpu_client *client;

	if (!(file->f_mode & FMODE_WRITE)) { /* a monitor: no channel */
		file->private_data = vgpu;
		/* Of the same module, on which the file has a reference already. */
		file->f_op = &vgpu_monitor_operations;
		return nonseekable_open(inode, file);
	}
	client = vgpu_client_create(vgpu, file->f_mapping->host);
	if (IS_ERR(client))
		return PTR_ERR(client);
	file->private_data = client;
	return nonseekable_open(inode, file);
}

static int vgpu_release(struct inode *inode, struct file *file)
{
	vgpu_client_close(file->private_data);
	return 0;
}

static int vgpu_ioctl_channel_info(struct vgpu_client *client, void __user *argument)
{
	const struct vgpu_layout *layout = &client->vgpu->layout;
	struct vgpu_ioctl_channel_info info = {
		.abi_version = VGPU_ABI_VERSION,
		.channel = client->channel,
		.channel_bytes = layout->stride,
		.info_bytes = PAGE_ALIGN(sizeof(struct vgpu_device_info)),
		.sq_entries = layout->sq_entries,
		.cq_entries = layout->cq_entries,
	};

	return copy_to_user(argument, &info, sizeof(info)) ? -EFAULT : 0;
}

static int vgpu_ioctl_register(struct vgpu_client *client, void __user *argument)
{
	struct vgpu_registration *registration;
	struct vgpu_ioctl_register request;
	int id;

	if (copy_from_user(&request, argument, sizeof(request)))
		return -EFAULT;
	registration = vgpu_memory_pin(request.address, request.length, request.access);
	if (IS_ERR(registration))
		return PTR_ERR(registration);
	id = vgpu_client_register(client, registration);
	if (id < 0)
		return id;
	request.registration = id;
	if (copy_to_user(argument, &request, sizeof(request))) {
		vgpu_client_unregister(client, id);
		return -EFAULT;
	}
	return 0;
}

static int vgpu_ioctl_unregister(struct vgpu_client *client, void __user *argument)
{
	struct vgpu_ioctl_unregister request;

	if (copy_from_user(&request, argument, sizeof(request)))
		return -EFAULT;
	if (request.reserved)
		return -EINVAL;
	return vgpu_client_unregister(client, request.registration);
}

static int vgpu_ioctl_doorbell(struct vgpu_client *client)
{
	int section;

	if (!vgpu_client_enter(client, &section))
		return vgpu_client_error(client);
	vgpu_ring_doorbell(client->vgpu, client->channel);
	vgpu_exit(client->vgpu, section);
	return 0;
}

/* Whether a wait is over, and with what result. Does not sleep. */
static bool vgpu_wait_over(struct vgpu_client *client, u64 seen, int *result)
{
	u64 tail;
	u32 state;
	int section;

	if (!vgpu_client_enter(client, &section)) {
		*result = vgpu_client_error(client);
		return true;
	}
	state = READ_ONCE(client->control->state);
	tail = virt_load_acquire(&client->control->cq_tail); /* the caller reads entries next */
	vgpu_exit(client->vgpu, section);
	*result = tail != seen ? 0 : -EIO;
	return tail != seen || state != VGPU_CHANNEL_READY;
}

/* Waits in steps of a second, because interrupts are hints. */
static int vgpu_ioctl_wait(struct vgpu_client *client, void __user *argument)
{
	struct vgpu_ioctl_wait request;
	ktime_t end, left;
	int result, err;

	if (copy_from_user(&request, argument, sizeof(request)))
		return -EFAULT;
	end = ktime_add_safe(ktime_get(), ns_to_ktime(min_t(u64, request.timeout_ns, KTIME_MAX)));
	for (;;) {
		left = ktime_sub(end, ktime_get());
		if (left <= 0)
			return vgpu_wait_over(client, request.cq_tail, &result) ? result
										: -ETIMEDOUT;
		left = min_t(ktime_t, left, NSEC_PER_SEC);
		err = wait_event_interruptible_hrtimeout(client->vector->wait,
							 vgpu_wait_over(client, request.cq_tail,
									&result),
							 left);
		if (!err)
			return result;
		if (err != -ETIME)
			return -EINTR;
	}
}

static long vgpu_ioctl(struct file *file, unsigned int command, unsigned long value)
{
	struct vgpu_client *client = file->private_data;
	void __user *argument = (void __user *)value;

	switch (command) {
	case VGPU_IOCTL_CHANNEL_INFO:
		return vgpu_ioctl_channel_info(client, argument);
	case VGPU_IOCTL_REGISTER:
		return vgpu_ioctl_register(client, argument);
	case VGPU_IOCTL_UNREGISTER:
		return vgpu_ioctl_unregister(client, argument);
	case VGPU_IOCTL_DOORBELL:
		return vgpu_ioctl_doorbell(client);
	case VGPU_IOCTL_WAIT:
		return vgpu_ioctl_wait(client, argument);
	default:
		return -ENOTTY;
	}
}

/* Asks for an interrupt itself, so that select() works for callers that know nothing of it. */
static __poll_t vgpu_poll(struct file *file, poll_table *table)
{
	struct vgpu_client *client = file->private_data;
	struct vgpu_channel_control *control = client->control;
	__poll_t events = 0;
	int section;

	poll_wait(file, &client->vector->wait, table);
	if (!vgpu_client_enter(client, &section))
		return EPOLLERR | EPOLLHUP;
	WRITE_ONCE(control->cq_waiting, 1);
	virt_mb(); /* the request is visible before cq_tail is read */
	if (READ_ONCE(control->cq_tail) != READ_ONCE(control->cq_head))
		events |= EPOLLIN | EPOLLRDNORM;
	if (READ_ONCE(control->state) != VGPU_CHANNEL_READY)
		events |= EPOLLERR | EPOLLHUP;
	vgpu_exit(client->vgpu, section);
	return events;
}

const struct file_operations vgpu_file_operations = {
	.owner = THIS_MODULE,
	.open = vgpu_open,
	.release = vgpu_release,
	.unlocked_ioctl = vgpu_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = vgpu_mmap,
	.poll = vgpu_poll,
};
