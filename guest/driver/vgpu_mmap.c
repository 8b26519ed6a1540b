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
	struct vgpu_device *vgpu = fault->vma->vm_private_data;

	if (fault->pgoff != VGPU_MMAP_INFO >> PAGE_SHIFT)
		return VM_FAULT_SIGBUS;
	return vmf_insert_pfn(fault->vma, fault->address, page_to_pfn(vgpu->info));
}

static const struct vm_operations_struct vgpu_info_vm_ops = {
	.fault = vgpu_info_fault,
};

/*
 * The channel is memory of the host, so both mappings are cached ones: the
 * page protection stays what mmap() made it, and vmf_insert_pfn() follows the
 * write-back mapping that the driver has of the same memory.
 */
static int vgpu_map_pages(struct vm_area_struct *vma, const struct vm_operations_struct *ops,
			  void *data, unsigned long bytes, vm_flags_t clear)
{
	/* Not VM_SHARED, which a shared mapping of a file that was opened read only lacks. */
	if (!(vma->vm_flags & VM_MAYSHARE) || vma->vm_end - vma->vm_start != bytes)
		return -EINVAL;
	vma->vm_ops = ops;
	vma->vm_private_data = data;
	vgpu_vma_flags(vma, VM_IO | VM_PFNMAP | VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP, clear);
	return 0;
}

static int vgpu_map_info(struct vgpu_device *vgpu, struct vm_area_struct *vma)
{
	static_assert(VGPU_INFO_BYTES == PAGE_SIZE);
	if (vma->vm_flags & VM_WRITE)
		return -EACCES;
	return vgpu_map_pages(vma, &vgpu_info_vm_ops, vgpu, VGPU_INFO_BYTES, VM_MAYWRITE);
}

int vgpu_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct vgpu_client *client = file->private_data;

	switch ((u64)vma->vm_pgoff << PAGE_SHIFT) {
	case VGPU_MMAP_CHANNEL:
		return vgpu_map_pages(vma, &vgpu_channel_vm_ops, client,
				      client->vgpu->layout.stride, 0);
	case VGPU_MMAP_INFO:
		return vgpu_map_info(client->vgpu, vma);
	default:
		return -EINVAL;
	}
}

int vgpu_monitor_mmap(struct file *file, struct vm_area_struct *vma)
{
	if ((u64)vma->vm_pgoff << PAGE_SHIFT != VGPU_MMAP_INFO)
		return -EINVAL;
	return vgpu_map_info(file->private_data, vma);
}
