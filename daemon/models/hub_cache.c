/* SPDX-License-Identifier: Apache-2.0 */
/* Names and revisions in a hub's cache. */
#include "daemon/models/hub_cache.h"

#include "daemon/models/beneath.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char prefix[] = "models--";

enum { REF_BYTES_MAX = 4096 };

bool hub_cache_name(const char *directory, char *ret_name, size_t bytes)
{
    if (strncmp(directory, prefix, sizeof prefix - 1) != 0)
        return false;
    const char *organisation = directory + sizeof prefix - 1;
    const char *joint = strstr(organisation, "--");
    int used = joint == NULL ? snprintf(ret_name, bytes, "%s", organisation)
                             : snprintf(ret_name, bytes, "%.*s/%s", (int)(joint - organisation),
                                        organisation, joint + 2);
    return used > 0 && (size_t)used < bytes && name_is_model(ret_name) &&
           strstr(ret_name, "--") == NULL;
}

bool hub_cache_directory(const char *name, size_t length, char *ret_directory, size_t bytes)
{
    const char *slash = memchr(name, '/', length);
    size_t first = slash != NULL ? (size_t)(slash - name) : length;
    size_t rest = slash != NULL ? length - first - 1 : 0;
    int used = snprintf(ret_directory, bytes, "%s%.*s%s%.*s", prefix, (int)first, name,
                        slash != NULL ? "--" : "", (int)rest, slash != NULL ? slash + 1 : "");
    char back[HUB_REVISION_BYTES];
    return used > 0 && (size_t)used < bytes && hub_cache_name(ret_directory, back, sizeof back) &&
           strlen(back) == length && memcmp(back, name, length) == 0;
}

static bool has_snapshot(int repository_fd, const char *commit)
{
    char path[HUB_REVISION_BYTES + sizeof "snapshots/"];
    struct stat facts;
    (void)snprintf(path, sizeof path, "snapshots/%s", commit);
    return strchr(commit, '/') == NULL &&
           fstatat(repository_fd, path, &facts, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(facts.st_mode);
}

/* Follows a ref; *ret_commit stays empty where there is none. */
static int read_ref(int repository_fd, const char *name, char ret_commit[HUB_REVISION_BYTES],
                    didi_error *error)
{
    char path[HUB_REVISION_BYTES + sizeof "refs/"];
    char *text = NULL;
    size_t bytes = 0;
    (void)snprintf(path, sizeof path, "refs/%s", name);
    int fd = open_beneath(repository_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return DIDI_OK;
    int status = file_read_text_fd(fd, path, REF_BYTES_MAX, &text, &bytes, error);
    close(fd);
    if (status != DIDI_OK)
        return status;
    size_t length = name_component(text);
    if (length == 0 || length >= HUB_REVISION_BYTES ||
        text[length + strspn(text + length, "\r\n ")] != '\0')
        status =
            didi_fail(error, DIDI_FORMAT, path, "%s names no commit: fetch the model again", path);
    else
        (void)snprintf(ret_commit, HUB_REVISION_BYTES, "%.*s", (int)length, text);
    free(text);
    if (status == DIDI_OK && !has_snapshot(repository_fd, ret_commit))
        status = didi_fail(error, DIDI_NOT_FOUND, path,
                           "%s names the revision %s, which is not in snapshots: fetch it, or name "
                           "another revision",
                           path, ret_commit);
    return status;
}

typedef struct commits {
    int snapshots_fd;
    size_t count;
    char only[HUB_REVISION_BYTES];
} commits;

static int commits_visit(void *context, const char *name, didi_error *error)
{
    commits *self = context;
    struct stat facts;
    (void)error;
    size_t length = name_component(name);
    if (name[length] != '\0' || length == 0 || length >= HUB_REVISION_BYTES ||
        fstatat(self->snapshots_fd, name, &facts, AT_SYMLINK_NOFOLLOW) != 0 ||
        !S_ISDIR(facts.st_mode))
        return DIDI_OK;
    self->count++;
    (void)snprintf(self->only, sizeof self->only, "%s", name);
    return DIDI_OK;
}

static int find_newest(int repository_fd, char ret_commit[HUB_REVISION_BYTES], didi_error *error)
{
    int status = read_ref(repository_fd, "main", ret_commit, error);
    if (status != DIDI_OK || ret_commit[0] != '\0')
        return status;
    commits found = {.snapshots_fd =
                         open_beneath(repository_fd, "snapshots", O_RDONLY | O_DIRECTORY)};
    if (found.snapshots_fd >= 0)
        status = file_each_entry(found.snapshots_fd, commits_visit, &found, error);
    file_close(found.snapshots_fd);
    if (status != DIDI_OK)
        return status;
    if (found.count == 0)
        return didi_fail(error, DIDI_NOT_FOUND, NULL, "no revision is there: fetch one");
    if (found.count > 1)
        return didi_fail(error, DIDI_INVALID, NULL,
                         "%zu revisions are there and no refs/main: name one by NAME@REVISION",
                         found.count);
    (void)snprintf(ret_commit, HUB_REVISION_BYTES, "%s", found.only);
    return DIDI_OK;
}

int hub_cache_find(int repository_fd, const char *revision, char ret_commit[HUB_REVISION_BYTES],
                   didi_error *error)
{
    char commit[HUB_REVISION_BYTES] = "";
    int status = DIDI_OK;
    if (revision == NULL)
        status = find_newest(repository_fd, commit, error);
    else if (has_snapshot(repository_fd, revision))
        (void)snprintf(commit, sizeof commit, "%s", revision);
    else
        status = read_ref(repository_fd, revision, commit, error);
    if (status == DIDI_OK && commit[0] == '\0')
        status = didi_fail(error, DIDI_NOT_FOUND, revision,
                           "the revision '%s' is not in the cache: fetch it", revision);
    if (status == DIDI_OK)
        memcpy(ret_commit, commit, sizeof commit);
    return status;
}
