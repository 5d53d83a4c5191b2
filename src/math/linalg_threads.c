/* SPDX-License-Identifier: Apache-2.0 */
/* Which OpenBLAS is mapped, one thread of it for every caller, and its buffers.
 *
 * A call takes a buffer of 128 MiB from a list that OpenBLAS keeps for the life of the process;
 * where none is free it maps one more, and OpenBLAS 0.3.21 asks again without end when the kernel
 * has none to give. Nobody can stop a thread that does. So as many as there are callers are mapped
 * at start, where a refusal can be told; no call maps another one later. */
#include "src/base/base.h"
#include "src/didi.h"

#include <assert.h>
#include <cblas.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>

/* 128 MiB, a page, and what malloc adds: where mmap refuses OpenBLAS asks malloc. */
#define BUFFER_BYTES ((UINT64_C(128) << 20) + 3 * 4096)

enum { BUFFERS_MAX = 512 };

/* OpenBLAS's own; exported, as its libblas.so.3 needs them. */
extern void *blas_memory_alloc(int position) __attribute__((weak));
extern void blas_memory_free(void *buffer) __attribute__((weak));

uint64_t didi_blas_bytes(size_t callers)
{
    return memory_multiply(BUFFER_BYTES, callers);
}

int didi_blas_reserve(size_t callers, didi_error *error)
{
    void *held[BUFFERS_MAX];
    assert(callers > 0);
    if (callers > BUFFERS_MAX)
        callers = BUFFERS_MAX;
    size_t bytes = (size_t)didi_blas_bytes(callers);
    void *probe = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (probe == MAP_FAILED)
        return didi_fail(error, DIDI_NO_MEMORY, NULL,
                         "%zu bytes of address space for the buffers of OpenBLAS, for %zu threads, "
                         "are not to be had; allow more or use fewer workers",
                         bytes, callers);
    (void)munmap(probe, bytes);
    if (blas_memory_alloc == NULL || blas_memory_free == NULL)
        return DIDI_OK;
    for (size_t i = 0; i < callers; i++)
        held[i] = blas_memory_alloc(0);
    for (size_t i = 0; i < callers; i++)
        blas_memory_free(held[i]);
    return DIDI_OK;
}

static const char *flavour_name(void)
{
    switch (openblas_get_parallel()) {
    case OPENBLAS_SEQUENTIAL:
        return "serial";
    case OPENBLAS_THREAD:
        return "pthread";
    default:
        return "openmp";
    }
}

int didi_blas_use_one_thread(didi_error *error)
{
    if (openblas_get_parallel() == OPENBLAS_OPENMP) {
        const char *threads = getenv("OMP_NUM_THREADS");
        if (threads == NULL || strcmp(threads, "1") != 0)
            return didi_fail(error, DIDI_INVALID, "OMP_NUM_THREADS",
                             "the OpenMP flavour of OpenBLAS is mapped and needs OMP_NUM_THREADS=1 "
                             "in the environment (or install libopenblas0-pthread)");
    }
    openblas_set_num_threads(1);
    return DIDI_OK;
}

/* OpenBLAS has a list of models of processors, and takes its oldest kernel for those that are newer
 * than itself. */
const char *didi_blas_better_kernel(void)
{
    static const char *const oldest[] = {"Prescott", "Core2", "Generic", "Northwood"};
    const char *name = openblas_get_corename();
    bool old = false;
    for (size_t i = 0; i < sizeof oldest / sizeof *oldest; i++)
        old = old || strcasecmp(name, oldest[i]) == 0;
    if (!old || getenv("OPENBLAS_CORETYPE") != NULL)
        return NULL;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
        return "SkylakeX";
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return "Haswell";
#endif
    return NULL;
}

void didi_blas_describe(didi_blas_info *ret_info)
{
    Dl_info info;
    void *symbol = NULL;
    void (*function)(void) = (void (*)(void))cblas_sgemm;
    memcpy(&symbol, &function, sizeof symbol);
    ret_info->library =
        dladdr(symbol, &info) != 0 && info.dli_fname != NULL ? info.dli_fname : "unknown";
    ret_info->flavour = flavour_name();
    ret_info->kernel = openblas_get_corename();
    ret_info->version = openblas_get_config();
}
