// SPDX-License-Identifier: GPL-2.0-only
/*
 * VGPU-STUB: a PCI GPU that exists only in software. The driver hands each open
 * file a channel of the device and keeps out of the way; see docs/device.md.
 */
#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/idr.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/uidgid.h>

#include "vgpu.h"
#include "vgpu_compat.h"

#define VGPU_MINORS    64
#define VGPU_NODE_MODE 0660

static unsigned int vgpu_gid;
module_param_named(gid, vgpu_gid, uint, 0444);
MODULE_PARM_DESC(gid, "group of the device nodes (default: 0)");

unsigned int vgpu_admin_timeout_ms = 10000;
module_param_named(admin_timeout_ms, vgpu_admin_timeout_ms, uint, 0644);
MODULE_PARM_DESC(admin_timeout_ms, "how long the device may take for an admin command");

/* A worker process starts; the device gives it 60 s. */
unsigned int vgpu_create_timeout_ms = 70000;
module_param_named(create_timeout_ms, vgpu_create_timeout_ms, uint, 0644);
MODULE_PARM_DESC(create_timeout_ms, "how long the device may take to open a channel");

/* Queued copies that use the memory end. */
unsigned int vgpu_unregister_timeout_ms = 60000;
module_param_named(unregister_timeout_ms, vgpu_unregister_timeout_ms, uint, 0644);
MODULE_PARM_DESC(unregister_timeout_ms, "how long the device may take to give memory back");

static dev_t vgpu_devt;
static DEFINE_IDA(vgpu_minors);

static char *vgpu_devnode(VGPU_DEVNODE_CONST struct device *dev, umode_t *mode, kuid_t *uid,
			  kgid_t *gid)
{
	if (mode)
		*mode = VGPU_NODE_MODE;
	if (gid)
		*gid = make_kgid(&init_user_ns, vgpu_gid);
	return NULL;
}

static struct class vgpu_class = {
	.name = "vgpu",
};

static const struct device_type vgpu_device_type = {
	.name = "vgpu",
	.devnode = vgpu_devnode,
};

static void vgpu_device_release(struct device *dev)
{
	struct vgpu_device *vgpu = container_of(dev, struct vgpu_device, dev);

	ida_free(&vgpu_minors, vgpu->minor);
	__free_page(vgpu->info);
	cleanup_srcu_struct(&vgpu->srcu);
	pci_dev_put(vgpu->pdev);
	kfree(vgpu);
}

static void vgpu_device_init(struct vgpu_device *vgpu)
{
	int i;

	vgpu->state = VGPU_DEAD;
	mutex_init(&vgpu->reset_lock);
	mutex_init(&vgpu->create_lock);
	mutex_init(&vgpu->status_lock);
	mutex_init(&vgpu->orphans_lock);
	spin_lock_init(&vgpu->table_lock);
	INIT_LIST_HEAD(&vgpu->orphans);
	INIT_WORK(&vgpu->restart_work, vgpu_restart_work);
	INIT_DELAYED_WORK(&vgpu->watchdog, vgpu_watchdog_work);
	vgpu_admin_init(vgpu);
	for (i = 0; i < VGPU_VECTOR_COUNT; i++) {
		vgpu->vector[i].vgpu = vgpu;
		init_waitqueue_head(&vgpu->vector[i].wait);
	}
}

/* Makes what lives as long as the last open file. */
static struct vgpu_device *vgpu_device_alloc(struct pci_dev *pdev)
{
	struct vgpu_device *vgpu;
	int err = -ENOMEM;

	vgpu = kzalloc(sizeof(*vgpu), GFP_KERNEL);
	if (!vgpu)
		return ERR_PTR(err);
	vgpu_device_init(vgpu);
	vgpu->info = alloc_page(GFP_KERNEL | __GFP_ZERO);
	if (!vgpu->info)
		goto free_vgpu;
	err = init_srcu_struct(&vgpu->srcu);
	if (err)
		goto free_info;
	vgpu->minor = ida_alloc_max(&vgpu_minors, VGPU_MINORS - 1, GFP_KERNEL);
	if (vgpu->minor < 0) {
		err = vgpu->minor;
		goto free_srcu;
	}
	vgpu->pdev = pci_dev_get(pdev);
	device_initialize(&vgpu->dev);
	vgpu->dev.class = &vgpu_class;
	vgpu->dev.type = &vgpu_device_type;
	vgpu->dev.parent = &pdev->dev;
	vgpu->dev.devt = MKDEV(MAJOR(vgpu_devt), vgpu->minor);
	vgpu->dev.release = vgpu_device_release;
	err = dev_set_name(&vgpu->dev, "vgpu%d", vgpu->minor);
	if (err) {
		put_device(&vgpu->dev);
		return ERR_PTR(err);
	}
	cdev_init(&vgpu->cdev, &vgpu_file_operations);
	vgpu->cdev.owner = THIS_MODULE;
	return vgpu;
free_srcu:
	cleanup_srcu_struct(&vgpu->srcu);
free_info:
	__free_page(vgpu->info);
free_vgpu:
	kfree(vgpu);
	return ERR_PTR(err);
}

static int vgpu_map_bars(struct vgpu_device *vgpu)
{
	struct pci_dev *pdev = vgpu->pdev;

	if (pci_resource_len(pdev, VGPU_REGISTERS_BAR) < VGPU_BAR0_BYTES ||
	    pci_resource_len(pdev, VGPU_SHARED_BAR) < VGPU_CHANNEL_BASE) {
		dev_err(&pdev->dev, "BAR0 has 0x%llx bytes and BAR2 0x%llx: too small\n",
			(u64)pci_resource_len(pdev, VGPU_REGISTERS_BAR),
			(u64)pci_resource_len(pdev, VGPU_SHARED_BAR));
		return -ENODEV;
	}
	vgpu->regs = pci_iomap(pdev, VGPU_REGISTERS_BAR, 0);
	if (!vgpu->regs) {
		dev_err(&pdev->dev, "BAR0 cannot be mapped\n");
		return -ENOMEM;
	}
	vgpu->shared = memremap(pci_resource_start(pdev, VGPU_SHARED_BAR),
				pci_resource_len(pdev, VGPU_SHARED_BAR), MEMREMAP_WB);
	if (!vgpu->shared) {
		dev_err(&pdev->dev, "BAR2 cannot be mapped\n");
		pci_iounmap(pdev, vgpu->regs);
		return -ENOMEM;
	}
	return 0;
}

static void vgpu_unmap_bars(struct vgpu_device *vgpu)
{
	memunmap(vgpu->shared);
	pci_iounmap(vgpu->pdev, vgpu->regs);
}

static int vgpu_enable_pci(struct pci_dev *pdev)
{
	int err;

	err = pci_enable_device_mem(pdev);
	if (err) {
		dev_err(&pdev->dev, "device cannot be enabled: %d\n", err);
		return err;
	}
	err = pci_request_regions(pdev, VGPU_DRIVER_NAME);
	if (err) {
		dev_err(&pdev->dev, "BARs are in use: %d\n", err);
		goto disable;
	}
	err = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (err) {
		dev_err(&pdev->dev, "64-bit DMA is not possible: %d\n", err);
		goto release;
	}
	dma_set_max_seg_size(&pdev->dev, UINT_MAX);
	return 0;
release:
	pci_release_regions(pdev);
disable:
	pci_disable_device(pdev);
	return err;
}

static void vgpu_disable_pci(struct pci_dev *pdev)
{
	pci_clear_master(pdev);
	pci_release_regions(pdev);
	pci_disable_device(pdev);
}

static int vgpu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct vgpu_device *vgpu;
	int err;

	vgpu = vgpu_device_alloc(pdev);
	if (IS_ERR(vgpu))
		return PTR_ERR(vgpu);
	err = vgpu_enable_pci(pdev);
	if (err)
		goto put;
	err = vgpu_map_bars(vgpu);
	if (err)
		goto disable;
	err = vgpu_identify(vgpu);
	if (err)
		goto unmap;
	err = vgpu_status_alloc(vgpu);
	if (err)
		goto unmap;
	vgpu->workqueue = alloc_workqueue("vgpu%d", WQ_UNBOUND, 0, vgpu->minor);
	if (!vgpu->workqueue) {
		err = -ENOMEM;
		goto free_status;
	}
	pci_set_master(pdev);
	err = vgpu_irq_request(vgpu);
	if (err)
		goto destroy;
	pci_set_drvdata(pdev, vgpu);
	err = vgpu_start(vgpu);
	if (err)
		goto free_irq;
	err = cdev_device_add(&vgpu->cdev, &vgpu->dev);
	if (err) {
		dev_err(&pdev->dev, "%s cannot be made: %d\n", dev_name(&vgpu->dev), err);
		goto shut_down;
	}
	dev_info(&pdev->dev, "%s: ABI %u.%u, %u channels, %d vectors\n", dev_name(&vgpu->dev),
		 vgpu->layout.abi_version >> 16, vgpu->layout.abi_version & 0xffff,
		 vgpu->layout.channels - 1, vgpu->vectors);
	return 0;
shut_down:
	vgpu_shut_down(vgpu);
free_irq:
	vgpu_irq_free(vgpu);
destroy:
	destroy_workqueue(vgpu->workqueue);
free_status:
	vgpu_status_free(vgpu);
unmap:
	vgpu_unmap_bars(vgpu);
disable:
	vgpu_disable_pci(pdev);
put:
	put_device(&vgpu->dev);
	return err;
}

/* Files that are still open keep a dead channel, and the rest of struct vgpu_device. */
static void vgpu_remove(struct pci_dev *pdev)
{
	struct vgpu_device *vgpu = pci_get_drvdata(pdev);

	cdev_device_del(&vgpu->cdev, &vgpu->dev);
	vgpu_shut_down(vgpu);
	vgpu_irq_free(vgpu);
	destroy_workqueue(vgpu->workqueue);
	vgpu_status_free(vgpu);
	vgpu_unmap_bars(vgpu);
	vgpu_disable_pci(pdev);
	put_device(&vgpu->dev);
}

/* Leaves nothing behind that accesses memory when the machine reboots or starts another kernel. */
static void vgpu_shutdown(struct pci_dev *pdev)
{
	vgpu_shut_down(pci_get_drvdata(pdev));
}

static pci_ers_result_t vgpu_error_detected(struct pci_dev *pdev, pci_channel_state_t state)
{
	struct vgpu_device *vgpu = pci_get_drvdata(pdev);

	switch (state) {
	case pci_channel_io_frozen:
		vgpu_stop(vgpu, VGPU_RESETTING);
		return PCI_ERS_RESULT_NEED_RESET;
	case pci_channel_io_perm_failure:
		vgpu_stop(vgpu, VGPU_GONE);
		return PCI_ERS_RESULT_DISCONNECT;
	default:
		return PCI_ERS_RESULT_CAN_RECOVER;
	}
}

static pci_ers_result_t vgpu_slot_reset(struct pci_dev *pdev)
{
	pci_restore_state(pdev);
	return PCI_ERS_RESULT_RECOVERED;
}

/* After an error that left the link intact the device was never stopped. */
static void vgpu_resume(struct pci_dev *pdev)
{
	struct vgpu_device *vgpu = pci_get_drvdata(pdev);

	if (READ_ONCE(vgpu->state) != VGPU_LIVE)
		vgpu_pci_reset_done(pdev);
}

static const struct pci_error_handlers vgpu_error_handlers = {
	.error_detected = vgpu_error_detected,
	.slot_reset = vgpu_slot_reset,
	.resume = vgpu_resume,
	.reset_prepare = vgpu_pci_reset_prepare,
	.reset_done = vgpu_pci_reset_done,
};

static const struct pci_device_id vgpu_ids[] = {
	{ PCI_DEVICE(VGPU_PCI_VENDOR_ID, VGPU_PCI_DEVICE_ID) }, {}
};
MODULE_DEVICE_TABLE(pci, vgpu_ids);

static struct pci_driver vgpu_driver = {
	.name = VGPU_DRIVER_NAME,
	.id_table = vgpu_ids,
	.probe = vgpu_probe,
	.remove = vgpu_remove,
	.shutdown = vgpu_shutdown,
	.err_handler = &vgpu_error_handlers,
	.dev_groups = vgpu_sysfs_groups,
};

static int __init vgpu_init(void)
{
	int err;

	err = alloc_chrdev_region(&vgpu_devt, 0, VGPU_MINORS, VGPU_DRIVER_NAME);
	if (err)
		return err;
	err = class_register(&vgpu_class);
	if (err)
		goto unregister_chrdev;
	err = pci_register_driver(&vgpu_driver);
	if (err)
		goto unregister_class;
	return 0;
unregister_class:
	class_unregister(&vgpu_class);
unregister_chrdev:
	unregister_chrdev_region(vgpu_devt, VGPU_MINORS);
	return err;
}
module_init(vgpu_init);

static void __exit vgpu_exit_module(void)
{
	pci_unregister_driver(&vgpu_driver);
	class_unregister(&vgpu_class);
	unregister_chrdev_region(vgpu_devt, VGPU_MINORS);
	ida_destroy(&vgpu_minors);
}
module_exit(vgpu_exit_module);

MODULE_DESCRIPTION("Driver of VGPU-STUB, a PCI GPU in software");
MODULE_AUTHOR("The VGPU-STUB authors");
MODULE_VERSION("1.0");
MODULE_LICENSE("GPL");
