/* SPDX-License-Identifier: Apache-2.0 */
/* The pages of the dashboard at /ui/: static files, compiled in, the same for everybody. What they
 * show they ask of /v1, with the token of who looks at them. */
#pragma once

#include "daemon/base/base.h"
#include "daemon/http/http.h"
#include "src/base/base.h"

typedef struct dashboard dashboard;

/* With dashboard_dir, its files are served in place of those compiled in. Errors: those
 * of file_open_directory, DIDI_NO_MEMORY. */
int dashboard_create(const config *settings, dashboard **ret_dashboard, didi_error *error);

/* NULL is fine. */
void dashboard_free(dashboard *self);

/* Replies with a file, "" being the page itself; or that there is none. [any thread] */
void dashboard_reply(const dashboard *self, http_request *request, const char *path);

/* Sends a browser on to `place`, a relative URL; tells others that nothing is here. */
void dashboard_redirect(http_request *request, const char *place);
