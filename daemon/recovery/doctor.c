/* SPDX-License-Identifier: Apache-2.0 */
/* What is wrong with a state directory. */
#include "daemon/recovery/package_check.h"
#include "daemon/recovery/recovery.h"
#include "daemon/store/store.h"
#include "src/base/base.h"
#include "src/didi.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { DOCTOR_LINES_MAX = 20, DOCTOR_JOBS_READ = 64 };
#define DOCTOR_FREE_BYTES (UINT64_C(1) << 30) /* less is a warning */

typedef struct doctor {
    json_t *findings;
    size_t more;
    store_inspection *records;
    size_t strangers; /* directories without a row, or in lost */
    bool looks_in_lost;
} doctor;

static void find(doctor *self, const char *check, const char *state, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void find(doctor *self, const char *check, const char *state, const char *format, ...)
{
    char text[DIDI_ERROR_MESSAGE_BYTES_MAX];
    va_list arguments;
    char detail[DIDI_ERROR_MESSAGE_BYTES_MAX];
    va_start(arguments, format);
    (void)vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    text_copy_printable(text, sizeof text, detail);
    if (json_array_size(self->findings) < RECOVERY_FINDINGS_MAX)
        json_array_append_new(self->findings, json_pack("{s:s, s:s, s:s}", "check", check, "state",
                                                        state, "detail", text));
    else
        self->more++;
}

static void on_damage(void *context, const char *line)
{
    find(context, "database", "error", "%s", line);
}

static void check_database(doctor *self, const char *directory, bool *ret_current)
{
    didi_error error = {0};
    const size_t before = json_array_size(self->findings);
    int status = store_inspect_open(directory, &self->records, ret_current, &error);
    if (status == DIDI_OK)
        status = store_inspect_check(self->records, DOCTOR_LINES_MAX, on_damage, self, &error);
    if (status != DIDI_OK)
        find(self, "database", "error", "%s", error.message);
    else if (json_array_size(self->findings) == before)
        find(self, "database", "ok", "pages, indexes and references are whole");
    if (status == DIDI_OK && !*ret_current)
        find(self, "database", "warning",
             "it is of an older version; the next start of the daemon brings it to this one");
}

static void check_place(doctor *self, int state_fd, const char *directory)
{
    guard_report found = {.verdict = GUARD_GOOD};
    didi_error error = {0};
    if (guard_examine(state_fd, directory, &found, &error) != DIDI_OK)
        find(self, "place", "error", "%s", error.message);
    else if (found.verdict == GUARD_NEW)
        find(self, "place", "ok", "a fresh state directory: no database and no jobs yet");
    else if (found.verdict != GUARD_GOOD)
        find(self, "place", "error", "%s: didid recover, or didid restore", found.detail);
    else if (found.mark_damaged)
        find(self, "place", "warning", "didid.mark is damaged; the next start makes a new one");
    else
        find(self, "place", "ok", "the database is the one that was used last");
}

static int check_directory(void *context, const char *name, didi_error *error)
{
    doctor *self = context;
    bool known = false;
    if (!self->looks_in_lost && id_is_valid(name)) {
        int status = store_inspect_known(self->records, name, &known, error);
        if (status != DIDI_OK)
            return status;
    }
    if (known)
        return DIDI_OK;
    self->strangers++;
    if (self->strangers <= DOCTOR_LINES_MAX)
        find(self, self->looks_in_lost ? "lost" : "directories", "warning", "%s/%s %s",
             self->looks_in_lost ? "lost" : "jobs", name,
             self->looks_in_lost ? "was set aside: didid recover, or remove it"
                                 : "has no row: the daemon sets it aside when it starts");
    return DIDI_OK;
}

static void check_directories(doctor *self, int state_fd, const char *name, bool lost)
{
    didi_error error = {0};
    int fd = -1;
    self->strangers = 0;
    self->looks_in_lost = lost;
    int status = file_open_directory(state_fd, name, 0, &fd, &error);
    if (status == DIDI_OK)
        status = file_each_entry(fd, check_directory, self, &error);
    file_close(fd);
    const char *check = lost ? "lost" : "directories";
    if (status != DIDI_OK && status != DIDI_NOT_FOUND)
        find(self, check, "error", "%s: %s", name, error.message);
    else if (self->strangers == 0)
        find(self, check, "ok", lost ? "nothing is set aside" : "each has its row");
    else if (self->strangers > DOCTOR_LINES_MAX)
        find(self, check, "warning", "%zu more like these", self->strangers - DOCTOR_LINES_MAX);
}

static void check_disk(doctor *self, int state_fd)
{
    struct statvfs facts;
    if (fstatvfs(state_fd, &facts) != 0) {
        find(self, "disk", "error", "cannot ask for free space: %s", strerror(errno));
        return;
    }
    const uint64_t bytes = memory_multiply(facts.f_bavail, facts.f_frsize);
    find(self, "disk", bytes < DOCTOR_FREE_BYTES ? "warning" : "ok", "%llu bytes are free",
         (unsigned long long)bytes);
}

static void check_blas(doctor *self)
{
    didi_blas_info blas = {0};
    didi_blas_describe(&blas);
    find(self, "blas", strcmp(blas.flavour, "openmp") == 0 ? "warning" : "ok", "%s, %s, %s, %s",
         blas.library, blas.flavour, blas.kernel, blas.version);
}

/* What contradicts itself or the machine. */
static void check_settings(doctor *self, const config *settings, int state_fd)
{
    const long pages = sysconf(_SC_PHYS_PAGES);
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    const uint64_t memory = pages > 0 ? (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
    struct statvfs disk;
    size_t before = json_array_size(self->findings);
    if (memory > 0 && settings->memory_limit > memory)
        find(self, "settings", "warning", "memory_limit is %llu bytes, the machine has %llu",
             (unsigned long long)settings->memory_limit, (unsigned long long)memory);
    if (processors > 0 && settings->workers > (size_t)processors)
        find(self, "settings", "warning", "workers is %zu, the machine has %ld processors",
             settings->workers, processors);
    if (fstatvfs(state_fd, &disk) == 0 &&
        settings->keep_spectra_bytes > memory_multiply(disk.f_blocks, disk.f_frsize))
        find(self, "settings", "warning",
             "keep_spectra_bytes is %llu, more than the disk of the state directory has",
             (unsigned long long)settings->keep_spectra_bytes);
    for (size_t i = 0; i < settings->model_count; i++)
        if (access(settings->models[i], R_OK | X_OK) != 0)
            find(self, "settings", "error", "models: %s: %s", settings->models[i], strerror(errno));
    if (json_array_size(self->findings) == before)
        find(self, "settings", "ok", "nothing is at odds");
}

int doctor_examine(const char *directory, const config *settings, bool served, json_t **ret_report,
                   didi_error *error)
{
    doctor self = {.findings = json_array()};
    bool current = false;
    int state_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (state_fd < 0) {
        json_decref(self.findings);
        return didi_fail_errno(error, errno, directory, "cannot open %s", directory);
    }
    if (!served)
        check_place(&self, state_fd, directory);
    check_database(&self, directory, &current);
    current = current && self.records != NULL;
    if (current)
        check_directories(&self, state_fd, "jobs", false);
    check_directories(&self, state_fd, "lost", true);
    check_disk(&self, state_fd);
    check_blas(&self);
    if (settings != NULL)
        check_settings(&self, settings, state_fd);
    store_inspect_close(self.records);
    (void)close(state_fd);
    json_t *report = json_pack("{s:O, s:I, s:s, s:s, s:b}", "findings", self.findings, "more",
                               (json_int_t)self.more, "version", didi_version(), "sqlite",
                               store_library_version(), "jobs_can_be_checked", current);
    json_decref(self.findings);
    if (report == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    *ret_report = report;
    return DIDI_OK;
}

/* ---- jobs ---- */

typedef struct job_page {
    doctor doctor;
    int jobs_fd;
    size_t jobs;
    uint64_t files, bytes;
    char last[ID_BYTES];
    bool over; /* no job comes after */
} job_page;

static void check_job(job_page *self, const store_inspected_job *job)
{
    didi_error error = {0};
    package_facts facts = {0};
    self->jobs++;
    memcpy(self->last, job->id, ID_BYTES);
    if (!job->specified)
        find(&self->doctor, "jobs", "error", "%s: its specification is damaged or missing",
             job->id);
    if (job->state == JOB_SUCCEEDED &&
        package_check(self->jobs_fd, job->id, &facts, &error) != DIDI_OK)
        find(&self->doctor, "jobs", "error", "%s: %s", job->id, error.message);
    json_decref(facts.manifest);
    self->files += facts.files;
    self->bytes += facts.bytes;
}

static int check_jobs(job_page *self, didi_error *error)
{
    const int64_t began = clock_monotonic_ms();
    while (self->jobs < RECOVERY_PAGE_JOBS) {
        store_inspected_job rows[DOCTOR_JOBS_READ];
        size_t count = 0;
        int status = store_inspect_jobs(self->doctor.records, self->last, DOCTOR_JOBS_READ, rows,
                                        &count, error);
        if (status != DIDI_OK)
            return status;
        for (size_t i = 0; i < count; i++) {
            check_job(self, &rows[i]);
            if (clock_monotonic_ms() - began > RECOVERY_PAGE_SECONDS * 1000)
                return DIDI_OK;
        }
        self->over = count == 0;
        if (self->over)
            return DIDI_OK;
    }
    return DIDI_OK;
}

int doctor_examine_jobs(const char *directory, const char *after, json_t **ret_page,
                        didi_error *error)
{
    job_page self = {.doctor = {.findings = json_array()}, .jobs_fd = -1};
    bool current = false;
    int state_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    (void)snprintf(self.last, sizeof self.last, "%s", after);
    int status = state_fd >= 0
                     ? store_inspect_open(directory, &self.doctor.records, &current, error)
                     : didi_fail_errno(error, errno, directory, "cannot open %s", directory);
    if (status == DIDI_OK && !current)
        status = didi_fail(error, DIDI_CONFLICT, "didid.db", "the database is of an older version");
    if (status == DIDI_OK)
        status = file_open_directory(state_fd, "jobs", 0, &self.jobs_fd, error);
    if (status == DIDI_OK)
        status = check_jobs(&self, error);
    store_inspect_close(self.doctor.records);
    file_close(self.jobs_fd);
    file_close(state_fd);
    json_t *page = json_pack("{s:O, s:I, s:I, s:I, s:I, s:s?}", "findings", self.doctor.findings,
                             "more", (json_int_t)self.doctor.more, "jobs", (json_int_t)self.jobs,
                             "files", (json_int_t)self.files, "bytes", (json_int_t)self.bytes,
                             "next", self.over ? NULL : self.last);
    json_decref(self.doctor.findings);
    if (status == DIDI_OK && page == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    if (status == DIDI_OK)
        *ret_page = page;
    else
        json_decref(page);
    return status;
}

bool doctor_found_errors(const json_t *findings)
{
    const json_t *finding = NULL;
    size_t index = 0;
    json_array_foreach(findings, index, finding)
    {
        const char *state = json_string_value(json_object_get(finding, "state"));
        if (state != NULL && strcmp(state, "error") == 0)
            return true;
    }
    return false;
}
