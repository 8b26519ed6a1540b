/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * VGPU-STUB driver: what its files share.
 *
 * Locks, outermost first:
 *
 *   vgpu_client.lock     registrations of one open file, and its admin commands;
 *                        held while the device works on one (a bounded time)
 *   vgpu_device.create_lock   while the device starts a worker
 *   vgpu_device.status_lock   while the device measures itself
 *   vgpu_device.reset_lock   changes of vgpu_device.state, reset of the hardware
 *   vgpu_device.table_lock, vgpu_admin.lock   short, never sleep
 *
 * Whoever touches registers or shared memory does so between vgpu_enter() and
 * vgpu_exit(), an SRCU read section in which the device stays live. It is
 * short: nobody waits for the device or touches user memory in it. A reset
 * first changes the state, then waits for these sections to end.
 *
 * Memory that user space registered stays pinned until the device has said
 * that it is done with it, or was reset and showed it. Each verified reset
 * starts a new epoch; channels of older epochs are dead for good.
 */
#ifndef VGPU_H
#define VGPU_H

#include <linux/cdev.h>
#include <linux/device.h>
#include <linux/io.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/scatterlist.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "vgpu_stub_abi.h"
#include "vgpu_stub_uapi.h"

#define VGPU_DRIVER_NAME   "vgpu_stub"
#define VGPU_REGISTERS_BAR 0
#define VGPU_SHARED_BAR	   2
#define VGPU_CHANNEL_LIMIT VGPU_CHANNEL_COUNT
#define VGPU_ALL_ONES	   U32_MAX /* what a read of absent hardware returns */

enum vgpu_state {
	VGPU_LIVE,	/* the admin channel accepts commands */
	VGPU_RESETTING, /* between reset_prepare and reset_done of the PCI core */
	VGPU_FAILED,	/* stopped after an error, about to be restarted */
	VGPU_DEAD,	/* could not be restarted; a reset by hand may help */
	VGPU_GONE,	/* no longer on the bus, or the driver is unbound */
};

/* What the registers say about shared memory, checked once. */
struct vgpu_layout {
	u32 abi_version;
	u32 channels;
	u32 base;
	u32 stride;
	u32 sq_entries;
	u32 cq_entries;
};

/* What is mapped in place of a channel that is dead. */
enum vgpu_grave {
	VGPU_GRAVE_CONTROL,	/* of the control page: its last state, failed */
	VGPU_GRAVE_COMPLETIONS, /* of the completion ring: errors that belong to no command */
	VGPU_GRAVE_SCRATCH,	/* of everything else */
	VGPU_GRAVE_PAGES
};

struct vgpu_vector {
	struct vgpu_device *vgpu;
	wait_queue_head_t wait;
	atomic64_t interrupts;
	char name[24];
};

struct vgpu_admin {
	spinlock_t lock; /* everything below; taken by the interrupt handler */
	bool running;
	u64 sq_tail; /* also the sequence number of the next command */
	u64 cq_head;
	struct list_head waiters;
	void *ring; /* channel 0 */
};

struct vgpu_device {
	struct device dev;
	struct cdev cdev;
	struct pci_dev *pdev;
	int minor;

	void __iomem *regs;
	void *shared;
	struct vgpu_layout layout;
	struct page *info;

	struct srcu_struct srcu;
	struct mutex reset_lock; /* serialises changes of state, epoch and removed */
	enum vgpu_state state;
	u32 epoch;
	bool removed;

	struct workqueue_struct *workqueue;
	struct work_struct restart_work;
	struct delayed_work watchdog;

	struct vgpu_admin admin;
	struct mutex create_lock; /* at most one worker starts at a time */
	bool creating;

	spinlock_t table_lock; /* channels */
	struct vgpu_client *channels[VGPU_CHANNEL_LIMIT];
	atomic_t channels_used;

	struct mutex orphans_lock; /* orphans */
	struct list_head orphans;  /* memory of closed files that the device may still use */

	int vectors;
	struct vgpu_vector vector[VGPU_VECTOR_COUNT];

	struct mutex status_lock; /* the reply below */
	void *status;		  /* where the device writes what it measured */
	dma_addr_t status_address;
	u32 status_epoch; /* in which the device may still write there, or 0 */

	atomic64_t registered_bytes;
	atomic64_t doorbells;
	atomic64_t errors;
	u32 last_error;
};

/* One open file. */
struct vgpu_client {
	struct kref ref;
	struct vgpu_device *vgpu;
	struct inode *inode; /* its mappings are ours */
	struct mutex lock;
	u32 channel;
	u32 epoch;
	bool ended; /* destroyed on the device */
	struct vgpu_vector *vector;
	struct vgpu_channel_control *control;
	phys_addr_t physical;
	struct xarray registrations;
	struct page *grave[VGPU_GRAVE_PAGES];
};

/* A range of user memory that is pinned. */
struct vgpu_registration {
	struct list_head orphan;
	u32 id;
	u32 epoch;
	u32 access;
	unsigned long pages;
	struct mm_struct *mm; /* charged for the pages */
	struct sg_table table;
	bool mapped;
	unsigned int blocks;
	struct vgpu_list_block *list;
};

static inline u32 vgpu_read(struct vgpu_device *vgpu, u32 offset)
{
	return readl(vgpu->regs + offset);
}

static inline void vgpu_write(struct vgpu_device *vgpu, u32 offset, u32 value)
{
	writel(value, vgpu->regs + offset);
}

/* Writes a doorbell; the caller has entered the device. */
static inline void vgpu_ring_doorbell(struct vgpu_device *vgpu, u32 channel)
{
	atomic64_inc(&vgpu->doorbells);
	vgpu_write(vgpu, VGPU_REG_DOORBELL + 4 * channel, 1);
}

/* Enters a section in which the device stays live, or returns false. */
static inline bool vgpu_enter(struct vgpu_device *vgpu, int *section)
{
	*section = srcu_read_lock(&vgpu->srcu);
	if (smp_load_acquire(&vgpu->state) == VGPU_LIVE) /* pairs with vgpu_start_locked() */
		return true;
	srcu_read_unlock(&vgpu->srcu, *section);
	return false;
}

static inline void vgpu_exit(struct vgpu_device *vgpu, int section)
{
	srcu_read_unlock(&vgpu->srcu, section);
}

/* As vgpu_enter(), and the channel is neither ended nor from before a reset. */
static inline bool vgpu_client_enter(struct vgpu_client *client, int *section)
{
	struct vgpu_device *vgpu = client->vgpu;

	if (!vgpu_enter(vgpu, section))
		return false;
	if (vgpu->epoch == client->epoch && !READ_ONCE(client->ended))
		return true;
	vgpu_exit(vgpu, *section);
	return false;
}

/* vgpu_drv.c */
extern unsigned int vgpu_admin_timeout_ms;
extern unsigned int vgpu_create_timeout_ms;
extern unsigned int vgpu_unregister_timeout_ms;

/* vgpu_reset.c */
int vgpu_state_error(struct vgpu_device *vgpu);
int vgpu_identify(struct vgpu_device *vgpu);
int vgpu_start(struct vgpu_device *vgpu);
void vgpu_fail(struct vgpu_device *vgpu, u32 epoch, const char *reason);
void vgpu_stop(struct vgpu_device *vgpu, enum vgpu_state state);
void vgpu_pci_reset_prepare(struct pci_dev *pdev);
void vgpu_pci_reset_done(struct pci_dev *pdev);
void vgpu_shut_down(struct vgpu_device *vgpu);
void vgpu_restart_work(struct work_struct *work);
void vgpu_watchdog_work(struct work_struct *work);

/* vgpu_irq.c */
int vgpu_irq_request(struct vgpu_device *vgpu);
void vgpu_irq_free(struct vgpu_device *vgpu);
void vgpu_wake_all(struct vgpu_device *vgpu);
void vgpu_check_error(struct vgpu_device *vgpu);
u64 vgpu_irq_count(struct vgpu_device *vgpu);

/* vgpu_admin.c */
void vgpu_admin_init(struct vgpu_device *vgpu);
void vgpu_admin_start(struct vgpu_device *vgpu);
void vgpu_admin_stop(struct vgpu_device *vgpu);
void vgpu_admin_cancel(struct vgpu_device *vgpu);
bool vgpu_admin_drain(struct vgpu_device *vgpu);
int vgpu_admin_channel_create(struct vgpu_client *client);
int vgpu_admin_channel_destroy(struct vgpu_client *client);
int vgpu_admin_memory_register(struct vgpu_client *client, struct vgpu_registration *registration);
int vgpu_admin_memory_unregister(struct vgpu_client *client,
				 struct vgpu_registration *registration);
int vgpu_admin_device_status(struct vgpu_device *vgpu, u32 *epoch);

/* vgpu_channel.c */
struct vgpu_client *vgpu_client_create(struct vgpu_device *vgpu, struct inode *inode);
void vgpu_client_close(struct vgpu_client *client);
struct vgpu_client *vgpu_client_get(struct vgpu_device *vgpu, u32 channel);
void vgpu_client_put(struct vgpu_client *client);
int vgpu_client_error(struct vgpu_client *client);
void vgpu_client_kill(struct vgpu_client *client);
void vgpu_client_bury(struct vgpu_client *client);
int vgpu_client_register(struct vgpu_client *client, struct vgpu_registration *registration);
int vgpu_client_unregister(struct vgpu_client *client, u32 id);
void vgpu_reap(struct vgpu_device *vgpu);

/* vgpu_file.c */
extern const struct file_operations vgpu_file_operations;

/* vgpu_monitor.c */
extern const struct file_operations vgpu_monitor_operations;
int vgpu_status_alloc(struct vgpu_device *vgpu);
void vgpu_status_free(struct vgpu_device *vgpu);

/* vgpu_mmap.c */
int vgpu_mmap(struct file *file, struct vm_area_struct *vma);
int vgpu_monitor_mmap(struct file *file, struct vm_area_struct *vma);

/* vgpu_memory.c */
struct vgpu_registration *vgpu_memory_pin(u64 address, u64 length, u32 access);
int vgpu_memory_map(struct vgpu_device *vgpu, struct vgpu_registration *registration);
dma_addr_t vgpu_memory_list(struct vgpu_registration *registration);
void vgpu_memory_free_list(struct vgpu_device *vgpu, struct vgpu_registration *registration);
void vgpu_memory_free(struct vgpu_device *vgpu, struct vgpu_registration *registration);
void vgpu_memory_orphan(struct vgpu_device *vgpu, struct vgpu_registration *registration);
void vgpu_memory_reap_orphans(struct vgpu_device *vgpu);
void vgpu_memory_abandon_orphans(struct vgpu_device *vgpu);

/* vgpu_sysfs.c */
extern const struct attribute_group *vgpu_sysfs_groups[];

#endif /* VGPU_H */
