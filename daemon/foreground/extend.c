/* SPDX-License-Identifier: Apache-2.0 */
/* A request to extend a package, put together from the command line. */
#include "daemon/foreground/extend.h"

#include "proto/proto.h"
#include "src/package/package.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static int open_directory(const char *path, int *ret_fd, didi_error *error)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return didi_fail_errno(error, errno, path, "cannot open the package %s", path);
    *ret_fd = fd;
    return DIDI_OK;
}

static int add_tasks(const arguments *self, json_t *tasks, didi_error *error)
{
    for (size_t i = 0; i < self->added.count; i++) {
        const char *equals = strchr(self->added.texts[i], '=');
        if (equals == NULL)
            return didi_fail(error, DIDI_INVALID, "--task", "'%s' is not NAME=MODEL",
                             self->added.texts[i]);
        json_t *task = json_pack("{s:s%, s:s}", "name", self->added.texts[i],
                                 (size_t)(equals - self->added.texts[i]), "model", equals + 1);
        if (json_array_append_new(tasks, task) != 0)
            return didi_fail(error, DIDI_INVALID, "--task", "'%s' is not UTF-8",
                             self->added.texts[i]);
    }
    return DIDI_OK;
}

/* A package made by no job is known by the beginning of its fingerprint. */
static int make_request(const arguments *self, const json_t *manifest, json_t *request,
                        didi_error *error)
{
    const char *fingerprint = json_string_value(json_object_get(manifest, "fingerprint"));
    json_t *extend = json_object();
    json_t *removed = json_array();
    json_t *tasks = json_array();
    if (fingerprint == NULL || strlen(fingerprint) < LIMIT_JOB_ID_CHARACTERS)
        fingerprint = "00000000000000000000000000";
    json_object_set_new(request, "extend", extend);
    json_object_set_new(request, "tasks", tasks);
    json_object_set_new(extend, "job", json_stringn(fingerprint, LIMIT_JOB_ID_CHARACTERS));
    json_object_set_new(extend, "remove", removed);
    json_object_set_new(extend, "rebalance", json_boolean(self->rebalance));
    json_object_set_new(extend, "compare", json_boolean(self->comparison != NULL));
    for (size_t i = 0; i < self->removed.count; i++)
        json_array_append_new(removed, json_string(self->removed.texts[i]));
    if (self->budget != NULL)
        json_object_set_new(extend, "budget", budget_words_read(self->budget));
    return add_tasks(self, tasks, error);
}

int extend_read(const arguments *self, int *ret_package_fd, int *ret_comparison_fd,
                specification **ret_specification, didi_error *error)
{
    json_t *manifest = NULL;
    json_t *request = json_object();
    int status = open_directory(self->package, ret_package_fd, error);
    if (status == DIDI_OK && self->comparison != NULL)
        status = open_directory(self->comparison, ret_comparison_fd, error);
    if (status == DIDI_OK) {
        status = manifest_file_read(*ret_package_fd, &manifest, error);
        if (status != DIDI_OK)
            didi_error_wrap(error, "%s", self->package);
    }
    if (status == DIDI_OK)
        status = make_request(self, manifest, request, error);
    if (status == DIDI_OK)
        status = extension_request_resolve(request, manifest, ret_specification, error);
    json_decref(manifest);
    json_decref(request);
    return status;
}
