/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of address space, looked at before anything depends on them. */
#include "daemon/base/address_space.h"

#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* For what threads and libraries allocate beside the buffers of BLAS. */
#define ROOM_BYTES (UINT64_C(192) << 20)

static const char blas_variable[] = "OPENBLAS_NUM_THREADS";

static uint64_t limit_now(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return UINT64_MAX;
    return limit.rlim_cur;
}

/* malloc reserves 64 MiB, aligned to as much, for the heap of each thread. Where one is refused it
 * maps and unmaps each block of that thread on its own, and a job takes a hundred times as long.
 * The one heap that all can share grows by pages. */
static void share_heap(void)
{
#ifdef M_ARENA_MAX
    (void)mallopt(M_ARENA_MAX, 1);
#endif
}

void address_space_prepare(char **argv)
{
    const char *set = getenv(blas_variable);
    if (limit_now() == UINT64_MAX)
        return;
    share_heap();
    if (set != NULL && strcmp(set, "1") == 0)
        return;
    if (setenv(blas_variable, "1", 1) == 0)
        (void)execv("/proc/self/exe", argv);
    /* Without /proc the check still says what is needed. */
}

/* What is mapped; 0 where that cannot be known. */
static uint64_t mapped_now(void)
{
    char text[64] = "";
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    return got > 0 ? memory_multiply(strtoull(text, NULL, 10), (uint64_t)sysconf(_SC_PAGESIZE)) : 0;
}

static uint64_t stack_bytes(void)
{
    pthread_attr_t attributes;
    size_t bytes = 8 << 20;
    if (pthread_attr_init(&attributes) == 0) {
        (void)pthread_attr_getstacksize(&attributes, &bytes);
        (void)pthread_attr_destroy(&attributes);
    }
    return bytes;
}

int address_space_check(uint64_t bytes, size_t threads, didi_error *error)
{
    uint64_t limit = limit_now();
    uint64_t wanted = memory_add(memory_add(mapped_now(), ROOM_BYTES), bytes);
    wanted = memory_add(wanted, memory_multiply(threads, stack_bytes()));
    if (wanted <= limit)
        return DIDI_OK;
    return didi_fail(error, DIDI_NO_MEMORY, NULL,
                     "the limit of address space (RLIMIT_AS) is %" PRIu64 " bytes, and %zu threads "
                     "need %" PRIu64 " bytes; allow more or use fewer workers",
                     limit, threads, wanted);
}
