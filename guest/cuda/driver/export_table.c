// SPDX-License-Identifier: MIT
/*
 * cuGetExportTable: one table, for the other libraries of the guest
 * (vgpu_stub_export.h). NVIDIA's private tables are not part of the API: there is
 * none of any other name.
 */
#include <string.h>

#include "internal.h"
#include "vgpu_stub_export.h"

/* Names a command's context and stream. */
static CUresult address(CUstream stream, void *command, __u32 *remote_stream,
			struct vgpu_stream_ref *ref, bool work)
{
	struct vgpu_command_header *header = command;
	CUresult status =
		work ? vgpu_stream_resolve_work(stream, ref) : vgpu_stream_resolve(stream, ref);

	if (status != CUDA_SUCCESS)
		return status;
	header->context = vgpu_context_handle(ref->context);
	if (remote_stream)
		*remote_stream = ref->remote;
	return CUDA_SUCCESS;
}

static CUresult submit(CUstream stream, void *command, size_t bytes, __u32 *remote_stream)
{
	struct vgpu_stream_ref ref;
	CUresult status = address(stream, command, remote_stream, &ref, true);

	if (status != CUDA_SUCCESS)
		return status;
	return ref.capturing ? vgpu_capture_command(&ref, command, bytes)
			     : vgpu_submit(command, bytes);
}

static CUresult call(CUstream stream, void *command, size_t bytes, __u32 *remote_stream,
		     __u64 results[6])
{
	struct vgpu_stream_ref ref;
	struct vgpu_ticket ticket;
	struct vgpu_reply reply;
	CUresult status = address(stream, command, remote_stream, &ref, false);

	if (status == CUDA_SUCCESS)
		status = vgpu_submit_ticket(command, bytes, NULL, 0, 0, &ticket);
	if (status != CUDA_SUCCESS)
		return status;
	status = vgpu_context_note(ref.context, vgpu_wait(&ticket, &reply));
	if (status == CUDA_SUCCESS && results)
		memcpy(results, reply.result, sizeof(reply.result));
	return status;
}

static const struct vgpu_device_info *device(void)
{
	return vgpu_check_initialized() == CUDA_SUCCESS ? &vgpu_device : NULL;
}

CUresult cuGetExportTable(const void **table, const CUuuid *id)
{
	static const struct vgpu_export export = {
		.bytes = sizeof(export),
		.submit = submit,
		.call = call,
		.refuse = vgpu_refuse_named,
		.log = vgpu_log,
		.device = device,
	};

	if (!table || !id)
		return CUDA_ERROR_INVALID_VALUE;
	if (!memcmp(id, &VGPU_EXPORT_ID, sizeof(*id))) {
		*table = &export;
		return CUDA_SUCCESS;
	}
	vgpu_journal_export_table(id);
	*table = NULL;
	return CUDA_ERROR_NOT_FOUND;
}
