/* SPDX-License-Identifier: MIT */
/*
 * The journal: what a process asked of the library and what failed, one JSON object a
 * line in the folder that VGPU_STUB_JOURNAL names, one file a process. `vgpu-stub
 * explain` reads it (docs/explain.md). Without the variable a call pays one load and
 * one branch.
 */
#ifndef VGPU_JOURNAL_H
#define VGPU_JOURNAL_H

#include <stdarg.h>
#include <stdbool.h>

const char *vgpu_error_name(int status); /* error.c */

extern bool vgpu_journal_on; /* constant after the library was loaded */

/* A call has returned. The first call of a function is written down, and every failure
 * that differs from the function's last. */
__attribute__((format(printf, 4, 5))) void vgpu_journal_call(unsigned int id, const char *symbol,
							     int status, const char *format, ...);
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
