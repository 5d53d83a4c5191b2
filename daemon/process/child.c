/* SPDX-License-Identifier: Apache-2.0 */
/* Fork and exec. The daemon has threads, so that the child may call only what is
 * async-signal-safe; what libc would do in all threads (setuid) is done by bare system calls. */
#include "daemon/process/child.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the child was at when it failed. */
#define CHILD_STEP_TABLE(X)                                                                        \
    X(SESSION, "cannot begin a session")                                                           \
    X(STREAMS, "cannot have its standard streams")                                                 \
    X(LIMITS, "cannot have its limits")                                                            \
    X(DIRECTORY, "cannot enter its directory")                                                     \
    X(USER, "cannot become another user")                                                          \
    X(PRIVILEGES, "cannot give up privileges")                                                     \
    X(RULES, "cannot be confined by Landlock")                                                     \
    X(FILTER, "cannot be confined by seccomp")                                                     \
    X(PROGRAM, "cannot be run")
typedef enum child_step {
#define CHILD_STEP_ENUMERATOR(id, text) CHILD_STEP_##id,
    CHILD_STEP_TABLE(CHILD_STEP_ENUMERATOR)
#undef CHILD_STEP_ENUMERATOR
        CHILD_STEP_COUNT
} child_step;
static const char *const step_texts[] = {CHILD_STEP_TABLE(TEXT_WORD)};

typedef struct child_report {
    int step, cause;
} child_report;

typedef struct child_pipes {
    int out[2], err[2], report[2], nothing, input;
    pid_t parent;
} child_pipes;

/* ---- in the child ---- */

static bool set_limit(int which, uint64_t most)
{
    struct rlimit limit;
    if (getrlimit((__rlimit_resource_t)which, &limit) != 0)
        return false;
    if (most < limit.rlim_max)
        limit.rlim_max = (rlim_t)most;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit((__rlimit_resource_t)which, &limit) == 0;
}

static bool set_limits(const child_order *order)
{
    if (!order->held)
        return set_limit(RLIMIT_CORE, 0);
    umask(077);
    return set_limit(RLIMIT_CORE, 0) && set_limit(RLIMIT_NOFILE, CHILD_DESCRIPTORS_MAX) &&
           set_limit(RLIMIT_FSIZE, CHILD_FILE_BYTES_MAX) &&
           set_limit(RLIMIT_CPU, order->cpu_seconds) &&
           (order->memory_max == 0 || set_limit(RLIMIT_AS, order->memory_max));
}

static bool set_streams(const child_pipes *pipes)
{
    return dup2(pipes->input, STDIN_FILENO) >= 0 && dup2(pipes->out[1], STDOUT_FILENO) >= 0 &&
           dup2(pipes->err[1], STDERR_FILENO) >= 0 &&
           syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) == 0;
}

static bool change_user(const child_order *order)
{
    return !order->changes_user ||
           (syscall(SYS_setgroups, 0, NULL) == 0 &&
            syscall(SYS_setresgid, order->group, order->group, order->group) == 0 &&
            syscall(SYS_setresuid, order->user, order->user, order->user) == 0);
}

/* Handlers are gone by exec, what is ignored is not. */
static void reset_signals(void)
{
    const struct sigaction usual = {.sa_handler = SIG_DFL};
    sigset_t none;
    for (int number = 1; number < NSIG; number++)
        sigaction(number, &usual, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static bool confine(const child_order *order, child_step *step)
{
    *step = CHILD_STEP_RULES;
    if (order->rules_fd >= 0 && syscall(SYS_landlock_restrict_self, order->rules_fd, 0) != 0)
        return false;
    *step = CHILD_STEP_FILTER;
    return order->filter == NULL ||
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, order->filter, 0, 0) == 0;
}

static child_step child_prepare(const child_order *order, const child_pipes *pipes)
{
    child_step step = CHILD_STEP_PROGRAM;
    reset_signals();
    if (setsid() < 0)
        return CHILD_STEP_SESSION;
    if (!set_streams(pipes))
        return CHILD_STEP_STREAMS;
    if (fchdir(order->directory_fd) != 0)
        return CHILD_STEP_DIRECTORY;
    if (!set_limits(order))
        return CHILD_STEP_LIMITS;
    if (!change_user(order))
        return CHILD_STEP_USER;
    if (order->held && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return CHILD_STEP_PRIVILEGES;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a change of user would undo it */
    if (getppid() != pipes->parent)
        _exit(127);
    if (!confine(order, &step))
        return step;
    /* not libc's, before which a build that counts its lines would write down the counts */
    syscall(SYS_execve, order->program, order->arguments, order->environment);
    return CHILD_STEP_PROGRAM;
}

static _Noreturn void child_main(const child_order *order, const child_pipes *pipes)
{
    child_report report = {.step = (int)child_prepare(order, pipes)};
    report.cause = errno;
    ssize_t told = write(pipes->report[1], &report, sizeof report);
    _exit(told == sizeof report ? 127 : 126);
}

/* ---- in the parent ---- */

static void pipes_close(child_pipes *self)
{
    const int fds[] = {self->out[0],  self->out[1],    self->err[0],   self->err[1],
                       self->nothing, self->report[0], self->report[1]};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        file_close(fds[i]);
}

static int pipes_open(child_pipes *self, didi_error *error)
{
    *self = (child_pipes){{-1, -1}, {-1, -1}, {-1, -1}, -1, -1, getpid()};
    self->nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (self->nothing < 0)
        return didi_fail_errno(error, errno, "/dev/null", "cannot open");
    if (pipe2(self->out, O_CLOEXEC) != 0 || pipe2(self->err, O_CLOEXEC) != 0 ||
        pipe2(self->report, O_CLOEXEC) != 0)
        return didi_fail_errno(error, errno, NULL, "cannot make a pipe");
    return DIDI_OK;
}

static int fail_start(const child_order *order, const child_report *report, didi_error *error)
{
    char why[128];
    assert(report->step >= 0 && report->step < CHILD_STEP_COUNT);
    int status = report->step == CHILD_STEP_PROGRAM ? order->refused : DIDI_INVALID;
    char as[48] = "";
    if (order->changes_user)
        snprintf(as, sizeof as, " as the user of number %u", (unsigned)order->user);
    return didi_fail(error, status, NULL, "the %s %s %s%s: %s", order->what, order->program,
                     step_texts[report->step], as, strerror_r(report->cause, why, sizeof why));
}

/* Nothing but the child has the other end, which exec closes. */
static int read_report(const child_order *order, int fd, pid_t pid, didi_error *error)
{
    child_report report;
    ssize_t count = 0;
    do
        count = read(fd, &report, sizeof report);
    while (count < 0 && errno == EINTR);
    if (count == 0)
        return DIDI_OK;
    int status = count == sizeof report ? fail_start(order, &report, error)
                                        : didi_fail_errno(error, errno, NULL, "cannot start");
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return status;
}

int child_start(const child_order *order, child *ret_child, didi_error *error)
{
    child_pipes pipes;
    sigset_t all;
    sigset_t before;
    int status = pipes_open(&pipes, error);
    if (status != DIDI_OK)
        goto out;
    pipes.input = order->input_fd >= 0 ? order->input_fd : pipes.nothing;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* no handler of ours runs in the child */
    pid_t pid = _Fork();                         /* without what others do at fork */
    if (pid == 0)
        child_main(order, &pipes);
    int cause = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pid < 0) {
        status = didi_fail_errno(error, cause, NULL, "cannot start a process");
        goto out;
    }
    int *const theirs[] = {&pipes.out[1], &pipes.err[1], &pipes.report[1]};
    for (size_t i = 0; i < 3; i++) {
        file_close(*theirs[i]);
        *theirs[i] = -1;
    }
    status = read_report(order, pipes.report[0], pid, error);
    if (status != DIDI_OK)
        goto out;
    *ret_child = (child){.pid = pid, .out = pipes.out[0], .err = pipes.err[0]};
    pipes.out[0] = pipes.err[0] = -1;
out:
    pipes_close(&pipes);
    return status;
}
