/* SPDX-License-Identifier: Apache-2.0 */
/* Webhooks without a network and without a clock: signatures, the retry table, order, rotation,
 * bounds. Days pass in a call. */
#include "daemon/webhooks/queue.h"
#include "daemon/webhooks/retry.h"
#include "src/base/file.h"
#include "tests/unit/support.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define OTHER_SECRET "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"

enum { SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, ORDERS_MAX = 300 };

/* ---- secrets ---- */

static void the_published_vector_is_signed(void **state)
{
    const signed_message message = {.id = "msg_p5jXN8AQM9LWM0D4loKWxJek",
                                    .timestamp = 1614265330,
                                    .body = "{\"test\": 2432232314}"};
    const char *secrets[] = {SECRET, OTHER_SECRET};
    const char *bad[] = {"whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8", "whsec_?"};
    char *signature = NULL;
    didi_error error = {0};
    (void)state;
    assert_int_equal(secret_sign(&message, secrets, 1, &signature, &error), DIDI_OK);
    assert_string_equal(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    free(signature);
    assert_int_equal(secret_sign(&message, secrets, 2, &signature, &error), DIDI_OK);
    assert_non_null(strstr(signature, " v1,"));
    free(signature);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(secret_sign(&message, &bad[i], 1, &signature, &error), DIDI_INVALID);
}

static void write_key(int fd, const char *name, char digit)
{
    char hex[65];
    memset(hex, digit, 64);
    hex[64] = '\n';
    support_write(fd, name, hex, sizeof hex);
}

static void secrets_are_sealed_and_opened(void **state)
{
    secret_key *keys[2] = {NULL, NULL};
    char *made = NULL;
    char *sealed = NULL;
    char *again = NULL;
    char *text = NULL;
    didi_error error = {0};
    char path[2][64];
    const int fd = support_directory(state);
    for (int i = 0; i < 2; i++) {
        (void)snprintf(path[i], sizeof path[i], "/proc/self/fd/%d/key%d", fd, i);
        write_key(fd, i == 0 ? "key0" : "key1", i == 0 ? 'a' : 'b');
        assert_int_equal(secret_key_read(path[i], &keys[i], &error), DIDI_OK);
    }
    assert_int_equal(secret_make(&made, &error), DIDI_OK);
    assert_int_equal(strlen(made), 6 + 44);
    assert_int_equal(secret_seal(keys[0], made, &sealed, &error), DIDI_OK);
    assert_int_equal(secret_seal(keys[0], made, &again, &error), DIDI_OK);
    assert_string_not_equal(sealed, again); /* never the same nonce */
    assert_null(strstr(sealed, made + 6));
    assert_int_equal(secret_open(keys[0], sealed, &text, &error), DIDI_OK);
    assert_string_equal(text, made);
    secret_free(text);
    assert_int_equal(secret_open(keys[1], sealed, &text, &error), DIDI_INVALID);
    assert_int_equal(secret_open(NULL, sealed, &text, &error), DIDI_INVALID);
    char *middle = sealed + strlen(sealed) / 2;
    *middle = *middle == 'A' ? 'B' : 'A';
    assert_int_equal(secret_open(keys[0], sealed, &text, &error), DIDI_INVALID);
    assert_int_equal(secret_open(keys[0], "sealed:", &text, &error), DIDI_INVALID);
    assert_int_equal(secret_open(keys[0], "sealed:AAAA", &text, &error), DIDI_INVALID);
    /* What was stored before there was a key is still read. */
    assert_int_equal(secret_open(keys[0], SECRET, &text, &error), DIDI_OK);
    assert_string_equal(text, SECRET);
    secret_free(text);
    secret_free(made);
    secret_free(sealed);
    secret_free(again);
    secret_key_free(keys[0]);
    secret_key_free(keys[1]);
}

static void keys_of_another_form_are_refused(void **state)
{
    static const char *const bad[] = {"", "aa",
                                      ("0123456789abcdef0123456789abcdef0123456789abcdef"
                                       "0123456789abcdeX")};
    secret_key *key = NULL;
    didi_error error = {0};
    char path[64];
    const int fd = support_directory(state);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d/key", fd);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        support_write(fd, "key", bad[i], strlen(bad[i]));
        assert_int_equal(secret_key_read(path, &key, &error), DIDI_INVALID);
        assert_null(key);
    }
    assert_int_equal(secret_key_read("/nowhere/key", &key, &error), DIDI_NOT_FOUND);
    assert_int_equal(secret_key_read(NULL, &key, &error), DIDI_OK);
    assert_null(key);
}

/* ---- the retry table ---- */

static void retries_follow_the_table(void **state)
{
    static const int64_t seconds[] = {5, 300, 1800, 7200, 18000, 36000, 86400};
    const int64_t now = 1000000;
    (void)state;
    for (unsigned i = 1; i <= RETRY_ATTEMPTS_MAX; i++) {
        const retry_attempt attempt = {.http_status = 500, .attempts = i};
        const retry_decision soonest = retry_decide(&attempt, now, 0);
        const retry_decision latest = retry_decide(&attempt, now, 1);
        if (i == RETRY_ATTEMPTS_MAX) {
            assert_int_equal(soonest.verdict, RETRY_GIVEN_UP);
            continue;
        }
        assert_int_equal(soonest.verdict, RETRY_AGAIN);
        assert_int_equal(soonest.due_ms - now, seconds[i - 1] * 1000);
        assert_int_equal(latest.due_ms - now, seconds[i - 1] * 1200);
        assert_false(soonest.is_gone || soonest.fails_too_long);
    }
}

static void answers_are_judged(void **state)
{
    static const int good[] = {200, 201, 202, 204, 299};
    static const int bad[] = {0, 100, 199, 300, 301, 302, 400, 404, 429, 500, 502, 504};
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        const retry_attempt attempt = {.http_status = good[i], .attempts = 1};
        assert_int_equal(retry_decide(&attempt, 1, 0).verdict, RETRY_SUCCEEDED);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const retry_attempt attempt = {.http_status = bad[i], .attempts = 1};
        const retry_attempt once = {.http_status = bad[i], .attempts = 1, .once = true};
        assert_int_equal(retry_decide(&attempt, 1, 0).verdict, RETRY_AGAIN);
        assert_int_equal(retry_decide(&once, 1, 0).verdict, RETRY_GIVEN_UP);
    }
    const retry_decision gone =
        retry_decide(&(retry_attempt){.http_status = 410, .attempts = 1}, 1, 0);
    assert_true(gone.verdict == RETRY_GIVEN_UP && gone.is_gone);
}

static void retry_after_is_obeyed_within_bounds(void **state)
{
    static const struct {
        int64_t asked, wait;
    } cases[] = {{0, 5}, {3, 5}, {60, 60}, {86400, 86400}, {86401, 86400}, {INT64_MAX, 86400},
                 {-7, 5}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const retry_attempt attempt = {
            .http_status = 503, .attempts = 1, .retry_after_seconds = cases[i].asked};
        assert_int_equal(retry_decide(&attempt, 7, 0).due_ms, 7 + cases[i].wait * 1000);
    }
}

static void days_of_failures_disable(void **state)
{
    const int64_t days = 5 * INT64_C(24) * HOUR;
    const int64_t since = 1000;
    retry_attempt attempt = {
        .http_status = 500, .attempts = 2, .failing_since_ms = since, .failing_ms_max = days};
    (void)state;
    assert_false(retry_decide(&attempt, since + days - 1, 0).fails_too_long);
    assert_true(retry_decide(&attempt, since + days, 0).fails_too_long);
    attempt.failing_ms_max = 0;
    assert_false(retry_decide(&attempt, since + 10 * days, 0).fails_too_long);
    attempt.failing_ms_max = days;
    attempt.http_status = 200;
    assert_false(retry_decide(&attempt, since + 10 * days, 0).fails_too_long);
}

static void answers_are_escaped(void **state)
{
    static const struct {
        const char *text, *shown;
    } cases[] = {{"plain \xc3\xa9", "plain \xc3\xa9"},
                 {"\x1b[2J\n", "\\u{1b}[2J\\u{a}"},
                 {"\x7f\xc2\x9b\xe2\x80\xae\xe2\x81\xa6", "\\u{7f}\\u{9b}\\u{202e}\\u{2066}"},
                 {"\xff\xc3(", "\\u{ff}\\u{c3}("},
                 {"\xef\xbb\xbf\xe2\x80\x8b", "\\u{feff}\\u{200b}"}};
    char shown[64];
    char little[9];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        queue_escape(shown, sizeof shown, cases[i].text, strlen(cases[i].text));
        assert_string_equal(shown, cases[i].shown);
    }
    queue_escape(shown, sizeof shown, "a\0b", 3);
    assert_string_equal(shown, "a\\u{0}b");
    queue_escape(little, sizeof little, "abc\x1bxyz", 7); /* cut before what does not fit */
    assert_string_equal(little, "abc");
}

/* ---- the queue ---- */

typedef struct fixture {
    char directory[64];
    store *store;
    delivery_queue *queue;
    int64_t now;
    queue_order *orders[ORDERS_MAX];
    size_t count;
} fixture;

static int setup(void **state)
{
    static const queue_rules rules = {.keep_days = 30, .keep_deliveries = 1000, .disable_days = 5};
    fixture *made = support_allocate(sizeof *made);
    size_t count = 0;
    didi_error error = {0};
    snprintf(made->directory, sizeof made->directory, "/tmp/didid-webhooks-XXXXXX");
    assert_non_null(mkdtemp(made->directory));
    assert_int_equal(store_open(made->directory, &made->store, &error), DIDI_OK);
    assert_int_equal(store_boot(made->store, "0000000000000000000000000a", &count, &error),
                     DIDI_OK);
    assert_int_equal(queue_create(made->store, NULL, &rules, &made->queue, &error), DIDI_OK);
    log_configure(LOG_FORMAT_LOGFMT, LOG_LEVEL_ERROR, STDERR_FILENO);
    *state = made;
    return 0;
}

static int teardown(void **state)
{
    fixture *made = *state;
    didi_error error = {0};
    for (size_t i = 0; i < made->count; i++)
        queue_put_back(made->queue, made->orders[i]);
    queue_free(made->queue);
    store_close(made->store);
    file_remove_tree(AT_FDCWD, made->directory, &error);
    free(made);
    return 0;
}

#define queue_test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

static void add_hook(const fixture *self, const char *events, char ret_id[ID_BYTES])
{
    const store_new_webhook wanted = {.url = "https://h/",
                                      .description = "",
                                      .events = events,
                                      .labels = "{}",
                                      .secret = SECRET,
                                      .enabled = true};
    didi_error error = {0};
    assert_int_equal(store_webhook_create(self->store, &wanted, ret_id, &error), DIDI_OK);
}

static void submit(const fixture *self, char ret_id[ID_BYTES])
{
    const store_submission job = {
        .name = "n", .base = "b", .specification = "{}", .labels = "{\"team\":\"a\"}"};
    store_submit_outcome outcome;
    didi_error error = {0};
    assert_int_equal(store_job_submit(self->store, &job, ret_id, &outcome, &error), DIDI_OK);
}

static void run_job(const fixture *self, job_state end)
{
    store_job job = {0};
    bool found = false;
    didi_error error = {0};
    assert_int_equal(store_job_claim(self->store, -100, &job, &found, &error), DIDI_OK);
    assert_true(found);
    assert_int_equal(store_job_finish(self->store, job.id, job.attempt, end, NULL, &error),
                     DIDI_OK);
    store_job_clear(&job);
}

static void keep_order(void *context, queue_order *order)
{
    fixture *self = context;
    assert_true(self->count < ORDERS_MAX);
    self->orders[self->count++] = order;
}

/* Takes what is due at self->now, which is moved on to the true time first. */
static size_t take(fixture *self)
{
    didi_error error = {0};
    self->now = self->now > clock_now_ms() ? self->now : clock_now_ms();
    assert_int_equal(queue_each_due(self->queue, self->now, keep_order, self, &error), DIDI_OK);
    return self->count;
}

/* Answers the first of those taken. */
static void answer(fixture *self, int http_status)
{
    const queue_answer given = {.http_status = http_status, .body = "b", .bytes = 1};
    didi_error error = {0};
    queue_order *order = self->orders[0];
    assert_true(self->count > 0);
    memmove(self->orders, self->orders + 1, --self->count * sizeof *self->orders);
    assert_int_equal(queue_settle(self->queue, order, &given, self->now, 0, &error), DIDI_OK);
}

static const char *type_taken(const fixture *self, size_t index)
{
    assert_true(index < self->count);
    return self->orders[index]->delivery.type;
}

static store_webhook hook_now(const fixture *self, const char *id)
{
    store_webhook row = {0};
    didi_error error = {0};
    assert_int_equal(store_webhook_get(self->store, id, &row, &error), DIDI_OK);
    return row;
}

static void a_job_is_told_in_order(void **state)
{
    static const char *const types[] = {"job.queued", "job.started", "job.failed"};
    fixture *self = *state;
    char hook[ID_BYTES];
    char job[ID_BYTES];
    add_hook(self, "[]", hook);
    submit(self, job);
    run_job(self, JOB_FAILED);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(take(self), 1);
        assert_string_equal(type_taken(self, 0), types[i]);
        assert_int_equal(take(self), 1); /* not twice while it is in progress */
        assert_non_null(strstr(self->orders[0]->delivery.body, job));
        answer(self, 204);
    }
    assert_int_equal(take(self), 0);
    assert_int_equal(queue_wait_ms(self->queue, self->now, 777), 777);
}

/* A failing event holds those of its job until it is given up; other jobs go on. */
static void a_whole_retry_table_passes(void **state)
{
    fixture *self = *state;
    char hook[ID_BYTES];
    char job[ID_BYTES];
    add_hook(self, "[]", hook);
    submit(self, job);
    run_job(self, JOB_SUCCEEDED);
    assert_int_equal(take(self), 1);
    char first[ID_BYTES];
    memcpy(first, self->orders[0]->delivery.id, ID_BYTES);
    const int64_t begin = self->now;
    for (unsigned attempt = 1; attempt < RETRY_ATTEMPTS_MAX; attempt++) {
        assert_string_equal(self->orders[0]->delivery.id, first);
        assert_int_equal(self->orders[0]->delivery.attempts, attempt - 1);
        answer(self, 500);
        const int64_t wait = queue_wait_ms(self->queue, self->now, INT64_MAX);
        self->now += wait - 1;
        assert_int_equal(take(self), 0);
        self->now++;
        assert_int_equal(take(self), 1);
    }
    assert_int_equal(self->now - begin,
                     INT64_C(1000) * (5 + 300 + 1800 + 7200 + 18000 + 36000 + 86400));
    answer(self, 500); /* given up */
    assert_int_equal(take(self), 1);
    assert_string_equal(type_taken(self, 0), "job.started");
    answer(self, 200);
    assert_int_equal(take(self), 1);
    answer(self, 200);
    store_delivery row = {0};
    didi_error error = {0};
    assert_int_equal(store_delivery_get(self->store, hook, first, &row, &error), DIDI_OK);
    assert_int_equal(row.state, DELIVERY_FAILED);
    assert_int_equal(row.attempts_all, RETRY_ATTEMPTS_MAX);
    assert_string_equal(row.error, "answered 500");
    assert_string_equal(row.answer, "b");
    store_delivery_clear(&row);
    store_webhook told = hook_now(self, hook);
    assert_true(told.enabled && told.queued == 0 && told.failing_since_ms == 0);
    store_webhook_clear(&told);
}

static void other_jobs_and_endpoints_do_not_wait(void **state)
{
    fixture *self = *state;
    char hooks[2][ID_BYTES];
    char job[ID_BYTES];
    add_hook(self, "[\"job.queued\"]", hooks[0]);
    for (int i = 0; i < 5; i++)
        submit(self, job);
    assert_int_equal(take(self), QUEUE_ENDPOINT_MAX); /* the rest waits for these */
    add_hook(self, "[\"job.queued\"]", hooks[1]);
    submit(self, job);
    assert_int_equal(take(self), QUEUE_ENDPOINT_MAX + 1);
    assert_string_equal(self->orders[QUEUE_ENDPOINT_MAX]->delivery.webhook_id, hooks[1]);
    answer(self, 500);
    assert_int_equal(take(self), QUEUE_ENDPOINT_MAX + 1);
}

static void both_secrets_sign_while_they_overlap(void **state)
{
    fixture *self = *state;
    char hook[ID_BYTES];
    char id[ID_BYTES];
    didi_error error = {0};
    add_hook(self, "[]", hook);
    const int64_t until = clock_now_ms() + 24 * INT64_C(3600000);
    assert_int_equal(store_webhook_rotate(self->store, hook, OTHER_SECRET, until, &error), DIDI_OK);
    assert_int_equal(store_delivery_test(self->store, hook, id, &error), DIDI_OK);
    assert_int_equal(take(self), 1);
    assert_non_null(strchr(self->orders[0]->signature, ' '));
    answer(self, 200);
    self->now = until;
    assert_int_equal(store_delivery_test(self->store, hook, id, &error), DIDI_OK);
    assert_int_equal(take(self), 1);
    assert_null(strchr(self->orders[0]->signature, ' '));
    answer(self, 200);
    assert_int_equal(queue_trim(self->queue, self->now, &error), DIDI_OK);
    store_webhook told = hook_now(self, hook);
    assert_null(told.old_secret);
    assert_string_equal(told.secret, OTHER_SECRET);
    store_webhook_clear(&told);
}

static void who_fails_for_days_is_disabled(void **state)
{
    fixture *self = *state;
    char hook[ID_BYTES];
    char job[ID_BYTES];
    add_hook(self, "[\"job.queued\"]", hook);
    submit(self, job);
    assert_int_equal(take(self), 1);
    answer(self, 500);
    self->now += INT64_C(5) * 24 * HOUR;
    assert_int_equal(take(self), 1);
    answer(self, 500);
    store_webhook told = hook_now(self, hook);
    assert_false(told.enabled);
    support_assert_contains(told.disabled_reason, "no delivery succeeded since");
    assert_int_equal(told.queued, 1);
    store_webhook_clear(&told);
    submit(self, job); /* unheard */
    self->now += 24 * HOUR;
    assert_int_equal(take(self), 0);
    const store_webhook_change change = {.enabled = 1};
    didi_error error = {0};
    assert_int_equal(store_webhook_update(self->store, hook, &change, &error), DIDI_OK);
    assert_int_equal(take(self), 1);
    answer(self, 200);
    assert_int_equal(take(self), 0);
}

/* One that was given up goes out again before later ones of its job. */
static void what_is_queued_again_keeps_the_order(void **state)
{
    fixture *self = *state;
    char hook[ID_BYTES];
    char job[ID_BYTES];
    char first[ID_BYTES];
    didi_error error = {0};
    add_hook(self, "[\"job.queued\",\"job.started\",\"job.succeeded\"]", hook);
    submit(self, job);
    run_job(self, JOB_SUCCEEDED);
    assert_int_equal(take(self), 1);
    memcpy(first, self->orders[0]->delivery.id, ID_BYTES);
    answer(self, 200);
    assert_int_equal(take(self), 1);
    answer(self, 500); /* job.started will be tried in 5 s */
    assert_int_equal(store_delivery_again(self->store, hook, first, &error), DIDI_OK);
    self->now += MINUTE;
    assert_int_equal(take(self), 1);
    assert_string_equal(self->orders[0]->delivery.id, first);
    answer(self, 200);
    assert_int_equal(take(self), 1);
    assert_string_equal(type_taken(self, 0), "job.started");
    answer(self, 200);
    assert_int_equal(take(self), 1);
    assert_string_equal(type_taken(self, 0), "job.succeeded");
    assert_int_equal(store_delivery_again(self->store, hook, "none", &error), DIDI_NOT_FOUND);
}

static void models_are_told_when_they_change(void **state)
{
    fixture *self = *state;
    char hook[ID_BYTES];
    didi_error error = {0};
    static char revisions[2][2] = {"1", "2"};
    static char names[2][2] = {"a", "b"};
    static char root[] = "/r";
    static char why[] = "why";
    store_model rows[2] = {
        {.name = names[0], .root = root, .revision = revisions[0], .state = MODEL_READY},
        {.name = names[1],
         .root = root,
         .revision = revisions[0],
         .state = MODEL_BROKEN,
         .reason = why}};
    assert_int_equal(store_model_replace(self->store, rows, 1, &error), DIDI_OK);
    add_hook(self, "[]", hook);
    assert_int_equal(store_model_replace(self->store, rows, 1, &error), DIDI_OK);
    assert_int_equal(take(self), 0);
    assert_int_equal(store_model_replace(self->store, rows, 2, &error), DIDI_OK);
    assert_int_equal(take(self), 1);
    assert_string_equal(type_taken(self, 0), "model.broken");
    support_assert_contains(self->orders[0]->delivery.body, "\"reason\":\"why\"");
    answer(self, 200);
    rows[1].state = MODEL_READY;
    rows[1].reason = NULL;
    rows[0].revision = revisions[1];
    assert_int_equal(store_model_replace(self->store, rows, 2, &error), DIDI_OK);
    assert_int_equal(take(self), 2);
    assert_string_equal(type_taken(self, 1), "model.ready");
}

static void a_queue_is_bounded(void **state)
{
    enum { MODELS = STORE_DELIVERIES_QUEUED_MAX + 3 };
    static char root[] = "/r";
    fixture *self = *state;
    char hook[ID_BYTES];
    char id[ID_BYTES];
    didi_error error = {0};
    store_model *rows = support_allocate(MODELS * sizeof *rows);
    char(*names)[16] = support_allocate(MODELS * sizeof *names);
    add_hook(self, "[]", hook);
    for (int i = 0; i < MODELS; i++) {
        (void)snprintf(names[i], sizeof names[i], "m%05d", i);
        rows[i] = (store_model){.name = names[i], .root = root, .revision = root};
    }
    assert_int_equal(store_model_replace(self->store, rows, MODELS, &error), DIDI_OK);
    store_webhook told = hook_now(self, hook);
    assert_int_equal(told.queued, STORE_DELIVERIES_QUEUED_MAX);
    assert_int_equal(told.dropped, 3);
    store_webhook_clear(&told);
    assert_int_equal(store_delivery_test(self->store, hook, id, &error), DIDI_CONFLICT);
    free(rows);
    free(names);
}

static void old_deliveries_are_forgotten(void **state)
{
    fixture *self = *state;
    char hook[ID_BYTES];
    char job[ID_BYTES];
    didi_error error = {0};
    store_delivery *rows = NULL;
    size_t count = 0;
    add_hook(self, "[\"job.queued\"]", hook);
    const store_delivery_filter all = {.webhook_id = hook};
    submit(self, job);
    assert_int_equal(take(self), 1);
    answer(self, 200);
    submit(self, job); /* stays queued */
    self->now += 29 * INT64_C(24) * HOUR;
    assert_int_equal(queue_trim(self->queue, self->now, &error), DIDI_OK);
    assert_int_equal(store_delivery_list(self->store, &all, 10, &rows, &count, NULL, &error),
                     DIDI_OK);
    assert_int_equal(count, 2);
    store_deliveries_free(rows, count);
    self->now += 2 * INT64_C(24) * HOUR;
    assert_int_equal(queue_trim(self->queue, self->now, &error), DIDI_OK);
    assert_int_equal(store_delivery_list(self->store, &all, 10, &rows, &count, NULL, &error),
                     DIDI_OK);
    assert_int_equal(count, 1);
    assert_int_equal(rows[0].state, DELIVERY_QUEUED);
    store_deliveries_free(rows, count);
    assert_int_equal(store_webhook_disable(self->store, hook, "test", &error), DIDI_OK);
    assert_int_equal(queue_trim(self->queue, self->now, &error), DIDI_OK);
    assert_int_equal(store_delivery_list(self->store, &all, 10, &rows, &count, NULL, &error),
                     DIDI_OK);
    assert_int_equal(rows[0].state, DELIVERY_FAILED);
    store_deliveries_free(rows, count);
    assert_int_equal(store_delivery_trim(self->store, self->now, 0, 0, &error), DIDI_OK);
    assert_int_equal(store_delivery_list(self->store, &all, 10, &rows, &count, NULL, &error),
                     DIDI_OK);
    assert_int_equal(count, 0);
    store_deliveries_free(rows, count);
}

static void what_is_deleted_meanwhile_is_no_error(void **state)
{
    fixture *self = *state;
    char hook[ID_BYTES];
    char job[ID_BYTES];
    didi_error error = {0};
    add_hook(self, "[]", hook);
    submit(self, job);
    assert_int_equal(take(self), 1);
    assert_int_equal(store_webhook_delete(self->store, hook, &error), DIDI_OK);
    assert_int_equal(store_webhook_delete(self->store, hook, &error), DIDI_NOT_FOUND);
    assert_int_equal(store_delivery_test(self->store, hook, job, &error), DIDI_NOT_FOUND);
    assert_int_equal(store_delivery_again(self->store, hook, job, &error), DIDI_NOT_FOUND);
    answer(self, 200);
    assert_int_equal(take(self), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_vector_is_signed),
        support_test(secrets_are_sealed_and_opened),
        support_test(keys_of_another_form_are_refused),
        cmocka_unit_test(retries_follow_the_table),
        cmocka_unit_test(answers_are_judged),
        cmocka_unit_test(retry_after_is_obeyed_within_bounds),
        cmocka_unit_test(days_of_failures_disable),
        cmocka_unit_test(answers_are_escaped),
        queue_test(a_job_is_told_in_order),
        queue_test(a_whole_retry_table_passes),
        queue_test(other_jobs_and_endpoints_do_not_wait),
        queue_test(both_secrets_sign_while_they_overlap),
        queue_test(who_fails_for_days_is_disabled),
        queue_test(what_is_queued_again_keeps_the_order),
        queue_test(models_are_told_when_they_change),
        queue_test(a_queue_is_bounded),
        queue_test(old_deliveries_are_forgotten),
        queue_test(what_is_deleted_meanwhile_is_no_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
