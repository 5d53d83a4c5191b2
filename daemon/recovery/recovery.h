/* SPDX-License-Identifier: Apache-2.0 */
/* What is wrong with a state directory, and getting jobs back whose rows were lost.
 *
 * Short on memory whatever lies there: one manifest and one directory entry at a time. */
#pragma once

#include "daemon/base/base.h"
#include "src/base/base.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    RECOVERY_FINDINGS_MAX = 200, /* in one report; more are counted */
    RECOVERY_PAGE_JOBS = 200,    /* looked at in one page */
    RECOVERY_PAGE_SECONDS = 2,   /* after which a page ends, with one job at least */
};

/* ---- doctor.c ---- */

/* Findings are {"check", "state": "ok" | "warning" | "error", "detail"}. */

/* Looks at the database, directories without a row, what is set aside, disk and BLAS. `settings`
 * may be NULL: not known; `served`: a daemon uses the directory. *ret_report is {"findings",
 * "more", "version", "jobs_can_be_checked"}, the caller's. Errors: DIDI_NOT_FOUND (no directory),
 * DIDI_NO_MEMORY, DIDI_IO. */
int doctor_examine(const char *directory, const config *settings, bool served, json_t **ret_report,
                   didi_error *error);

/* Compares the files of succeeded jobs with their manifests, from the job after `after` ("" for the
 * first) on. *ret_page is {"findings", "jobs", "files", "bytes", "next": id or null}. Errors: those
 * of store_inspect_open. */
int doctor_examine_jobs(const char *directory, const char *after, json_t **ret_page,
                        didi_error *error);

/* True if the array has a finding that is an error. */
bool doctor_found_errors(const json_t *findings);

/* ---- recover.c ---- */

/* Rebuilds rows of succeeded jobs from jobs/ and lost/ of a state directory that nobody uses and,
 * where the settings name an artifact_store, from the jobs that lie there. Makes a new database
 * where there is none that can be used, and sets that aside. Says on stderr what it does.
 * *ret_report is {"rebuilt", "known", "left": [{"name", "reason"}], "more", "database_aside"}, the
 * caller's. Errors: DIDI_CONFLICT (in use, too new), DIDI_NOT_FOUND, DIDI_INVALID (a setting),
 * DIDI_IO, DIDI_DISK_FULL, DIDI_NO_MEMORY. */
int recovery_recover(const char *directory, const config *settings, json_t **ret_report,
                     didi_error *error);

/* ---- tools.c ---- */

/* `didid recover`, `didid restore` and `didid doctor`; argv[0] is that word. Returns the exit code:
 * 0 well, 1 something is wrong, 2 usage. */
int recovery_main(int argc, char **argv);
bool recovery_is_tool(const char *word);
