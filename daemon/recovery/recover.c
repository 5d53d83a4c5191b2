/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of succeeded jobs from what lies in their directories. */
#include "daemon/recovery/package_check.h"
#include "daemon/recovery/recovery.h"
#include "daemon/recovery/stored.h"
#include "daemon/store/store.h"
#include "proto/proto.h"
#include "src/base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct recovery {
    store *records;
    stored *stored; /* NULL: no settings of S3 */
    int parent_fd, jobs_fd, lost_fd, trash_fd;
    bool from_lost; /* else from jobs/ */
    size_t rebuilt, known, more;
    json_t *left;
} recovery;

static void leave(recovery *self, const char *name, const char *reason)
{
    fprintf(stderr, "didid recover: %s: %s\n", name, reason);
    if (json_array_size(self->left) < RECOVERY_FINDINGS_MAX)
        json_array_append_new(self->left, json_pack("{s:s, s:s}", "name", name, "reason", reason));
    else
        self->more++;
}

/* When the manifest was written, which is when the job ended. */
static int64_t finished_ms(int parent_fd, const char *id)
{
    struct stat facts;
    char path[ID_BYTES + 32];
    (void)snprintf(path, sizeof path, "%s/artifacts/manifest.json", id);
    if (fstatat(parent_fd, path, &facts, AT_SYMLINK_NOFOLLOW) != 0)
        return clock_now_ms();
    return (int64_t)facts.st_mtim.tv_sec * 1000 + facts.st_mtim.tv_nsec / 1000000;
}

static double number_of(const json_t *section, const char *key)
{
    const json_t *value = json_object_get(section, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static int insert(recovery *self, const char *id, const specification *wanted,
                  const json_t *manifest, didi_error *error)
{
    char *text = NULL;
    char *labels = NULL;
    const double seconds =
        json_number_value(json_object_get(json_object_get(manifest, "seconds"), "total"));
    int status = specification_render(wanted, &text, error);
    if (status == DIDI_OK)
        status = specification_render_labels(wanted, &labels, error);
    store_rebuilt_job job = {.id = id,
                             .name = wanted->name,
                             .base = wanted->base,
                             .specification = text,
                             .labels = labels,
                             .priority = (int)wanted->priority,
                             .created_ms = id_milliseconds(id),
                             .finished_ms = finished_ms(self->parent_fd, id),
                             .note = "rebuilt from the manifest"};
    const json_t *budget = json_object_get(manifest, "budget");
    job.result =
        (store_result){.error = number_of(json_object_get(manifest, "error"), "relative"),
                       .ratio = number_of(budget, "bytes_ratio_16bit"),
                       .bytes = (uint64_t)json_integer_value(json_object_get(budget, "bytes"))};
    const double most = (double)(job.finished_ms - job.created_ms);
    const double took = isfinite(seconds) && seconds > 0 ? seconds * 1000 : 0;
    job.started_ms = job.finished_ms - (int64_t)(took < most ? took : fmax(most, 0));
    if (status == DIDI_OK)
        status = store_job_rebuild(self->records, &job, error);
    free(text);
    free(labels);
    return status;
}

/* Errors: those of specification_parse. */
static int read_specification(const json_t *manifest, specification **ret_wanted, didi_error *error)
{
    char *text = json_dumps(json_object_get(manifest, "specification"), JSON_COMPACT);
    const size_t bytes = text != NULL ? strlen(text) : 0;
    int status =
        text != NULL
            ? specification_parse(text, bytes, LIMIT_BODY_BYTES, ret_wanted, error)
            : didi_fail(error, DIDI_FORMAT, "manifest.json", "the manifest has no specification");
    free(text);
    return status;
}

/* What is at S3 alone must be there as its record says. */
static int check_stored(const recovery *self, const char *id, didi_error *error)
{
    int job_fd = -1;
    if (self->stored == NULL)
        return didi_fail(
            error, DIDI_INVALID, id,
            "files of it are at S3 alone: say artifact_store and s3_* (--config FILE)");
    int status = file_open_directory(self->parent_fd, id, 0, &job_fd, error);
    if (status == DIDI_OK)
        status = stored_check(self->stored, job_fd, error);
    file_close(job_fd);
    return status;
}

static bool is_whole_at_s3(const recovery *self, const char *id)
{
    const stored_job *job = self->stored != NULL ? stored_find(self->stored, id) : NULL;
    return job != NULL && job->whole;
}

/* Compares all files of a job; where here is not enough to go by, makes it from the bucket. */
static int check_files(const recovery *self, const char *id, package_facts *ret_facts,
                       didi_error *error)
{
    int status = package_check(self->parent_fd, id, ret_facts, error);
    if (status == DIDI_OK && ret_facts->at_s3)
        return check_stored(self, id, error);
    if (status != DIDI_NOT_FOUND || !is_whole_at_s3(self, id))
        return status;
    *error = (didi_error){0};
    fprintf(stderr, "didid recover: %s: comparing objects at S3 with the manifest there\n", id);
    status = stored_rebuild(self->stored, self->parent_fd, id, error);
    return status == DIDI_OK ? package_check(self->parent_fd, id, ret_facts, error) : status;
}

static int find_files(const recovery *self, const char *id, didi_error *error)
{
    package_facts facts = {0};
    int status = check_files(self, id, &facts, error);
    json_decref(facts.manifest);
    return status;
}

/* Digests are compared and the specification is read as a client's is. */
static int rebuild(recovery *self, const char *id, didi_error *error)
{
    package_facts facts = {0};
    specification *wanted = NULL;
    int status = check_files(self, id, &facts, error);
    if (status == DIDI_OK)
        status = read_specification(facts.manifest, &wanted, error);
    /* A crash after the rename leaves a directory in jobs/ without a row: found again. */
    if (status == DIDI_OK && self->from_lost &&
        renameat2(self->lost_fd, id, self->jobs_fd, id, RENAME_NOREPLACE) != 0)
        status = didi_fail_errno(error, errno, id, "cannot move it back to jobs");
    if (status == DIDI_OK && self->from_lost) {
        self->parent_fd = self->jobs_fd;
        status = file_sync(self->jobs_fd, "jobs", error);
    }
    if (status == DIDI_OK)
        status = insert(self, id, wanted, facts.manifest, error);
    if (self->from_lost)
        self->parent_fd = self->lost_fd;
    specification_free(wanted);
    json_decref(facts.manifest);
    return status;
}

static bool is_unfinished(const recovery *self, const char *id)
{
    struct stat facts;
    char path[ID_BYTES + 32];
    (void)snprintf(path, sizeof path, "%s/artifacts/manifest.json", id);
    return fstatat(self->parent_fd, path, &facts, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT;
}

/* Of a job that has a row the files alone. Errors: those that the next job would meet too. */
static int rebuild_or_leave(recovery *self, const char *id, store_knowledge known,
                            didi_error *error)
{
    didi_error why = {0};
    const bool has_row = known == STORE_JOB_KNOWN;
    const int status = has_row ? find_files(self, id, &why) : rebuild(self, id, &why);
    self->known += has_row;
    self->rebuilt += status == DIDI_OK && !has_row;
    if (status == DIDI_NO_MEMORY || status == DIDI_DISK_FULL)
        return didi_fail(error, why.status, why.subject, "%s", why.message);
    if (status != DIDI_OK)
        leave(self, id, why.message);
    return DIDI_OK;
}

static int visit(void *context, const char *name, didi_error *error)
{
    recovery *self = context;
    store_knowledge known = STORE_JOB_UNKNOWN;
    if (!id_is_valid(name)) {
        leave(self, name, "not the id of a job; left where it is");
        return DIDI_OK;
    }
    int status = store_job_known(self->records, name, &known, error);
    if (status != DIDI_OK)
        return status;
    if (known != STORE_JOB_UNKNOWN) {
        self->known++;
        if (self->from_lost)
            leave(self, name, "there is a job of this id; left in lost");
        return DIDI_OK;
    }
    if (is_unfinished(self, name) && !is_whole_at_s3(self, name)) {
        leave(self, name,
              "has no manifest: the job had not finished, and what it was asked for is "
              "not known; submit it again");
        return DIDI_OK;
    }
    fprintf(stderr, "didid recover: %s: comparing files with the manifest\n", name);
    return rebuild_or_leave(self, name, known, error);
}

/* A job of the bucket that has no directory here. */
static int visit_stored(recovery *self, const stored_job *job, didi_error *error)
{
    store_knowledge known = STORE_JOB_UNKNOWN;
    struct stat facts;
    if (fstatat(self->jobs_fd, job->id, &facts, AT_SYMLINK_NOFOLLOW) == 0 ||
        fstatat(self->lost_fd, job->id, &facts, AT_SYMLINK_NOFOLLOW) == 0 ||
        (self->trash_fd >= 0 && fstatat(self->trash_fd, job->id, &facts, AT_SYMLINK_NOFOLLOW) == 0))
        return DIDI_OK; /* looked at before, or being deleted */
    int status = store_job_known(self->records, job->id, &known, error);
    if (status != DIDI_OK || known == STORE_JOB_DELETED)
        return status;
    if (job->whole)
        return rebuild_or_leave(self, job->id, known, error);
    if (known == STORE_JOB_KNOWN)
        return DIDI_OK;
    leave(self, job->id, "has no manifest at S3: it was not stored whole, or was being deleted");
    return DIDI_OK;
}

static int visit_bucket(recovery *self, didi_error *error)
{
    size_t count = 0;
    int status = DIDI_OK;
    const stored_job *jobs = self->stored != NULL ? stored_jobs(self->stored, &count) : NULL;
    for (size_t i = 0; i < count && status == DIDI_OK; i++)
        status = visit_stored(self, &jobs[i], error);
    return status;
}

static int visit_all(recovery *self, int state_fd, didi_error *error)
{
    int status = file_open_directory(state_fd, "jobs", 1, &self->jobs_fd, error);
    if (status == DIDI_OK)
        status = file_open_directory(state_fd, "lost", 1, &self->lost_fd, error);
    (void)file_open_directory(state_fd, "trash", 0, &self->trash_fd, NULL);
    self->parent_fd = self->jobs_fd;
    if (status == DIDI_OK)
        status = file_each_entry(self->jobs_fd, visit, self, error);
    self->parent_fd = self->lost_fd;
    self->from_lost = true;
    if (status == DIDI_OK)
        status = file_each_entry(self->lost_fd, visit, self, error);
    self->parent_fd = self->jobs_fd;
    self->from_lost = false;
    return status == DIDI_OK ? visit_bucket(self, error) : status;
}

/* Sets aside what can be no base for rows; an older database, or another, is taken as it is. */
static int prepare(int state_fd, const char *directory, char ret_aside[64], didi_error *error)
{
    guard_report found = {.verdict = GUARD_GOOD};
    int status = guard_examine(state_fd, directory, &found, error);
    if (status != DIDI_OK)
        return status;
    if (found.verdict != GUARD_GOOD)
        fprintf(stderr, "didid recover: didid.db: %s\n",
                found.verdict == GUARD_NEW ? "there is none" : found.detail);
    if (found.verdict == GUARD_TOO_NEW)
        return didi_fail(error, DIDI_CONFLICT, "didid.db", "%s", found.detail);
    if (found.verdict == GUARD_LINK || found.verdict == GUARD_FOREIGN ||
        found.verdict == GUARD_DAMAGED || found.verdict == GUARD_MISSING)
        return guard_set_aside(state_fd, ret_aside, error);
    return DIDI_OK;
}

/* Without the list, jobs that are here are rebuilt all the same. */
static void list_bucket(recovery *self, const char *url)
{
    didi_error why = {0};
    if (self->stored != NULL && stored_list(self->stored, &why) != DIDI_OK)
        leave(self, url, why.message);
}

int recovery_recover(const char *directory, const config *settings, json_t **ret_report,
                     didi_error *error)
{
    recovery self = {.jobs_fd = -1, .lost_fd = -1, .trash_fd = -1, .left = json_array()};
    state_dir *state = NULL;
    char aside[64] = "";
    int status = stored_open(settings, &self.stored, error);
    if (status == DIDI_OK)
        status = state_dir_open_existing(directory, &state, error);
    if (status == DIDI_OK)
        list_bucket(&self, settings->artifact_store);
    if (status == DIDI_OK)
        status = prepare(state_dir_fd(state), directory, aside, error);
    if (status == DIDI_OK)
        status = store_open_accepting(directory, &self.records, error);
    if (status == DIDI_OK)
        status = visit_all(&self, state_dir_fd(state), error);
    store_close(self.records);
    file_close(self.jobs_fd);
    file_close(self.lost_fd);
    file_close(self.trash_fd);
    stored_close(self.stored);
    state_dir_close(state);
    json_t *report =
        json_pack("{s:I, s:I, s:O, s:I, s:s?}", "rebuilt", (json_int_t)self.rebuilt, "known",
                  (json_int_t)self.known, "left", self.left, "more", (json_int_t)self.more,
                  "database_aside", aside[0] != '\0' ? aside : NULL);
    json_decref(self.left);
    if (status == DIDI_OK && report == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    if (status == DIDI_OK)
        *ret_report = report;
    else
        json_decref(report);
    return status;
}
