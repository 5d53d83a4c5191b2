/* SPDX-License-Identifier: Apache-2.0 */
/* Receiving deliveries and working them off. */
#include "daemon/hooks/hooks.h"

#include "daemon/hooks/hooks_internal.h"
#include "daemon/hooks/template.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum {
    WORK_WAIT_MILLISECONDS_MAX = 5000, /* clocks jump: rows are looked at again */
    FETCH_LOOK_MILLISECONDS = 500,
    RETRY_MILLISECONDS = 15000,
    ATTEMPTS_MAX = 200, /* of a submission that finds the queue full, or the disk */
    ASK_WAIT_MILLISECONDS = 2000,
    ALIAS_TOLD_MILLISECONDS = 3600 * 1000, /* a poll's news may come as a webhook within an hour */
    SECRET_RANDOM_BYTES = 32,
};

/* ---- saving ---- */

static int secret_make(char ret_secret[HOOKS_SECRET_BYTES], didi_error *error)
{
    unsigned char bytes[SECRET_RANDOM_BYTES];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return didi_fail(error, DIDI_IO, NULL, "the kernel gives no random bytes");
    for (size_t i = 0; i < sizeof bytes; i++)
        (void)snprintf(ret_secret + 2 * i, 3, "%02x", bytes[i]);
    return DIDI_OK;
}

static int given_secret_read(const json_t *given, const char **ret_secret,
                             char ret_made[HOOKS_SECRET_BYTES], didi_error *error)
{
    if (json_is_true(given)) {
        *ret_secret = ret_made;
        return secret_make(ret_made, error);
    }
    if (given == NULL)
        return DIDI_OK;
    size_t length = json_string_length(given); /* 0 for what is no string */
    if (length < RULES_SECRET_BYTES_MIN || length > RULES_SECRET_BYTES_MAX ||
        text_has_control(json_string_value(given), length))
        return didi_fail(error, DIDI_INVALID, "/secret",
                         "must be a string of %d to %d bytes without control characters, or true",
                         RULES_SECRET_BYTES_MIN, RULES_SECRET_BYTES_MAX);
    *ret_secret = json_string_value(given);
    return DIDI_OK;
}

/* What the settings must have for it. */
static int check_settings(const hooks *self, const json_t *document, didi_error *error)
{
    const json_t *rules = json_object_get(document, "rules");
    bool mlflow = strcmp(rules_kind(document), "mlflow") == 0;
    for (size_t i = 0; i < json_array_size(rules); i++) {
        if (json_object_get(json_array_get(rules, i), "register") == NULL)
            continue;
        if (self->mlflow == NULL || self->settings->public_url == NULL)
            return didi_fail(
                error, DIDI_INVALID, "/rules",
                "register needs mlflow_uri and public_url among the daemon's settings");
    }
    if (json_object_get(document, "poll") != NULL && (mlflow ? self->mlflow : self->hub) == NULL)
        return didi_fail(error, DIDI_INVALID, "/poll", "poll needs %s among the daemon's settings",
                         mlflow ? "mlflow_uri" : "hub_endpoint");
    return DIDI_OK;
}

int hooks_save(hooks *self, const char *name, json_t *document, bool *ret_created,
               char ret_secret[HOOKS_SECRET_BYTES], didi_error *error)
{
    const char *secret = NULL;
    char *text = NULL;
    ret_secret[0] = '\0';
    if (!name_is_label_key(name))
        return didi_fail(error, DIDI_INVALID, "/name",
                         "a hook's name is 1 to 63 of A-Z a-z 0-9 . _ -, begun by a letter or "
                         "digit");
    if (!json_is_object(document))
        return field_fail_type("the document", "an object", document, "", error);
    json_t *given = json_incref(json_object_get(document, "secret"));
    json_object_del(document, "secret");
    int status = given_secret_read(given, &secret, ret_secret, error);
    if (status == DIDI_OK)
        status = rules_check(document, error);
    if (status == DIDI_OK)
        status = check_settings(self, document, error);
    if (status == DIDI_OK && (text = document_render(document)) == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a hook");
    if (status == DIDI_OK)
        status = store_hook_put(self->records, name, text, secret, ret_created, error);
    free(text);
    json_decref(given);
    if (status != DIDI_OK)
        memset(ret_secret, 0, HOOKS_SECRET_BYTES);
    else
        log_emit(LOG_LEVEL_INFO, "hook saved", LOG_TEXT("hook", name),
                 LOG_TEXT("kind", rules_kind(document)));
    return status;
}

/* ---- receiving ---- */

/* Templates are known to be good; a payload may still lack what they name. */
static int event_expand(const json_t *hook, const json_t *rule, const hook_event *event,
                        json_t **ret_work, didi_error *error)
{
    int status = rules_expand(hook, rule, event->payload, ret_work, error);
    if (status != DIDI_OK)
        return status;
    const char *model =
        json_string_value(json_object_get(json_object_get(*ret_work, "register"), "model"));
    if (model == NULL || (name_is_label_key(model)))
        return DIDI_OK;
    json_decref(*ret_work);
    *ret_work = NULL;
    return didi_fail(error, DIDI_INVALID, "/register/model",
                     "'%.200s' is no name for a registered model: 1 to 63 of A-Z a-z 0-9 . _ -",
                     model);
}

/* Which trace the message belongs to, for the job that is made of it. */
static int trace_take(const hook_message *message, json_t *work, didi_error *error)
{
    char trace[TRACE_BYTES];
    const char *header = message->header(message->context, "traceparent");
    if (header == NULL || !trace_read(header, trace))
        return DIDI_OK;
    return json_object_set_new(work, "traceparent", json_string(trace)) == 0
               ? DIDI_OK
               : didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a delivery");
}

int hooks_note(hooks *self, const hooks_news *news, char ret_id[ID_BYTES], bool *ret_repeated,
               didi_error *error)
{
    const hook_event *event = news->event;
    json_t *work = NULL;
    char *text = NULL;
    didi_error why = {0};
    const json_t *rule = rules_match(news->document, event->payload, news->message);
    const char *rule_name = json_string_value(json_object_get(rule, "name"));
    char reason[DIDI_ERROR_SUBJECT_BYTES_MAX + DIDI_ERROR_MESSAGE_BYTES_MAX + 2] = "";
    int status = rule != NULL ? event_expand(news->document, rule, event, &work, &why) : DIDI_OK;
    if (status == DIDI_OK && work != NULL)
        status = trace_take(news->message, work, &why);
    if (status == DIDI_NO_MEMORY ||
        (status == DIDI_OK && work != NULL && (text = document_render(work)) == NULL)) {
        json_decref(work);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a delivery");
    }
    if (status != DIDI_OK)
        (void)snprintf(reason, sizeof reason, "%s: %s", why.subject, why.message);
    const store_arrival arrival = {.hook = news->hook,
                                   .key = event->key,
                                   .subject = event->subject[0] != '\0' ? event->subject : NULL,
                                   .delivery = event->delivery,
                                   .origin = news->origin,
                                   .rule = rule_name,
                                   .reason = status != DIDI_OK ? reason
                                             : rule == NULL    ? "no rule matches"
                                                               : NULL,
                                   .excerpt = event->excerpt,
                                   .work = text,
                                   .state = status != DIDI_OK ? RECEIPT_FAILED
                                            : rule == NULL    ? RECEIPT_IGNORED
                                                              : RECEIPT_PENDING,
                                   .since_ms = news->since_ms};
    status = store_receipt_add(self->records, &arrival, ret_id, ret_repeated, error);
    const char *state = receipt_state_name(arrival.state);
    if (status == DIDI_OK)
        metric_add(METRIC_HOOK_DELIVERIES,
                   METRIC_LABELS(news->origin, *ret_repeated ? "repeated" : state), 1);
    if (status == DIDI_OK)
        log_emit(LOG_LEVEL_INFO, "delivery", LOG_TEXT("hook", news->hook),
                 LOG_TEXT("delivery", ret_id), LOG_TEXT("origin", news->origin),
                 LOG_TEXT("sender_id", event->delivery), LOG_TEXT("rule", rule_name),
                 LOG_INTEGER("repeated", *ret_repeated), LOG_TEXT("state", state),
                 LOG_TEXT("reason", arrival.reason));
    free(text);
    json_decref(work);
    return status;
}

/* Whoever does not know a hook's name cannot have its address refused there: behind a proxy that is
 * not trusted all have one address. */
static void failures_key(const char *name, const char *peer, char ret_key[FAILURES_ADDRESS_BYTES])
{
    char owner[ADDRESS_OWNER_BYTES];
    address_owner(peer, owner);
    (void)snprintf(ret_key, FAILURES_ADDRESS_BYTES, "%s %.63s", owner, name);
}

static void note_failure(hooks *self, const char *name, const char *peer, const didi_error *error)
{
    char key[FAILURES_ADDRESS_BYTES];
    failures_key(name_is_label_key(name) ? name : "", peer, key);
    pthread_mutex_lock(&self->lock);
    failures_add(&self->failed, key, clock_monotonic_ms());
    pthread_mutex_unlock(&self->lock);
    log_emit(LOG_LEVEL_WARNING, "delivery refused", LOG_TEXT("hook", name), LOG_TEXT("peer", peer),
             LOG_TEXT("error", error->message));
}

/* Whose message it is: the hook and its document, or a refusal. */
static int admit(hooks *self, const char *name, const hook_message *message, store_hook *ret_hook,
                 json_t **ret_document, problem *ret_problem, didi_error *error)
{
    int status = name_is_label_key(name)
                     ? store_hook_get(self->records, name, ret_hook, error)
                     : didi_fail(error, DIDI_NOT_FOUND, NULL, "there is no such hook");
    *ret_problem = status == DIDI_NOT_FOUND ? PROBLEM_UNKNOWN_HOOK : problem_from_status(status);
    if (status != DIDI_OK)
        return status;
    *ret_document = json_load_own(ret_hook->document);
    if (*ret_document == NULL) {
        *ret_problem = PROBLEM_OUT_OF_MEMORY;
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a delivery");
    }
    *ret_problem = PROBLEM_BAD_SIGNATURE;
    status = signature_check(*ret_document, ret_hook->secret, message, clock_now_ms(), error);
    if (status == DIDI_NO_MEMORY)
        *ret_problem = PROBLEM_OUT_OF_MEMORY;
    if (status == DIDI_OK && json_is_false(json_object_get(*ret_document, "enabled"))) {
        *ret_problem = PROBLEM_CONFLICT;
        status = didi_fail(error, DIDI_CONFLICT, name, "the hook is not enabled");
    }
    return status;
}

static int note_all(hooks *self, const char *name, const json_t *document,
                    const hook_message *message, hooks_receipt *receipt, problem *ret_problem,
                    didi_error *error)
{
    hook_event *events = NULL;
    size_t count = 0;
    int status = events_read(document, message, &events, &count, error);
    *ret_problem = status == DIDI_FORMAT    ? PROBLEM_MALFORMED_JSON
                   : status == DIDI_INVALID ? PROBLEM_INVALID_REQUEST
                                            : problem_from_status(status);
    for (size_t i = 0; status == DIDI_OK && i < count; i++) {
        const hooks_news news = {.hook = name,
                                 .document = document,
                                 .event = &events[i],
                                 .message = message,
                                 .origin = "webhook",
                                 .since_ms = clock_now_ms() - ALIAS_TOLD_MILLISECONDS};
        status = hooks_note(self, &news, receipt->ids[i], &receipt->repeated[i], error);
        *ret_problem =
            status == DIDI_NOT_FOUND ? PROBLEM_UNKNOWN_HOOK : problem_from_status(status);
        receipt->count += status == DIDI_OK;
    }
    events_free(events, count);
    return status;
}

static void count_request(const json_t *document, int status, problem type)
{
    const char *source = document != NULL ? rules_kind(document) : "none";
    const char *outcome = "refused";
    if (status == DIDI_OK)
        outcome = "accepted";
    else if (type == PROBLEM_BAD_SIGNATURE)
        outcome = "bad_signature";
    else if (type == PROBLEM_UNKNOWN_HOOK)
        outcome = "unknown_hook";
    else if (type == PROBLEM_TOO_MANY_FAILURES)
        outcome = "limited";
    metric_add(METRIC_HOOK_REQUESTS, METRIC_LABELS(source, outcome), 1);
}

int hooks_receive(hooks *self, const char *name, const char *peer, const hook_message *message,
                  hooks_receipt *ret_receipt, problem *ret_problem, didi_error *error)
{
    store_hook hook = {0};
    json_t *document = NULL;
    char key[FAILURES_ADDRESS_BYTES];
    *ret_receipt = (hooks_receipt){0};
    failures_key(name_is_label_key(name) ? name : "", peer, key);
    pthread_mutex_lock(&self->lock);
    ret_receipt->wait_seconds = failures_wait(&self->failed, key, clock_monotonic_ms());
    pthread_mutex_unlock(&self->lock);
    if (ret_receipt->wait_seconds > 0) {
        *ret_problem = PROBLEM_TOO_MANY_FAILURES;
        count_request(NULL, DIDI_CONFLICT, *ret_problem);
        return didi_fail(error, DIDI_CONFLICT, NULL,
                         "%d deliveries of this address to this hook failed within %d seconds",
                         FAILURES_MAX, FAILURES_SECONDS);
    }
    int status = admit(self, name, message, &hook, &document, ret_problem, error);
    if (status != DIDI_OK &&
        (*ret_problem == PROBLEM_BAD_SIGNATURE || *ret_problem == PROBLEM_UNKNOWN_HOOK))
        note_failure(self, name, peer, error);
    if (status == DIDI_OK)
        status = note_all(self, name, document, message, ret_receipt, ret_problem, error);
    count_request(document, status, *ret_problem);
    json_decref(document);
    store_hook_clear(&hook);
    pthread_mutex_lock(&self->lock);
    self->has_work = true;
    pthread_cond_broadcast(&self->arrived);
    pthread_mutex_unlock(&self->lock);
    return status;
}

/* ---- submitting ---- */

enum { LATEST_LOOKED_AT = 100 };

/* "@latest:KEY=VALUE" where a job's id is wanted: the newest succeeded job with that label, which
 * is no survey where it is to be extended. */
static int latest_find(hooks *self, const char *asked, bool extends, char ret_id[ID_BYTES],
                       didi_error *error)
{
    char label[LIMIT_LABEL_KEY_BYTES + LIMIT_LABEL_VALUE_BYTES + 2];
    job_state state = JOB_SUCCEEDED;
    store_job *rows = NULL;
    size_t count = 0;
    size_t at = 0;
    (void)snprintf(label, sizeof label, "%s", asked);
    char *value = strchr(label, '=');
    if (value == NULL)
        return didi_fail(error, DIDI_INVALID, "/extend/job",
                         "after @latest: a label is wanted, KEY=VALUE");
    *value++ = '\0';
    const store_job_filter filter = {.state = &state, .label_key = label, .label_value = value};
    int status =
        store_job_list(self->records, &filter, LATEST_LOOKED_AT, &rows, &count, NULL, error);
    while (at < count && extends && rows[at].survey)
        at++;
    if (status == DIDI_OK && at == count)
        status = didi_fail(error, DIDI_INVALID, "/extend/job",
                           "no job with the label %s=%s has succeeded", label, value);
    if (status == DIDI_OK)
        memcpy(ret_id, rows[at].id, ID_BYTES);
    store_jobs_free(rows, count);
    return status;
}

static int latest_resolve(hooks *self, json_t *object, const char *key, didi_error *error)
{
    static const char prefix[] = "@latest:";
    char id[ID_BYTES];
    const char *asked = json_string_value(json_object_get(object, key));
    if (asked == NULL || strncmp(asked, prefix, sizeof prefix - 1) != 0)
        return DIDI_OK;
    int status = latest_find(self, asked + sizeof prefix - 1, strcmp(key, "job") == 0, id, error);
    if (status == DIDI_OK && json_object_set_new(object, key, json_string(id)) != 0)
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a delivery");
    return status;
}

/* The body of the request that a template became. */
static int body_finish(hooks *self, json_t *body, const char *hook, const char *delivery,
                       didi_error *error)
{
    json_t *labels = json_object_get(body, "labels");
    int status = latest_resolve(self, json_object_get(body, "extend"), "job", error);
    if (status == DIDI_OK)
        status = latest_resolve(self, body, "from_job", error);
    if (status != DIDI_OK)
        return status;
    if (labels == NULL && json_object_set_new(body, "labels", labels = json_object()) != 0)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a delivery");
    if (json_is_object(labels) &&
        (json_object_set_new(labels, "hook", json_string(hook)) != 0 ||
         json_object_set_new(labels, "delivery", json_string(delivery)) != 0))
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a delivery");
    return DIDI_OK;
}

/* Trying again may help. */
static bool may_pass(int status)
{
    return status == DIDI_CONFLICT || status == DIDI_IO || status == DIDI_NO_MEMORY ||
           status == DIDI_DISK_FULL;
}

/* ---- working off ---- */

/* A model that the rule has fetched first. *ret_wait: not yet there. */
static int work_fetch(hooks *self, const store_receipt *row, const json_t *wanted,
                      store_receipt_step *step, char id[ID_BYTES], didi_error *error)
{
    const char *name = json_string_value(json_object_get(wanted, "name"));
    const char *source = json_string_value(json_object_get(wanted, "source"));
    store_fetch fetch = {0};
    int status = DIDI_OK;
    step->state = RECEIPT_WAITING;
    step->wait_ms = FETCH_LOOK_MILLISECONDS;
    if (row->fetch_id[0] == '\0') {
        step->fetch_id = id;
        if (!name_is_model(name) || strlen(source) > LIMIT_SOURCE_BYTES)
            return didi_fail(error, DIDI_INVALID, "/fetch/name", "'%.200s' is no model's name",
                             name);
        return fetcher_request(self->fetches, name, source, id, error);
    }
    status = store_fetch_get(self->records, row->fetch_id, &fetch, error);
    if (status == DIDI_OK && fetch.state == FETCH_FAILED)
        status = didi_fail(error, DIDI_INVALID, "/fetch", "%s",
                           fetch.error_message != NULL ? fetch.error_message : "failed");
    if (status == DIDI_OK && fetch.state == FETCH_CANCELLED)
        status = didi_fail(error, DIDI_INVALID, "/fetch", "the fetch was cancelled");
    if (status == DIDI_OK && fetch.state == FETCH_SUCCEEDED)
        step->state = RECEIPT_DONE;
    store_fetch_clear(&fetch);
    return status;
}

static int work_submit(hooks *self, const store_receipt *row, const json_t *work, char id[ID_BYTES],
                       didi_error *error)
{
    char key[LIMIT_IDEMPOTENCY_KEY_BYTES + 1];
    json_t *body = json_object_get(work, "submit");
    const char *trace = json_string_value(json_object_get(work, "traceparent"));
    (void)snprintf(key, sizeof key, "hook:%s:%s", row->hook, row->id);
    int status = body_finish(self, body, row->hook, row->id, error);
    return status == DIDI_OK
               ? self->service.submit(self->service.context, body, key, trace, id, NULL, error)
               : status;
}

static int work_step(hooks *self, const store_receipt *row, json_t *work, store_receipt_step *step,
                     char ids[2][ID_BYTES], didi_error *error)
{
    const json_t *fetch = json_object_get(work, "fetch");
    const json_t *to = json_object_get(work, "register");
    const json_t *body = json_object_get(work, "submit");
    size_t ready = 0;
    size_t broken = 0;
    int status = DIDI_OK;
    step->state = RECEIPT_DONE;
    if (row->state == RECEIPT_PENDING && json_is_true(json_object_get(work, "rescan")))
        status = registry_rescan(self->models, &ready, &broken, error);
    if (status == DIDI_OK && fetch != NULL)
        status = work_fetch(self, row, fetch, step, ids[0], error);
    if (status != DIDI_OK || step->state != RECEIPT_DONE || body == NULL)
        return status;
    status = work_submit(self, row, work, ids[1], error);
    if (status != DIDI_OK)
        return status;
    step->job_id = ids[1];
    step->hook = row->hook;
    if (json_is_true(json_object_get(body, "survey")))
        return DIDI_OK; /* whose result is no model */
    step->model = json_string_value(json_object_get(to, "model"));
    step->experiment = json_string_value(json_object_get(to, "experiment"));
    return DIDI_OK;
}

/* False when it cannot be recorded: then it is done again, by the same key. */
static bool work_one(hooks *self, const store_receipt *row)
{
    char ids[2][ID_BYTES] = {"", ""};
    char reason[DIDI_ERROR_SUBJECT_BYTES_MAX + DIDI_ERROR_MESSAGE_BYTES_MAX + 2] = "";
    didi_error error = {0};
    didi_error unwritten = {0};
    store_receipt_step step = {.id = row->id};
    json_t *work = json_load_own(row->work);
    int status = work != NULL ? work_step(self, row, work, &step, ids, &error)
                              : didi_fail(&error, DIDI_NO_MEMORY, NULL, "no memory for a delivery");
    if (status != DIDI_OK) {
        bool again = may_pass(status) && row->attempts < ATTEMPTS_MAX;
        (void)snprintf(reason, sizeof reason, "%s%s%s", error.subject,
                       error.subject[0] != '\0' ? ": " : "", error.message);
        step = (store_receipt_step){.id = row->id,
                                    .state = again ? row->state : RECEIPT_FAILED,
                                    .reason = reason,
                                    .wait_ms = RETRY_MILLISECONDS,
                                    .counts = true};
    }
    bool recorded = store_receipt_move(self->records, &step, &unwritten) == DIDI_OK;
    if (!recorded)
        log_emit(LOG_LEVEL_ERROR, "cannot record a delivery", LOG_TEXT("delivery", row->id),
                 LOG_TEXT("error", unwritten.message));
    else if (step.state != row->state)
        log_emit(step.state == RECEIPT_FAILED ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO,
                 "delivery moved", LOG_TEXT("hook", row->hook), LOG_TEXT("delivery", row->id),
                 LOG_TEXT("state", receipt_state_name(step.state)), LOG_TEXT("job", step.job_id),
                 LOG_TEXT("error", step.reason));
    json_decref(work);
    return recorded;
}

/* Waits until there may be something to do; `flag` is what says so. */
static void wait_for(hooks *self, bool *flag, int64_t milliseconds)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(milliseconds / 1000);
    until.tv_nsec += (long)(milliseconds % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&self->lock);
    int waited = 0;
    while (!*flag && !atomic_load(&self->stopping) && waited != ETIMEDOUT)
        waited = pthread_cond_timedwait(&self->arrived, &self->lock, &until);
    *flag = false;
    pthread_mutex_unlock(&self->lock);
}

static void *work_main(void *context)
{
    hooks *self = context;
    pthread_setname_np(pthread_self(), "didid-hooks");
    while (!atomic_load(&self->stopping)) {
        store_receipt row = {0};
        didi_error error = {0};
        bool found = false;
        int64_t next = 0;
        int status = store_receipt_due(self->records, &row, &found, &next, &error);
        if (status == DIDI_OK && found) {
            bool recorded = work_one(self, &row);
            store_receipt_clear(&row);
            if (recorded)
                continue;
        }
        int64_t wait = next > 0 ? next - clock_now_ms() : WORK_WAIT_MILLISECONDS_MAX;
        wait = wait < 50                           ? 50
               : wait > WORK_WAIT_MILLISECONDS_MAX ? WORK_WAIT_MILLISECONDS_MAX
                                                   : wait;
        wait_for(self, &self->has_work, wait);
    }
    return NULL;
}

static void *ask_main(void *context)
{
    hooks *self = context;
    pthread_setname_np(pthread_self(), "didid-asks");
    while (!atomic_load(&self->stopping)) {
        poll_due(self);
        register_due(self);
        wait_for(self, &self->has_questions, ASK_WAIT_MILLISECONDS);
    }
    return NULL;
}

/* ---- trying ---- */

static json_t *error_json(const didi_error *error)
{
    return json_pack("{s:s, s:s, s:s}", "type", problem_type(problem_from_status(error->status)),
                     "detail", error->message, "pointer", error->subject);
}

/* `event` is the first that a rule matches, or the last. */
static int try_event(hooks *self, const char *name, const json_t *document, const hook_event *event,
                     const hook_message *message, json_t **ret_report, didi_error *error)
{
    didi_error why = {0};
    json_t *work = NULL;
    json_t *plan = NULL;
    const json_t *rule = rules_match(document, event->payload, message);
    int status = rule != NULL ? event_expand(document, rule, event, &work, &why) : DIDI_OK;
    json_t *body = json_object_get(work, "submit");
    bool asks_first = json_object_get(work, "fetch") != NULL;
    if (status == DIDI_OK && body != NULL)
        status = body_finish(self, body, name, "00000000000000000000000000", &why);
    if (status == DIDI_OK && body != NULL && !asks_first) {
        json_t *copy = json_deep_copy(body);
        status = self->service.submit(self->service.context, copy, NULL, NULL, NULL, &plan, &why);
        json_decref(copy);
    }
    *ret_report = json_pack("{s:s?, s:o?, s:o?, s:o?}", "rule",
                            json_string_value(json_object_get(rule, "name")), "work", work, "plan",
                            plan, "error", status != DIDI_OK ? error_json(&why) : NULL);
    return *ret_report != NULL ? DIDI_OK
                               : didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for an answer");
}

int hooks_try(hooks *self, const char *name, const hook_message *message, json_t **ret_report,
              didi_error *error)
{
    store_hook hook = {0};
    hook_event *events = NULL;
    size_t count = 0;
    size_t chosen = 0;
    int status = store_hook_get(self->records, name, &hook, error);
    if (status != DIDI_OK)
        return status;
    json_t *document = json_load_own(hook.document);
    status = document != NULL ? events_read(document, message, &events, &count, error)
                              : didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a hook");
    while (chosen + 1 < count && rules_match(document, events[chosen].payload, message) == NULL)
        chosen++;
    if (status == DIDI_OK)
        status = try_event(self, name, document, &events[chosen], message, ret_report, error);
    events_free(events, count);
    json_decref(document);
    store_hook_clear(&hook);
    return status;
}

int hooks_poll(hooks *self, const char *name, didi_error *error)
{
    int status = store_poll_hurry(self->records, name, error);
    pthread_mutex_lock(&self->lock);
    self->has_questions = true;
    pthread_cond_broadcast(&self->arrived);
    pthread_mutex_unlock(&self->lock);
    return status;
}

/* ---- life ---- */

static int open_transfers(hooks *self, didi_error *error)
{
    const config *settings = self->settings;
    int status = DIDI_OK;
    if (settings->hub_token_file != NULL)
        status = transfer_read_token(settings->hub_token_file, "hub_token_file", &self->hub_token,
                                     error);
    if (status == DIDI_OK && settings->mlflow_token_file != NULL)
        status = transfer_read_token(settings->mlflow_token_file, "mlflow_token_file",
                                     &self->mlflow_token, error);
    const transfer_rules hub = {.endpoint = settings->hub_endpoint,
                                .token = self->hub_token,
                                .allow_private = settings->fetch_private != 0,
                                .end = &self->stopping};
    const transfer_rules mlflow = {.endpoint = settings->mlflow_uri,
                                   .token = self->mlflow_token,
                                   .allow_private = true, /* the operator named this one server */
                                   .end = &self->stopping};
    if (status == DIDI_OK && settings->hub_endpoint != NULL)
        status = transfer_create(&hub, &self->hub, error);
    if (status == DIDI_OK && settings->mlflow_uri != NULL)
        status = transfer_create(&mlflow, &self->mlflow, error);
    return status;
}

int hooks_create(const config *settings, store *records, registry *models, fetcher *fetches,
                 hooks **ret_hooks, didi_error *error)
{
    pthread_condattr_t monotonic;
    hooks *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for hooks");
    self->settings = settings;
    self->records = records;
    self->models = models;
    self->fetches = fetches;
    pthread_mutex_init(&self->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&self->arrived, &monotonic);
    pthread_condattr_destroy(&monotonic);
    int status = open_transfers(self, error);
    if (status != DIDI_OK)
        hooks_free(self);
    else
        *ret_hooks = self;
    return status;
}

int hooks_start(hooks *self, const hooks_service *service, didi_error *error)
{
    assert(!self->works && service->submit != NULL && service->figures != NULL);
    self->service = *service;
    self->works = pthread_create(&self->working, NULL, work_main, self) == 0;
    self->asks = self->works && pthread_create(&self->asking, NULL, ask_main, self) == 0;
    return self->asks ? DIDI_OK
                      : didi_fail(error, DIDI_NO_MEMORY, NULL, "cannot start the hooks' threads");
}

void hooks_stop(hooks *self)
{
    if (self == NULL)
        return;
    pthread_mutex_lock(&self->lock);
    atomic_store(&self->stopping, true);
    pthread_cond_broadcast(&self->arrived);
    pthread_mutex_unlock(&self->lock);
    if (self->works)
        pthread_join(self->working, NULL);
    if (self->asks)
        pthread_join(self->asking, NULL);
    self->works = self->asks = false;
}

void hooks_free(hooks *self)
{
    if (self == NULL)
        return;
    assert(!self->works && !self->asks);
    pthread_cond_destroy(&self->arrived);
    pthread_mutex_destroy(&self->lock);
    transfer_free(self->hub);
    transfer_free(self->mlflow);
    free(self->hub_token);
    free(self->mlflow_token);
    free(self);
}
