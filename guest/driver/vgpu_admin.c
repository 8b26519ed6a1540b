// SPDX-License-Identifier: GPL-2.0-only
/*
 * The admin channel: one ring for the whole device, several commands in flight.
 * Each caller sleeps on a completion of its own, so that a command that takes
 * long holds up nobody else.
 */
#include <linux/completion.h>
#include <linux/jiffies.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>

#include <asm/barrier.h>

#include "vgpu.h"
#include "vgpu_stub_commands.h"

struct vgpu_admin_waiter {
	struct list_head node;
	struct completion done;
	u64 sequence;
	int status;
};

static struct vgpu_channel_control *vgpu_admin_control(struct vgpu_admin *admin)
{
	return admin->ring + VGPU_CONTROL_OFFSET;
}

void vgpu_admin_init(struct vgpu_device *vgpu)
{
	spin_lock_init(&vgpu->admin.lock);
	INIT_LIST_HEAD(&vgpu->admin.waiters);
}

/* Follows a reset, which zeroed the ring. */
void vgpu_admin_start(struct vgpu_device *vgpu)
{
	struct vgpu_admin *admin = &vgpu->admin;

	spin_lock_irq(&admin->lock);
	admin->ring = vgpu->shared + vgpu->layout.base;
	admin->sq_tail = 0;
	admin->cq_head = 0;
	admin->running = true;
	spin_unlock_irq(&admin->lock);
}

/* After this the interrupt handler leaves the ring alone. */
void vgpu_admin_stop(struct vgpu_device *vgpu)
{
	spin_lock_irq(&vgpu->admin.lock);
	vgpu->admin.running = false;
	spin_unlock_irq(&vgpu->admin.lock);
}

static void vgpu_admin_complete(struct vgpu_admin_waiter *waiter, int status)
{
	list_del_init(&waiter->node);
	waiter->status = status;
	complete(&waiter->done);
}

/* Fails the commands that a stopped device will not answer. */
void vgpu_admin_cancel(struct vgpu_device *vgpu)
{
	struct vgpu_admin_waiter *waiter, *next;

	spin_lock_irq(&vgpu->admin.lock);
	list_for_each_entry_safe(waiter, next, &vgpu->admin.waiters, node)
		vgpu_admin_complete(waiter, -ECANCELED);
	spin_unlock_irq(&vgpu->admin.lock);
}

/*
 * The status of a completion: 0 or a positive errno, which the device may get
 * wrong. Some mean something else to our callers, and those above EHWPOISON are
 * between parts of the kernel: user space, or signal handling, must not see them.
 */
static int vgpu_admin_errno(s32 status)
{
	if (status == ETIMEDOUT || status == ECANCELED || status == EINTR)
		return -EIO;
	return status >= 0 && status <= EHWPOISON ? -status : -EIO;
}

static void vgpu_admin_answer(struct vgpu_admin *admin, u64 sequence, s32 status)
{
	struct vgpu_admin_waiter *waiter;

	list_for_each_entry(waiter, &admin->waiters, node) {
		if (waiter->sequence == sequence) {
			vgpu_admin_complete(waiter, vgpu_admin_errno(status));
			return;
		}
	}
}

/*
 * Hands completions to those who wait for them; says whether there were any.
 * An index before what was taken or beyond what was submitted stops the admin
 * channel, and the watchdog resets the device.
 */
bool vgpu_admin_drain(struct vgpu_device *vgpu)
{
	struct vgpu_admin *admin = &vgpu->admin;
	struct vgpu_channel_control *control;
	struct vgpu_completion *ring, *entry;
	unsigned long flags;
	bool some = false;
	u64 tail;

	spin_lock_irqsave(&admin->lock, flags);
	if (!admin->running)
		goto out;
	control = vgpu_admin_control(admin);
	ring = admin->ring + VGPU_CQ_OFFSET;
	tail = virt_load_acquire(&control->cq_tail); /* before the entries are read */
	if (tail - admin->cq_head > admin->sq_tail - admin->cq_head) {
		dev_err_ratelimited(&vgpu->pdev->dev,
				    "admin completions from %llu to %llu of %llu: impossible\n",
				    admin->cq_head, tail, admin->sq_tail);
		admin->running = false;
		mod_delayed_work(vgpu->workqueue, &vgpu->watchdog, 0);
		goto out;
	}
	for (; admin->cq_head != tail; admin->cq_head++) {
		entry = &ring[admin->cq_head & (vgpu->layout.cq_entries - 1)];
		vgpu_admin_answer(admin, READ_ONCE(entry->sequence), READ_ONCE(entry->status));
		some = true;
	}
	if (some)
		virt_store_release(&control->cq_head, tail); /* after the entries were read */
out:
	spin_unlock_irqrestore(&admin->lock, flags);
	return some;
}

/* Puts a command of one slot into the ring; the caller has entered the device. */
static int vgpu_admin_submit(struct vgpu_device *vgpu, struct vgpu_command_header *command,
			     size_t bytes, struct vgpu_admin_waiter *waiter)
{
	struct vgpu_admin *admin = &vgpu->admin;
	struct vgpu_channel_control *control = vgpu_admin_control(admin);
	void *slot;

	init_completion(&waiter->done);
	INIT_LIST_HEAD(&waiter->node);
	spin_lock_irq(&admin->lock);
	if (!admin->running || admin->sq_tail - admin->cq_head >=
				       min(vgpu->layout.sq_entries, vgpu->layout.cq_entries)) {
		spin_unlock_irq(&admin->lock);
		mod_delayed_work(vgpu->workqueue, &vgpu->watchdog, 0); /* it finds out why */
		return -EIO;
	}
	waiter->sequence = admin->sq_tail;
	list_add_tail(&waiter->node, &admin->waiters);
	command->flags = VGPU_COMMAND_COMPLETE;
	command->sequence = waiter->sequence;
	slot = admin->ring + VGPU_SQ_OFFSET +
	       (admin->sq_tail & (vgpu->layout.sq_entries - 1)) * VGPU_SLOT_BYTES;
	memcpy(slot, command, bytes);
	WRITE_ONCE(control->cq_waiting, 1);
	admin->sq_tail++;
	virt_store_release(&control->sq_tail, admin->sq_tail); /* after the command is written */
	spin_unlock_irq(&admin->lock);

	virt_mb(); /* the tail is visible before sq_sleeping is read */
	if (READ_ONCE(control->sq_sleeping))
		vgpu_ring_doorbell(vgpu, 0);
	return 0;
}

/* Gives up on a command; says whether the answer came at the last moment. */
static bool vgpu_admin_forget(struct vgpu_admin *admin, struct vgpu_admin_waiter *waiter)
{
	bool answered;

	spin_lock_irq(&admin->lock);
	answered = list_empty(&waiter->node);
	list_del_init(&waiter->node);
	spin_unlock_irq(&admin->lock);
	return answered;
}

/*
 * Looks after a command that is not answered: rings the doorbell once more where
 * the device sleeps in front of it, and has the watchdog see whether the device
 * is still there, which it does by itself only while there are channels.
 */
static void vgpu_admin_nudge(struct vgpu_device *vgpu)
{
	struct vgpu_admin *admin = &vgpu->admin;
	bool asleep = false;
	int section;

	if (!vgpu_enter(vgpu, &section))
		return;
	spin_lock_irq(&admin->lock);
	if (admin->running) {
		struct vgpu_channel_control *control = vgpu_admin_control(admin);

		asleep = READ_ONCE(control->sq_head) != admin->sq_tail &&
			 READ_ONCE(control->sq_sleeping);
	}
	spin_unlock_irq(&admin->lock);
	if (asleep)
		vgpu_ring_doorbell(vgpu, 0);
	mod_delayed_work(vgpu->workqueue, &vgpu->watchdog, 0);
	vgpu_exit(vgpu, section);
}

/*
 * Waits in steps of a second, because interrupts are hints and doorbells can
 * get lost. The time that the device takes to start a worker is not held
 * against the commands behind it.
 */
static int vgpu_admin_wait(struct vgpu_device *vgpu, struct vgpu_admin_waiter *waiter,
			   unsigned int timeout_ms, bool killable)
{
	unsigned long deadline = jiffies + msecs_to_jiffies(timeout_ms);
	long left = 0;

	while (time_before(jiffies, deadline)) {
		unsigned long step = min_t(unsigned long, deadline - jiffies, HZ);

		if (killable)
			left = wait_for_completion_killable_timeout(&waiter->done, step);
		else
			left = wait_for_completion_timeout(&waiter->done, step);
		if (left > 0)
			return waiter->status;
		vgpu_admin_drain(vgpu);
		if (left < 0)
			break;
		vgpu_admin_nudge(vgpu);
		if (READ_ONCE(vgpu->creating) && timeout_ms < vgpu_create_timeout_ms)
			deadline = jiffies + msecs_to_jiffies(timeout_ms);
	}
	if (vgpu_admin_forget(&vgpu->admin, waiter))
		return waiter->status;
	return left < 0 ? -EINTR : -ETIMEDOUT;
}

/*
 * Carries out a command for a channel.
 *
 * Returns 0, the errno that the device answered, -ETIMEDOUT when it did not
 * answer, -EINTR when the caller was killed while it waited, or -ECANCELED when
 * the device was stopped. In the last three cases it is unknown whether the
 * device has carried out the command, or still will.
 */
static int vgpu_admin_execute(struct vgpu_client *client, struct vgpu_command_header *command,
			      size_t bytes, unsigned int timeout_ms, bool killable)
{
	struct vgpu_device *vgpu = client->vgpu;
	struct vgpu_admin_waiter waiter;
	int section, err;

	if (!vgpu_client_enter(client, &section))
		return -ECANCELED;
	err = vgpu_admin_submit(vgpu, command, bytes, &waiter);
	vgpu_exit(vgpu, section);
	if (err)
		return -ETIMEDOUT; /* the ring is stuck */

	err = vgpu_admin_wait(vgpu, &waiter, timeout_ms, killable);
	if (err == -ETIMEDOUT)
		dev_warn_ratelimited(&vgpu->pdev->dev,
				     "channel %u: no answer to admin command 0x%x in %u ms\n",
				     client->channel, command->opcode, timeout_ms);
	return err;
}

/* One at a time, lest those who end channels queue behind many workers that start. */
int vgpu_admin_channel_create(struct vgpu_client *client)
{
	struct vgpu_device *vgpu = client->vgpu;
	u8 name[TASK_COMM_LEN] = {};
	struct vgpu_cmd_channel_create command;
	int err;

	static_assert(sizeof(command) <= VGPU_SLOT_BYTES);
	static_assert(sizeof(name) == sizeof(command.name));
	get_task_comm(name, current);
	command = vgpu_encode_channel_create(0, client->channel, client->vector - vgpu->vector,
					     task_tgid_nr(current), name);

	err = mutex_lock_killable(&vgpu->create_lock);
	if (err)
		return err;
	WRITE_ONCE(vgpu->creating, true);
	err = vgpu_admin_execute(client, &command.header, sizeof(command), vgpu_create_timeout_ms,
				 false);
	WRITE_ONCE(vgpu->creating, false);
	mutex_unlock(&vgpu->create_lock);
	return err;
}

int vgpu_admin_channel_destroy(struct vgpu_client *client)
{
	struct vgpu_cmd_channel_destroy command;

	static_assert(sizeof(command) <= VGPU_SLOT_BYTES);
	command = vgpu_encode_channel_destroy(0, client->channel);
	return vgpu_admin_execute(client, &command.header, sizeof(command), vgpu_admin_timeout_ms,
				  false);
}

int vgpu_admin_memory_register(struct vgpu_client *client, struct vgpu_registration *registration)
{
	struct vgpu_cmd_memory_register command;

	static_assert(sizeof(command) <= VGPU_SLOT_BYTES);
	command = vgpu_encode_memory_register(0, vgpu_memory_list(registration),
					      (u64)registration->pages << PAGE_SHIFT,
					      client->channel, registration->id,
					      registration->access, registration->table.nents);
	return vgpu_admin_execute(client, &command.header, sizeof(command), vgpu_admin_timeout_ms,
				  false);
}

/* Can last as long as the copies that use the memory, so the caller may be killed meanwhile. */
int vgpu_admin_memory_unregister(struct vgpu_client *client, struct vgpu_registration *registration)
{
	struct vgpu_cmd_memory_unregister command;

	static_assert(sizeof(command) <= VGPU_SLOT_BYTES);
	command = vgpu_encode_memory_unregister(0, client->channel, registration->id);
	return vgpu_admin_execute(client, &command.header, sizeof(command),
				  vgpu_unregister_timeout_ms, true);
}

/*
 * Has the device write what it measures to vgpu->status; the caller holds
 * status_lock. `epoch` is that of the device, where it was asked at all, else 0.
 */
int vgpu_admin_device_status(struct vgpu_device *vgpu, u32 *epoch)
{
	struct vgpu_cmd_device_status command;
	struct vgpu_admin_waiter waiter;
	int section, err;

	static_assert(sizeof(command) <= VGPU_SLOT_BYTES);
	*epoch = 0;
	if (!vgpu_enter(vgpu, &section))
		return vgpu_state_error(vgpu);
	command = vgpu_encode_device_status(0, vgpu->status_address, VGPU_STATUS_BYTES);
	err = vgpu_admin_submit(vgpu, &command.header, sizeof(command), &waiter);
	if (!err)
		*epoch = vgpu->epoch;
	vgpu_exit(vgpu, section);
	return err ?: vgpu_admin_wait(vgpu, &waiter, vgpu_admin_timeout_ms, true);
}
