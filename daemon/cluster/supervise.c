/* SPDX-License-Identifier: Apache-2.0 */
/* `didid supervise`: a process of its own session that starts a command, waits for it and writes
 * down how it ended. It has one thread, so that it may fork as it likes. */
#include "daemon/cluster/supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    SUPERVISE_EXIT_USAGE = 64,
    SUPERVISE_EXIT_SYSTEM = 71,
    SUPERVISE_TERM_SECONDS = 10, /* between SIGTERM and SIGKILL */
    SUPERVISE_NAME_BYTES = CLUSTER_NAME_BYTES + 8,
    SUPERVISE_TEXT_BYTES = 32, /* of a number in a file */
};

typedef struct supervisor {
    int directory, lock;
    int ready; /* the end of a pipe that is told "+", or what went wrong */
    const char *name;
    char **words;
    pid_t child; /* and its group */
} supervisor;

static void file_of(const char *name, const char *end, char ret_file[SUPERVISE_NAME_BYTES])
{
    snprintf(ret_file, SUPERVISE_NAME_BYTES, "%.95s.%s", name, end);
}

/* ---- the process that waits ---- */

static _Noreturn void give_up(const supervisor *self, const char *what, int cause)
{
    dprintf(self->ready, "%s: %s", what, strerror(cause));
    _exit(SUPERVISE_EXIT_SYSTEM);
}

/* Of this process, and so of the command. */
static void set_streams(const supervisor *self)
{
    char file[SUPERVISE_NAME_BYTES];
    file_of(self->name, "log", file);
    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int log = openat(self->directory, file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (nothing < 0 || log < 0 || dup2(nothing, STDIN_FILENO) < 0 || dup2(log, STDOUT_FILENO) < 0 ||
        dup2(log, STDERR_FILENO) < 0)
        give_up(self, "cannot open the log", errno);
    close(nothing);
    close(log);
}

static _Noreturn void command_main(const supervisor *self, const sigset_t *usual, int report)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    sigprocmask(SIG_SETMASK, usual, NULL);
    execvp(self->words[0], self->words);
    int cause = errno;
    ssize_t told = write(report, &cause, sizeof cause);
    _exit(told == sizeof cause ? 127 : 126);
}

static void start_command(supervisor *self, const sigset_t *usual)
{
    int report[2];
    int cause = 0;
    if (pipe2(report, O_CLOEXEC) != 0)
        give_up(self, "cannot make a pipe", errno);
    self->child = fork();
    if (self->child == 0)
        command_main(self, usual, report[1]);
    if (self->child < 0)
        give_up(self, "cannot start a process", errno);
    close(report[1]);
    setpgid(self->child, self->child); /* whoever comes first; refused after exec */
    if (read(report[0], &cause, sizeof cause) == sizeof cause)
        give_up(self, self->words[0], cause);
    close(report[0]);
}

static bool has_ended(pid_t pid)
{
    siginfo_t found = {0};
    return waitid(P_PID, (id_t)pid, &found, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           found.si_pid == pid;
}

/* Until the command ended; what is left of its group is killed while its number is still its own.
 */
static int wait_for(const supervisor *self, const sigset_t *awaited)
{
    const struct timespec patience = {.tv_sec = SUPERVISE_TERM_SECONDS};
    bool asked = false;
    int status = 0;
    while (!has_ended(self->child)) {
        int number = sigtimedwait(awaited, NULL, asked ? &patience : &(struct timespec){3600, 0});
        if (number < 0 && errno == EAGAIN && asked)
            kill(-self->child, SIGKILL);
        if (number > 0 && number != SIGCHLD) {
            kill(-self->child, SIGTERM);
            asked = true;
        }
    }
    kill(-self->child, SIGKILL);
    while (waitpid(self->child, &status, 0) < 0 && errno == EINTR)
        ;
    if (asked && status != 0)
        return 128 + SIGTERM; /* whatever the command makes of it */
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static _Noreturn void supervisor_main(supervisor *self)
{
    char file[SUPERVISE_NAME_BYTES];
    char text[SUPERVISE_TEXT_BYTES];
    sigset_t awaited;
    sigset_t usual;
    didi_error error = {0};
    setsid();
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGCHLD);
    sigaddset(&awaited, SIGTERM);
    sigaddset(&awaited, SIGINT);
    sigaddset(&awaited, SIGHUP);
    sigprocmask(SIG_BLOCK, &awaited, &usual);
    if (ftruncate(self->lock, 0) != 0 || dprintf(self->lock, "%ld\n", (long)getpid()) < 0)
        give_up(self, "cannot write the lock", errno);
    set_streams(self);
    start_command(self, &usual);
    if (write(self->ready, "+", 1) != 1)
        _exit(SUPERVISE_EXIT_SYSTEM); /* nobody will know; the command ends with this process */
    close(self->ready);
    snprintf(text, sizeof text, "%d\n", wait_for(self, &awaited));
    file_of(self->name, "status", file);
    int status = file_write_durable(self->directory, file, text, strlen(text), &error);
    if (status != DIDI_OK)
        fprintf(stderr, "didid supervise: %s\n", error.message);
    _exit(status == DIDI_OK ? EXIT_SUCCESS : SUPERVISE_EXIT_SYSTEM);
}

/* ---- the process that starts it ---- */

static int refuse(const char *what, int cause)
{
    fprintf(stderr, "didid supervise: %s%s%s\n", what, cause != 0 ? ": " : "",
            cause != 0 ? strerror(cause) : "");
    return SUPERVISE_EXIT_SYSTEM;
}

/* Waits until the command runs, or for why it does not. */
static int wait_for_start(int fd)
{
    char said[256];
    size_t bytes = 0;
    ssize_t count = 0;
    while (bytes < sizeof said - 1 &&
           (count = read(fd, said + bytes, sizeof said - 1 - bytes)) != 0)
        if (count > 0)
            bytes += (size_t)count;
        else if (errno != EINTR)
            break;
    said[bytes] = '\0';
    if (strcmp(said, "+") == 0)
        return EXIT_SUCCESS;
    return refuse(bytes > 0 ? said : "the process that waits died", 0);
}

static int start(supervisor *self)
{
    int ready[2];
    if (pipe2(ready, O_CLOEXEC) != 0)
        return refuse("cannot make a pipe", errno);
    self->ready = ready[1];
    pid_t pid = fork();
    if (pid == 0) {
        close(ready[0]);
        supervisor_main(self);
    }
    if (pid < 0)
        return refuse("cannot start a process", errno);
    close(ready[1]);
    int code = wait_for_start(ready[0]);
    close(ready[0]);
    return code;
}

int cluster_supervise(int argc, char **argv)
{
    char file[SUPERVISE_NAME_BYTES];
    if (argc < 4 || strchr(argv[2], '/') != NULL || strlen(argv[2]) >= CLUSTER_NAME_BYTES) {
        fputs("Usage: didid supervise DIRECTORY NAME WORD...\n", stderr);
        return SUPERVISE_EXIT_USAGE;
    }
    supervisor self = {.name = argv[2], .words = argv + 3};
    self.directory = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (self.directory < 0)
        return refuse(argv[1], errno);
    file_of(self.name, "lock", file);
    self.lock = openat(self.directory, file, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (self.lock < 0)
        return refuse(file, errno);
    if (flock(self.lock, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK ? EXIT_SUCCESS : refuse(file, errno); /* it runs already */
    file_of(self.name, "status", file);
    if (faccessat(self.directory, file, F_OK, 0) == 0)
        return EXIT_SUCCESS; /* and ended */
    return start(&self);
}

/* ---- looking after it ---- */

static int read_number(int directory, const char *file, size_t *ret_number, didi_error *error)
{
    char *text = NULL;
    size_t bytes = 0;
    int status = file_read_text(directory, file, SUPERVISE_TEXT_BYTES, &text, &bytes, error);
    if (status == DIDI_OK && !tool_read_number(text_trim(text), ret_number))
        status = didi_fail(error, DIDI_IO, file, "holds no number");
    free(text);
    return status;
}

/* Files of a NAME, open. */
typedef struct place {
    int directory, lock; /* lock -1: it is not there */
    bool locked;         /* by the process that waits */
} place;

static void place_close(place *self)
{
    file_close(self->directory);
    file_close(self->lock);
}

static int place_open(const char *directory, const char *name, place *ret_place, didi_error *error)
{
    char file[SUPERVISE_NAME_BYTES];
    place self = {.lock = -1};
    self.directory = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (self.directory < 0)
        return errno == ENOENT
                   ? didi_fail(error, DIDI_CLUSTER, directory, "the order's directory is gone")
                   : didi_fail_errno(error, errno, directory, "cannot open");
    file_of(name, "lock", file);
    self.lock = openat(self.directory, file, O_RDWR | O_CLOEXEC);
    if (self.lock < 0 && errno != ENOENT) {
        int status = didi_fail_errno(error, errno, file, "cannot open");
        place_close(&self);
        return status;
    }
    self.locked =
        self.lock >= 0 && flock(self.lock, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    *ret_place = self;
    return DIDI_OK;
}

int supervise_look(const char *directory, const char *name, supervised *ret_state, int *ret_code,
                   didi_error *error)
{
    char file[SUPERVISE_NAME_BYTES];
    place at;
    size_t code = 0;
    supervised state = SUPERVISED_ENDED;
    int status = place_open(directory, name, &at, error);
    if (status != DIDI_OK)
        return status;
    file_of(name, "status", file);
    if (at.lock < 0) {
        state = SUPERVISED_NONE;
    } else if (at.locked) {
        state = SUPERVISED_RUNNING;
    } else {
        status = read_number(at.directory, file, &code, error);
        if (status == DIDI_NOT_FOUND) {
            state = SUPERVISED_LOST;
            status = DIDI_OK;
        }
    }
    place_close(&at);
    if (status != DIDI_OK)
        return status;
    *ret_state = state;
    *ret_code = (int)code;
    return DIDI_OK;
}

int supervise_cancel(const char *directory, const char *name, didi_error *error)
{
    char file[SUPERVISE_NAME_BYTES];
    place at = {.directory = -1, .lock = -1};
    size_t number = 0;
    int status = place_open(directory, name, &at, error);
    if (status != DIDI_OK || !at.locked)
        goto out;
    file_of(name, "lock", file);
    status = read_number(at.directory, file, &number, error);
    if (status != DIDI_OK)
        goto out;
    int process = (int)syscall(SYS_pidfd_open, (pid_t)number, 0);
    if (process < 0 && errno != ESRCH) {
        status = didi_fail_errno(error, errno, file, "cannot reach the process %zu", number);
    } else if (process >= 0 && flock(at.lock, LOCK_SH | LOCK_NB) != 0) {
        /* still locked: the number is that of who holds it */
        if (syscall(SYS_pidfd_send_signal, process, SIGTERM, NULL, 0) != 0 && errno != ESRCH)
            status = didi_fail_errno(error, errno, file, "cannot end the process %zu", number);
    }
    file_close(process);
out:
    place_close(&at);
    return status;
}
