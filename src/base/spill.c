/* SPDX-License-Identifier: Apache-2.0 */
/* Shared mappings can be dropped from the process at any time, also while others use them: the next
 * access maps the page again. */
#include "src/base/spill.h"

#include "src/base/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct mapping {
    void *start;
    size_t bytes;
    struct mapping *next;
} mapping;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static mapping *mappings;
static atomic_size_t mapping_count;
static atomic_size_t touched;

static int open_unnamed(int directory_fd)
{
    int fd = openat(directory_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT))
        return fd;
    static const char name[] = "spill.tmp";
    fd = openat(directory_fd, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0)
        (void)unlinkat(directory_fd, name, 0);
    return fd;
}

/* Reserved, because a page that finds the disk full would end the process. */
static void *map_unnamed(int directory_fd, size_t bytes)
{
    pthread_mutex_lock(&mutex); /* of the name, where one is needed */
    int fd = open_unnamed(directory_fd);
    pthread_mutex_unlock(&mutex);
    if (fd < 0)
        return NULL;
    int problem = posix_fallocate(fd, 0, (off_t)bytes);
    void *start = MAP_FAILED;
    if (problem == 0) {
        start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        problem = errno;
    }
    (void)close(fd);
    errno = problem;
    return start == MAP_FAILED ? NULL : start;
}

void *spill_allocate(int directory_fd, size_t count, size_t size)
{
    size_t bytes = 0;
    errno = ENOMEM;
    if (fault_at(FAULT_ALLOC) != 0 || __builtin_mul_overflow(count, size, &bytes) ||
        bytes > PTRDIFF_MAX)
        return NULL;
    mapping *fresh = malloc(sizeof *fresh);
    if (fresh == NULL)
        return NULL;
    fresh->bytes = bytes == 0 ? 1 : bytes;
    fresh->start = map_unnamed(directory_fd, fresh->bytes);
    if (fresh->start == NULL) {
        int problem = errno;
        free(fresh);
        errno = problem;
        return NULL;
    }
    pthread_mutex_lock(&mutex);
    fresh->next = mappings;
    mappings = fresh;
    pthread_mutex_unlock(&mutex);
    atomic_fetch_add(&mapping_count, 1);
    return fresh->start;
}

void spill_free(void *memory)
{
    if (atomic_load(&mapping_count) == 0 || memory == NULL) {
        free(memory);
        return;
    }
    pthread_mutex_lock(&mutex);
    mapping **link = &mappings;
    while (*link != NULL && (*link)->start != memory)
        link = &(*link)->next;
    mapping *found = *link;
    if (found != NULL)
        *link = found->next;
    pthread_mutex_unlock(&mutex);
    if (found == NULL) {
        free(memory);
        return;
    }
    (void)munmap(found->start, found->bytes);
    free(found);
    atomic_fetch_sub(&mapping_count, 1);
}

void spill_touched(size_t bytes)
{
    if (atomic_load_explicit(&mapping_count, memory_order_relaxed) == 0)
        return;
    size_t before = atomic_fetch_add_explicit(&touched, bytes, memory_order_relaxed);
    if (before + bytes < SPILL_TOUCHED_BYTES_MAX)
        return;
    atomic_store_explicit(&touched, 0, memory_order_relaxed);
    pthread_mutex_lock(&mutex);
    for (const mapping *each = mappings; each != NULL; each = each->next)
        (void)madvise(each->start, each->bytes, MADV_DONTNEED);
    pthread_mutex_unlock(&mutex);
}

void spill_copy(void *to, const void *from, size_t bytes)
{
    for (size_t first = 0; first < bytes; first += SPILL_PIECE_BYTES) {
        size_t part = bytes - first < SPILL_PIECE_BYTES ? bytes - first : SPILL_PIECE_BYTES;
        memcpy((char *)to + first, (const char *)from + first, part);
        spill_touched(2 * part);
    }
}
