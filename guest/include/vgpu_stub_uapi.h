/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT */
/*
 * User-space interface of vgpu_stub.ko: /dev/vgpuN.
 *
 * Opening the node for writing creates a channel, closing the last descriptor or
 * mapping destroys it. open() fails with EBUSY when all channels are in use, EAGAIN
 * when the host could not start a worker, EIO or ENODEV when the device is not live.
 *
 * Opening it read only (O_RDONLY) takes no channel and costs the host no worker: it
 * is for monitors, and allows VGPU_IOCTL_DEVICE_STATUS and the mapping of struct
 * vgpu_device_info, both before and after resets.
 *
 * mmap(length = channel_bytes, offset = VGPU_MMAP_CHANNEL) maps the channel of
 * this open file and nothing else; mmap(length = info_bytes, offset =
 * VGPU_MMAP_INFO, read only) maps struct vgpu_device_info. Both must be shared
 * mappings; neither is inherited by fork(), although the descriptor is.
 *
 * A reset of the device and its removal end all channels. From then on every
 * ioctl but CHANNEL_INFO fails with EIO (ENODEV when the device is gone), and the
 * mapping turns into private memory whose control page keeps its last indexes
 * and says VGPU_CHANNEL_FAILED, and whose completions are errors with a sequence
 * number of all ones. A file that is opened later works, once the
 * device is live again.
 *
 * poll() sets cq_waiting, and reports POLLIN while the completion ring holds
 * entries that were not consumed, POLLERR | POLLHUP when the channel is dead.
 */
#ifndef VGPU_STUB_UAPI_H
#define VGPU_STUB_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define VGPU_MMAP_CHANNEL 0x0ULL
#define VGPU_MMAP_INFO 0x100000000ULL

/* Out: what this open file has. */
struct vgpu_ioctl_channel_info {
	__u32 abi_version; /* VGPU_ABI_VERSION of the driver */
	__u32 channel; /* channel number */
	__u32 channel_bytes; /* length of the channel mapping */
	__u32 info_bytes; /* length of the info mapping */
	__u32 sq_entries; /* slots of the submission ring */
	__u32 cq_entries; /* entries of the completion ring */
	__u64 reserved;
};

/* In: a page-aligned range of the caller's memory to pin and to give to the
 * channel. Out: registration id. EINVAL: not page aligned, empty, too large, or
 * no access. EFAULT: no memory there, or memory that the caller cannot write (even
 * if the device is only to read it) or that cannot be pinned, such as a mapped
 * file. ENOMEM: over RLIMIT_MEMLOCK. ENOSPC: too many registrations or extents.
 */
struct vgpu_ioctl_register {
	__u64 address; /* in: page-aligned user address */
	__u64 length; /* in: bytes, a multiple of the page size */
	__u32 access; /* in: VGPU_REGISTER_* */
	__u32 registration; /* out: id for commands */
};

/* In: what to take back. ENOENT: no such registration. Waits until the device is
 * done with the memory, as long as the work queued on it takes; a device that
 * needs more than a minute costs the process its channel (EIO).
 */
struct vgpu_ioctl_unregister {
	__u32 registration;
	__u32 reserved;
};

/* Sleeps until vgpu_channel_control.cq_tail differs from `cq_tail`, the channel
 * fails (ENODEV: device gone; EIO: channel failed), the time is over
 * (ETIMEDOUT) or a signal comes (EINTR). The caller has set cq_waiting. Looks
 * again every second, should an interrupt be lost.
 */
struct vgpu_ioctl_wait {
	__u64 cq_tail; /* in: value already seen */
	__u64 timeout_ns; /* in: relative */
};

/* Out: struct vgpu_device_status and what follows it, measured now. Only for files
 * opened read only. EOPNOTSUPP: the host measures nothing. EIO: the host's sensors
 * do not answer, or the device is not live; trying again later may help.
 */
struct vgpu_ioctl_device_status {
	__u8 reply[4096]; /* VGPU_STATUS_BYTES */
};

#define VGPU_IOCTL_CHANNEL_INFO _IOR('V', 0x80, struct vgpu_ioctl_channel_info)
#define VGPU_IOCTL_REGISTER _IOWR('V', 0x81, struct vgpu_ioctl_register)
#define VGPU_IOCTL_UNREGISTER _IOW('V', 0x82, struct vgpu_ioctl_unregister)
#define VGPU_IOCTL_DOORBELL _IO('V', 0x83)
#define VGPU_IOCTL_WAIT _IOW('V', 0x84, struct vgpu_ioctl_wait)
#define VGPU_IOCTL_DEVICE_STATUS _IOR('V', 0x85, struct vgpu_ioctl_device_status)

#endif /* VGPU_STUB_UAPI_H */
