/* SPDX-License-Identifier: Apache-2.0 */
/* Models brought in from a hub or a web server, where the settings allow it: one thread fetches one
 * model at a time into the fetch directory, and goes on after an interruption where it was. */
#pragma once

#include "daemon/base/base.h"
#include "daemon/fetch/transfer.h"
#include "daemon/models/models.h"
#include "daemon/store/store.h"

typedef struct fetcher fetcher;

/* Takes up what an earlier process left unfinished. Keeps the pointers; they must outlive it.
 * Errors: DIDI_NOT_FOUND and DIDI_IO (fetch directory, token), DIDI_INVALID (a setting),
 * DIDI_NO_MEMORY, those of the store. */
int fetcher_start(const config *settings, registry *models, store *records, fetcher **ret_fetcher,
                  didi_error *error);

/* Ends the transfer in progress, which is queued again, and the thread. NULL is fine. */
void fetcher_stop(fetcher *self);

/* Queues a fetch. The source is "hf:ORG/NAME[@REVISION]", whose model is called ORG/NAME with the
 * same revision; "https://HOST/FILE.safetensors[#sha256=HEX]"; "s3://BUCKET/PREFIX", whose files
 * are a model's; or the path of a directory below a model directory. Thread-safe. Errors:
 * DIDI_INVALID with "/name" or "/source" as subject, those of the store. */
int fetcher_request(fetcher *self, const char *name, const char *source, char ret_id[ID_BYTES],
                    didi_error *error);

/* Cancels a fetch that did not end; a transfer in progress ends soon after. What came of a hub's
 * file stays for a later fetch of it, of a file by URL it is removed. Thread-safe. Errors:
 * DIDI_NOT_FOUND, DIDI_CONFLICT (it ended), those of the store. */
int fetcher_cancel(fetcher *self, const char *id, didi_error *error);

/* Forgets a fetch that ended, not its model. Thread-safe. Errors: DIDI_NOT_FOUND, DIDI_CONFLICT (it
 * did not end yet), those of the store. */
int fetcher_delete(fetcher *self, const char *id, didi_error *error);
