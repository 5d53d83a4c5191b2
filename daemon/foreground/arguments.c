/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of `didid run`. */
#include "daemon/foreground/arguments.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define AT(member) offsetof(arguments, member)
static const option_row option_rows[] = {
    {"models", OPTION_SETTING, AT(settings)},
    {"out", OPTION_TEXT, AT(out)},
    {"export", OPTION_TEXT, AT(export)},
    {"max_rank", OPTION_TEXT, AT(max_rank)},
    {"keep", OPTION_TEXT, AT(keep)},
    {"reuse", OPTION_TEXT, AT(reuse)},
    {"extend", OPTION_TEXT, AT(package)},
    {"task", OPTION_LIST, AT(added)},
    {"remove", OPTION_LIST, AT(removed)},
    {"budget", OPTION_TEXT, AT(budget)},
    {"rebalance", OPTION_FLAG, AT(rebalance)},
    {"compare", OPTION_TEXT, AT(comparison)},
    {"score", OPTION_TEXT, AT(score)},
    {"split", OPTION_TEXT, AT(split)},
    {"tune", OPTION_TEXT, AT(tune)},
    {"report_split", OPTION_TEXT, AT(report_split)},
    {"proxies", OPTION_FLAG, AT(proxies)},
    {"score_seconds", OPTION_TEXT, AT(score_seconds)},
    {"score_memory", OPTION_TEXT, AT(score_memory)},
    {"score_user", OPTION_TEXT, AT(score_user)},
    {"score_unconfined", OPTION_FLAG, AT(score_unconfined)},
    {"workers", OPTION_SETTING, AT(settings)},
    {"memory_limit", OPTION_SETTING, AT(settings)},
    {"max_shard_bytes", OPTION_SETTING, AT(settings)},
    {"verbose", OPTION_FLAG, AT(verbose)},
    {"help", OPTION_LAST, AT(help)},
    {"", OPTION_ARGUMENT, AT(paths)},
    {NULL, OPTION_END, 0},
};

void arguments_print_usage(FILE *stream)
{
    fputs("Usage: didid run SPEC --models DIR --out DIR [OPTION]...\n"
          "       didid run --extend PACKAGE --models DIR --out DIR [OPTION]...\n"
          "Merge in the foreground: no server, no database. SPEC is JSON or YAML.\n\n"
          "  --models DIR          model x/y of the specification is DIR/x/y; may be repeated\n"
          "  --out DIR             artifacts go here; absent or empty before\n"
          "  --export FORMAT       also write every task: full (DIR/models/TASK), peft\n"
          "                        (a LoRA for servers, DIR/adapters/TASK), peft-exact\n"
          "                        (one for PEFT alone, DIR/adapters-exact/TASK), router\n"
          "                        (directions to route by, DIR/routers/TASK)\n"
          "  --max-rank N          rank of a LoRA, or directions of a router's layer, at most\n"
          "  --keep DIR            leave spectra and bases in DIR, absent or empty before\n"
          "  --reuse DIR           start from those a merge of the same models left in DIR\n"
          "  --extend PACKAGE      add tasks to a finished package, or remove some\n"
          "  --task NAME=MODEL     a task to add; may be repeated\n"
          "  --remove NAME         a task to leave out; may be repeated\n"
          "  --budget X            for each new task: models, or bytes=N [a mean expert's]\n"
          "  --rebalance           merge all tasks anew under the same total\n"
          "  --compare PACKAGE     a full merge of the same tasks, for the report\n"
          "  --score COMMAND       score each task's model with COMMAND DIRECTORY TASK [SPLIT],\n"
          "                        which prints a number; see docs/scoring.md\n"
          "  --split NAME          of the data to score on\n"
          "  --tune OPTION=V,...   merge at each value of an option of the method, and keep the\n"
          "                        merge that keeps most on --split\n"
          "  --report-split NAME   what was tuned is scored on this data [that of --split]\n"
          "  --proxies             figures without data: the cosine of what is served and the\n"
          "                        fine-tune's change, its length, the worst tensor's error\n"
          "  --score-seconds N     for one score [600]\n"
          "  --score-memory BYTES  that COMMAND may take; 0: no limit [4G]\n"
          "  --score-user NAME     whom COMMAND runs as where root runs didid [nobody]\n"
          "  --score-unconfined    COMMAND may write anywhere and use the network\n"
          "  --workers N           worker threads [one for each processor]\n"
          "  --memory-limit BYTES  working memory; K, M, G, T may follow [half of the machine's]\n"
          "  --max-shard-bytes N   of tensors in one file of a rebuilt model [5000000000]\n"
          "  --verbose             print every telemetry point\n"
          "  --help                this text\n\n"
          "Exit codes: 0 done, 1 failed, 2 usage, 130 interrupted.\n",
          stream);
}

static int refuse(const char *text, didi_error *error)
{
    return didi_fail(error, DIDI_INVALID, NULL, "%s", text);
}

static int read_export(arguments *self, didi_error *error)
{
    char *end = NULL;
    if (self->export != NULL)
        self->exported.format = export_format_find(self->export);
    if (self->exported.format == EXPORT_FORMAT_COUNT)
        return refuse("--export takes 'full', 'peft', 'peft-exact' or 'router'", error);
    if (self->max_rank == NULL)
        return DIDI_OK;
    if (self->export == NULL || self->exported.format == EXPORT_FORMAT_FULL)
        return refuse("--max-rank goes with --export peft, peft-exact or router", error);
    long lowest = self->exported.format == EXPORT_FORMAT_PEFT ? LIMIT_EXPORT_RANK_PORTABLE : 1;
    errno = 0;
    long rank = strtol(self->max_rank, &end, 10);
    if (errno != 0 || end == self->max_rank || *end != '\0' || rank < lowest ||
        rank > LIMIT_EXPORT_RANK)
        return didi_fail(error, DIDI_INVALID, NULL, "--max-rank takes a number from %ld to %d",
                         lowest, LIMIT_EXPORT_RANK);
    self->exported.max_rank = (uint64_t)rank;
    return DIDI_OK;
}

/* What is told of a scorer becomes settings. */
static int read_score(arguments *self, didi_error *error)
{
    const char *const told[][2] = {{"scorer", self->score},
                                   {"scorer_seconds_max", self->score_seconds},
                                   {"scorer_memory_max", self->score_memory},
                                   {"scorer_user", self->score_user},
                                   {"scorer_confine", self->score_unconfined ? "0" : NULL}};
    if (self->score == NULL &&
        (self->tune != NULL || self->split != NULL || self->score_seconds != NULL ||
         self->score_memory != NULL || self->score_user != NULL || self->score_unconfined))
        return refuse("--split, --tune and what begins with --score- go with --score", error);
    if (self->tune != NULL && self->split == NULL)
        return refuse("--tune needs --split: the data that is tuned on has a name", error);
    if (self->tune != NULL && (self->keep != NULL || self->package != NULL))
        return refuse("--tune goes with neither --keep nor --extend", error);
    if (self->report_split != NULL &&
        (self->tune == NULL || strcmp(self->report_split, self->split) == 0))
        return refuse("--report-split goes with --tune, and names another split than --split",
                      error);
    for (size_t i = 0; i < sizeof told / sizeof *told; i++)
        if (told[i][1] != NULL &&
            config_set(&self->config, told[i][0], told[i][1], error) != DIDI_OK)
            return didi_error_wrap(error, "%s", told[i][0]);
    return DIDI_OK;
}

int arguments_read(arguments *self, int argc, char **argv, didi_error *error)
{
    assert(self->config.listen != NULL); /* config_init was called */
    int status = options_read(option_rows, self, argc, argv, error);
    if (status != DIDI_OK || self->help)
        return status;
    for (size_t i = 0; i < self->settings.count; i++) {
        const char *key = self->settings.keys[i];
        status = config_set(&self->config, key, self->settings.values[i], error);
        if (status != DIDI_OK)
            return didi_error_wrap(error, "%s", key);
    }
    status = read_export(self, error);
    if (status == DIDI_OK)
        status = read_score(self, error);
    if (status != DIDI_OK)
        return status;
    if (self->package != NULL && self->paths.count > 0)
        return refuse("--extend takes no specification file", error);
    if (self->package == NULL && self->paths.count != 1)
        return refuse("one specification file is needed", error);
    self->specification_path = self->paths.texts[0];
    if (self->config.model_count == 0)
        return refuse("--models is needed", error);
    if (self->out == NULL || self->out[0] == '\0')
        return refuse("--out is needed", error);
    config_resolve(&self->config);
    return DIDI_OK;
}
