/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into a daemon under test: the n-th allocation fails, the n-th call that changes a file
 * below a directory fails, the wall clock is elsewhere. The test writes what it wants into a file
 * of 64-bit numbers that both map (SHIM_CONTROL); SHIM_BELOW is the directory. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

typedef struct control {
    _Atomic long long allocations_left; /* fails when it goes from 1 to 0; 0: off */
    _Atomic long long allocations_failed;
    _Atomic long long writes_left; /* likewise */
    _Atomic long long writes_failed;
    _Atomic long long write_errno;
    _Atomic long long writes_sticky;  /* later ones fail too, until taken away */
    _Atomic long long clock_offset_s; /* added to CLOCK_REALTIME */
    _Atomic long long writes_held;    /* not 0: those of workers wait until it is */
} control;

static control nothing;
static control *shared = &nothing;
static const char *below;

__attribute__((constructor)) static void shim_open(void)
{
    const char *path = getenv("SHIM_CONTROL");
    below = getenv("SHIM_BELOW");
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map != MAP_FAILED)
        shared = map;
}

/* Takes one of those left; true for the one that is to fail. */
static bool is_last(_Atomic long long *left)
{
    long long now = atomic_load(left);
    while (now > 0)
        if (atomic_compare_exchange_weak(left, &now, now - 1))
            return now == 1;
    return false;
}

static bool refuse_memory(void)
{
    if (!is_last(&shared->allocations_left))
        return false;
    atomic_fetch_add(&shared->allocations_failed, 1);
    errno = ENOMEM;
    return true;
}

extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);

void *malloc(size_t bytes)
{
    return refuse_memory() ? NULL : __libc_malloc(bytes);
}

void *calloc(size_t count, size_t size)
{
    return refuse_memory() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *block, size_t bytes)
{
    return refuse_memory() ? NULL : __libc_realloc(block, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    return refuse_memory() ? NULL : __libc_memalign(alignment, bytes);
}

int posix_memalign(void **ret_block, size_t alignment, size_t bytes)
{
    if (refuse_memory())
        return ENOMEM;
    *ret_block = __libc_memalign(alignment, bytes);
    return *ret_block != NULL ? 0 : ENOMEM;
}

static bool is_below(int fd)
{
    char link[64];
    char path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    return length > 0 && below != NULL && strncmp(path, below, strlen(below)) == 0;
}

static void hold_write(int fd)
{
    while (atomic_load(&shared->writes_held) != 0 && gettid() != getpid() && is_below(fd))
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
}

static bool refuse_write(int fd)
{
    hold_write(fd);
    if (atomic_load(&shared->writes_left) <= 0 && atomic_load(&shared->writes_sticky) < 2)
        return false;
    int before = errno;
    bool hit = is_below(fd);
    errno = before;
    if (!hit)
        return false;
    if (atomic_load(&shared->writes_sticky) < 2) {
        if (!is_last(&shared->writes_left))
            return false;
        if (atomic_load(&shared->writes_sticky) == 1)
            atomic_store(&shared->writes_sticky, 2);
    }
    atomic_fetch_add(&shared->writes_failed, 1);
    errno = (int)atomic_load(&shared->write_errno);
    return true;
}

#define NEXT(type, name, parameters, ...)                                                          \
    static type(*real) parameters;                                                                 \
    if (real == NULL)                                                                              \
        *(void **)&real = dlsym(RTLD_NEXT, name);                                                  \
    return real(__VA_ARGS__)

ssize_t write(int fd, const void *bytes, size_t count)
{
    if (refuse_write(fd))
        return -1;
    NEXT(ssize_t, "write", (int, const void *, size_t), fd, bytes, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset)
{
    if (refuse_write(fd))
        return -1;
    NEXT(ssize_t, "pwrite", (int, const void *, size_t, off_t), fd, bytes, count, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t offset)
{
    if (refuse_write(fd))
        return -1;
    NEXT(ssize_t, "pwrite64", (int, const void *, size_t, off_t), fd, bytes, count, offset);
}

int fsync(int fd)
{
    if (refuse_write(fd))
        return -1;
    NEXT(int, "fsync", (int), fd);
}

int fdatasync(int fd)
{
    if (refuse_write(fd))
        return -1;
    NEXT(int, "fdatasync", (int), fd);
}

int ftruncate(int fd, off_t bytes)
{
    if (refuse_write(fd))
        return -1;
    NEXT(int, "ftruncate", (int, off_t), fd, bytes);
}

int ftruncate64(int fd, off_t bytes)
{
    if (refuse_write(fd))
        return -1;
    NEXT(int, "ftruncate64", (int, off_t), fd, bytes);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    if (refuse_write(from_fd))
        return -1;
    NEXT(int, "renameat", (int, const char *, int, const char *), from_fd, from, to_fd, to);
}

ssize_t copy_file_range(int from, off_t *from_offset, int to, off_t *to_offset, size_t count,
                        unsigned flags)
{
    if (refuse_write(to))
        return -1;
    NEXT(ssize_t, "copy_file_range", (int, off_t *, int, off_t *, size_t, unsigned), from,
         from_offset, to, to_offset, count, flags);
}

int clock_gettime(clockid_t clock, struct timespec *ret_time)
{
    static int (*real)(clockid_t, struct timespec *);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(clock, ret_time);
    if (status == 0 && clock == CLOCK_REALTIME)
        ret_time->tv_sec += atomic_load(&shared->clock_offset_s);
    return status;
}
