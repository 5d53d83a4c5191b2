/* SPDX-License-Identifier: Apache-2.0 */
/* Model directories: opened beneath their root, walked without following links. */
#include "daemon/models/roots.h"

#include "daemon/models/beneath.h"
#include "daemon/models/hub_cache.h"
#include "proto/proto.h"
#include "src/base/base.h"
#include "src/files/files.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct model_roots {
    char **paths;
    int *fds;
    size_t count;
};

int model_roots_open(const char *const *paths, size_t count, model_roots **ret_roots,
                     didi_error *error)
{
    model_roots *roots = memory_zeroed(1, sizeof *roots);
    int status = DIDI_OK;
    if (roots != NULL) {
        roots->paths = memory_zeroed(count, sizeof *roots->paths);
        roots->fds = memory_zeroed(count, sizeof *roots->fds);
    }
    if (roots == NULL || roots->paths == NULL || roots->fds == NULL) {
        model_roots_close(roots);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    }
    for (size_t i = 0; i < count && status == DIDI_OK; i++) {
        roots->paths[i] = memory_string(paths[i]);
        roots->fds[i] = open(paths[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        roots->count = i + 1;
        if (roots->fds[i] < 0)
            status = didi_fail_errno(error, errno, paths[i], "cannot open the model directory %s",
                                     paths[i]);
        else if (roots->paths[i] == NULL)
            status = didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    }
    if (status == DIDI_OK)
        *ret_roots = roots;
    else
        model_roots_close(roots);
    return status;
}

void model_roots_close(model_roots *roots)
{
    if (roots == NULL)
        return;
    for (size_t i = 0; roots->paths != NULL && roots->fds != NULL && i < roots->count; i++) {
        free(roots->paths[i]);
        file_close(roots->fds[i]);
    }
    free(roots->paths);
    free(roots->fds);
    free(roots);
}

const char *model_roots_path(const model_roots *roots, size_t index)
{
    assert(index < roots->count);
    return roots->paths[index];
}

file_bounds model_roots_bounds(const model_roots *roots)
{
    return (file_bounds){.fds = roots->fds, .count = roots->count};
}

/* For kernels without openat2: one component at a time, following no link. */
static int open_by_component(int root_fd, const char *path, int flags)
{
    int fd = fcntl(root_fd, F_DUPFD_CLOEXEC, 3);
    while (fd >= 0 && *path != '\0') {
        char component[NAME_MAX + 1];
        size_t length = strcspn(path, "/");
        bool last = path[length] == '\0';
        int next = -1;
        if (length < sizeof component) {
            memcpy(component, path, length);
            component[length] = '\0';
            next = openat(fd, component,
                          (last ? flags : O_RDONLY | O_DIRECTORY) | O_NOFOLLOW | O_CLOEXEC);
        } else {
            errno = ENAMETOOLONG;
        }
        int saved = errno;
        close(fd);
        errno = saved;
        fd = next;
        path += length + !last;
    }
    return fd;
}

int open_beneath(int directory_fd, const char *path, int flags)
{
    const struct open_how how = {
        .flags = (unsigned)flags | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    long fd = -1;
    /* EAGAIN: a rename raced with the walk. */
    for (int tries = 0; tries < 100; tries++) {
        fd = syscall(SYS_openat2, directory_fd, path, &how, sizeof how);
        if (fd >= 0 || errno != EAGAIN)
            break;
    }
    if (fd < 0 && (errno == ENOSYS || errno == EPERM))
        return open_by_component(directory_fd, path, flags);
    return (int)fd;
}

static int open_directory(int directory_fd, const char *path)
{
    return open_beneath(directory_fd, path, O_RDONLY | O_DIRECTORY);
}

/* Nothing that could be a model is no model; what cannot be used is a broken one. An adapter is one
 * by its configuration. */
static bool directory_has_model(int fd)
{
    checkpoint_layout layout;
    didi_error error = {0};
    return checkpoint_layout_find(fd, "", &layout, &error) != DIDI_NOT_FOUND ||
           faccessat(fd, "adapter_config.json", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* What is longer than any place is cut, and then found nowhere. */
static void append(char *text, const char *separator, const char *tail)
{
    size_t used = strlen(text);
    (void)snprintf(text + used, MODEL_PLACE_BYTES - used, "%s%s", used > 0 ? separator : "", tail);
}

/* ---- from a name to its place ---- */

/* What one root has of a name. */
typedef struct search {
    int root_fd, reason; /* errno of a directory that is there and cannot be opened */
    const char *name;    /* without its revision */
    const char *revision;
    model_place first; /* the first of `matches` */
    char second[MODEL_PLACE_BYTES];
    bool empty; /* there is a directory of the name, without a model */
    size_t matches;
    didi_error failure; /* of the first */
} search;

/* `path` has the model, or would have if `failure` were not. */
static void search_found(search *self, const char *path, const char *commit,
                         const didi_error *failure)
{
    if (self->matches++ > 0) {
        (void)snprintf(self->second, sizeof self->second, "%s", path);
        return;
    }
    (void)snprintf(self->first.path, sizeof self->first.path, "%s", path);
    (void)snprintf(self->first.revision, sizeof self->first.revision, "%s", commit);
    self->failure = *failure;
}

static void search_directory(search *self)
{
    int fd = open_directory(self->root_fd, self->name);
    if (fd < 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            self->reason = errno;
        return;
    }
    if (directory_has_model(fd))
        search_found(self, self->name, "", &(didi_error){0});
    else
        self->empty = true;
    close(fd);
}

/* The repository is at the first `above` bytes of the name, and called by the next `length`; what
 * is left is a directory in it. */
static void search_repository(search *self, size_t above, size_t length)
{
    const char *inner = self->name + above + length;
    char directory[HUB_DIRECTORY_BYTES];
    char path[MODEL_PLACE_BYTES];
    char commit[HUB_REVISION_BYTES] = "";
    didi_error failure = {0};
    if (!hub_cache_directory(self->name + above, length, directory, sizeof directory))
        return;
    size_t used = (size_t)snprintf(path, sizeof path, "%.*s%s", (int)above, self->name, directory);
    if (used >= sizeof path)
        return;
    int fd = open_directory(self->root_fd, path);
    if (fd < 0)
        return;
    int status = hub_cache_find(fd, self->revision, commit, &failure);
    close(fd);
    if (status != DIDI_OK) {
        if (inner[0] == '\0')
            search_found(self, path, "", &failure);
        return;
    }
    used += (size_t)snprintf(path + used, sizeof path - used, "/snapshots/%s%s", commit, inner);
    fd = used < sizeof path ? open_directory(self->root_fd, path) : -1;
    if (fd >= 0 && directory_has_model(fd))
        search_found(self, path, commit, &failure);
    file_close(fd);
}

static void search_root(search *self)
{
    if (self->revision == NULL)
        search_directory(self);
    for (size_t above = 0;; above++) {
        size_t first = strcspn(self->name + above, "/");
        size_t both = first;
        search_repository(self, above, first);
        if (self->name[above + first] == '\0')
            return;
        both += 1 + strcspn(self->name + above + first + 1, "/");
        search_repository(self, above, both);
        above += first;
    }
}

static int search_tell(const search *self, const model_roots *roots, size_t root, const char *name,
                       didi_error *error)
{
    if (self->matches > 1)
        return didi_fail(error, DIDI_INVALID, name,
                         "two models are called \"%s\": %s and %s in %s; rename one%s", name,
                         self->first.path, self->second, roots->paths[root],
                         self->revision == NULL ? ", or name a revision by NAME@REVISION" : "");
    if (self->failure.status == DIDI_NOT_FOUND)
        return didi_fail(error, DIDI_NOT_FOUND, name, "there is no model \"%s\": %s", name,
                         self->failure.message);
    if (self->failure.status != DIDI_OK)
        return didi_fail(error, self->failure.status, name, "%s", self->failure.message);
    return DIDI_OK;
}

static bool name_split(const char *name, char path[MODEL_PLACE_BYTES], const char **ret_revision)
{
    const char *at = strchr(name, '@');
    *ret_revision = at != NULL ? at + 1 : NULL;
    if (!name_is_model(name))
        return false;
    (void)snprintf(path, MODEL_PLACE_BYTES, "%.*s", (int)strcspn(name, "@"), name);
    return true;
}

/* As model_roots_find, which also hides where a broken one is. */
static int find_place(const model_roots *roots, const char *name, model_place *ret_place,
                      didi_error *error)
{
    char path[MODEL_PLACE_BYTES];
    const char *revision = NULL;
    int reason = 0;
    bool found = false;
    if (!name_split(name, path, &revision))
        return didi_fail(error, DIDI_INVALID, name, "'%.200s' is not a model name", name);
    for (size_t i = 0; i < roots->count; i++) {
        search in = {.root_fd = roots->fds[i], .name = path, .revision = revision};
        search_root(&in);
        if (in.matches > 0) {
            in.first.root = i;
            *ret_place = in.first;
            return search_tell(&in, roots, i, name, error);
        }
        if (in.empty && !found) {
            *ret_place = (model_place){.root = i};
            (void)snprintf(ret_place->path, sizeof ret_place->path, "%s", path);
            found = true;
        }
        reason = reason == 0 ? in.reason : reason;
    }
    if (found)
        return DIDI_OK;
    if (reason == EXDEV || reason == ELOOP)
        return didi_fail(error, DIDI_NOT_FOUND, name,
                         "there is no model \"%s\": a link of this name leaves its model directory",
                         name);
    if (reason != 0)
        return didi_fail_errno(error, reason, name, "cannot open the model '%s'", name);
    return didi_fail(error, DIDI_NOT_FOUND, name, "there is no model \"%s\"", name);
}

int model_roots_find(const model_roots *roots, const char *name, model_place *ret_place,
                     didi_error *error)
{
    model_place place;
    int status = find_place(roots, name, &place, error);
    if (status == DIDI_OK)
        *ret_place = place;
    return status;
}

int model_roots_list_name(const model_roots *roots, const char *name,
                          char ret_name[MODEL_PLACE_BYTES], didi_error *error)
{
    char bare[MODEL_PLACE_BYTES];
    const char *revision = NULL;
    model_place newest;
    model_place place;
    didi_error none = {0};
    int status = model_roots_find(roots, name, &place, error);
    if (status != DIDI_OK)
        return status;
    (void)name_split(name, bare, &revision);
    bool listed_bare = find_place(roots, bare, &newest, &none) == DIDI_OK &&
                       newest.root == place.root && strcmp(newest.path, place.path) == 0;
    (void)snprintf(ret_name, MODEL_PLACE_BYTES, "%s", bare);
    if (!listed_bare && place.revision[0] != '\0')
        append(ret_name, "@", place.revision);
    return DIDI_OK;
}

int model_roots_open_model(const model_roots *roots, const char *name, int *ret_fd,
                           didi_error *error)
{
    model_place place;
    int status = model_roots_find(roots, name, &place, error);
    if (status != DIDI_OK)
        return status;
    int fd = open_directory(roots->fds[place.root], place.path);
    if (fd < 0)
        return didi_fail_errno(error, errno, name, "cannot open the model '%s'", name);
    *ret_fd = fd;
    return DIDI_OK;
}

/* ---- the walk ---- */

typedef struct model_walk {
    const model_roots *roots;
    size_t root, found;
    int (*visit)(void *context, size_t root, const char *name, didi_error *error);
    void *context;
} model_walk;

/* A directory on the way: where it is, what a model in it is called, and in which revision of a
 * repository it lies ("": it is the newest, or lies in none). */
typedef struct walk_place {
    char path[MODEL_PLACE_BYTES], name[MODEL_PLACE_BYTES], revision[HUB_REVISION_BYTES];
    unsigned depth;
    bool in_package, in_repository;
} walk_place;

/* Several places may have one name: it is visited once, where it is found first. */
static int walk_visit(model_walk *walk, const walk_place *at, didi_error *error)
{
    char name[MODEL_PLACE_BYTES];
    model_place first = {0};
    didi_error broken = {0};
    (void)snprintf(name, sizeof name, "%s", at->name);
    if (at->revision[0] != '\0')
        append(name, "@", at->revision);
    (void)find_place(walk->roots, name, &first, &broken);
    if (!name_is_model(name) || first.root != walk->root || strcmp(first.path, at->path) != 0)
        return DIDI_OK;
    if (++walk->found > MODEL_ROOTS_MODELS_MAX)
        return didi_fail(error, DIDI_INVALID, walk->roots->paths[walk->root], "more than %d models",
                         MODEL_ROOTS_MODELS_MAX);
    return walk->visit(walk->context, walk->root, name, error);
}

static int walk_directory(model_walk *walk, int fd, const walk_place *at, didi_error *error);

/* Takes fd. */
static int walk_entry(model_walk *walk, int fd, walk_place *at, didi_error *error)
{
    int status = directory_has_model(fd) ? walk_visit(walk, at, error) : DIDI_OK;
    at->in_package = faccessat(fd, "manifest.json", F_OK, AT_SYMLINK_NOFOLLOW) == 0 &&
                     faccessat(fd, "shared.safetensors", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    if (status != DIDI_OK || at->depth >= LIMIT_MODEL_NAME_COMPONENTS) {
        close(fd);
        return status;
    }
    return walk_directory(walk, fd, at, error);
}

typedef struct walk_snapshots {
    model_walk *walk;
    const walk_place *repository;
    int fd;
    char newest[HUB_REVISION_BYTES];
} walk_snapshots;

static int walk_snapshot(void *context, const char *commit, didi_error *error)
{
    const walk_snapshots *self = context;
    walk_place at = *self->repository;
    if (commit[name_component(commit)] != '\0' || strlen(commit) >= sizeof at.revision)
        return DIDI_OK;
    int fd = openat(self->fd, commit, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return DIDI_OK;
    append(at.path, "/", "snapshots");
    append(at.path, "/", commit);
    if (strcmp(commit, self->newest) != 0)
        (void)snprintf(at.revision, sizeof at.revision, "%s", commit);
    at.in_repository = true;
    return walk_entry(self->walk, fd, &at, error);
}

/* Takes fd. */
static int walk_repository(model_walk *walk, int fd, walk_place *at, didi_error *error)
{
    walk_snapshots snapshots = {.walk = walk, .repository = at};
    didi_error broken = {0};
    int status = DIDI_OK;
    snapshots.fd = open_directory(fd, "snapshots");
    if (snapshots.fd >= 0 && hub_cache_find(fd, NULL, snapshots.newest, &broken) != DIDI_OK)
        status = walk_visit(walk, at, error);
    if (snapshots.fd >= 0 && status == DIDI_OK)
        status = file_each_entry(snapshots.fd, walk_snapshot, &snapshots, error);
    file_close(snapshots.fd);
    close(fd);
    return status;
}

static int walk_child(model_walk *walk, int parent_fd, const char *child, const walk_place *parent,
                      didi_error *error)
{
    walk_place at = *parent;
    char repository[MODEL_PLACE_BYTES];
    bool cached = !parent->in_repository && hub_cache_name(child, repository, sizeof repository);
    append(at.path, "/", child);
    append(at.name, "/", cached ? repository : child);
    at.depth++;
    at.in_package = false;
    if (!name_is_model(at.name) || (parent->in_package && strcmp(child, "experts") == 0))
        return DIDI_OK;
    int fd = openat(parent_fd, child, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return DIDI_OK;
    return cached ? walk_repository(walk, fd, &at, error) : walk_entry(walk, fd, &at, error);
}

/* Takes fd. */
static int walk_directory(model_walk *walk, int fd, const walk_place *at, didi_error *error)
{
    DIR *directory = fdopendir(fd);
    int status = DIDI_OK;
    if (directory == NULL) {
        close(fd);
        return DIDI_OK;
    }
    while (status == DIDI_OK) {
        const struct dirent *entry = readdir(directory);
        if (entry == NULL)
            break;
        if (name_component(entry->d_name) == strlen(entry->d_name) &&
            (entry->d_type == DT_DIR || entry->d_type == DT_UNKNOWN))
            status = walk_child(walk, fd, entry->d_name, at, error);
    }
    closedir(directory);
    return status;
}

int model_roots_walk(const model_roots *roots,
                     int (*visit)(void *context, size_t root, const char *name, didi_error *error),
                     void *context, didi_error *error)
{
    model_walk walk = {.roots = roots, .visit = visit, .context = context};
    int status = DIDI_OK;
    for (size_t i = 0; i < roots->count && status == DIDI_OK; i++) {
        /* A fresh description, so that concurrent walks do not share a position. */
        int fd = openat(roots->fds[i], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            continue;
        walk.root = i;
        status = walk_directory(&walk, fd, &(walk_place){.depth = 0}, error);
    }
    return status;
}
