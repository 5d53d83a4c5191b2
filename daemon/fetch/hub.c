/* SPDX-License-Identifier: Apache-2.0 */
/* The hub's interface: what a revision has, and where its files are. */
#include "daemon/fetch/hub.h"
#include "src/base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES_MAX = 10000, COMMIT_DIGITS = 40, PATH_BYTES_MAX = 1024 };

typedef struct hub_file {
    char *name, *url;
    char etag[TRANSFER_HEADER_BYTES];
    uint64_t bytes;
    bool there;
} hub_file;

typedef struct hub_revision {
    fetch_run *run;
    const fetch_source *from;
    char commit[COMMIT_DIGITS + 1];
    hub_file *files;
    size_t count;
    int repository_fd, blobs_fd, snapshot_fd;
} hub_revision;

/* What from_pretrained reads, but no pickles. */
bool hub_wants(const char *name)
{
    static const char *const globs[] = {"*.safetensors", "*.json",      "*.txt",
                                        "*.model",       "tokenizer.*", "*.jinja"};
    const char *last = strrchr(name, '/');
    last = last != NULL ? last + 1 : name;
    bool wanted = false;
    for (size_t i = 0; i < sizeof globs / sizeof *globs && !wanted; i++)
        wanted = fnmatch(globs[i], last, 0) == 0;
    return wanted && last[0] != '.';
}

/* Relative, without empty, "." and ".." components: it becomes a path of ours. */
static bool is_plain_path(const char *name)
{
    bool plain = name[0] != '\0' && strlen(name) < PATH_BYTES_MAX && strchr(name, '\\') == NULL;
    for (const char *at = name; plain; at++) {
        size_t length = strcspn(at, "/");
        plain = length > 0 && length < 255 && !(length == 1 && at[0] == '.') &&
                !(length == 2 && at[0] == '.' && at[1] == '.');
        at += length;
        if (*at == '\0')
            break;
    }
    return plain;
}

static int fail_memory(didi_error *error)
{
    return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a revision's files");
}

static int add_file(hub_revision *self, const char *name, didi_error *error)
{
    if (!is_plain_path(name))
        return didi_fail(error, DIDI_FORMAT, self->from->repository,
                         "the hub names a file '%.200s', which is no path", name);
    if (!hub_wants(name))
        return DIDI_OK;
    hub_file *file = &self->files[self->count++];
    char *escaped = transfer_escape(name);
    file->name = memory_string(name);
    file->url = escaped == NULL ? NULL
                                : memory_format("%s/%s/resolve/%s/%s", self->run->endpoint,
                                                self->from->repository, self->commit, escaped);
    free(escaped);
    return file->name != NULL && file->url != NULL ? DIDI_OK : fail_memory(error);
}

static int read_files(hub_revision *self, const json_t *answer, didi_error *error)
{
    const json_t *siblings = json_object_get(answer, "siblings");
    const char *commit = json_string_value(json_object_get(answer, "sha"));
    size_t count = json_array_size(siblings);
    bool weights = false;
    if (commit == NULL || strlen(commit) != COMMIT_DIGITS ||
        strspn(commit, "0123456789abcdef") != COMMIT_DIGITS || !json_is_array(siblings) ||
        count > FILES_MAX)
        return didi_fail(error, DIDI_FORMAT, self->from->repository,
                         "the hub's answer has no commit and list of files");
    memcpy(self->commit, commit, sizeof self->commit);
    self->files = memory_zeroed(count + 1, sizeof *self->files);
    if (self->files == NULL)
        return fail_memory(error);
    for (size_t i = 0; i < count; i++) {
        const char *name =
            json_string_value(json_object_get(json_array_get(siblings, i), "rfilename"));
        int status = add_file(self, name != NULL ? name : "", error);
        if (status != DIDI_OK)
            return status;
        weights |= fnmatch("*.safetensors", name, 0) == 0;
    }
    return weights ? DIDI_OK
                   : didi_fail(error, DIDI_FORMAT, self->from->repository,
                               "revision %s has no safetensors file; fetch it with its own tools "
                               "and convert it",
                               self->commit);
}

static int ask_revision(hub_revision *self, didi_error *error)
{
    char *text = NULL;
    size_t bytes = 0;
    json_error_t where;
    char *url = memory_format("%s/api/models/%s/revision/%s", self->run->endpoint,
                              self->from->repository, self->from->revision);
    if (url == NULL)
        return fail_memory(error);
    for (char *at = strstr(url, "/revision/") + strlen("/revision/"); *at != '\0'; at++)
        if (*at == '/') { /* a ref of several components is one in the URL */
            char *longer = memory_format("%.*s%%2F%s", (int)(at - url), url, at + 1);
            size_t place = (size_t)(at - url);
            free(url);
            if (longer == NULL)
                return fail_memory(error);
            url = longer;
            at = url + place + 2;
        }
    int status = blob_text(self->run, url, &text, &bytes, error);
    if (status == DIDI_OK) {
        bool refused = false;
        json_t *answer = json_load(text, bytes, JSON_REJECT_DUPLICATES, &where, &refused);
        status = refused ? fail_memory(error)
                 : answer != NULL
                     ? read_files(self, answer, error)
                     : didi_fail(error, DIDI_FORMAT, url, "the answer is not JSON: %s", where.text);
        json_decref(answer);
    }
    free(text);
    free(url);
    return status;
}

/* Sizes and digests; the digest is also the blob's name. */
static int ask_file(hub_revision *self, hub_file *file, didi_error *error)
{
    transfer_answer answer;
    struct stat facts;
    int status = blob_ask(self->run, file->url, &answer, error);
    if (status != DIDI_OK)
        return status;
    size_t length = strspn(answer.etag, "0123456789abcdef-");
    if (answer.bytes < 0 || length == 0 || answer.etag[length] != '\0')
        return didi_fail(error, DIDI_FORMAT, file->url, "the hub tells no size or no digest");
    memcpy(file->etag, answer.etag, sizeof file->etag);
    file->bytes = (uint64_t)answer.bytes;
    file->there = fstatat(self->blobs_fd, file->etag, &facts, AT_SYMLINK_NOFOLLOW) == 0 &&
                  S_ISREG(facts.st_mode) && (uint64_t)facts.st_size == file->bytes;
    self->run->total += file->bytes;
    return DIDI_OK;
}

/* Opens the directory of `path`, making what lacks; *ret_up gets one "../" for each level. */
static int open_parents(int directory_fd, const char *path, int *ret_fd, const char **ret_last,
                        char ret_up[PATH_BYTES_MAX], didi_error *error)
{
    int fd = fcntl(directory_fd, F_DUPFD_CLOEXEC, 3);
    int status = fd >= 0 ? DIDI_OK : didi_fail_errno(error, errno, path, "cannot open");
    size_t used = 0;
    ret_up[0] = '\0';
    for (const char *slash = strchr(path, '/'); status == DIDI_OK && slash != NULL;
         slash = strchr(path, '/')) {
        char part[256];
        int next = -1;
        (void)snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
        status = file_open_directory(fd, part, 1, &next, error);
        file_close(fd);
        fd = next;
        path = slash + 1;
        if (used + 4 < PATH_BYTES_MAX)
            used += (size_t)snprintf(ret_up + used, PATH_BYTES_MAX - used, "../");
    }
    *ret_fd = fd;
    *ret_last = path;
    return status;
}

/* The snapshot's name for a blob, as the hub's clients link it. */
static int link_file(const hub_revision *self, const hub_file *file, didi_error *error)
{
    static const char temporary[] = ".didid-link";
    char up[PATH_BYTES_MAX];
    const char *last = NULL;
    int fd = -1;
    int status = open_parents(self->snapshot_fd, file->name, &fd, &last, up, error);
    if (status == DIDI_OK) {
        char *target = memory_format("%s../../blobs/%s", up, file->etag);
        (void)unlinkat(fd, temporary, 0);
        if (target == NULL)
            status = fail_memory(error);
        else if (symlinkat(target, fd, temporary) != 0)
            status = didi_fail_errno(error, errno, file->name, "cannot link");
        else
            status = file_rename(fd, temporary, fd, last, error);
        free(target);
    }
    if (status == DIDI_OK)
        status = file_sync(fd, file->name, error);
    file_close(fd);
    return status;
}

static int fetch_file(hub_revision *self, const hub_file *file, didi_error *error)
{
    const blob wanted = {
        .url = file->url, .bytes = file->bytes, .digest = file->etag, .key = file->etag};
    if (!file->there)
        return blob_fetch(self->run, &wanted, self->blobs_fd, file->etag, error);
    self->run->done += file->bytes;
    return DIDI_OK;
}

static int open_repository(hub_revision *self, didi_error *error)
{
    const char *slash = strchr(self->from->repository, '/');
    char *name = slash == NULL
                     ? memory_format("models--%s", self->from->repository)
                     : memory_format("models--%.*s--%s", (int)(slash - self->from->repository),
                                     self->from->repository, slash + 1);
    int status = name != NULL ? file_open_directory(self->run->directory_fd, name, 1,
                                                    &self->repository_fd, error)
                              : fail_memory(error);
    free(name);
    if (status == DIDI_OK)
        status = file_open_directory(self->repository_fd, "blobs", 1, &self->blobs_fd, error);
    return status;
}

/* Refs come last: what they name is complete. */
static int write_ref(const hub_revision *self, didi_error *error)
{
    char up[PATH_BYTES_MAX];
    const char *last = NULL;
    int refs_fd = -1;
    int fd = -1;
    if (strcmp(self->from->revision, self->commit) == 0)
        return DIDI_OK;
    int status = file_open_directory(self->repository_fd, "refs", 1, &refs_fd, error);
    if (status == DIDI_OK)
        status = open_parents(refs_fd, self->from->revision, &fd, &last, up, error);
    if (status == DIDI_OK)
        status = file_write_durable(fd, last, self->commit, COMMIT_DIGITS, error);
    file_close(fd);
    file_close(refs_fd);
    return status;
}

static int store_revision(hub_revision *self, didi_error *error)
{
    int snapshots_fd = -1;
    int status = DIDI_OK;
    for (size_t i = 0; i < self->count && status == DIDI_OK; i++)
        status = ask_file(self, &self->files[i], error);
    for (size_t i = 0; i < self->count && status == DIDI_OK; i++)
        status = fetch_file(self, &self->files[i], error);
    /* Only now: what has a snapshot is taken for a model. */
    if (status == DIDI_OK)
        status = file_open_directory(self->repository_fd, "snapshots", 1, &snapshots_fd, error);
    if (status == DIDI_OK)
        status = file_open_directory(snapshots_fd, self->commit, 1, &self->snapshot_fd, error);
    for (size_t i = 0; i < self->count && status == DIDI_OK; i++)
        status = link_file(self, &self->files[i], error);
    if (status == DIDI_OK)
        status = file_sync(snapshots_fd, "snapshots", error);
    file_close(snapshots_fd);
    return status == DIDI_OK ? write_ref(self, error) : status;
}

int hub_fetch(fetch_run *run, const fetch_source *from, didi_error *error)
{
    hub_revision self = {
        .run = run, .from = from, .repository_fd = -1, .blobs_fd = -1, .snapshot_fd = -1};
    int status = ask_revision(&self, error);
    if (status == DIDI_OK)
        status = open_repository(&self, error);
    if (status == DIDI_OK)
        status = store_revision(&self, error);
    for (size_t i = 0; i < self.count; i++) {
        free(self.files[i].name);
        free(self.files[i].url);
    }
    free(self.files);
    file_close(self.snapshot_fd);
    file_close(self.blobs_fd);
    file_close(self.repository_fd);
    return status;
}
