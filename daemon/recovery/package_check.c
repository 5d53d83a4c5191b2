/* SPDX-License-Identifier: Apache-2.0 */
/* Digests of a job's artifacts, and whether they read as a package's. Names come from the manifest,
 * which is not trusted. */
#include "daemon/recovery/package_check.h"

#include "daemon/s3/s3.h"
#include "src/base/base.h"
#include "src/package/package.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* shared.safetensors, or experts/TASK.safetensors. */
static int open_listed(int artifacts_fd, const char *name, int *ret_fd, didi_error *error)
{
    static const char folder[] = "experts/";
    int folder_fd = -1;
    int status = DIDI_OK;
    if (strcmp(name, "shared.safetensors") == 0)
        return file_open_beneath(artifacts_fd, name, name, ret_fd, error);
    if (strncmp(name, folder, sizeof folder - 1) != 0 ||
        strchr(name + sizeof folder - 1, '/') != NULL)
        return didi_fail(error, DIDI_FORMAT, name, "the manifest lists '%.200s'", name);
    status = file_open_directory(artifacts_fd, "experts", 0, &folder_fd, error);
    if (status == DIDI_OK)
        status = file_open_beneath(folder_fd, name + sizeof folder - 1, name, ret_fd, error);
    file_close(folder_fd);
    return status;
}

/* It may hold what was written, and that be no file of a package. */
static int check_format(int artifacts_fd, const char *name, didi_error *error)
{
    package_file *file = NULL;
    const char *slash = strchr(name, '/');
    char *task = slash != NULL ? memory_string(slash + 1) : NULL;
    char *dot = task != NULL ? strrchr(task, '.') : NULL;
    if (slash != NULL && task == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, name, "name of a task");
    if (dot != NULL)
        *dot = '\0';
    int status = package_file_open(artifacts_fd, task, &file, error);
    package_file_close(file);
    free(task);
    return status == DIDI_OK ? DIDI_OK : didi_error_wrap(error, "%s", name);
}

static int check_listed(int artifacts_fd, const json_t *row, uint64_t *bytes, didi_error *error)
{
    const char *name = json_string_value(json_object_get(row, "name"));
    const char *wanted = json_string_value(json_object_get(row, "sha256"));
    const json_int_t size = json_integer_value(json_object_get(row, "bytes"));
    char found[65];
    struct stat facts;
    uint64_t hashed = 0;
    int fd = -1;
    if (name == NULL || wanted == NULL)
        return didi_fail(error, DIDI_FORMAT, "manifest.json",
                         "the manifest lists a file without "
                         "name or digest");
    int status = open_listed(artifacts_fd, name, &fd, error);
    if (status != DIDI_OK)
        return status;
    if (fstat(fd, &facts) != 0)
        status = didi_fail_errno(error, errno, name, "cannot look at %s", name);
    else if (facts.st_size != size)
        status = didi_fail(error, DIDI_FORMAT, name, "%s has %lld bytes, not %lld", name,
                           (long long)facts.st_size, (long long)size);
    if (status == DIDI_OK)
        status = file_sha256(fd, NULL, NULL, found, &hashed, name, error);
    if (status == DIDI_OK && strcmp(found, wanted) != 0)
        status = didi_fail(error, DIDI_FORMAT, name,
                           "%s is not what was written: its SHA-256 is "
                           "another",
                           name);
    file_close(fd);
    *bytes += hashed;
    return status == DIDI_OK ? check_format(artifacts_fd, name, error) : status;
}

/* True if the record, which may be NULL, says of a file what the manifest does. */
static bool is_stored(const deposit *record, const json_t *row)
{
    const char *name = json_string_value(json_object_get(row, "name"));
    const char *wanted = json_string_value(json_object_get(row, "sha256"));
    const json_int_t size = json_integer_value(json_object_get(row, "bytes"));
    if (name == NULL || wanted == NULL || record == NULL || !record->complete)
        return false;
    const deposit_file *file = deposit_find(record, name);
    return file != NULL && strcmp(file->sha256, wanted) == 0 && size >= 0 &&
           file->bytes == (uint64_t)size;
}

int package_check(int parent_fd, const char *id, package_facts *ret_facts, didi_error *error)
{
    int job_fd = -1;
    int artifacts_fd = -1;
    deposit *record = NULL; /* stays NULL where all is here */
    package_facts facts = {0};
    int status = file_open_directory(parent_fd, id, 0, &job_fd, error);
    if (status == DIDI_OK)
        status = file_open_directory(job_fd, "artifacts", 0, &artifacts_fd, error);
    if (status == DIDI_OK)
        status = manifest_file_read(artifacts_fd, &facts.manifest, error);
    const json_t *rows = json_object_get(facts.manifest, "files");
    if (status == DIDI_OK && json_array_size(rows) == 0 &&
        !json_is_true(json_object_get(facts.manifest, "survey")))
        status = didi_fail(error, DIDI_FORMAT, "manifest.json", "the manifest lists no files");
    for (size_t i = 0; i < json_array_size(rows) && status == DIDI_OK; i++) {
        const json_t *row = json_array_get(rows, i);
        status = check_listed(artifacts_fd, row, &facts.bytes, error);
        if (status == DIDI_NOT_FOUND && record == NULL)
            (void)deposit_read(job_fd, &record, NULL);
        if (status == DIDI_NOT_FOUND && is_stored(record, row)) {
            *error = (didi_error){0};
            status = DIDI_OK;
            facts.at_s3 = true;
        }
        facts.files += status == DIDI_OK;
    }
    deposit_free(record);
    file_close(artifacts_fd);
    file_close(job_fd);
    if (status == DIDI_OK)
        *ret_facts = facts;
    else
        json_decref(facts.manifest);
    return status;
}
