/* SPDX-License-Identifier: Apache-2.0 */
/* From output to score. */
#include "daemon/score/verdict.h"

#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

static int fail_ended(const watch_result *result, const char *task, didi_error *error)
{
    char lines[WATCH_LINES_BYTES];
    int ended = result->ended;
    watch_last_lines(result, lines);
    if (WIFSIGNALED(ended) && WTERMSIG(ended) == SIGXCPU)
        return didi_fail(error, DIDI_SCORER, task, "the scorer used up its processor time%s",
                         lines);
    if (WIFSIGNALED(ended))
        return didi_fail(error, DIDI_SCORER, task, "the scorer was killed by signal %d (%s)%s",
                         WTERMSIG(ended), sigabbrev_np(WTERMSIG(ended)), lines);
    return didi_fail(error, DIDI_SCORER, task, "the scorer ended with exit code %d%s",
                     WEXITSTATUS(ended), lines);
}

static int fail_outcome(const watch_result *result, const scorer_settings *settings,
                        const char *task, didi_error *error)
{
    switch (result->outcome) {
    case WATCH_CANCELLED:
        return didi_fail(error, DIDI_CANCELLED, task, "cancelled");
    case WATCH_TOO_LONG:
        return didi_fail(error, DIDI_SCORER, task,
                         "the scorer ran for more than %" PRIu64 " s and was killed",
                         settings->seconds_max);
    case WATCH_TOO_LARGE:
        return didi_fail(error, DIDI_SCORER, task,
                         "the scorer took more than %" PRIu64 " bytes of memory and was killed",
                         settings->memory_max);
    default:
        return didi_fail(error, DIDI_SCORER, task, "the scorer printed more than %d bytes",
                         SCORE_OUTPUT_BYTES_MAX);
    }
}

/* jansson reads no NaN and no number beyond a double's. */
static int fail_output(const watch_result *result, const json_error_t *reason, const char *task,
                       didi_error *error)
{
    char lines[WATCH_LINES_BYTES];
    watch_last_lines(result, lines);
    const char *text = result->output;
    if (text[strspn(text, " \t\r\n")] == '\0')
        return didi_fail(error, DIDI_SCORER, task, "the scorer printed nothing%s", lines);
    if (strcasestr(text, "nan") != NULL || strcasestr(text, "inf") != NULL ||
        json_error_code(reason) == json_error_numeric_overflow)
        return didi_fail(error, DIDI_SCORER, task, "the scorer printed no finite number: %.100s",
                         text);
    if (json_error_code(reason) == json_error_end_of_input_expected)
        return didi_fail(error, DIDI_SCORER, task,
                         "the scorer printed more than one JSON document: %.100s", text);
    return didi_fail(error, DIDI_SCORER, task, "the scorer printed no JSON (%s): %.100s",
                     reason->text, text);
}

static int read_number(const watch_result *result, const char *task, double *ret_score,
                       didi_error *error)
{
    json_error_t reason = {0};
    bool no_memory = false;
    json_t *document = json_load(result->output, result->output_bytes,
                                 JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &reason, &no_memory);
    if (no_memory)
        return didi_fail(error, DIDI_NO_MEMORY, task, "out of memory");
    if (document == NULL)
        return fail_output(result, &reason, task, error);
    const json_t *number = json_is_object(document) ? json_object_get(document, "score") : document;
    double score = json_number_value(number);
    int status = DIDI_OK;
    if (!json_is_number(number))
        status = didi_fail(error, DIDI_SCORER, task,
                           "the scorer printed neither a number nor an object with a number "
                           "\"score\": %.100s",
                           result->output);
    else if (!isfinite(score))
        status = didi_fail(error, DIDI_SCORER, task, "the scorer printed no finite number");
    json_decref(document);
    if (status == DIDI_OK)
        *ret_score = score;
    return status;
}

int verdict_read(const watch_result *result, const scorer_settings *settings, const char *task,
                 double *ret_score, didi_error *error)
{
    if (result->outcome != WATCH_ENDED)
        return fail_outcome(result, settings, task, error);
    if (!WIFEXITED(result->ended) || WEXITSTATUS(result->ended) != 0)
        return fail_ended(result, task, error);
    return read_number(result, task, ret_score, error);
}
