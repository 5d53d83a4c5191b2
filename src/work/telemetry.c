/* SPDX-License-Identifier: Apache-2.0 */
/* Points and notes of a method, and the memory it takes. */
#include "src/work/work.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

void work_point(work *self, didi_stage stage, uint64_t step, double loss, double relative_error,
                double ratio)
{
    self->emit(self->engine, &(didi_event){.kind = DIDI_EVENT_POINT,
                                           .stage = stage,
                                           .step = step,
                                           .loss = loss,
                                           .relative_error = relative_error,
                                           .ratio = ratio});
}

void work_note(work *self, didi_stage stage, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    self->emit(self->engine, &(didi_event){.kind = DIDI_EVENT_NOTE,
                                           .stage = stage,
                                           .loss = NAN,
                                           .relative_error = NAN,
                                           .ratio = NAN,
                                           .text = text});
}

static void raise_peak(atomic_ullong *peak, unsigned long long now)
{
    unsigned long long known = atomic_load(peak);
    while (now > known && !atomic_compare_exchange_weak(peak, &known, now))
        continue;
}

void work_sample_memory(work *self)
{
    unsigned long long kilobytes = 0;
    char line[128];
    FILE *file = fopen("/proc/self/status", "re");
    if (file == NULL)
        return;
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "RssAnon: %llu", &kilobytes) == 1)
            break;
    (void)fclose(file);
    raise_peak(&self->peak_memory, kilobytes * 1024);
    raise_peak(&self->usage[self->stage].peak_memory, kilobytes * 1024);
}
