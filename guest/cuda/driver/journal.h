/* SPDX-License-Identifier: MIT */
/*
 * The journal: what a process asked of the library and what failed, one JSON object a
 * line in the folder that VGPU_STUB_JOURNAL names, one file a process. `vgpu-stub
 * explain` reads it (docs/explain.md). With VGPU_STUB_JOURNAL_CALLS=all it has every
 * call, for `vgpu-stub trace` (docs/call-trace.md). Without the variables a call pays
 * one load and one branch, and each command in the ring another.
 */
#ifndef VGPU_JOURNAL_H
#define VGPU_JOURNAL_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

const char *vgpu_error_name(int status); /* error.c */

extern bool vgpu_journal_on; /* constant after the library was loaded */

/* A call in progress, on the stack of its thread. */
struct vgpu_journal_span {
	struct vgpu_journal_span *outer; /* the call that has called back to who calls now */
	uint64_t begin_ns;
	uint64_t first_command, last_command; /* from 1; 0 for none */
	uint64_t answered;		      /* sequence; 0 for none */
};

/* What a call has put where a pointer of its caller points. */
enum vgpu_given {
	VGPU_GIVEN_INT,
	VGPU_GIVEN_UNSIGNED,
	VGPU_GIVEN_LONG, /* 64 bits without a sign */
	VGPU_GIVEN_ADDRESS,
	VGPU_GIVEN_FLOAT,
};

void vgpu_journal_begin(struct vgpu_journal_span *span, const char *symbol);
/* A call has returned. The first call of a function is written down, and every failure
 * that differs from the function's last; every call where all are wanted. */
__attribute__((format(printf, 5, 6))) void vgpu_journal_call(const struct vgpu_journal_span *span,
							     unsigned int id, const char *symbol,
							     int status, const char *format, ...);
/* Arguments as text, valid until the thread has asked for eight more. */
const char *vgpu_journal_text(const char *text);
const char *vgpu_journal_given(const void *place, enum vgpu_given kind, int status);
/* The thread has put the command of that number into the ring. */
void vgpu_journal_command(uint64_t number);
/* The thread has waited for the answer to the command of that sequence. */
void vgpu_journal_answer(uint64_t sequence);
/* A reason that the library gives in words. */
void vgpu_journal_note(const char *text);
/* The device is open. */
void vgpu_journal_device(const char *name, const char *transport, const char *executor, int version,
			 int major, int minor);
/* cuGetProcAddress did not know `name`, or not in that version. */
void vgpu_journal_missing(const char *name, int version);
/* cuGetExportTable was asked for a table that does not exist; 16 bytes. */
void vgpu_journal_export_table(const void *id);
/* A call was answered with "not supported". */
void vgpu_journal_refused(const char *symbol);

#endif /* VGPU_JOURNAL_H */
