/* SPDX-License-Identifier: Apache-2.0 */
/* A model of a hub, into a cache as the hub's own clients keep it. */
#pragma once

#include "daemon/fetch/blob.h"
#include "daemon/fetch/source.h"

/* True of a file that is fetched with a model. */
bool hub_wants(const char *name);

/* Fetches weights, indexes, configuration and what tokenizers and processors need of the revision,
 * in blobs/ and snapshots/COMMIT; then refs/REVISION. Files that are there already are not fetched
 * again. Errors: DIDI_NOT_FOUND (repository, revision), DIDI_FORMAT (an answer of another form, no
 * safetensors file), those of blob_fetch and of files. */
int hub_fetch(fetch_run *run, const fetch_source *from, didi_error *error);
