/* SPDX-License-Identifier: MIT */
/*
 * What the files of libcuda.so.1 share. A call goes through them in this order:
 * an API file (launch.c, copy.c, ...) checks its arguments against what the
 * library already knows, resolves handles, and gives one command to ring.c; the
 * transport is only asked to wake the host or to wait for it.
 */
#ifndef VGPU_INTERNAL_H
#define VGPU_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Declares every ABI variant under the name of its symbol. */
#define __CUDA_API_VERSION_INTERNAL
#pragma GCC visibility push(default)
#include <cuda.h>
#pragma GCC visibility pop

/* What programs call are the functions of calls.c; what implements them has other names. */
#include "../generated/implementations.h"
#include "../generated/implementation_names.h"

#include "device_access.h"
#include "vgpu_stub_abi.h"
#include "journal.h"
#include "vgpu_stub_commands.h"

#define VGPU_INLINE_COPY_BYTES 4096u

/* log.c: one line on standard error where VGPU_STUB_LOG asks for it; `always` does not ask. */
__attribute__((format(printf, 1, 2))) void vgpu_log(const char *format, ...);
__attribute__((format(printf, 1, 2))) void vgpu_log_always(const char *format, ...);

/* init.c: life of the library in this process. */

enum vgpu_library_state {
	VGPU_LIBRARY_UNINITIALIZED, /* cuInit has not succeeded yet */
	VGPU_LIBRARY_READY,	    /* the channel is open */
	VGPU_LIBRARY_FORKED,	    /* child of a process that had opened it; refuses for good */
};

extern atomic_int vgpu_library_state;

static inline CUresult vgpu_check_initialized(void)
{
	if (atomic_load_explicit(&vgpu_library_state, memory_order_acquire) != VGPU_LIBRARY_READY)
		return CUDA_ERROR_NOT_INITIALIZED;
	return CUDA_SUCCESS;
}

extern struct vgpu_device_info vgpu_device; /* snapshot; constant once ready */
bool vgpu_executor_is_cuda(void);
/* visible.c: whether CUDA_VISIBLE_DEVICES leaves the device to the process. */
bool vgpu_device_visible(void);

/* transport.c: how this process reaches its channel. All return 0 or a positive errno. */

struct vgpu_transport {
	const char *name;
	int (*open)(void **channel, struct vgpu_device_info *info, char *reason, size_t room);
	void (*abandon)(void); /* in a forked child: close descriptors, touch nothing else */
	int (*doorbell)(void);
	int (*wait)(uint64_t cq_tail, uint64_t timeout_ns);
	bool (*alive)(void);
	int (*allocate)(size_t length, struct vgpu_host_block *block);
	int (*release)(struct vgpu_host_block *block);
	int (*pin)(void *address, size_t length, uint32_t access, uint32_t *registration);
	int (*unpin)(uint32_t registration);
};

extern const struct vgpu_transport vgpu_transport_device;
extern const struct vgpu_transport vgpu_transport_socket;
extern const struct vgpu_transport *vgpu_transport; /* the one in use */

/* Opens the channel. `reason` says in one line why it could not. */
CUresult vgpu_transport_open(void **channel, struct vgpu_device_info *info, char *reason,
			     size_t room);

/* ring.c: commands in, completions out. */

struct vgpu_ticket { /* a command whose completion somebody will wait for */
	uint32_t slot;
	uint32_t valid;
};

struct vgpu_reply {
	int status;	/* CUresult */
	uint32_t flags; /* VGPU_COMPLETION_* */
	uint64_t result[6];
};

/* The handle that a command made; CUDA_ERROR_UNKNOWN where it cannot be one. */
static inline CUresult vgpu_handle_of(const struct vgpu_reply *reply, uint32_t *remote)
{
	*remote = (uint32_t)reply->result[0];
	return reply->result[0] <= UINT32_MAX ? CUDA_SUCCESS : CUDA_ERROR_UNKNOWN;
}

void vgpu_ring_open(void *channel);

/*
 * Takes the ring and reserves room for a command; write the command to *command
 * and call vgpu_ring_commit(). Nothing is held when it fails.
 */
CUresult vgpu_ring_begin(size_t bytes, void **command);
void vgpu_ring_commit(void *command);

CUresult vgpu_submit(const void *command, size_t bytes);
CUresult vgpu_submit_ticket(void *command, size_t bytes, const void *tail, size_t tail_bytes,
			    uint16_t flags, struct vgpu_ticket *ticket);
CUresult vgpu_wait(struct vgpu_ticket *ticket, struct vgpu_reply *reply);
bool vgpu_ticket_done(const struct vgpu_ticket *ticket);

/* Submits and waits; the status of the reply becomes the return value. */
CUresult vgpu_call(void *command, size_t bytes, const void *tail, size_t tail_bytes,
		   struct vgpu_reply *reply);

uint64_t vgpu_output_bytes(void); /* that kernels have printed */
/* error.c: a status of the device, or CUDA_ERROR_UNKNOWN where CUDA has none of that number. */
CUresult vgpu_status_known(int status);
CUresult vgpu_channel_error(void);		 /* not CUDA_SUCCESS once the channel is dead */
void vgpu_count(size_t offset, uint64_t amount); /* offset in struct vgpu_guest_counters */
#define VGPU_COUNT(member, amount) vgpu_count(offsetof(struct vgpu_guest_counters, member), amount)

/* pool.c: objects behind handles. A handle is the address of an object in its
 * pool; the pool's address range is reserved for good, so any value can be checked.
 */

struct vgpu_pool {
	const char *name;
	size_t object_bytes;
	uint32_t capacity;
	pthread_mutex_t lock; /* guards what follows */
	unsigned char *base;
	uint32_t used; /* objects ever given out */
	void *free_list;
};

struct vgpu_context;

struct vgpu_object {	 /* first member of every pooled object */
	uint32_t live;	 /* 0: free */
	uint32_t remote; /* handle on the device */
	struct vgpu_context *context;
	uint64_t context_id; /* of the context's life in which it was made */
};

void *vgpu_pool_take(struct vgpu_pool *pool); /* zeroed but for `live`; NULL: no room */
void vgpu_pool_give(struct vgpu_pool *pool, void *object);
bool vgpu_pool_holds(const struct vgpu_pool *pool, const void *handle);
void vgpu_pool_each(struct vgpu_pool *pool, void (*visit)(void *object, void *data), void *data);

/* context.c, context_current.c */

struct vgpu_stream;
struct vgpu_capture;
struct vgpu_node_set;

struct vgpu_context {
	struct vgpu_object object;
	_Atomic uint64_t id;		 /* 0: not alive */
	_Atomic int error;		 /* sticky CUresult */
	_Atomic int deferred;		 /* CUresult of asynchronous work, reported once */
	_Atomic uint32_t host_functions; /* queued and not finished */
	unsigned int flags;
	unsigned int api_version;
	unsigned int references; /* cuCtxAttach; guarded by context.c */
	bool primary;
	CUfunc_cache cache_config;
	CUsharedconfig shared_config;
	_Atomic int synchronization_policy; /* of its default stream */
};

struct vgpu_thread { /* what a thread has of its own */
	struct vgpu_context **stack;
	uint32_t depth;
	uint32_t room;
	struct vgpu_stream *default_streams; /* per-thread default streams, by context */
	CUstreamCaptureMode capture_mode;    /* what unsafe calls of the thread respect */
};

struct vgpu_thread *vgpu_thread(void); /* NULL: out of memory */

/* The current context, alive and without a sticky error. */
CUresult vgpu_current(struct vgpu_context **context);
/* The same, but a sticky error is no obstacle (for calls that only release). */
CUresult vgpu_current_any(struct vgpu_context **context);
CUresult vgpu_context_check(struct vgpu_context *context);
struct vgpu_context *vgpu_context_from_handle(CUcontext handle);
/* Sorts a status of the device into the context's sticky or deferred error; returns it. */
CUresult vgpu_context_note(struct vgpu_context *context, CUresult status);
/* The deferred error, once. */
CUresult vgpu_context_take_deferred(struct vgpu_context *context);
/* vgpu_call() for a command of that context. */
CUresult vgpu_context_call(struct vgpu_context *context, void *command, size_t bytes,
			   const void *tail, size_t tail_bytes, struct vgpu_reply *reply);
bool vgpu_object_alive(const struct vgpu_object *object);

static inline uint16_t vgpu_context_handle(const struct vgpu_context *context)
{
	return (uint16_t)context->object.remote;
}

/* stream.c */

struct vgpu_stream {
	struct vgpu_object object;
	uint64_t unique;
	unsigned int flags;
	int priority;
	_Atomic int synchronization_policy; /* CUsynchronizationPolicy; of this stream */
	bool per_thread;		    /* a thread's default stream: its thread releases it */
	struct vgpu_stream *next;	    /* in vgpu_thread.default_streams */
	struct vgpu_capture *capture; /* that the stream takes part in, or NULL; and where in it: */
	struct vgpu_node_set *leaves; /* the next captured node follows these */
};

struct vgpu_stream_ref { /* a CUstream argument, resolved */
	struct vgpu_context *context;
	struct vgpu_stream *stream; /* NULL: the legacy default stream */
	uint32_t remote;
	bool capturing; /* work goes into a graph instead (capture.c) */
};

/*
 * Resolve a stream argument of the current context and wait for host functions
 * that its work has to follow. vgpu_stream_resolve() is for calls that cannot be
 * captured, and refuses a stream that is capturing. After vgpu_stream_resolve_work()
 * the caller looks at `capturing`.
 */
CUresult vgpu_stream_resolve(CUstream handle, struct vgpu_stream_ref *ref);
CUresult vgpu_stream_resolve_work(CUstream handle, struct vgpu_stream_ref *ref);
/* Only looks the stream up. */
CUresult vgpu_stream_find(CUstream handle, struct vgpu_stream_ref *ref);
/* Calls `visit` for every stream that takes part in a capture. */
void vgpu_streams_each(void (*visit)(void *stream, void *data), void *data);
void vgpu_thread_release_streams(struct vgpu_thread *thread);
void vgpu_streams_forget(struct vgpu_context *context, uint64_t context_id);

/* host_function.c */
CUresult vgpu_host_function_queue(const struct vgpu_stream_ref *ref, CUhostFn function, void *data);
void vgpu_host_functions_wait(const struct vgpu_stream_ref *ref);
bool vgpu_host_functions_pending(const struct vgpu_stream_ref *ref);
void vgpu_host_functions_wait_all(struct vgpu_context *context);

static inline CUstream vgpu_per_thread(CUstream stream)
{
	return stream ? stream : CU_STREAM_PER_THREAD;
}

/* event.c, module.c: what dies with a context */
void vgpu_events_forget(struct vgpu_context *context, uint64_t context_id);
void vgpu_modules_forget(struct vgpu_context *context, uint64_t context_id);
void vgpu_allocations_forget(struct vgpu_context *context, uint64_t context_id);

/* module.c */

struct vgpu_module;

struct vgpu_occupancy { /* an answer of the device that holds until an attribute changes */
	uint64_t shared_bytes;
	uint32_t block_threads; /* 0: no answer */
	uint32_t flags;
	int blocks;
};

#define VGPU_OCCUPANCIES 4

struct vgpu_function {
	struct vgpu_object object;
	struct vgpu_module *module;
	struct vgpu_function_info info;
	struct vgpu_parameter_info *parameters;
	_Atomic int dynamic_shared_limit; /* info.max_dynamic_shared_bytes, raised by
					     cuFuncSetAttribute */
	char *name;
	struct vgpu_execution *execution;		     /* execution_control.c, or NULL */
	struct vgpu_occupancy occupancies[VGPU_OCCUPANCIES]; /* guarded by occupancy.c */
	uint32_t occupancies_told;
	struct vgpu_function *next; /* in its module */
};

CUresult vgpu_function_resolve(CUfunction handle, struct vgpu_function **function);

/* occupancy.c */

/* An attribute of the function has changed. */
void vgpu_occupancies_forget(struct vgpu_function *function);
/* Whether a cooperative launch has more blocks than the device runs at a time: then 720. */
CUresult vgpu_occupancy_check(struct vgpu_function *function, const __u32 grid[3],
			      const __u32 block[3], size_t shared_bytes);

/* launch.c */

struct vgpu_launch { /* a kernel with all that a launch needs */
	struct vgpu_function *function;
	__u32 grid[3];
	__u32 block[3];
	unsigned int shared_bytes;
	void **parameters;
	void **extra;
	bool cooperative; /* its blocks may wait for each other */
};

/* Checks what CUDA checks; `packed` gets the parameter block of `extra`, or NULL. */
CUresult vgpu_launch_check(const struct vgpu_launch *launch, const void **packed);
/* Writes the command with its tail, of info.parameter_bytes. */
void vgpu_launch_encode(const struct vgpu_launch *launch, const void *packed, uint32_t stream,
			struct vgpu_cmd_launch_kernel *command);

/* capture.c: work of capturing streams becomes nodes of a graph. */

extern atomic_uint vgpu_captures; /* under way; 0: no stream is capturing */

struct vgpu_event_capture { /* where an event was recorded in a capture */
	uint64_t id;	    /* of the capture; 0: not recorded in one */
	struct vgpu_node_set *leaves;
};

CUresult vgpu_capture_kernel(const struct vgpu_stream_ref *ref, const struct vgpu_launch *launch,
			     const void *packed);
CUresult vgpu_capture_copy(const struct vgpu_stream_ref *ref, const CUDA_MEMCPY3D *copy);
CUresult vgpu_capture_memset(const struct vgpu_stream_ref *ref,
			     const CUDA_MEMSET_NODE_PARAMS *parameters);
/* A command of another library, complete but for the stream. */
CUresult vgpu_capture_command(const struct vgpu_stream_ref *ref, const void *command, size_t bytes);
CUresult vgpu_capture_host_function(const struct vgpu_stream_ref *ref, CUhostFn function,
				    void *data);
CUresult vgpu_capture_event_record(const struct vgpu_stream_ref *ref, CUevent event,
				   struct vgpu_event_capture *recorded, unsigned int flags);
/* cuStreamWaitEvent(); `captured` says that nothing is left to do outside the capture. */
CUresult vgpu_capture_event_wait(const struct vgpu_stream_ref *ref, CUevent event,
				 const struct vgpu_event_capture *recorded, unsigned int flags,
				 bool *captured);
/* A call about an event that waits or asks: refused where the event is in a capture. */
CUresult vgpu_capture_check_event(const struct vgpu_event_capture *recorded);
void vgpu_capture_forget_event(struct vgpu_event_capture *recorded);
/* What a stream that is looked up may do; `work` can be captured. */
CUresult vgpu_capture_admit(struct vgpu_stream_ref *ref, bool work);
/* A call that captures do not see: refused where the modes of threads and captures say so. */
CUresult vgpu_capture_check_unsafe(void);
/* A call that waits for a whole context. */
CUresult vgpu_capture_check_context(struct vgpu_context *context);
void vgpu_capture_forget_stream(struct vgpu_stream *stream);
void vgpu_captures_forget(struct vgpu_context *context, uint64_t context_id);
/* graph_exec.c */
void vgpu_graphs_forget(struct vgpu_context *context, uint64_t context_id);

/* event.c: an event of a live context, for a graph. */
CUresult vgpu_event_find(CUevent handle, struct vgpu_object **event);

/* jit_log.c */

#define VGPU_JIT_LOG_BYTES (16u << 10) /* of the device's log */

struct vgpu_jit_log { /* where the caller wants logs */
	char *error;
	char *info;
	size_t error_room;
	size_t info_room;
	void **error_size; /* out, in place of the option's value */
	void **info_size;
};

CUresult vgpu_jit_read_options(unsigned int count, const CUjit_option *options, void **values,
			       struct vgpu_jit_log *log);
/* The text is an error, or information where the status is CUDA_SUCCESS. */
void vgpu_jit_write_log(const struct vgpu_jit_log *log, CUresult status, const char *text,
			size_t bytes);

/* fatbin.c: picks and unpacks the image of a module. */

struct vgpu_image {
	const void *data;
	size_t size;
	uint32_t kind; /* VGPU_IMAGE_* */
	void *owned;   /* to free, or NULL */
};

CUresult vgpu_image_open(const void *image, struct vgpu_image *out);
void vgpu_image_close(struct vgpu_image *image);
/* module.c: reads a file that holds an image, and adds a NUL; free() it. */
CUresult vgpu_image_read(const char *path, void **image, size_t *size);
/* image_names.c: calls `visit` for the name of each kernel. */
typedef void (*vgpu_visit_name)(const char *name, size_t length, void *data);
/*
 * image_parameters.c: sizes of the parameters of a kernel whose name ends at `at`, in a PTX
 * text; their number, or UINT32_MAX where the text is not understood or `room` is too little.
 */
uint32_t vgpu_ptx_parameters(const char *at, uint32_t *sizes, uint32_t room);
void vgpu_image_each_kernel(const struct vgpu_image *image, vgpu_visit_name visit, void *data);

/* library.c: the function of a kernel (a CUkernel given as CUfunction) in the current context. */
CUresult vgpu_kernel_function(CUfunction handle, CUfunction *function);
/* lz4.c, zstd.c: bytes written, or -1 when the input is broken (zstd: or no decoder, errno ENOSYS).
 */
ptrdiff_t vgpu_lz4_decode(const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes);
ptrdiff_t vgpu_zstd_decode(const void *in, size_t in_bytes, void *out, size_t out_bytes);

/* ranges.c: address ranges by start, for device allocations and for host memory. */

enum vgpu_range_kind {
	VGPU_RANGE_DEVICE,	    /* cuMemAlloc */
	VGPU_RANGE_GLOBAL,	    /* variable of a module */
	VGPU_RANGE_HOST_ALLOCATED,  /* cuMemHostAlloc */
	VGPU_RANGE_HOST_REGISTERED, /* cuMemHostRegister */
};

struct vgpu_range {
	uint64_t start;
	uint64_t size;
	enum vgpu_range_kind kind;
	unsigned int flags; /* as given to cuMemHostAlloc or cuMemHostRegister */
	struct vgpu_context *context;
	uint64_t context_id;
	uint64_t unique;	      /* CU_POINTER_ATTRIBUTE_BUFFER_ID */
	uint64_t offset;	      /* of `start` in the registration */
	struct vgpu_host_block block; /* host ranges */
};

enum vgpu_side { VGPU_SIDE_DEVICE, VGPU_SIDE_HOST };

CUresult vgpu_ranges_insert(enum vgpu_side side, const struct vgpu_range *range);
/* The range that holds `address`; false: none. */
bool vgpu_ranges_overlap(enum vgpu_side side, uint64_t start, uint64_t size);
bool vgpu_ranges_find(enum vgpu_side side, uint64_t address, struct vgpu_range *range);
/* Takes out the range that starts at `address`. */
bool vgpu_ranges_remove(enum vgpu_side side, uint64_t address, struct vgpu_range *range);
/* Takes out one range of that life of a context; false: none left. */
bool vgpu_ranges_remove_of(enum vgpu_side side, const struct vgpu_context *context,
			   uint64_t context_id, struct vgpu_range *range);
uint64_t vgpu_unique(void); /* process-wide ids, never 0 */

/* staging.c: the way of memory that the device cannot reach. */

CUresult vgpu_staging_open(void);
CUresult vgpu_staging_write(const struct vgpu_stream_ref *ref, CUdeviceptr destination,
			    const void *source, size_t size, bool synchronous);
CUresult vgpu_staging_read(const struct vgpu_stream_ref *ref, void *destination, CUdeviceptr source,
			   size_t size);

/* One side of a rectangle to copy through staging. */
struct vgpu_rows {
	uint64_t start; /* device pointer, or host address */
	uint64_t pitch;
};

CUresult vgpu_staging_write_2d(const struct vgpu_stream_ref *ref, struct vgpu_rows device,
			       struct vgpu_rows host, size_t width, size_t height);
CUresult vgpu_staging_read_2d(const struct vgpu_stream_ref *ref, struct vgpu_rows device,
			      struct vgpu_rows host, size_t width, size_t height);

/* Room for a command's argument or reply; held until given back. */
struct vgpu_scratch {
	void *address;
	uint32_t registration;
	uint64_t offset;	      /* in the registration */
	struct vgpu_host_block block; /* where it has memory of its own */
};

CUresult vgpu_scratch_take(size_t bytes, struct vgpu_scratch *scratch);
void vgpu_scratch_give(struct vgpu_scratch *scratch);

/* output.c: puts what kernels have printed to standard output; for calls that have waited. */
void vgpu_output_print(void);

/* refused.c: calls that are not supported. */
/* Moves what was counted so far into the channel's memory. */
void vgpu_refused_publish(uint32_t *counters, struct vgpu_refused_call *calls);
void vgpu_refuse_named(const char *symbol);

/* error.c */
bool vgpu_error_is_sticky(CUresult status);

#endif /* VGPU_INTERNAL_H */
