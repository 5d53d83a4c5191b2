/* SPDX-License-Identifier: Apache-2.0 */
/* Model directories: opened beneath their root, walked without following links. */
#include "daemon/models/roots.h"

#include "proto/proto.h"
#include "src/base/base.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef struct model_root {
    char *path;
    int fd;
} model_root;

struct model_roots {
    model_root *roots;
    size_t count;
};

int model_roots_open(const char *const *paths, size_t count, model_roots **ret_roots,
                     didi_error *error)
{
    model_roots *roots = memory_zeroed(1, sizeof *roots);
    int status = DIDI_OK;
    if (roots != NULL)
        roots->roots = memory_zeroed(count, sizeof *roots->roots);
    if (roots == NULL || roots->roots == NULL) {
        free(roots);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    }
    for (size_t i = 0; i < count && status == DIDI_OK; i++) {
        model_root *root = &roots->roots[i];
        root->path = memory_string(paths[i]);
        root->fd = open(paths[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        roots->count = i + 1;
        if (root->fd < 0)
            status = didi_fail_errno(error, errno, paths[i], "cannot open the model directory %s",
                                     paths[i]);
        else if (root->path == NULL)
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
    for (size_t i = 0; i < roots->count; i++) {
        free(roots->roots[i].path);
        file_close(roots->roots[i].fd);
    }
    free(roots->roots);
    free(roots);
}

const char *model_roots_path(const model_roots *roots, size_t index)
{
    assert(index < roots->count);
    return roots->roots[index].path;
}

/* For kernels without openat2: one component at a time, following no link. */
static int open_by_component(int root_fd, const char *name)
{
    int fd = fcntl(root_fd, F_DUPFD_CLOEXEC, 3);
    while (fd >= 0 && *name != '\0') {
        char component[LIMIT_MODEL_NAME_BYTES + 1];
        size_t length = strcspn(name, "/");
        memcpy(component, name, length);
        component[length] = '\0';
        int next = openat(fd, component, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int saved = errno;
        close(fd);
        errno = saved;
        fd = next;
        name += length + (name[length] == '/');
    }
    return fd;
}

static int open_beneath(int root_fd, const char *name)
{
    const struct open_how how = {
        .flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    long fd = -1;
    /* EAGAIN: a rename raced with the walk. */
    for (int tries = 0; tries < 100; tries++) {
        fd = syscall(SYS_openat2, root_fd, name, &how, sizeof how);
        if (fd >= 0 || errno != EAGAIN)
            break;
    }
    if (fd < 0 && (errno == ENOSYS || errno == EPERM))
        return open_by_component(root_fd, name);
    return (int)fd;
}

int model_roots_open_model(const model_roots *roots, const char *name, int *ret_fd,
                           didi_error *error)
{
    int first_errno = ENOENT;
    if (!name_is_model(name))
        return didi_fail(error, DIDI_INVALID, name, "'%.200s' is not a model name", name);
    for (size_t i = 0; i < roots->count; i++) {
        int fd = open_beneath(roots->roots[i].fd, name);
        if (fd >= 0) {
            *ret_fd = fd;
            return DIDI_OK;
        }
        if (errno != ENOENT && errno != ENOTDIR && first_errno == ENOENT)
            first_errno = errno;
    }
    if (first_errno == ENOENT)
        return didi_fail(error, DIDI_NOT_FOUND, name, "there is no model '%s'", name);
    if (first_errno == EXDEV || first_errno == ELOOP)
        return didi_fail(error, DIDI_NOT_FOUND, name, "model '%s' lies outside its root", name);
    return didi_fail_errno(error, first_errno, name, "cannot open the model '%s'", name);
}

typedef struct model_walk {
    const model_roots *roots;
    size_t root, found;
    int (*visit)(void *context, size_t root, const char *name, didi_error *error);
    void *context;
} model_walk;

static bool directory_has_model(int fd)
{
    return faccessat(fd, "model.safetensors", F_OK, AT_SYMLINK_NOFOLLOW) == 0 ||
           faccessat(fd, "model.safetensors.index.json", F_OK, AT_SYMLINK_NOFOLLOW) == 0 ||
           faccessat(fd, "adapter_config.json", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool earlier_root_has(const model_walk *walk, const char *name)
{
    for (size_t i = 0; i < walk->root; i++) {
        int fd = open_beneath(walk->roots->roots[i].fd, name);
        if (fd >= 0) {
            close(fd);
            return true;
        }
    }
    return false;
}

static int walk_directory(model_walk *walk, int fd, const char *prefix, unsigned depth,
                          didi_error *error);

/* Takes fd. */
static int walk_entry(model_walk *walk, int fd, const char *name, unsigned depth, didi_error *error)
{
    if (directory_has_model(fd) && !earlier_root_has(walk, name)) {
        int status = DIDI_OK;
        if (++walk->found > MODEL_ROOTS_MODELS_MAX)
            status = didi_fail(error, DIDI_INVALID, walk->roots->roots[walk->root].path,
                               "more than %d models", MODEL_ROOTS_MODELS_MAX);
        else
            status = walk->visit(walk->context, walk->root, name, error);
        if (status != DIDI_OK) {
            close(fd);
            return status;
        }
    }
    if (depth >= LIMIT_MODEL_NAME_COMPONENTS) {
        close(fd);
        return DIDI_OK;
    }
    return walk_directory(walk, fd, name, depth, error);
}

/* Takes fd. */
static int walk_directory(model_walk *walk, int fd, const char *prefix, unsigned depth,
                          didi_error *error)
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
        if (name_component(entry->d_name) != strlen(entry->d_name))
            continue;
        if (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN)
            continue;
        const int child =
            openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (child < 0)
            continue;
        char *name = memory_format("%s%s%s", prefix, prefix[0] != '\0' ? "/" : "", entry->d_name);
        if (name == NULL) {
            close(child);
            status = didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
        } else if (!name_is_model(name)) {
            close(child);
        } else {
            status = walk_entry(walk, child, name, depth + 1, error);
        }
        free(name);
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
        int fd = openat(roots->roots[i].fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            continue;
        walk.root = i;
        status = walk_directory(&walk, fd, "", 0, error);
    }
    return status;
}
