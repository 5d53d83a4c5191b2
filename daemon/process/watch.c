/* SPDX-License-Identifier: Apache-2.0 */
/* Watching of a child. The first process stays a zombie until the group was killed, so that its
 * number cannot be another's. */
#include "daemon/process/watch.h"

#include "daemon/base/base.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    WATCH_POLL_MILLISECONDS = 100,
    WATCH_MEMORY_MILLISECONDS = 500, /* between looks at all processes */
    WATCH_DRAIN_MILLISECONDS = 5000, /* for pipes of killed processes to end */
    WATCH_STAT_BYTES = 1024,
    WATCH_LINES = 3,
};

typedef struct watch {
    const watch_limits *limits;
    watch_result *result;
    pid_t group;
    struct pollfd files[3]; /* output, error, the process; -1: ended */
    int64_t began_ms, looked_ms;
    bool overflows;
} watch;

/* ---- memory ---- */

/* Resident bytes of a process of the group; 0 of others. Fields 5 and 24 of proc_pid_stat(5); names
 * may hold anything, so that they are counted from the last ')'. */
static uint64_t resident_bytes(int proc_fd, const char *name, pid_t group)
{
    char path[32];
    char text[WATCH_STAT_BYTES];
    long found = 0;
    unsigned long long pages = 0;
    snprintf(path, sizeof path, "%.16s/stat", name);
    int fd = openat(proc_fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t bytes = read(fd, text, sizeof text - 1);
    close(fd);
    text[bytes > 0 ? bytes : 0] = '\0';
    const char *fields = strrchr(text, ')');
    if (fields == NULL || sscanf(fields + 1, " %*c %*d %ld", &found) != 1 || found != group ||
        sscanf(fields + 1,
               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %*u "
               "%*u %llu",
               &pages) != 1)
        return 0;
    return memory_multiply(pages, (uint64_t)sysconf(_SC_PAGESIZE));
}

static uint64_t group_bytes(pid_t group)
{
    uint64_t bytes = 0;
    DIR *directory = opendir("/proc");
    if (directory == NULL)
        return 0;
    for (const struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory))
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
            bytes = memory_add(bytes, resident_bytes(dirfd(directory), entry->d_name, group));
    closedir(directory);
    return bytes;
}

/* ---- what it prints ---- */

static void keep_output(watch *self, const char *bytes, size_t count)
{
    watch_result *result = self->result;
    size_t room = result->output_room - 1 - result->output_bytes;
    self->overflows = self->overflows || count > room;
    count = count < room ? count : room;
    memcpy(result->output + result->output_bytes, bytes, count);
    result->output_bytes += count;
}

static void keep_tail(watch_result *result, const char *bytes, size_t count)
{
    if (count > WATCH_TAIL_BYTES) {
        bytes += count - WATCH_TAIL_BYTES;
        count = WATCH_TAIL_BYTES;
    }
    size_t kept = WATCH_TAIL_BYTES - count;
    kept = kept < result->tail_bytes ? kept : result->tail_bytes;
    memmove(result->tail, result->tail + result->tail_bytes - kept, kept);
    memcpy(result->tail + kept, bytes, count);
    result->tail_bytes = kept + count;
}

static void read_pipes(watch *self)
{
    char bytes[4096];
    for (size_t i = 0; i < 2; i++) {
        if (self->files[i].fd < 0 || self->files[i].revents == 0)
            continue;
        ssize_t count = read(self->files[i].fd, bytes, sizeof bytes);
        if (count < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (count <= 0) {
            close(self->files[i].fd);
            self->files[i].fd = -1;
        } else if (i == 0) {
            keep_output(self, bytes, (size_t)count);
        } else {
            keep_tail(self->result, bytes, (size_t)count);
        }
    }
}

/* ---- waiting ---- */

static bool has_ended(pid_t pid)
{
    siginfo_t found = {0};
    return waitid(P_PID, (id_t)pid, &found, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           found.si_pid == pid;
}

static bool is_too_large(watch *self, int64_t now_ms)
{
    if (self->limits->memory_max == 0 || now_ms - self->looked_ms < WATCH_MEMORY_MILLISECONDS)
        return false;
    self->looked_ms = now_ms;
    return group_bytes(self->group) > self->limits->memory_max;
}

/* True when it is over, for whatever reason. */
static bool watch_look(watch *self, watch_outcome *ret_outcome)
{
    const watch_limits *limits = self->limits;
    int64_t now_ms = clock_monotonic_ms();
    if (self->overflows)
        *ret_outcome = WATCH_PRINTS_TOO_MUCH;
    else if (has_ended(self->group))
        *ret_outcome = WATCH_ENDED;
    else if (limits->cancelled != NULL && limits->cancelled(limits->context))
        *ret_outcome = WATCH_CANCELLED;
    else if (now_ms - self->began_ms >= limits->milliseconds)
        *ret_outcome = WATCH_TOO_LONG;
    else if (is_too_large(self, now_ms))
        *ret_outcome = WATCH_TOO_LARGE;
    else
        return false;
    return true;
}

/* The whole group is dead: what is left in the pipes, then their ends. */
static void watch_drain(watch *self)
{
    int64_t until_ms = clock_monotonic_ms() + WATCH_DRAIN_MILLISECONDS;
    while ((self->files[0].fd >= 0 || self->files[1].fd >= 0) && clock_monotonic_ms() < until_ms) {
        poll(self->files, 2, WATCH_POLL_MILLISECONDS);
        read_pipes(self);
    }
    for (size_t i = 0; i < 2; i++)
        file_close(self->files[i].fd);
}

/* Also those that became our children because we are the first process of a container. */
static void watch_reap(watch *self)
{
    while (waitpid(self->group, &self->result->ended, 0) < 0 && errno == EINTR)
        ;
    while (waitpid(-self->group, NULL, 0) > 0)
        ;
}

void watch_child(const child *of, const watch_limits *limits, watch_result *ret_result)
{
    watch self = {.limits = limits,
                  .result = ret_result,
                  .group = of->pid,
                  .files = {{.fd = of->out, .events = POLLIN},
                            {.fd = of->err, .events = POLLIN},
                            {.events = POLLIN}},
                  .began_ms = clock_monotonic_ms()};
    assert(of->pid > 1 && limits->milliseconds > 0 && ret_result->output_room > 0);
    ret_result->output_bytes = ret_result->tail_bytes = 0;
    self.looked_ms = self.began_ms;
    self.files[2].fd = (int)syscall(SYS_pidfd_open, of->pid, 0); /* -1: seen at the next look */
    fcntl(self.files[2].fd, F_SETFD, FD_CLOEXEC);
    while (!watch_look(&self, &ret_result->outcome)) {
        poll(self.files, 3, WATCH_POLL_MILLISECONDS);
        read_pipes(&self);
    }
    kill(-of->pid, SIGKILL);
    watch_drain(&self);
    watch_reap(&self);
    file_close(self.files[2].fd);
    if (self.overflows && ret_result->outcome == WATCH_ENDED)
        ret_result->outcome = WATCH_PRINTS_TOO_MUCH;
    ret_result->output[ret_result->output_bytes] = '\0';
    ret_result->tail[ret_result->tail_bytes] = '\0';
}

void watch_last_lines(const watch_result *result, char ret_text[WATCH_LINES_BYTES])
{
    size_t end = result->tail_bytes;
    size_t lines = 1;
    size_t length = 0;
    const char *text = result->tail;
    ret_text[0] = '\0';
    while (end > 0 && strchr(" \t\r\n", text[end - 1]) != NULL)
        end--;
    size_t start = end;
    while (start > 0 && (text[start - 1] != '\n' || lines++ < WATCH_LINES))
        start--;
    while (start < end && ((unsigned char)text[start] & 0xC0) == 0x80)
        start++; /* inside a character that was cut */
    if (start == end)
        return;
    memcpy(ret_text, ": ", 3);
    length = 2;
    for (size_t i = start; i < end; i++) {
        if (text[i] != '\n' && text[i] != '\0') {
            ret_text[length++] = text[i];
        } else if (text[i] == '\n') {
            memcpy(ret_text + length, " / ", 3);
            length += 3;
        }
        if (length >= WATCH_LINES_BYTES - 8)
            break;
    }
    ret_text[length] = '\0';
}
