/* SPDX-License-Identifier: Apache-2.0 */
/* Status codes and the error object every fallible function of the project fills. */
#pragma once

/* One row per status: enumerator, stable name used in logs, manifests and problem types. */
#define DIDI_STATUS_TABLE(X)                                                                       \
    X(OK, "ok")                                                                                    \
    X(INVALID, "invalid_argument")  /* an option or value the caller set cannot be used */         \
    X(FORMAT, "malformed_file")     /* a file's bytes are not what its format demands */           \
    X(MISMATCH, "models_differ")    /* inputs do not belong to one family */                       \
    X(BUDGET, "budget_unreachable") /* no package fits the budget */                               \
    X(MEMORY_LIMIT, "memory_limit") /* the limit is below what one layer needs */                  \
    X(NO_MEMORY, "out_of_memory")   /* allocation failed */                                        \
    X(NOT_FOUND, "not_found")       /* a named file, model or tensor does not exist */             \
    X(IO, "io_error")               /* the operating system refused a file operation */            \
    X(DISK_FULL, "disk_full")       /* ENOSPC or EDQUOT while writing */                           \
    X(NUMERIC, "numeric_failure")   /* NaN, Inf or a decomposition that does not converge */       \
    X(CHANGED, "input_changed")     /* an input file was replaced or modified while in use */      \
    X(CANCELLED, "cancelled")       /* the caller asked to stop */                                 \
    X(CONFLICT, "conflict")         /* the object's state forbids it, or another holds it */       \
    X(WORKER_LOST, "worker_lost")   /* a thread hangs in the work */                               \
    X(SCORER, "scorer_failed")      /* the operator's scorer gives no number */                    \
    X(UNAVAILABLE, "scheduler_unavailable") /* the scheduler of a cluster does not answer now */   \
    X(CLUSTER, "cluster_failed")  /* the scheduler refuses work, or work on the cluster fails */   \
    X(STORAGE, "storage_failed")  /* object storage refuses, or does not answer as it should */    \
    X(INTERNAL, "internal_error") /* our own mistake */

typedef enum didi_status {
#define DIDI_STATUS_ENUMERATOR(id, name) DIDI_##id,
    DIDI_STATUS_TABLE(DIDI_STATUS_ENUMERATOR)
#undef DIDI_STATUS_ENUMERATOR
        DIDI_STATUS_COUNT
} didi_status;

enum { DIDI_ERROR_MESSAGE_BYTES_MAX = 1024, DIDI_ERROR_SUBJECT_BYTES_MAX = 512 };

/* A plain value owned by the caller (usually on its stack), so it needs no lock and no free.
 * Initialise with {0}. A function that returns non-zero has filled it; one that returns 0 has not
 * touched it. `subject` names the input at fault (file, tensor, field), or is empty. */
typedef struct didi_error {
    int status;       /* didi_status */
    int line;         /* where it was raised */
    const char *file; /* static string */
    char subject[DIDI_ERROR_SUBJECT_BYTES_MAX];
    char message[DIDI_ERROR_MESSAGE_BYTES_MAX]; /* one line, ends without a full stop or newline */
} didi_error;

/* Stable name of a status ("ok", "malformed_file", ...); "unknown" outside the table. Static. */
const char *didi_status_name(int status);

/* Fills *error (may be NULL) and returns `status`, so that callers write
 * `return didi_fail(error, DIDI_FORMAT, path, "header of %zu bytes ...", n);`.
 * `subject` may be NULL. Over-long texts are cut at a UTF-8 character boundary; what must not be
 * shown raw is escaped (text_copy_printable). */
#define didi_fail(error, status, subject, ...)                                                     \
    didi_error_failed(didi_error_set((error), (status), __FILE__, __LINE__, (subject), __VA_ARGS__))

/* As didi_fail, for a failed system call: appends strerror(errno_value) and picks DIDI_DISK_FULL
 * for ENOSPC/EDQUOT, DIDI_NOT_FOUND for ENOENT/ENOTDIR, DIDI_NO_MEMORY for ENOMEM, else DIDI_IO. */
#define didi_fail_errno(error, errno_value, subject, ...)                                          \
    didi_error_failed(                                                                             \
        didi_error_set_errno((error), (errno_value), __FILE__, __LINE__, (subject), __VA_ARGS__))

/* The status of a failure, never DIDI_OK: readers and analysers of the code may rely on it. */
static inline int didi_error_failed(int status)
{
    return status == DIDI_OK ? DIDI_INTERNAL : status;
}

int didi_error_set(didi_error *error, int status, const char *file, int line, const char *subject,
                   const char *format, ...) __attribute__((format(printf, 6, 7)));
int didi_error_set_errno(didi_error *error, int errno_value, const char *file, int line,
                         const char *subject, const char *format, ...)
    __attribute__((format(printf, 6, 7)));

/* Puts "context: " before the message of an error being passed up. Returns error->status (for a
 * NULL error DIDI_INTERNAL: keep the status apart where NULL may come in). */
int didi_error_wrap(didi_error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Makes the subject of an error being passed up "input: part". */
void didi_error_blame(didi_error *error, const char *input, const char *part);
