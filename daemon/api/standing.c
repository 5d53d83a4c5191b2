/* SPDX-License-Identifier: Apache-2.0 */
/* The verdict of a bake-off, from its rows as the wire has them. */
#include "daemon/api/standing.h"

#include "src/base/base.h"

#include <math.h>
#include <string.h>

/* By definition the fine-tunes themselves. */
static const char reference_method[] = "individuals";

static json_t *number_or_null(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *standing_scores(const store_score *scores, size_t count, uint64_t member)
{
    json_t *all = json_object();
    for (size_t i = 0; i < count; i++) {
        const store_score *one = &scores[i];
        if (one->number != member)
            continue;
        json_object_set_new(all, one->task,
                            json_pack("{s:o, s:n, s:o, s:o, s:f, s:s?}", "score",
                                      number_or_null(one->score), "kept", "cosine",
                                      number_or_null(one->cosine), "length",
                                      number_or_null(one->length), "seconds",
                                      (double)one->run_ms / 1000, "error", one->error));
    }
    return all;
}

static bool is_text(const json_t *row, const char *key, const char *text)
{
    const char *found = json_string_value(json_object_get(row, key));
    return found != NULL && strcmp(found, text) == 0;
}

static double number_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static json_t *find_reference(const json_t *rows)
{
    json_t *row;
    size_t index;
    json_array_foreach((json_t *)rows, index, row)
    {
        if (is_text(row, "role", "method") && is_text(row, "method", reference_method))
            return json_object_get(row, "scores");
    }
    return NULL;
}

/* The mean over tasks of what is known of each; null where something is not. */
static json_t *mean_of(const json_t *scores, const char *key)
{
    const char *task;
    json_t *one;
    double sum = 0;
    json_object_foreach((json_t *)scores, task, one)
    {
        sum += number_of(one, key);
    }
    const size_t count = json_object_size(scores);
    return number_or_null(count > 0 ? sum / (double)count : NAN);
}

static void judge_row(json_t *row, const json_t *reference)
{
    json_t *scores = json_object_get(row, "scores");
    const char *task;
    json_t *one;
    const char *worst_task = NULL;
    double worst = INFINITY;
    double sum = 0;
    size_t count = 0;
    json_object_foreach(scores, task, one)
    {
        const double best = number_of(json_object_get(reference, task), "score");
        const double kept = number_of(one, "score") / best;
        if (!isfinite(kept) || !(best > 0)) {
            count = SIZE_MAX; /* a mean without it would not be one */
            break;
        }
        json_object_set_new(one, "kept", json_real(kept));
        sum += kept;
        count++;
        if (kept < worst) {
            worst = kept;
            worst_task = task;
        }
    }
    const bool whole = count > 0 && count == json_object_size(reference);
    json_object_set_new(row, "kept", whole ? json_real(sum / (double)count) : json_null());
    json_object_set_new(row, "worst",
                        whole ? json_pack("{s:s, s:f}", "task", worst_task, "kept", worst)
                              : json_null());
}

void standing_judge(json_t *rows, bool scored)
{
    const json_t *reference = scored ? find_reference(rows) : NULL;
    json_t *row;
    size_t index;
    json_array_foreach(rows, index, row)
    {
        judge_row(row, reference);
        json_object_set_new(row, "cosine", mean_of(json_object_get(row, "scores"), "cosine"));
        json_object_set_new(row, "length", mean_of(json_object_get(row, "scores"), "length"));
    }
}

/* What a row keeps; NaN: nobody knows. */
static double kept_of(const json_t *row, bool worst)
{
    return worst ? number_of(json_object_get(row, "worst"), "kept") : number_of(row, "kept");
}

/* The most that didi keeps in so many bytes; NaN where it was not measured there. */
static double didi_at(const json_t *rows, double bytes, bool worst)
{
    double most = NAN;
    json_t *row;
    size_t index;
    json_array_foreach((json_t *)rows, index, row)
    {
        const double kept = kept_of(row, worst);
        if (is_text(row, "role", "didi") && number_of(row, "bytes") <= bytes && isfinite(kept) &&
            !(kept <= most))
            most = kept;
    }
    return most;
}

static json_t *list_ahead(const json_t *rows)
{
    json_t *ahead = json_array();
    json_t *row;
    size_t index;
    json_array_foreach((json_t *)rows, index, row)
    {
        const bool judged =
            is_text(row, "role", "method") && number_of(row, "ratio") <= LIMIT_BAKEOFF_SIZE_FOUND;
        for (int worst = 0; worst < 2 && judged; worst++) {
            const double by = kept_of(row, worst) - didi_at(rows, number_of(row, "bytes"), worst);
            if (by > 0)
                json_array_append_new(ahead, json_pack("{s:O, s:s, s:f}", "label",
                                                       json_object_get(row, "label"), "what",
                                                       worst ? "worst" : "mean", "by", by));
        }
    }
    return ahead;
}

json_t *standing_verdict(const json_t *rows, bool scored)
{
    static const char with[] =
        "Kept is the score relative to that of the fine-tune itself. A method of at most 2.2 "
        "models "
        "is ahead where it keeps more than didi does in as many bytes or fewer.";
    static const char without[] = "No scorer is configured. Relative errors of different kinds of "
                                  "methods cannot be compared: "
                                  "tall_ties has one above 1 and keeps nearly all.";
    return json_pack("{s:s, s:s, s:o}", "measure", scored ? "kept" : "relative_error", "note",
                     scored ? with : without, "ahead", scored ? list_ahead(rows) : json_array());
}
