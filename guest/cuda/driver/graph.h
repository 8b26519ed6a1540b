/* SPDX-License-Identifier: MIT */
/*
 * Graphs as the library keeps them: nodes with what they do and what they wait
 * for. The device gets a graph when it is instantiated (graph_upload.c); until then
 * a node can be looked at and changed here without asking it.
 * Everything in this file is guarded by vgpu_graph_lock.
 */
#ifndef VGPU_GRAPH_H
#define VGPU_GRAPH_H

#include "internal.h"

extern pthread_mutex_t vgpu_graph_lock;

struct vgpu_node;

struct vgpu_node_set {
	struct vgpu_node **nodes;
	uint32_t count;
	uint32_t room;
	CUgraphEdgeData *edges; /* what cuStreamGetCaptureInfo() gives out: all zero */
};

bool vgpu_set_holds(const struct vgpu_node_set *set, const struct vgpu_node *node);
CUresult vgpu_set_add(struct vgpu_node_set *set, struct vgpu_node *node); /* once */
CUresult vgpu_set_add_all(struct vgpu_node_set *set, const struct vgpu_node_set *more);
void vgpu_set_remove(struct vgpu_node_set *set, const struct vgpu_node *node);
void vgpu_set_free(struct vgpu_node_set *set);

struct vgpu_graph {
	struct vgpu_object object;
	struct vgpu_node *first;
	struct vgpu_node **last;
	uint32_t count;
	uint32_t id;
	uint32_t next_node_id;
	struct vgpu_retained *retained; /* user_object.c */
	bool capturing;			/* a capture adds nodes to it */
	bool owned;			/* by a child graph node or an executable graph */
	uint32_t original_id;		/* of a clone: the graph that it was made of */
};

/* What a node does beyond its type. */
struct vgpu_node_kernel {
	struct vgpu_function *function; /* may be unloaded; NULL: work of another library */
	void **parameters;		/* into `command` */
	uint32_t parameter_count;
};

struct vgpu_node {
	struct vgpu_object object; /* its context is the one that it runs in, or NULL */
	struct vgpu_graph *graph;
	struct vgpu_node *next;
	struct vgpu_node *original; /* of a clone; may be gone */
	uint64_t serial;	    /* unlike its address, never used again */
	uint64_t original_serial;
	struct vgpu_node_set dependencies;
	CUgraphNodeType type;
	uint32_t id;
	uint32_t place; /* in the order of the device, while it is sent */
	uint32_t stage; /* most host functions on a way to the graph's beginning */
	bool placed;
	bool disabled;
	struct vgpu_host_block *stand_in; /* graph_copy.c */
	uint8_t *command;		  /* of the ring; NULL where it follows from the rest */
	size_t command_bytes;
	union {
		struct vgpu_node_kernel kernel;
		CUDA_MEMCPY3D *copy;
		CUDA_MEMSET_NODE_PARAMS memset;
		CUDA_HOST_NODE_PARAMS host;
		CUevent event;
		struct vgpu_graph *child;
	};
};

/* graph.c */
/* Take the lock and look a handle up; the lock is held only when they succeed. */
CUresult vgpu_enter_graph(CUgraph handle, struct vgpu_graph **graph);
CUresult vgpu_enter_node(CUgraphNode handle, struct vgpu_node **node);
/* Gives the lock back, and runs destructors of user objects (user_object.c). */
CUresult vgpu_leave_graphs(CUresult status);
CUresult vgpu_graph_create(struct vgpu_graph **graph);
void vgpu_graph_destroy(struct vgpu_graph *graph);
CUresult vgpu_graph_clone(const struct vgpu_graph *graph, struct vgpu_graph **clone);
struct vgpu_graph *vgpu_graph_from_handle(CUgraph handle); /* NULL: there is none */
struct vgpu_node *vgpu_node_from_handle(CUgraphNode handle);
/* A node without contents behind what it depends on; nothing is added when it fails. */
CUresult vgpu_node_add(struct vgpu_graph *graph, CUgraphNodeType type,
		       const struct vgpu_node_set *dependencies, struct vgpu_node **node);
CUresult vgpu_node_add_to(CUgraph handle, CUgraphNodeType type, const CUgraphNode *dependencies,
			  size_t count, struct vgpu_node **node);
void vgpu_node_remove(struct vgpu_node *node);
void vgpu_node_run_in(struct vgpu_node *node, struct vgpu_context *context);
/* The node of a clone that was made of `original`; NULL: none. */
struct vgpu_node *vgpu_node_in_clone(const struct vgpu_graph *clone,
				     const struct vgpu_node *original);
CUresult vgpu_edges_plain(const CUgraphEdgeData *data, size_t count);

/* user_object.c: what a graph holds, for its clone too; and when it goes. */
CUresult vgpu_user_objects_share(struct vgpu_graph *clone, const struct vgpu_graph *graph);
void vgpu_user_objects_drop(struct vgpu_graph *graph);

/* graph_nodes.c: contents of nodes, checked as the calls that they stand for. */
CUresult vgpu_node_set_command(struct vgpu_node *node, const void *command, size_t bytes);
CUresult vgpu_node_set_launch(struct vgpu_node *node, const struct vgpu_launch *launch,
			      const void *packed);
CUresult vgpu_node_set_child(struct vgpu_node *node, const struct vgpu_graph *graph);
CUresult vgpu_node_set_kernel(struct vgpu_node *node, const CUDA_KERNEL_NODE_PARAMS *parameters);
CUresult vgpu_node_set_copy(struct vgpu_node *node, struct vgpu_context *context,
			    const CUDA_MEMCPY3D *copy);
CUresult vgpu_node_set_memset(struct vgpu_node *node, struct vgpu_context *context,
			      const CUDA_MEMSET_NODE_PARAMS *parameters);
CUresult vgpu_node_set_host(struct vgpu_node *node, const CUDA_HOST_NODE_PARAMS *parameters);
CUresult vgpu_node_set_event(struct vgpu_node *node, CUevent event);
CUresult vgpu_node_copy_contents(struct vgpu_node *node, const struct vgpu_node *from);
/* Whether what a node of an executable graph does may become what the other does. */
CUgraphExecUpdateResult vgpu_node_compare(const struct vgpu_node *node,
					  const struct vgpu_node *other);
void vgpu_node_clear(struct vgpu_node *node);

/* graph_node_api.c, graph_generic.c */
/* The context that a node shall run in; NULL: the current one. */
CUresult vgpu_node_context(CUcontext handle, struct vgpu_context **context);
CUresult vgpu_node_set_params(struct vgpu_node *node, const CUgraphNodeParams *parameters);

/* graph_copy.c */

struct vgpu_copy_side { /* one side of a copy */
	bool device;
	uint64_t start; /* of the first byte */
	uint64_t span;	/* from the first to the last byte */
	uint64_t pitch;
	uint64_t slice;
	uint32_t registration; /* of host memory, 0: out of the device's reach ... */
	uint64_t offset;       /* ... and where in it the first byte is */
};

CUresult vgpu_copy_check(const CUDA_MEMCPY3D *copy);
bool vgpu_copies_nothing(const CUDA_MEMCPY3D *copy);
CUresult vgpu_copy_sides(const CUDA_MEMCPY3D *copy, struct vgpu_copy_side *to,
			 struct vgpu_copy_side *from);

/* Stand-ins for host memory that the device cannot reach, of an executable graph's nodes. */
enum vgpu_move {
	VGPU_FILL,  /* from the program's memory */
	VGPU_EMPTY, /* into the program's memory */
	VGPU_LOOK,  /* only look whether there are any to empty */
};

CUresult vgpu_stand_ins_make(struct vgpu_graph *graph, bool *any);
void vgpu_stand_ins_release(struct vgpu_graph *graph); /* once no launch uses them */
/* Those of one stage; whether there were any. */
bool vgpu_stand_ins_move(const struct vgpu_graph *graph, uint32_t stage, enum vgpu_move move);

/* graph_upload.c: the form in which the device gets a graph (struct vgpu_graph_node). */

struct vgpu_nodes_writer {
	uint8_t *data;
	size_t bytes;
	size_t room;
	uint32_t nodes;
	uint32_t kernels;
	bool names_host_memory;
	struct vgpu_context *context; /* of all nodes so far; NULL: none yet */
	struct vgpu_node *failed;     /* the node that made it fail, or NULL */
};

/* Host functions cut a graph into stages: their number. Refuses cycles. */
CUresult vgpu_graph_stages(struct vgpu_graph *graph, uint32_t *count);
/* The nodes of one stage that are the device's. */
CUresult vgpu_graph_write(struct vgpu_graph *graph, uint32_t stage,
			  struct vgpu_nodes_writer *writer);

/* graph_exec.c */

struct vgpu_stage { /* a part of a graph on the device; 0: nothing of it is the device's */
	uint32_t remote;
	uint32_t kernels;
	uint8_t *sent; /* its nodes, as the device has them; NULL: they name host memory */
	size_t sent_bytes;
};

struct vgpu_exec {
	struct vgpu_object object;
	struct vgpu_graph *graph;
	uint64_t flags;
	uint32_t id;
	bool changed; /* the device does not have the last changes yet */
	bool has_host_functions;
	bool has_stand_ins;
	uint32_t stage_count;
	struct vgpu_stage *stages; /* host functions run behind all but the last */
	struct vgpu_stream_ref
		latest; /* of a graph that needs the host: where it was launched last */
};

/* Takes the lock and looks a handle up; the lock is held only when it succeeds. */
CUresult vgpu_enter_exec(CUgraphExec handle, struct vgpu_exec **exec);
CUresult vgpu_exec_send(struct vgpu_exec *exec); /* its nodes, to the device */
/* capture.c */
CUresult vgpu_capture_graph_launch(const struct vgpu_stream_ref *ref,
				   const struct vgpu_graph *graph);

/* capture.c */

struct vgpu_capture {
	uint64_t id;
	CUstreamCaptureMode mode;
	pthread_t thread; /* that began it */
	struct vgpu_stream *origin;
	struct vgpu_graph *graph;
	bool to_graph; /* the graph is the program's already */
	bool invalidated;
	struct vgpu_capture *next;
};

/* Takes over `graph`; NULL: makes one. */
CUresult vgpu_capture_begin(struct vgpu_stream *stream, CUstreamCaptureMode mode,
			    struct vgpu_graph *graph, const struct vgpu_node_set *dependencies);
void vgpu_capture_invalidate(struct vgpu_capture *capture);
void vgpu_capture_end(struct vgpu_capture *capture);	 /* its graph stays */
void vgpu_capture_abandon(struct vgpu_capture *capture); /* so does a graph of the program's */
/* Refuses where the legacy stream would have to wait for captures; may invalidate them. */
CUresult vgpu_capture_check_legacy(const struct vgpu_context *context, bool invalidating);

#endif /* VGPU_GRAPH_H */
