/* SPDX-License-Identifier: Apache-2.0 */
/* What to do about errors, by the type of the server's problem. */
#include "client/commands/advise.h"

#include "client/commands/command.h"
#include "client/commands/job.h"
#include "proto/proto.h"

#include <stdlib.h>
#include <string.h>

enum { ADVISE_MODELS_MAX = 100000 };

#define JOBS_HINT "didictl jobs --all shows the jobs there are"
#define MODELS_HINT                                                                                \
    "didictl model ls shows the models there are, didictl model rescan looks for new ones"
#define LATER_HINT "the same command again in a while; didictl status shows how busy the server is"

/* Type without its prefix, and of some the place in the request. The first that fits is taken. */
static const struct {
    const char *type, *pointer, *text;
} problem_rows[] = {
    {"unknown-job", NULL, JOBS_HINT},
    {"unknown-model", NULL, MODELS_HINT},
    {"missing-model", NULL, MODELS_HINT},
    {"unknown-fetch", NULL, "didictl model fetches shows the fetches there are"},
    {"unknown-webhook", NULL, "didictl webhook ls shows the webhooks there are"},
    {"unknown-delivery", NULL, "didictl webhook deliveries ID shows those there are"},
    {"unknown-hook", NULL, "didictl hook ls shows the hooks there are"},
    {"unknown-token", NULL, "didictl token ls shows the tokens there are"},
    {"unknown-upload", NULL, "didictl model push NAME PATH... --restart begins anew"},
    {"unknown-artifact", NULL, "didictl pull JOB DIR fetches those there are"},
    {"unknown-task", NULL, "didictl show JOB shows the job's tasks"},
    {"invalid-specification", "/extend", "didictl show JOB shows the job's tasks"},
    {"invalid-specification", "/method", "didictl methods shows the methods there are"},
    {"invalid-specification", "/method_options", "didictl methods shows each method's options"},
    {"invalid-specification", "/budget",
     "--budget takes a ratio to one model (1.2 is 120 %), S, M, L, bytes=N, bytes_ratio=X or "
     "max_error=E"},
    {"invalid-specification", "/tasks",
     "give each task a name and a fine-tune of its own: --task NAME=MODEL; " MODELS_HINT},
    {"invalid-specification", NULL,
     "didictl submit --help shows the options, man didictl all "
     "fields"},
    {"invalid-parameter", NULL, "didictl COMMAND --help shows the options and what they take"},
    {"budget-unreachable", NULL,
     "didictl plan with the same options and a larger --budget shows "
     "the smallest one"},
    {"memory-limit", NULL, "fewer tasks, or a greater memory_limit in the server's settings"},
    {"models-differ", NULL,
     "didictl model show MODEL shows each model's tensors: base and tasks "
     "must have the same"},
    {"malformed-file", NULL,
     "didictl model ls --state broken shows what is wrong with models; "
     "copy or fetch this one again, then didictl model rescan"},
    {"not-reusable", NULL,
     "the same without --from-job; didictl show JOB tells whether a job is "
     "reusable"},
    {"idempotency-key-reused", NULL, "another --idempotency-key, or none"},
    {"no-result", NULL, "didictl wait JOB waits for the job's end, didictl watch JOB shows it"},
    {"conflict", NULL, "didictl show JOB tells in which state the job is"},
    {"too-many-requests", NULL, LATER_HINT},
    {"too-many-attempts", NULL, "wait as long as it asks, then didictl login with the right token"},
    {"too-many-connections", NULL, LATER_HINT},
    {"too-many-streams", NULL, LATER_HINT},
    {"queue-full", NULL,
     "didictl jobs --state queued shows what waits; cancel some, or come back "
     "later"},
    {"unavailable", NULL, LATER_HINT},
    {"out-of-memory", NULL, LATER_HINT},
    {"disk-full", NULL,
     "make room on the server's disk: didictl status shows what is free, "
     "didictl rm ID... removes finished jobs"},
    {"upload-limit", NULL,
     "commit or remove uploads first; upload_bytes_max in the server's "
     "settings"},
    {"body-too-large", NULL,
     "fewer tasks, or a greater http_body_bytes_max in the server's "
     "settings"},
    {"wrong-host", NULL,
     "use the address the server listens on, or add the name to http_hosts in "
     "its settings"},
    {"not-found", NULL,
     "didictl version shows both versions: an older server lacks newer "
     "commands; and the host may have no path"},
    {"method-not-allowed", NULL,
     "didictl version shows both versions: an older server lacks newer "
     "commands"},
    {"internal-error", NULL, "the server's log tells more: journalctl -u didid"},
    {"io-error", NULL, "the server's log tells more: journalctl -u didid"},
    {"worker-lost", NULL, "the server's log tells more: journalctl -u didid"},
    {"scheduler-unavailable", NULL,
     "look after the scheduler (sinfo, scontrol ping), then didictl retry JOB"},
    {"storage-failed", NULL, "the message is S3's own; see docs/s3.md, then didictl retry JOB"},
    {"artifact-changed", NULL,
     "somebody replaced or removed the object at S3; bring it back from its versions or a copy"},
    {"cluster-failed", NULL,
     "the message is the scheduler's; the task's own words are in the job's directory on the "
     "server, then didictl retry JOB"},
};

/* How the server could not be reached. */
static const char *const failure_texts[TRANSPORT_FAILURE_COUNT] = {
    [TRANSPORT_REFUSED] = ("start the server there (systemctl start didid), or name another: "
                           "--host URL, DIDI_HOST, didictl context use NAME"),
    [TRANSPORT_UNKNOWN_NAME] = "check the name in --host, DIDI_HOST or didictl context show",
    [TRANSPORT_NO_SOCKET] = "start the server, or name the socket it listens on: --host unix:/PATH",
    [TRANSPORT_SOCKET_CLOSED] = ("become a member of the group that the socket belongs to, or ask "
                                 "as its owner: ls -l shows both"),
    [TRANSPORT_UNTRUSTED] = ("--ca-file FILE (or DIDI_CA_FILE) with the authority that signed the "
                             "server's certificate; and the host's name must be in it"),
    [TRANSPORT_NOT_TLS] = "the server speaks plain http there: --host http://HOST:PORT",
    [TRANSPORT_NOT_HTTP] = ("check the port; where the server has a certificate: --host "
                            "https://HOST:PORT"),
    [TRANSPORT_SILENT] = "is the server busy or the network slow? --timeout SECONDS waits longer",
};

static void advise_denied(const command_context *context, const char *type)
{
    if (strcmp(type, "unauthenticated") == 0 && context->settings->token != NULL)
        advice_give(context->advice,
                    "the token has expired, was revoked, or is another server's: didictl login %s "
                    "with a new one",
                    context->settings->host);
    else if (strcmp(type, "unauthenticated") == 0)
        advice_give(context->advice,
                    "didictl login %s with a token, or --token-file FILE; on the server, didid "
                    "token create makes one",
                    context->settings->host);
    else if (strcmp(type, "forbidden") == 0)
        advice_give(context->advice,
                    "didictl login %s with a token of a wider scope; whoever has scope admin makes "
                    "one: didictl token create NAME --scope submit",
                    context->settings->host);
}

void advise_type(const command_context *context, const char *type, const char *pointer)
{
    const size_t prefix = strlen(PROBLEM_TYPE_PREFIX);
    if (strncmp(type, PROBLEM_TYPE_PREFIX, prefix) != 0)
        return;
    advise_denied(context, type + prefix);
    for (size_t i = 0; i < sizeof problem_rows / sizeof problem_rows[0]; i++) {
        const char *place = problem_rows[i].pointer;
        if (strcmp(problem_rows[i].type, type + prefix) == 0 &&
            (place == NULL || strncmp(pointer, place, strlen(place)) == 0)) {
            advice_give(context->advice, "%s", problem_rows[i].text);
            return;
        }
    }
}

void advise(const command_context *context, int status, didi_error *error)
{
    if (context->service == NULL)
        return;
    const transport_failure failure = service_last_failure(context->service);
    const service_problem *told = service_last_problem(context->service);
    if (status == CLIENT_UNREACHABLE && failure_texts[failure] != NULL)
        advice_give(context->advice, "%s", failure_texts[failure]);
    if (status == CLIENT_FAILURE)
        job_advise_unknown(context, error);
    if (status == CLIENT_FAILURE &&
        strcmp(told->type, PROBLEM_TYPE_PREFIX "malformed-request") == 0 &&
        strstr(error->message, "speaks HTTPS") != NULL)
        advice_give(context->advice, "%s", failure_texts[TRANSPORT_NOT_HTTP]);
    if (status == CLIENT_FAILURE || status == CLIENT_DENIED)
        advise_type(context, told->type, told->pointer);
}

/* The text at a JSON pointer without escapes, as those of specifications are; or NULL. */
static const char *text_at(const json_t *document, const char *pointer)
{
    char step[64];
    while (document != NULL && *pointer == '/') {
        const size_t bytes = strcspn(pointer + 1, "/");
        if (bytes >= sizeof step)
            return NULL;
        memcpy(step, pointer + 1, bytes);
        step[bytes] = '\0';
        pointer += 1 + bytes;
        document = json_is_array(document) ? json_array_get(document, strtoul(step, NULL, 10))
                                           : json_object_get(document, step);
    }
    return json_string_value(document);
}

void advise_model(const command_context *context, const json_t *request, const char *name,
                  didi_error *error)
{
    const service_problem told = *service_last_problem(context->service);
    const bool missing = strcmp(told.type, PROBLEM_TYPE_PREFIX "missing-model") == 0 ||
                         strcmp(told.type, PROBLEM_TYPE_PREFIX "unknown-model") == 0;
    const char *wanted = name != NULL ? name : text_at(request, told.pointer);
    if (!missing || wanted == NULL)
        return;
    json_t *models = NULL;
    bool more = false;
    char meant[NEAREST_TEXT_BYTES];
    didi_error ignored = {0};
    nearest near = nearest_begin(wanted);
    if (service_list(context->service, "/v1/models", ADVISE_MODELS_MAX, &models, &more, &ignored) ==
        CLIENT_OK)
        for (size_t i = 0; i < json_array_size(models); i++)
            nearest_try(&near, record_text(json_array_get(models, i), "name"));
    json_decref(models);
    if (near.found[0] != '\0')
        didi_fail(error, error->status, error->subject, "%s%s", error->message,
                  nearest_text(&near, "'", "'", meant));
    advice_give(context->advice, MODELS_HINT);
}
