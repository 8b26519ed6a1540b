// SPDX-License-Identifier: GPL-2.0-only
/*
 * Channels: one for each open file, from CHANNEL_CREATE to CHANNEL_DESTROY, and
 * what happens to the memory of those that end otherwise.
 */
#include <linux/fs.h>
#include <linux/slab.h>

#include "vgpu.h"

#define VGPU_CUDA_ERROR_DEVICE_UNAVAILABLE 46 /* CUresult */

static void vgpu_client_free_grave(struct vgpu_client *client)
{
	int i;

	for (i = 0; i < VGPU_GRAVE_PAGES; i++)
		if (client->grave[i])
			__free_page(client->grave[i]);
}

/*
 * Made when the channel is opened, so that its end cannot fail. Somebody who
 * reads a completion just when the channel dies must not take it for success.
 */
static int vgpu_client_alloc_grave(struct vgpu_client *client)
{
	struct vgpu_channel_control *control;
	struct vgpu_completion *ring;
	int i;

	for (i = 0; i < VGPU_GRAVE_PAGES; i++) {
		client->grave[i] = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
		if (!client->grave[i]) {
			vgpu_client_free_grave(client);
			return -ENOMEM;
		}
	}
	control = page_address(client->grave[VGPU_GRAVE_CONTROL]);
	control->state = VGPU_CHANNEL_FAILED;
	control->error = VGPU_CUDA_ERROR_DEVICE_UNAVAILABLE;
	ring = page_address(client->grave[VGPU_GRAVE_COMPLETIONS]);
	for (i = 0; i < PAGE_SIZE / sizeof(*ring); i++) {
		ring[i].sequence = U64_MAX;
		ring[i].status = VGPU_CUDA_ERROR_DEVICE_UNAVAILABLE;
	}
	return 0;
}

static void vgpu_client_release(struct kref *ref)
{
	struct vgpu_client *client = container_of(ref, struct vgpu_client, ref);

	iput(client->inode);
	vgpu_client_free_grave(client);
	xa_destroy(&client->registrations);
	mutex_destroy(&client->lock);
	kfree(client);
}

void vgpu_client_put(struct vgpu_client *client)
{
	kref_put(&client->ref, vgpu_client_release);
}

/* Returns the client of a channel with a reference, or NULL. */
struct vgpu_client *vgpu_client_get(struct vgpu_device *vgpu, u32 channel)
{
	struct vgpu_client *client;

	spin_lock(&vgpu->table_lock);
	client = vgpu->channels[channel];
	if (client)
		kref_get(&client->ref);
	spin_unlock(&vgpu->table_lock);
	return client;
}

/* Why vgpu_client_enter() refused. */
int vgpu_client_error(struct vgpu_client *client)
{
	return vgpu_state_error(client->vgpu);
}

/* Finds a free channel for a client. */
static int vgpu_client_claim(struct vgpu_client *client)
{
	struct vgpu_device *vgpu = client->vgpu;
	size_t offset;
	int section;
	u32 channel;

	if (!vgpu_enter(vgpu, &section))
		return vgpu_state_error(vgpu);
	spin_lock(&vgpu->table_lock);
	for (channel = 1; channel < vgpu->layout.channels; channel++)
		if (!vgpu->channels[channel])
			break;
	if (channel == vgpu->layout.channels) {
		spin_unlock(&vgpu->table_lock);
		vgpu_exit(vgpu, section);
		return -EBUSY;
	}
	offset = vgpu->layout.base + (size_t)channel * vgpu->layout.stride;
	client->channel = channel;
	client->epoch = vgpu->epoch;
	client->vector = &vgpu->vector[1 + (channel - 1) % (vgpu->vectors - 1)];
	client->control = vgpu->shared + offset + VGPU_CONTROL_OFFSET;
	client->physical = pci_resource_start(vgpu->pdev, VGPU_SHARED_BAR) + offset;
	vgpu->channels[channel] = client;
	spin_unlock(&vgpu->table_lock);
	atomic_inc(&vgpu->channels_used);
	queue_delayed_work(vgpu->workqueue, &vgpu->watchdog, HZ);
	vgpu_exit(vgpu, section);
	return 0;
}

static void vgpu_client_unclaim(struct vgpu_client *client)
{
	struct vgpu_device *vgpu = client->vgpu;

	spin_lock(&vgpu->table_lock);
	vgpu->channels[client->channel] = NULL;
	spin_unlock(&vgpu->table_lock);
	atomic_dec(&vgpu->channels_used);
}

static struct vgpu_client *vgpu_client_alloc(struct vgpu_device *vgpu, struct inode *inode)
{
	struct vgpu_client *client;

	client = kzalloc(sizeof(*client), GFP_KERNEL_ACCOUNT);
	if (!client)
		return NULL;
	if (vgpu_client_alloc_grave(client)) {
		kfree(client);
		return NULL;
	}
	client->vgpu = vgpu;
	ihold(inode);
	client->inode = inode;
	kref_init(&client->ref);
	mutex_init(&client->lock);
	xa_init_flags(&client->registrations, XA_FLAGS_ALLOC1);
	return client;
}

/* Opens a channel for the calling process. */
struct vgpu_client *vgpu_client_create(struct vgpu_device *vgpu, struct inode *inode)
{
	struct vgpu_client *client = vgpu_client_alloc(vgpu, inode);
	int err;

	if (!client)
		return ERR_PTR(-ENOMEM);
	err = vgpu_client_claim(client);
	if (err)
		goto put;

	mutex_lock(&client->lock);
	err = vgpu_admin_channel_create(client);
	if (err == -ETIMEDOUT)
		vgpu_client_kill(client);
	else if (err)
		WRITE_ONCE(client->ended, true); /* it never began */
	mutex_unlock(&client->lock);
	if (!err)
		return client;

	if (err == -ECANCELED || err == -ETIMEDOUT)
		err = vgpu_client_error(client);
	vgpu_client_unclaim(client);
put:
	vgpu_client_put(client);
	return ERR_PTR(err);
}

/*
 * Ends a channel on the device. Afterwards the device touches no memory of it,
 * or the device itself has been stopped.
 */
void vgpu_client_kill(struct vgpu_client *client)
{
	struct vgpu_device *vgpu = client->vgpu;
	int err;

	lockdep_assert_held(&client->lock);
	if (client->ended)
		return;
	err = vgpu_admin_channel_destroy(client);
	if (err && err != -ENOENT)
		vgpu_fail(vgpu, client->epoch, "a channel could not be ended");
	else
		WRITE_ONCE(client->ended, true);
	wake_up_all(&client->vector->wait);
}

/* Whether the device is known to touch none of the channel's memory any more. */
static bool vgpu_client_quiet(struct vgpu_client *client)
{
	struct vgpu_device *vgpu = client->vgpu;

	return client->ended || READ_ONCE(vgpu->epoch) != client->epoch ||
	       pci_dev_is_disconnected(vgpu->pdev);
}

/* Takes back all memory of a channel that is over. */
static void vgpu_client_free_memory(struct vgpu_client *client)
{
	struct vgpu_registration *registration;
	unsigned long id;

	lockdep_assert_held(&client->lock);
	xa_for_each(&client->registrations, id, registration) {
		xa_erase(&client->registrations, id);
		if (vgpu_client_quiet(client))
			vgpu_memory_free(client->vgpu, registration);
		else
			vgpu_memory_orphan(client->vgpu, registration);
	}
}

/* Ends a channel whose memory the device does not give back; returns why it is dead. */
static int vgpu_client_give_up(struct vgpu_client *client)
{
	vgpu_client_kill(client);
	if (vgpu_client_quiet(client))
		vgpu_client_free_memory(client);
	return vgpu_client_error(client);
}

/* Closes a channel at the last close of its file, however the process ended. */
void vgpu_client_close(struct vgpu_client *client)
{
	mutex_lock(&client->lock);
	vgpu_client_kill(client);
	vgpu_client_free_memory(client);
	mutex_unlock(&client->lock);
	vgpu_client_unclaim(client);
	vgpu_client_put(client);
}

/*
 * Replaces what user space has mapped of a channel by pages that say that it
 * failed. A reset zeroes the channel and may give it to somebody else. The
 * device has been stopped, so that nothing is mapped anew meanwhile.
 */
void vgpu_client_bury(struct vgpu_client *client)
{
	struct vgpu_channel_control last;

	if (client->epoch == client->vgpu->epoch) {
		memcpy(&last, client->control, sizeof(last));
		if (last.cq_tail - last.cq_head > client->vgpu->layout.cq_entries)
			last.cq_tail = last.cq_head;
		last.state = VGPU_CHANNEL_FAILED;
		if (!last.error || last.error == -1)
			last.error = VGPU_CUDA_ERROR_DEVICE_UNAVAILABLE;
		memcpy(page_address(client->grave[VGPU_GRAVE_CONTROL]), &last, sizeof(last));
	}
	unmap_mapping_range(client->inode->i_mapping, 0, 0, 1);
}

/* Gives memory to a channel; returns its id. Consumes the registration when it fails. */
int vgpu_client_register(struct vgpu_client *client, struct vgpu_registration *registration)
{
	struct vgpu_device *vgpu = client->vgpu;
	int section, err;

	err = mutex_lock_killable(&client->lock);
	if (err) {
		vgpu_memory_free(vgpu, registration);
		return err;
	}
	if (!vgpu_client_enter(client, &section)) {
		err = vgpu_client_error(client);
		goto free;
	}
	registration->epoch = client->epoch;
	err = xa_alloc(&client->registrations, &registration->id, registration,
		       XA_LIMIT(1, VGPU_REGISTRATION_MAX), GFP_KERNEL_ACCOUNT);
	if (!err) {
		err = vgpu_memory_map(vgpu, registration);
		if (err)
			xa_erase(&client->registrations, registration->id);
	} else if (err == -EBUSY) {
		err = -ENOSPC;
	}
	vgpu_exit(vgpu, section);
	if (err)
		goto free;

	err = vgpu_admin_memory_register(client, registration);
	if (!err) {
		vgpu_memory_free_list(vgpu, registration);
		mutex_unlock(&client->lock);
		return registration->id;
	}
	if (err == -ETIMEDOUT || err == -ECANCELED) {
		/* The device may have the memory: it stays until the channel is over. */
		err = vgpu_client_give_up(client);
		mutex_unlock(&client->lock);
		return err;
	}
	xa_erase(&client->registrations, registration->id);
free:
	vgpu_memory_free(vgpu, registration);
	mutex_unlock(&client->lock);
	return err;
}

/* Takes memory back from a channel, once the device is done with it. */
int vgpu_client_unregister(struct vgpu_client *client, u32 id)
{
	struct vgpu_registration *registration;
	int err;

	err = mutex_lock_killable(&client->lock);
	if (err)
		return err;
	registration = xa_load(&client->registrations, id);
	if (!registration) {
		err = -ENOENT;
		goto unlock;
	}
	err = vgpu_admin_memory_unregister(client, registration);
	if (!err || err == -ENOENT) {
		xa_erase(&client->registrations, id);
		vgpu_memory_free(client->vgpu, registration);
		err = 0;
	} else if (err == -ETIMEDOUT || err == -ECANCELED) {
		err = vgpu_client_give_up(client);
	} else if (err != -EINTR) {
		err = -EIO;
	}
unlock:
	mutex_unlock(&client->lock);
	return err;
}

/* Takes back the memory of channels that a reset has ended. */
void vgpu_reap(struct vgpu_device *vgpu)
{
	struct vgpu_client *client;
	u32 channel;

	for (channel = 1; channel < vgpu->layout.channels; channel++) {
		client = vgpu_client_get(vgpu, channel);
		if (!client)
			continue;
		mutex_lock(&client->lock);
		if (vgpu_client_quiet(client) || vgpu->removed)
			vgpu_client_free_memory(client);
		mutex_unlock(&client->lock);
		vgpu_client_put(client);
	}
	vgpu_memory_reap_orphans(vgpu);
}
