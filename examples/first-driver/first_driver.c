// SPDX-License-Identifier: GPL-2.0-only
/*
 * A first driver for VGPU-STUB: brings the device up, and measures how long an
 * interrupt takes. See docs/tutorial/first-driver.md.
 */
#include <linux/completion.h>
#include <linux/interrupt.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/pci.h>

#include "vgpu_stub_abi.h"

#define PING_VECTOR 1

struct first_device {
	void __iomem *regs;
	struct completion pong;
};

static irqreturn_t first_interrupt(int irq, void *data)
{
	struct first_device *first = data;

	complete(&first->pong);
	return IRQ_HANDLED;
}

/* Reading "ping" has the device interrupt us, and says how long that took. */
static ssize_t ping_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct first_device *first = dev_get_drvdata(dev);
	ktime_t start = ktime_get();

	reinit_completion(&first->pong);
	iowrite32(PING_VECTOR, first->regs + VGPU_REG_INTERRUPT_TEST);
	wait_for_completion(&first->pong);
	return sysfs_emit(buf, "%lld us\n", ktime_us_delta(ktime_get(), start));
}
static DEVICE_ATTR_RO(ping);

static struct attribute *first_attrs[] = { &dev_attr_ping.attr, NULL };
ATTRIBUTE_GROUPS(first);

static int first_identify(struct pci_dev *pdev, struct first_device *first)
{
	u32 magic = ioread32(first->regs + VGPU_REG_MAGIC);
	u32 version = ioread32(first->regs + VGPU_REG_ABI_VERSION);

	if (magic != VGPU_MAGIC) {
		dev_err(&pdev->dev, "MAGIC is 0x%x: this is no VGPU-STUB\n", magic);
		return -ENODEV;
	}
	dev_info(&pdev->dev, "VGPU-STUB with ABI %u.%u and %u vectors\n", version >> 16,
		 version & 0xffff, ioread32(first->regs + VGPU_REG_VECTOR_COUNT));
	return 0;
}

static int first_enable(struct pci_dev *pdev, struct first_device *first)
{
	u32 status;

	iowrite32(VGPU_ABI_VERSION, first->regs + VGPU_REG_GUEST_ABI_VERSION);
	iowrite32(VGPU_CONTROL_ENABLE, first->regs + VGPU_REG_CONTROL);
	status = ioread32(first->regs + VGPU_REG_STATUS);
	if (status & VGPU_STATUS_ENABLED)
		return 0;
	dev_err(&pdev->dev, "the device is not enabled: STATUS is 0x%x\n", status);
	return -EIO;
}

static int first_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct first_device *first;
	int err;

	first = devm_kzalloc(&pdev->dev, sizeof(*first), GFP_KERNEL);
	if (!first)
		return -ENOMEM;
	init_completion(&first->pong);
	err = pcim_enable_device(pdev);
	if (err)
		return err;
	first->regs = pcim_iomap(pdev, 0, 0);
	if (!first->regs)
		return -ENOMEM;
	err = first_identify(pdev, first);
	if (err)
		return err;
	pci_set_master(pdev);
	err = pci_alloc_irq_vectors(pdev, PING_VECTOR + 1, PING_VECTOR + 1, PCI_IRQ_MSIX);
	if (err < 0)
		return err;
	err = request_irq(pci_irq_vector(pdev, PING_VECTOR), first_interrupt, 0, "first_driver",
			  first);
	if (err)
		goto free_vectors;
	pci_set_drvdata(pdev, first);
	err = first_enable(pdev, first);
	if (err)
		goto free_interrupt;
	return 0;
free_interrupt:
	free_irq(pci_irq_vector(pdev, PING_VECTOR), first);
free_vectors:
	pci_free_irq_vectors(pdev);
	return err;
}

static void first_remove(struct pci_dev *pdev)
{
	struct first_device *first = pci_get_drvdata(pdev);

	iowrite32(0, first->regs + VGPU_REG_CONTROL);
	free_irq(pci_irq_vector(pdev, PING_VECTOR), first);
	pci_free_irq_vectors(pdev);
}

static const struct pci_device_id first_ids[] = {
	{ PCI_DEVICE(VGPU_PCI_VENDOR_ID, VGPU_PCI_DEVICE_ID) }, {}
};
MODULE_DEVICE_TABLE(pci, first_ids);

static struct pci_driver first_driver = {
	.name = "first_driver",
	.id_table = first_ids,
	.probe = first_probe,
	.remove = first_remove,
	.dev_groups = first_groups,
};
module_pci_driver(first_driver);

MODULE_DESCRIPTION("A first driver for VGPU-STUB");
MODULE_LICENSE("GPL");
