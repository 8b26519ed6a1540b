/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT */
/*
 * User-space interface of vgpu_stub.ko: /dev/vgpuN.
 *
 * Opening the node creates a channel, closing the last descriptor destroys it.
 * mmap(length = channel_bytes, offset = VGPU_MMAP_CHANNEL) maps the channel of
 * this open file and nothing else; mmap(offset = VGPU_MMAP_INFO) maps
 * struct vgpu_device_info read only. Neither mapping is inherited by fork().
 * poll() reports POLLIN when the completion ring holds entries that were not
 * consumed, POLLERR | POLLHUP when the channel is dead.
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
 * channel. Out: registration id. EINVAL: not page aligned, empty or too large.
 * ENOMEM: over RLIMIT_MEMLOCK. ENOSPC: too many registrations or extents.
 */
struct vgpu_ioctl_register {
	__u64 address; /* in: page-aligned user address */
	__u64 length; /* in: bytes, a multiple of the page size */
	__u32 access; /* in: VGPU_REGISTER_* */
	__u32 registration; /* out: id for commands */
};

/* In: what to take back. EBUSY never: it waits for the device. */
struct vgpu_ioctl_unregister {
	__u32 registration;
	__u32 reserved;
};

/* Sleeps until vgpu_channel_control.cq_tail differs from `cq_tail`, the channel
 * fails (ENODEV: device gone; EIO: channel failed), the time is over
 * (ETIMEDOUT) or a signal comes (EINTR). The caller has set cq_waiting.
 */
struct vgpu_ioctl_wait {
	__u64 cq_tail; /* in: value already seen */
	__u64 timeout_ns; /* in: relative */
};

#define VGPU_IOCTL_CHANNEL_INFO _IOR('V', 0x80, struct vgpu_ioctl_channel_info)
#define VGPU_IOCTL_REGISTER _IOWR('V', 0x81, struct vgpu_ioctl_register)
#define VGPU_IOCTL_UNREGISTER _IOW('V', 0x82, struct vgpu_ioctl_unregister)
#define VGPU_IOCTL_DOORBELL _IO('V', 0x83)
#define VGPU_IOCTL_WAIT _IOW('V', 0x84, struct vgpu_ioctl_wait)

#endif /* VGPU_STUB_UAPI_H */
