/* SPDX-License-Identifier: Apache-2.0 */
/* Which OpenBLAS is mapped, and the binding of every caller to one BLAS thread. */
#include "src/didi.h"

#include <cblas.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

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
