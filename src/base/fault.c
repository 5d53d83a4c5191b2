/* SPDX-License-Identifier: Apache-2.0 */
/* Named fault points. */
#include "src/base/fault.h"

#include "src/base/text.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FAULT_KILL = 4096, FAULT_STOP, FAULT_HANG, FAULT_WAIT }; /* no errno */
enum { WAIT_MICROSECONDS = 20000 };

typedef struct fault_slot {
    _Atomic long long remaining; /* passes until the failing one; it fires on 1 */
    bool armed;
    bool sticky; /* goes on failing */
    int errno_value;
    atomic_bool fired;
} fault_slot;

static const char *const point_names[] = {DIDI_FAULT_TABLE(TEXT_WORD)};

/* The switch is the only thing read when unused; the slots are written before it is set. */
static atomic_bool fault_switch;
static fault_slot fault_slots[FAULT_COUNT];

int fault_at(fault_point point)
{
    assert((int)point >= 0 && point < FAULT_COUNT);
    if (!atomic_load_explicit(&fault_switch, memory_order_acquire))
        return 0;
    fault_slot *slot = &fault_slots[point];
    if (!slot->armed)
        return 0;
    long long before = atomic_fetch_sub(&slot->remaining, 1);
    if (before > 1 || (before < 1 && !slot->sticky))
        return 0;
    atomic_store(&slot->fired, true);
    if (slot->errno_value == FAULT_KILL)
        (void)raise(SIGKILL);
    if (slot->errno_value == FAULT_STOP) {
        (void)kill(getpid(), SIGSTOP);
        return 0;
    }
    if (slot->errno_value == FAULT_WAIT) {
        (void)usleep(WAIT_MICROSECONDS);
        return 0;
    }
    while (slot->errno_value == FAULT_HANG)
        (void)pause();
    return slot->errno_value;
}

int fault_check(fault_point point, const char *subject, didi_error *error)
{
    int problem = fault_at(point);
    return problem == 0 ? DIDI_OK : didi_fail_errno(error, problem, subject, "made to fail here");
}

static int parse_errno(const char *text)
{
    static const struct {
        const char *name;
        int value;
    } names[] = {{"ENOSPC", ENOSPC},   {"EDQUOT", EDQUOT},   {"EIO", EIO},
                 {"ENOMEM", ENOMEM},   {"EACCES", EACCES},   {"KILL", FAULT_KILL},
                 {"STOP", FAULT_STOP}, {"HANG", FAULT_HANG}, {"WAIT", FAULT_WAIT}};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(text, names[i].name) == 0)
            return names[i].value;
    char *end = NULL;
    long value = strtol(text, &end, 10);
    return *text == '\0' || *end != '\0' || value < 1 || value > 4095 ? -1 : (int)value;
}

/* One "name:nth[+][:errno]"; cuts `text` up. */
static int arm_one(char *text)
{
    char *rest = NULL;
    const char *name = strtok_r(text, ":", &rest);
    const char *nth = strtok_r(NULL, ":", &rest);
    const char *errno_text = strtok_r(NULL, "", &rest);
    if (name == NULL || nth == NULL)
        return -1;
    size_t point = text_find(point_names, FAULT_COUNT, name);
    char *end = NULL;
    long long count = strtoll(nth, &end, 10);
    bool sticky = *end == '+';
    int errno_value = point == FAULT_ALLOC ? ENOMEM : EIO;
    if (errno_text != NULL)
        errno_value = parse_errno(errno_text);
    if (point == FAULT_COUNT || count < 1 || end[sticky] != '\0' || errno_value < 0)
        return -1;
    fault_slot *slot = &fault_slots[point];
    slot->armed = true;
    slot->sticky = sticky;
    slot->errno_value = errno_value;
    atomic_store(&slot->fired, false);
    atomic_store(&slot->remaining, count);
    return 0;
}

static void disarm(void)
{
    atomic_store(&fault_switch, false);
    for (size_t i = 0; i < FAULT_COUNT; i++)
        fault_slots[i].armed = false;
}

int fault_arm(const char *specification)
{
    disarm();
    if (specification == NULL || specification[0] == '\0')
        return 0;
    char *copy = strdup(specification);
    if (copy == NULL)
        return -1;
    int status = 0;
    char *rest = NULL;
    for (char *one = strtok_r(copy, ",", &rest); one != NULL && status == 0;
         one = strtok_r(NULL, ",", &rest))
        status = arm_one(one);
    free(copy);
    if (status == 0)
        atomic_store(&fault_switch, true);
    else
        disarm();
    return status;
}

int fault_all_fired(void)
{
    for (size_t i = 0; i < FAULT_COUNT; i++)
        if (fault_slots[i].armed && !atomic_load(&fault_slots[i].fired))
            return 0;
    return 1;
}

/* A misspelt fault would let a test pass without testing anything. */
__attribute__((constructor)) static void fault_arm_from_environment(void)
{
    if (fault_arm(getenv("DIDI_FAULT")) != 0) {
        fputs("DIDI_FAULT does not parse: name:nth[+][:errno],...\n", stderr);
        _exit(2);
    }
}
