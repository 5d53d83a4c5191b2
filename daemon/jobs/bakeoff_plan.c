/* SPDX-License-Identifier: Apache-2.0 */
/* Decisions about a bake-off: no store, no clock, no thread. */
#include "daemon/jobs/bakeoff_plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool has_succeeded(const store_member *member)
{
    return member->ended && strcmp(member->state, job_state_name(JOB_SUCCEEDED)) == 0;
}

static bool all_ended(const bakeoff_view *self)
{
    bool ended = true;
    for (size_t i = 0; i < self->member_count; i++)
        ended = ended && self->members[i].ended;
    return ended;
}

/* ---- scores ---- */

static const char *task_name(const bakeoff_view *self, size_t task)
{
    const json_t *tasks = json_object_get(self->request, "tasks");
    return json_string_value(json_object_get(json_array_get(tasks, task), "name"));
}

static size_t task_count(const bakeoff_view *self)
{
    return json_array_size(json_object_get(self->request, "tasks"));
}

static bool has_score(const bakeoff_view *self, uint64_t number, const char *task)
{
    for (size_t i = 0; i < self->score_count; i++)
        if (self->scores[i].number == number && strcmp(self->scores[i].task, task) == 0)
            return true;
    return false;
}

static bool wants_scores(const bakeoff_view *self, const store_member *member)
{
    return !self->row.cancel_requested && member->role != MEMBER_SURVEY && has_succeeded(member) &&
           (member->has_job || member->role == MEMBER_BASE);
}

bool bakeoff_find_unscored(const bakeoff_view *self, size_t *member, size_t *task)
{
    for (; *member < self->member_count; (*member)++, *task = 0) {
        const store_member *one = &self->members[*member];
        for (; wants_scores(self, one) && *task < task_count(self); (*task)++)
            if (!has_score(self, one->number, task_name(self, *task)))
                return true;
    }
    return false;
}

bool bakeoff_is_done_with(const bakeoff_view *self, const store_member *member)
{
    size_t task = 0;
    if (!member->ended || !member->has_job)
        return false;
    if (member->role == MEMBER_SURVEY) /* didi's members start from it */
        return self->row.cancel_requested || (self->row.sized && all_ended(self));
    while (wants_scores(self, member) && task < task_count(self))
        if (!has_score(self, member->number, task_name(self, task++)))
            return false;
    return true;
}

bakeoff_next bakeoff_decide(const bakeoff_view *self)
{
    size_t member = 0;
    size_t task = 0;
    if (!all_ended(self))
        return BAKEOFF_WAIT;
    if (!self->row.sized && !self->row.cancel_requested)
        return BAKEOFF_SIZE;
    return bakeoff_find_unscored(self, &member, &task) ? BAKEOFF_WAIT : BAKEOFF_END;
}

/* ---- sizes ---- */

static int by_ratio(const void *left, const void *right)
{
    const bakeoff_size *a = left;
    const bakeoff_size *b = right;
    return (a->ratio > b->ratio) - (a->ratio < b->ratio);
}

size_t bakeoff_sizes(const bakeoff_view *self, bakeoff_size ret_sizes[LIMIT_BAKEOFF_SIZES])
{
    const json_t *asked = json_object_get(self->request, "sizes");
    bakeoff_size found[LIMIT_BAKEOFF_MEMBERS];
    size_t found_count = 0;
    size_t count = 0;
    for (size_t i = 0; i < json_array_size(asked) && i < LIMIT_BAKEOFF_SIZES; i++) {
        const double ratio = json_number_value(json_array_get(asked, i));
        const double bytes = ratio * (double)self->row.model_bytes;
        found[found_count++] = (bakeoff_size){ratio, bytes >= 1 ? (uint64_t)bytes : 1};
    }
    for (size_t i = 0; !json_is_array(asked) && i < self->member_count; i++) {
        const store_member *one = &self->members[i];
        if (one->role == MEMBER_METHOD && has_succeeded(one) &&
            one->result.ratio <= LIMIT_BAKEOFF_SIZE_FOUND)
            found[found_count++] = (bakeoff_size){one->result.ratio, one->result.bytes};
    }
    qsort(found, found_count, sizeof found[0], by_ratio);
    for (size_t i = 0; i < found_count && count < LIMIT_BAKEOFF_SIZES; i++)
        if (count == 0 || json_is_array(asked) ||
            found[i].ratio >= ret_sizes[count - 1].ratio + LIMIT_BAKEOFF_SIZE_STEP)
            ret_sizes[count++] = found[i];
    return count;
}
