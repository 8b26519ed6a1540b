// SPDX-License-Identifier: GPL-2.0-only
/*
 * Interrupts are hints: the handlers look at shared memory and wake whoever
 * waits; they never need a register on the way of an ordinary completion.
 */
#include <linux/interrupt.h>

#include "vgpu.h"

static const char *vgpu_error_name(u32 error)
{
	switch (error) {
	case VGPU_DEVICE_ERROR_ADMIN_RING:
		return "admin ring inconsistent";
	case VGPU_DEVICE_ERROR_WORKER_LOST:
		return "worker lost";
	case VGPU_DEVICE_ERROR_DMA_REMOVED:
		return "registered memory unmapped";
	case VGPU_DEVICE_ERROR_RING:
		return "submission ring inconsistent";
	default:
		return "unknown error";
	}
}

/* Reads, reports and clears the error register. */
void vgpu_check_error(struct vgpu_device *vgpu)
{
	u32 error, channel, epoch;
	int section;

	if (!vgpu_enter(vgpu, &section))
		return;
	epoch = vgpu->epoch;
	error = vgpu_read(vgpu, VGPU_REG_ERROR);
	channel = vgpu_read(vgpu, VGPU_REG_ERROR_CHANNEL);
	if (error != VGPU_DEVICE_ERROR_NONE && error != VGPU_ALL_ONES)
		vgpu_write(vgpu, VGPU_REG_ERROR, error);
	vgpu_exit(vgpu, section);

	if (error == VGPU_DEVICE_ERROR_NONE)
		return;
	if (error == VGPU_ALL_ONES) {
		vgpu_fail(vgpu, epoch, "registers read all ones");
		return;
	}
	WRITE_ONCE(vgpu->last_error, error);
	atomic64_inc(&vgpu->errors);
	dev_warn_ratelimited(&vgpu->pdev->dev, "device error %u (%s), channel %u\n", error,
			     vgpu_error_name(error), channel);
	if (error == VGPU_DEVICE_ERROR_ADMIN_RING)
		vgpu_fail(vgpu, epoch, vgpu_error_name(error));
	vgpu_wake_all(vgpu);
}

static irqreturn_t vgpu_admin_interrupt(int irq, void *data)
{
	struct vgpu_vector *vector = data;

	atomic64_inc(&vector->interrupts);
	/* Without a completion it is about an error; both at once are left to the watchdog. */
	return vgpu_admin_drain(vector->vgpu) ? IRQ_HANDLED : IRQ_WAKE_THREAD;
}

static irqreturn_t vgpu_error_interrupt(int irq, void *data)
{
	struct vgpu_vector *vector = data;

	vgpu_check_error(vector->vgpu);
	return IRQ_HANDLED;
}

static irqreturn_t vgpu_channel_interrupt(int irq, void *data)
{
	struct vgpu_vector *vector = data;

	atomic64_inc(&vector->interrupts);
	wake_up_all(&vector->wait);
	return IRQ_HANDLED;
}

void vgpu_wake_all(struct vgpu_device *vgpu)
{
	int i;

	for (i = 1; i < vgpu->vectors; i++)
		wake_up_all(&vgpu->vector[i].wait);
}

u64 vgpu_irq_count(struct vgpu_device *vgpu)
{
	u64 count = 0;
	int i;

	for (i = 0; i < vgpu->vectors; i++)
		count += atomic64_read(&vgpu->vector[i].interrupts);
	return count;
}

static int vgpu_irq_request_one(struct vgpu_device *vgpu, int i)
{
	struct vgpu_vector *vector = &vgpu->vector[i];
	int irq = pci_irq_vector(vgpu->pdev, i);

	if (i == 0) {
		snprintf(vector->name, sizeof(vector->name), "vgpu%d-admin", vgpu->minor);
		return request_threaded_irq(irq, vgpu_admin_interrupt, vgpu_error_interrupt, 0,
					    vector->name, vector);
	}
	snprintf(vector->name, sizeof(vector->name), "vgpu%d-%d", vgpu->minor, i);
	return request_irq(irq, vgpu_channel_interrupt, 0, vector->name, vector);
}

/* Gets as many vectors as there are, at least two; channels share what is granted. */
int vgpu_irq_request(struct vgpu_device *vgpu)
{
	struct pci_dev *pdev = vgpu->pdev;
	int i, err;

	vgpu->vectors = pci_alloc_irq_vectors(pdev, 2, VGPU_VECTOR_COUNT, PCI_IRQ_MSIX);
	if (vgpu->vectors < 0) {
		dev_err(&pdev->dev, "at least 2 MSI-X vectors are needed: %d\n", vgpu->vectors);
		return vgpu->vectors;
	}
	for (i = 0; i < vgpu->vectors; i++) {
		err = vgpu_irq_request_one(vgpu, i);
		if (err) {
			dev_err(&pdev->dev, "interrupt of vector %d: %d\n", i, err);
			goto free;
		}
	}
	return 0;
free:
	while (--i >= 0)
		free_irq(pci_irq_vector(pdev, i), &vgpu->vector[i]);
	pci_free_irq_vectors(pdev);
	return err;
}

/* The wait queues stay: open files may sleep on them. */
void vgpu_irq_free(struct vgpu_device *vgpu)
{
	int i;

	for (i = 0; i < vgpu->vectors; i++)
		free_irq(pci_irq_vector(vgpu->pdev, i), &vgpu->vector[i]);
	pci_free_irq_vectors(vgpu->pdev);
}
