/* SPDX-License-Identifier: Apache-2.0 */
/* Trim, elect signs, merge those that agree: the rule of TIES (Yadav et al. 2023) over whole
 * models, for methods that differ in the numbers they give it. Of each task the largest magnitudes
 * of all its numbers are kept; the threshold is exact, found in two passes over them. A third pass
 * finds the sign that most numbers have, for those whose kept values sum to zero. */
#pragma once

#include "src/math/math.h"
#include "src/methods/methods.h"
#include "src/methods/ranking.h"

typedef enum election_combine { ELECTION_MEAN, ELECTION_SUM } election_combine;

typedef struct election {
    double density; /* options of the method */
    double scale;
    election_combine combine;

    ranking thresholds; /* a list for each task */
    float *threshold;   /* T: the smallest magnitude that is kept */
    bool found;         /* they are */
    long long signs;    /* sum of the elected signs over all numbers */
    bool known;         /* all of that, also by an earlier attempt */
} election;

/* NOLINTBEGIN(bugprone-macro-parentheses): names of members take none.
 *
 * The options of a method whose `self` has an election `member` at `type`; defaults of TIES: 20 %
 * of the numbers, the mean, times `standard`. */
#define ELECTION_OPTIONS(type, member, standard_scale)                                             \
    {.name = "density",                                                                            \
     .kind = METHOD_NUMBER,                                                                        \
     .offset = offsetof(type, member.density),                                                     \
     .standard = 0.2,                                                                              \
     .lowest = 0,                                                                                  \
     .highest = 1,                                                                                 \
     .above_lowest = true,                                                                         \
     .help = "share of each task vector's numbers that is kept, the largest"},                     \
        {.name = "combine",                                                                        \
         .kind = METHOD_WORD,                                                                      \
         .offset = offsetof(type, member.combine),                                                 \
         .standard = ELECTION_MEAN,                                                                \
         .words = election_combine_words,                                                          \
         .help = "mean or sum of the values that agree"},                                          \
    {                                                                                              \
        .name = "scale", .kind = METHOD_NUMBER, .offset = offsetof(type, member.scale),            \
        .standard = (standard_scale), .lowest = 0, .highest = 10, .above_lowest = true,            \
        .help = "factor of what is merged"                                                         \
    }
/* NOLINTEND(bugprone-macro-parentheses) */
extern const char *const election_combine_words[];

/* `numbers` of each task in all. Errors: DIDI_NO_MEMORY. election_close accepts a zeroed one. */
int election_open(election *self, const work *work, uint64_t numbers, didi_error *error);
void election_close(election *self);
/* Another number of them, before the first is counted. */
void election_expect(election *self, uint64_t numbers);
/* Takes up what an earlier attempt found and election_decide saved. */
void election_recall(election *self, const work *work);

/* Passes 1 and 2, by the ranking: counts numbers of all tasks in an item's tables. */
void election_count(const election *self, size_t tasks, const float *const *tau, uint64_t count,
                    uint64_t *tables);
void election_end_pass(election *self);
/* Pass 3: the sum of the signs of so many numbers. [any thread] */
long long election_signs(const election *self, const work *work, const float *const *tau,
                         uint64_t count);
void election_add_signs(election *self, long long signs);
int election_decide(election *self, const work *work, didi_error *error);

/* out (count) = scale * mean or sum of what is kept and agrees with the elected sign. */
void election_merge(const election *self, const work *work, const float *const *tau, uint64_t count,
                    float *out);
