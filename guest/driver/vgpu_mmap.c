// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mappings: the channel of an open file, and the device information. Pages
 * appear on first use, so that a reset can take them away again; what the
 * process sees then is a channel that has failed.
 */
#include <linux/fs.h>
#include <linux/mm.h>

#include "vgpu.h"
#include "vgpu_compat.h"

#define VGPU_INFO_BYTES PAGE_ALIGN(sizeof(struct vgpu_device_info))

static struct page *vgpu_grave_page(struct vgpu_client *client, unsigned long offset)
{
	if (offset == VGPU_CONTROL_OFFSET)
		return client->grave[VGPU_GRAVE_CONTROL];
	if (offset >= VGPU_CQ_OFFSET && offset < VGPU_SQ_OFFSET)
		return client->grave[VGPU_GRAVE_COMPLETIONS];
	return client->grave[VGPU_GRAVE_SCRATCH];
}

static vm_fault_t vgpu_channel_fault(struct vm_fault *fault)
{
	struct vgpu_client *client = fault->vma->vm_private_data;
	struct page *page;
	unsigned long pfn;
	vm_fault_t result;
	int section;

	if (fault->pgoff >= client->vgpu->layout.stride >> PAGE_SHIFT)
		return VM_FAULT_SIGBUS;
	if (vgpu_client_enter(client, &section)) {
		pfn = PHYS_PFN(client->physical) + fault->pgoff;
		result = vmf_insert_pfn(fault->vma, fault->address, pfn);
		vgpu_exit(client->vgpu, section);
		return result;
	}
	page = vgpu_grave_page(client, fault->pgoff << PAGE_SHIFT);
	return vmf_insert_pfn(fault->vma, fault->address, page_to_pfn(page));
}

static const struct vm_operations_struct vgpu_channel_vm_ops = {
	.fault = vgpu_channel_fault,
};

static vm_fault_t vgpu_info_fault(struct vm_fault *fault)
{
	struct vgpu_client *client = fault->vma->vm_private_data;

	if (fault->pgoff != VGPU_MMAP_INFO >> PAGE_SHIFT)
		return VM_FAULT_SIGBUS;
	return vmf_insert_pfn(fault->vma, fault->address, page_to_pfn(client->vgpu->info));
}

static const struct vm_operations_struct vgpu_info_vm_ops = {
	.fault = vgpu_info_fault,
};

/*
 * The channel is memory of the host, so both mappings are cached ones: the
 * page protection stays what mmap() made it, and vmf_insert_pfn() follows the
 * write-back mapping that the driver has of the same memory.
 */
int vgpu_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct vgpu_client *client = file->private_data;
	unsigned long bytes = vma->vm_end - vma->vm_start;
	vm_flags_t clear = 0;

	static_assert(VGPU_INFO_BYTES == PAGE_SIZE);
	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	switch ((u64)vma->vm_pgoff << PAGE_SHIFT) {
	case VGPU_MMAP_CHANNEL:
		if (bytes != client->vgpu->layout.stride)
			return -EINVAL;
		vma->vm_ops = &vgpu_channel_vm_ops;
		break;
	case VGPU_MMAP_INFO:
		if (bytes != VGPU_INFO_BYTES)
			return -EINVAL;
		if (vma->vm_flags & VM_WRITE)
			return -EACCES;
		clear = VM_MAYWRITE;
		vma->vm_ops = &vgpu_info_vm_ops;
		break;
	default:
		return -EINVAL;
	}
	vma->vm_private_data = client;
	vgpu_vma_flags(vma, VM_IO | VM_PFNMAP | VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP, clear);
	return 0;
}
