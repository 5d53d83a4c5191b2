/* SPDX-License-Identifier: Apache-2.0 */
/* Figures without data, of models by name. Short because the package measures. */
#include "daemon/score/score.h"

#include "src/files/files.h"

static int open_checkpoint(const model_roots *roots, const char *model, checkpoint **ret_model,
                           didi_error *error)
{
    const file_bounds links = model_roots_bounds(roots);
    int fd = -1;
    int status = model_roots_open_model(roots, model, &fd, error);
    if (status == DIDI_OK)
        status = checkpoint_open_within(fd, &links, model, ret_model, error);
    file_close(fd);
    return status;
}

int score_measure(const model_roots *roots, int package_fd, const score_models *models,
                  int (*cancelled)(void *context), void *context, proxies *ret_proxies,
                  didi_error *error)
{
    checkpoint *base = NULL;
    checkpoint *fine_tune = NULL;
    int status = open_checkpoint(roots, models->base, &base, error);
    if (status == DIDI_OK)
        status = open_checkpoint(roots, models->fine_tune, &fine_tune, error);
    if (status == DIDI_OK)
        status = proxies_measure(&(proxies_request){package_fd, models->task, base, fine_tune},
                                 cancelled, context, ret_proxies, error);
    checkpoint_close(fine_tune);
    checkpoint_close(base);
    return status;
}
