// SPDX-License-Identifier: GPL-2.0-only
/*
 * User memory for the device: pin and charge it, map it for DMA, describe it in
 * a scatter list, and give it back.
 */
#include <linux/dma-mapping.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "vgpu.h"

#define VGPU_PIN_STEP	4096UL /* pages; how often a fatal signal is looked for */
#define VGPU_LIST_BYTES 4096

/* One block of a scatter list as the device reads it. */
struct vgpu_list_page {
	struct vgpu_scatter_block head;
	struct vgpu_scatter_entry entries[VGPU_SCATTER_ENTRIES];
};

static_assert(sizeof(struct vgpu_list_page) == VGPU_LIST_BYTES);

struct vgpu_list_block {
	struct vgpu_list_page *page;
	dma_addr_t address;
};

static enum dma_data_direction vgpu_memory_direction(struct vgpu_registration *registration)
{
	return registration->access & VGPU_REGISTER_WRITE ? DMA_BIDIRECTIONAL : DMA_TO_DEVICE;
}

static int vgpu_memory_pin_pages(u64 address, struct page **pages, unsigned long count,
				 unsigned long *done)
{
	while (*done < count) {
		int got = pin_user_pages_fast(address + (*done << PAGE_SHIFT),
					      min(count - *done, VGPU_PIN_STEP),
					      FOLL_WRITE | FOLL_LONGTERM, pages + *done);

		if (got <= 0)
			return got ?: -EFAULT;
		*done += got;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

static void vgpu_memory_unpin(struct vgpu_registration *registration)
{
	bool dirty = registration->access & VGPU_REGISTER_WRITE;
	struct scatterlist *entry;
	int i;

	for_each_sgtable_sg(&registration->table, entry, i) {
		unpin_user_page_range_dirty_lock(sg_page(entry), entry->length >> PAGE_SHIFT,
						 dirty);
		cond_resched();
	}
}

static int vgpu_memory_check(u64 address, u64 length, u32 access)
{
	u64 end;

	if (!access || access & ~(VGPU_REGISTER_READ | VGPU_REGISTER_WRITE))
		return -EINVAL;
	if (!length || !PAGE_ALIGNED(address) || !PAGE_ALIGNED(length) ||
	    check_add_overflow(address, length, &end))
		return -EINVAL;
	/* More than all memory can never be pinned, and must not be allocated for. */
	if (length >> PAGE_SHIFT > totalram_pages() ||
	    length >> PAGE_SHIFT > INT_MAX / sizeof(struct page *))
		return -EINVAL;
	return access_ok((void __user *)(uintptr_t)address, length) ? 0 : -EFAULT;
}

/*
 * Pins user memory and charges it to RLIMIT_MEMLOCK of the caller. The pages
 * must be writable even where the device only reads them: only then the pin
 * lasts across copy-on-write on every supported kernel.
 */
struct vgpu_registration *vgpu_memory_pin(u64 address, u64 length, u32 access)
{
	struct vgpu_registration *registration;
	struct page **pages;
	unsigned long done = 0;
	int err;

	err = vgpu_memory_check(address, length, access);
	if (err)
		return ERR_PTR(err);
	registration = kzalloc(sizeof(*registration), GFP_KERNEL_ACCOUNT);
	if (!registration)
		return ERR_PTR(-ENOMEM);
	registration->access = access;
	registration->pages = length >> PAGE_SHIFT;
	registration->mm = current->mm;

	err = account_locked_vm(registration->mm, registration->pages, true);
	if (err)
		goto free_registration;
	pages = kvmalloc_array(registration->pages, sizeof(*pages), GFP_KERNEL_ACCOUNT);
	if (!pages) {
		err = -ENOMEM;
		goto uncharge;
	}
	err = vgpu_memory_pin_pages(address, pages, registration->pages, &done);
	if (err)
		goto unpin;
	err = sg_alloc_table_from_pages(&registration->table, pages, registration->pages, 0, length,
					GFP_KERNEL_ACCOUNT);
	if (err)
		goto unpin;
	kvfree(pages);
	mmgrab(registration->mm);
	return registration;
unpin:
	unpin_user_pages(pages, done);
	kvfree(pages);
uncharge:
	account_locked_vm(registration->mm, registration->pages, false);
free_registration:
	kfree(registration);
	return ERR_PTR(err);
}

static int vgpu_memory_list_alloc(struct vgpu_device *vgpu, struct vgpu_registration *registration,
				  unsigned int blocks)
{
	struct vgpu_list_block *block;

	registration->list = kvcalloc(blocks, sizeof(*registration->list), GFP_KERNEL_ACCOUNT);
	if (!registration->list)
		return -ENOMEM;
	for (; registration->blocks < blocks; registration->blocks++) {
		block = &registration->list[registration->blocks];
		block->page = dma_alloc_coherent(&vgpu->pdev->dev, VGPU_LIST_BYTES, &block->address,
						 GFP_KERNEL);
		if (!block->page)
			return -ENOMEM;
		if (registration->blocks)
			block[-1].page->head.next = block->address;
	}
	return 0;
}

/* Describes the mapped memory as docs/device.md, section 4, wants it. */
static int vgpu_memory_list_fill(struct vgpu_device *vgpu, struct vgpu_registration *registration)
{
	struct scatterlist *entry;
	struct vgpu_list_page *page;
	int i, err;

	err = vgpu_memory_list_alloc(vgpu, registration,
				     DIV_ROUND_UP(registration->table.nents, VGPU_SCATTER_ENTRIES));
	if (err)
		return err;
	for_each_sgtable_dma_sg(&registration->table, entry, i) {
		/* Bounce buffers would have to be copied around every command. */
		if (dma_need_sync(&vgpu->pdev->dev, sg_dma_address(entry)))
			return -EOPNOTSUPP;
		page = registration->list[i / VGPU_SCATTER_ENTRIES].page;
		page->entries[page->head.count].iova = sg_dma_address(entry);
		page->entries[page->head.count].length = sg_dma_len(entry);
		page->head.count++;
	}
	return 0;
}

static void vgpu_memory_unmap(struct vgpu_device *vgpu, struct vgpu_registration *registration)
{
	vgpu_memory_free_list(vgpu, registration);
	if (!registration->mapped)
		return;
	registration->mapped = false;
	atomic64_sub(registration->pages << PAGE_SHIFT, &vgpu->registered_bytes);
	dma_unmap_sgtable(&vgpu->pdev->dev, &registration->table,
			  vgpu_memory_direction(registration), 0);
}

/* Maps pinned memory for the device and makes its scatter list. */
int vgpu_memory_map(struct vgpu_device *vgpu, struct vgpu_registration *registration)
{
	int err;

	err = dma_map_sgtable(&vgpu->pdev->dev, &registration->table,
			      vgpu_memory_direction(registration), 0);
	if (err)
		return err;
	registration->mapped = true;
	atomic64_add(registration->pages << PAGE_SHIFT, &vgpu->registered_bytes);
	if (registration->table.nents > VGPU_REGISTER_MAX_EXTENTS)
		err = -ENOSPC;
	else
		err = vgpu_memory_list_fill(vgpu, registration);
	if (err)
		vgpu_memory_unmap(vgpu, registration);
	return err;
}

/* Where the device finds the scatter list. */
dma_addr_t vgpu_memory_list(struct vgpu_registration *registration)
{
	return registration->list[0].address;
}

/* The device has read the scatter list, or never will. */
void vgpu_memory_free_list(struct vgpu_device *vgpu, struct vgpu_registration *registration)
{
	unsigned int i;

	for (i = 0; i < registration->blocks; i++)
		dma_free_coherent(&vgpu->pdev->dev, VGPU_LIST_BYTES, registration->list[i].page,
				  registration->list[i].address);
	kvfree(registration->list);
	registration->list = NULL;
	registration->blocks = 0;
}

static void vgpu_memory_discard(struct vgpu_registration *registration)
{
	account_locked_vm(registration->mm, registration->pages, false);
	mmdrop(registration->mm);
	sg_free_table(&registration->table);
	kfree(registration);
}

/* Gives memory back that the device does not use. */
void vgpu_memory_free(struct vgpu_device *vgpu, struct vgpu_registration *registration)
{
	vgpu_memory_unmap(vgpu, registration);
	vgpu_memory_unpin(registration);
	vgpu_memory_discard(registration);
}

/* Keeps memory that the device may still use until a reset has been verified. */
void vgpu_memory_orphan(struct vgpu_device *vgpu, struct vgpu_registration *registration)
{
	bool quiet;

	mutex_lock(&vgpu->orphans_lock);
	quiet = READ_ONCE(vgpu->epoch) != registration->epoch;
	if (!quiet)
		list_add_tail(&registration->orphan, &vgpu->orphans);
	mutex_unlock(&vgpu->orphans_lock);
	if (quiet)
		vgpu_memory_free(vgpu, registration);
}

/* Frees the memory of channels that were closed before the last verified reset. */
void vgpu_memory_reap_orphans(struct vgpu_device *vgpu)
{
	struct vgpu_registration *registration, *next;
	LIST_HEAD(quiet);

	mutex_lock(&vgpu->orphans_lock);
	list_for_each_entry_safe(registration, next, &vgpu->orphans, orphan)
		if (READ_ONCE(vgpu->epoch) != registration->epoch)
			list_move_tail(&registration->orphan, &quiet);
	mutex_unlock(&vgpu->orphans_lock);

	list_for_each_entry_safe(registration, next, &quiet, orphan)
		vgpu_memory_free(vgpu, registration);
}

/*
 * The driver leaves a device that it could not reset: pages that the device may
 * still write to are never used again.
 */
void vgpu_memory_abandon_orphans(struct vgpu_device *vgpu)
{
	struct vgpu_registration *registration, *next;
	unsigned long pages = 0;
	LIST_HEAD(lost);

	mutex_lock(&vgpu->orphans_lock);
	list_splice_init(&vgpu->orphans, &lost);
	mutex_unlock(&vgpu->orphans_lock);

	list_for_each_entry_safe(registration, next, &lost, orphan) {
		pages += registration->pages;
		/* The device may still read the list too. */
		registration->blocks = 0;
		vgpu_memory_unmap(vgpu, registration);
		vgpu_memory_discard(registration);
	}
	if (pages)
		dev_err(&vgpu->pdev->dev, "%lu pages stay pinned: the device could not be reset\n",
			pages);
}
