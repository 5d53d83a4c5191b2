/* SPDX-License-Identifier: Apache-2.0 */
/* Scorers that do as they should, that fail in every way, and that try to do more. */
#include "daemon/process/process.h"
#include "daemon/score/filter.h"
#include "daemon/score/rules.h"
#include "daemon/score/score.h"
#include "src/base/fault.h"
#include "tests/unit/support.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 512 };

/* One score: a script in the directory of the model, and what came of it. */
typedef struct trial {
    void **state;
    scorer_settings settings;
    const char *split;
    int (*cancelled)(void *context);
    char directory[PATH_BYTES]; /* of the model */
    char user[64];
    double score;
    int status;
    didi_error error;
} trial;

/* As who runs the test, so that root reaches all that the test made. */
static trial trial_make(void **state, const char *words)
{
    trial self = {.state = state, .score = -1};
    char link[64];
    const struct passwd *own = getpwuid(geteuid());
    snprintf(link, sizeof link, "/proc/self/fd/%d", support_directory(state));
    ssize_t bytes = readlink(link, self.directory, sizeof self.directory - 8);
    assert_true(bytes > 0);
    memcpy(self.directory + bytes, "/model", 7);
    snprintf(self.user, sizeof self.user, "%s", own != NULL ? own->pw_name : "nobody");
    self.settings = (scorer_settings){.command = words,
                                      .seconds_max = 60,
                                      .memory_max = 4U << 30,
                                      .confined = rules_version() > 0};
    (void)mkdirat(support_directory(state), "model", 0700);
    support_write(support_directory(state), "model/model.safetensors", "", 0);
    return self;
}

static void trial_run(trial *self)
{
    scorer *opened = NULL;
    const score_request request = {
        .directory = self->directory, .task = "task", .split = self->split};
    self->settings.user = self->user;
    self->status = scorer_open(&self->settings, &opened, &self->error);
    if (self->status == DIDI_OK)
        self->status =
            scorer_run(opened, &request, self->cancelled, self, &self->score, &self->error);
    scorer_close(opened);
}

static void trial_write(const trial *self, const char *script)
{
    support_write(support_directory(self->state), "model/it", script, strlen(script));
}

static void must_score(trial *self, double score)
{
    trial_run(self);
    if (self->status != DIDI_OK)
        fail_msg("%s", self->error.message);
    assert_float_equal(self->score, score, 0);
}

static void must_fail(trial *self, const char *message)
{
    trial_run(self);
    assert_int_equal(self->status, DIDI_SCORER);
    assert_string_equal(self->error.subject, "task");
    support_assert_contains(self->error.message, message);
    assert_float_equal(self->score, -1, 0);
    self->error = (didi_error){0};
}

static trial trial_shell(void **state, const char *script)
{
    trial made = trial_make(state, "sh it");
    trial_write(&made, script);
    return made;
}

static trial trial_python(void **state, const char *script)
{
    trial made = trial_make(state, "/usr/bin/python3 it");
    trial_write(&made, script);
    return made;
}

/* The process whose number the script left in its directory has ended. */
static void must_be_gone(const trial *self, const char *name)
{
    char path[PATH_BYTES];
    char *text = NULL;
    size_t bytes = 0;
    didi_error error = {0};
    snprintf(path, sizeof path, "model/%s", name);
    assert_int_equal(
        file_read_text(support_directory(self->state), path, 64, &text, &bytes, &error), DIDI_OK);
    int pid = atoi(text);
    free(text);
    assert_true(pid > 1);
    for (int i = 0; i < 6000 && kill(pid, 0) == 0; i++) {
        char place[64];
        char stat_line[256] = "";
        snprintf(place, sizeof place, "/proc/%d/stat", pid);
        FILE *file = fopen(place, "re");
        if (file != NULL && fgets(stat_line, sizeof stat_line, file) != NULL &&
            strstr(stat_line, ") Z") != NULL) {
            fclose(file);
            return; /* dead, and not yet taken note of by whoever is its parent now */
        }
        if (file != NULL)
            fclose(file);
        usleep(10000);
    }
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(errno, ESRCH);
}

/* ---- what is read ---- */

static void a_number_is_a_score(void **state)
{
    static const char *const scripts[] = {"echo 0.25", "echo ' 25e-2 '",
                                          "echo '{\"task\": \"a\", \"score\": 0.25}'",
                                          "echo loud words >&2; echo 0.25"};
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
        trial self = trial_shell(state, scripts[i]);
        must_score(&self, 0.25);
    }
}

static void directory_task_and_split_are_given(void **state)
{
    trial self =
        trial_shell(state, "[ \"$1\" = \"$PWD\" ] && [ -f \"$1/model.safetensors\" ] && "
                           "[ \"$2\" = task ] && [ \"$3\" = half ] && [ $# = 3 ] && echo 1");
    self.split = "half";
    must_score(&self, 1);
    trial_write(&self, "[ $# = 2 ] && echo 2");
    self.split = NULL;
    must_score(&self, 2);
}

static void splits_are_plain_names(void **state)
{
    static const char *const refused[] = {"",      "-x",      "--option=1", "a b",
                                          "../up", ".hidden", "a/b",        "\n"};
    trial self = trial_shell(state, "echo 1");
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        self.split = refused[i];
        trial_run(&self);
        assert_int_equal(self.status, DIDI_INVALID);
    }
    self.split = "Val-1.b_2";
    must_score(&self, 1);
}

static void what_is_no_number_is_refused(void **state)
{
    static const struct {
        const char *script, *message;
    } cases[] = {
        {"true", "printed nothing"},
        {"echo why >&2", "printed nothing: why"},
        {"echo", "printed nothing"},
        {"echo NaN", "no finite number: NaN"},
        {"echo '{\"score\": NaN}'", "no finite number"},
        {"echo -Infinity", "no finite number"},
        {"echo 1e999", "no finite number"},
        {"echo 1; echo 2", "more than one JSON document"},
        {"echo '{\"score\": 1} {}'", "more than one JSON document"},
        {"echo accuracy 0.5", "no JSON"},
        {"echo '{\"score\": 1, \"score\": 2}'", "no JSON"},
        {"printf '\\377'", "no JSON"},
        {"echo '{\"score\": \"1\"}'", "neither a number nor an object with a number \"score\""},
        {"echo '{\"accuracy\": 1}'", "neither a number"},
        {"echo '[1]'", "neither a number"},
        {"echo true", "neither a number"},
        {"echo null", "neither a number"},
        {"head -c 65537 /dev/zero", "more than 65536 bytes"},
        {"yes", "more than 65536 bytes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        trial self = trial_shell(state, cases[i].script);
        must_fail(&self, cases[i].message);
    }
    trial longest = trial_shell(state, "printf 1; head -c 65535 /dev/zero | tr '\\000' ' '");
    must_score(&longest, 1);
}

/* ---- how it ends ---- */

static void failures_say_the_last_lines(void **state)
{
    trial self = trial_shell(
        state, "echo one >&2; echo two >&2; echo three >&2; printf 'a\\033[31m\\n' >&2; "
               "echo 1; exit 3");
    must_fail(&self, "exit code 3: two / three / a\\u{1b}[31m");
    assert_null(strstr(self.error.message, "one"));
    trial_write(&self, "head -c 100000 /dev/zero | tr '\\000' x >&2; exit 4");
    must_fail(&self, "exit code 4: xxxxxxxx");
}

static void death_by_a_signal_is_said(void **state)
{
    trial self = trial_python(state, "import os\nprint(1, flush=True)\nos.abort()\n");
    must_fail(&self, "signal 6 (ABRT)");
}

static void what_hangs_is_killed_with_its_children(void **state)
{
    trial self =
        trial_shell(state, "sleep 1000 & echo $! >child; echo $$ >first; echo 1; sleep 1000");
    self.settings.seconds_max = 1;
    must_fail(&self, "more than 1 s and was killed");
    must_be_gone(&self, "first");
    must_be_gone(&self, "child");
}

static void what_is_left_behind_is_killed(void **state)
{
    trial self = trial_shell(state, "sleep 1000 & echo $! >child; echo 7");
    must_score(&self, 7);
    must_be_gone(&self, "child");
}

static int script_has_begun(void *context)
{
    const trial *self = context;
    return support_exists(support_directory(self->state), "model/child");
}

static void cancelling_ends_it(void **state)
{
    trial self = trial_shell(state, "echo $$ >first; sleep 1000 & echo $! >child; sleep 1000");
    self.cancelled = script_has_begun;
    trial_run(&self);
    assert_int_equal(self.status, DIDI_CANCELLED);
    must_be_gone(&self, "first");
    must_be_gone(&self, "child");
}

static void memory_is_limited(void **state)
{
    trial self = trial_python(state, "block = bytearray(1 << 30)\nprint(1)\n");
    self.settings.memory_max = 256U << 20;
    must_fail(&self, "MemoryError");
    /* no process has too much, all together have */
    trial_write(&self, "import os, time\nfor i in range(3):\n    if os.fork() == 0: break\n"
                       "block = b'1' * (64 << 20)\ntime.sleep(1000)\n");
    must_fail(&self, "more than 268435456 bytes of memory");
}

static void what_cannot_run_is_told(void **state)
{
    trial self = trial_make(state, "/nowhere/at/all x");
    trial_run(&self);
    assert_int_equal(self.status, DIDI_NOT_FOUND);
    support_assert_contains(self.error.message, "no program /nowhere/at/all");
    self.settings.command = "didid-has-no-such-program";
    trial_run(&self);
    assert_int_equal(self.status, DIDI_NOT_FOUND);
    char path[PATH_BYTES + 16];
    snprintf(path, sizeof path, "%s/it", self.directory);
    trial_write(&self, "#!/nowhere\n");
    self.settings.command = path;
    trial_run(&self);
    assert_int_equal(self.status, DIDI_INVALID);
    support_assert_contains(self.error.message, "is not executable");
    assert_int_equal(fchmodat(support_directory(state), "model/it", 0700, 0), 0);
    trial_run(&self);
    assert_int_equal(self.status, DIDI_SCORER);
    support_assert_contains(self.error.message, "cannot be run: No such file or directory");
}

static void commands_are_plain_words(void **state)
{
    char many[3 * COMMAND_WORDS_MAX + 8] = "";
    for (size_t i = 0; i <= COMMAND_WORDS_MAX; i++)
        memcpy(many + 2 * i, "a ", 3);
    const char *const refused[] = {"", " \t ", "sh -c 'echo 1'", "sh \"it\"", "sh it\\ it", many};
    trial self = trial_make(state, "");
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        self.settings.command = refused[i];
        trial_run(&self);
        assert_int_equal(self.status, DIDI_INVALID);
    }
    trial_write(&self, "[ \"$1\" = '$HOME;' ] && [ \"$2\" = '*' ] && echo 3");
    self.settings.command = "\tsh   it $HOME; * ";
    must_score(&self, 3);
    self.settings.command = "sh it";
    snprintf(self.user, sizeof self.user, "no-such-user");
    trial_run(&self);
    assert_int_equal(self.status, geteuid() == 0 ? DIDI_INVALID : DIDI_SCORER);
}

/* ---- what it may do ---- */

/* Skips where the kernel lacks what confines. */
static void needs_landlock(int version)
{
    if (rules_version() >= version)
        return;
    print_message("skipped: this kernel has version %d of Landlock, not %d\n", rules_version(),
                  version);
    skip();
}

static void only_its_directory_is_written(void **state)
{
    needs_landlock(1);
    int fd = support_directory(state);
    support_write(fd, "kept", "kept", 4);
    assert_int_equal(mkdirat(fd, "folder", 0777), 0);
    trial self = trial_shell(
        state, "for try in 'echo x >../new' 'echo x >>../kept' ': >../kept' 'rm ../kept' "
               "'mv ../kept ../moved' 'mv ../kept here' 'mkdir ../made' 'rmdir ../folder' "
               "'ln ../kept here' 'ln -s a ../link' 'mkfifo ../pipe' 'mknod node c 1 3' "
               "'chmod 777 ../kept' 'touch -d 2001-01-01 ../kept' 'truncate -s 1 ../kept' "
               "'cp it ../it' 'mv it ../it'; do "
               "if sh -c \"$try\"; then echo done: $try >&2; exit 1; fi; done; "
               "echo x >own && echo y >>own && mkdir -p a/b && mv own a/b/own && "
               "ln -s a link && rm a/b/own && rmdir a/b && : >/dev/null && "
               "[ $(cat ../kept) = kept ] && echo 1");
    must_score(&self, 1);
    struct stat kept;
    assert_int_equal(fstatat(fd, "kept", &kept, 0), 0);
    assert_int_equal(kept.st_size, 4);
    assert_int_equal(kept.st_mode & 0777, 0600);
    assert_int_equal(support_entries(fd), 3);
}

static void reading_cuts_nothing(void **state)
{
    needs_landlock(1);
    support_write(support_directory(state), "kept", "kept", 4);
    trial self =
        trial_python(state, "import os\n"
                            "for cut in (lambda name: os.open(name, os.O_RDONLY | os.O_TRUNC),\n"
                            "            lambda name: os.truncate(name, 1)):\n"
                            "    try:\n"
                            "        cut('../kept')\n"
                            "        raise SystemExit('cut')\n"
                            "    except PermissionError:\n"
                            "        pass\n"
                            "print(len(open('../kept').read()))\n");
    must_score(&self, 4);
}

/* Where Landlock does not keep signals inside: no kernel of tests need be so old. */
static void a_filter_can_refuse_signals(void **state)
{
    const char *const words[] = {"sh", "it", NULL};
    const char *const none[] = {NULL};
    const watch_limits limits = {.milliseconds = 60000};
    didi_error error = {0};
    child started;
    char output[64];
    watch_result result = {.output = output, .output_room = sizeof output};
    struct sock_fprog filters[2];
    trial self = trial_shell(state, "kill -0 $PPID && echo 1");
    assert_int_equal(filter_make(true, &filters[0], &error), DIDI_OK);
    assert_int_equal(filter_make(false, &filters[1], &error), DIDI_OK);
    int fd = open(self.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; i < 2; i++) {
        const child_order order = {.what = "scorer",
                                   .refused = DIDI_SCORER,
                                   .input_fd = -1,
                                   .held = true,
                                   .program = "/bin/sh",
                                   .arguments = words,
                                   .environment = none,
                                   .directory_fd = fd,
                                   .cpu_seconds = 60,
                                   .rules_fd = -1,
                                   .filter = &filters[i]};
        assert_int_equal(child_start(&order, &started, &error), DIDI_OK);
        watch_child(&started, &limits, &result);
        assert_int_equal(result.outcome, WATCH_ENDED);
        assert_string_equal(result.output, i == 0 ? "1\n" : "");
        if (i == 1)
            support_assert_contains(result.tail, "not permitted");
        free(filters[i].filter);
    }
    close(fd);
}

static void without_confinement_it_writes_where_it_likes(void **state)
{
    trial self = trial_shell(state, "echo x >../new && echo 1");
    self.settings.confined = false;
    must_score(&self, 1);
    assert_true(support_exists(support_directory(state), "new"));
}

static void what_is_hidden_is_not_read(void **state)
{
    needs_landlock(1);
    int fd = support_directory(state);
    char hidden[PATH_BYTES];
    char secret[PATH_BYTES];
    trial self = trial_shell(
        state, "cat ../hidden/a ../hidden/deep/a ../secret && exit 1; "
               "[ \"$(cat ../open ../beside/a)\" = openbeside ] && cat it >/dev/null && "
               "echo 1");
    const char *const texts[][2] = {{"hidden/a", "1"},
                                    {"hidden/deep/a", "2"},
                                    {"secret", "3"},
                                    {"open", "open"},
                                    {"beside/a", "beside"}};
    assert_int_equal(mkdirat(fd, "hidden", 0755), 0);
    assert_int_equal(mkdirat(fd, "hidden/deep", 0755), 0);
    assert_int_equal(mkdirat(fd, "beside", 0755), 0);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        support_write(fd, texts[i][0], texts[i][1], strlen(texts[i][1]));
    snprintf(hidden, sizeof hidden, "%.*s/hidden", (int)strlen(self.directory) - 6, self.directory);
    snprintf(secret, sizeof secret, "%.*s/secret", (int)strlen(self.directory) - 6, self.directory);
    const char *const all[] = {"/not/there", hidden, secret};
    self.settings.hidden = all;
    self.settings.hidden_count = 3;
    must_score(&self, 1);
    /* its own directory may lie in what is hidden */
    char above[PATH_BYTES];
    snprintf(above, sizeof above, "%.*s", (int)strlen(self.directory) - 6, self.directory);
    const char *const one[] = {above};
    self.settings.hidden = one;
    self.settings.hidden_count = 1;
    trial_write(&self, "cat ../open && exit 1; cat it >copy && echo 2");
    must_score(&self, 2);
}

static void there_is_no_network(void **state)
{
    needs_landlock(1);
    trial self = trial_python(state, "import ctypes, errno, socket\n"
                                     "for family in range(46):\n"
                                     "    for kind in (1, 2, 3, 5):\n"
                                     "        try:\n"
                                     "            socket.socket(family, kind)\n"
                                     "        except PermissionError:\n"
                                     "            continue\n"
                                     "        raise SystemExit(f'a socket of family {family}')\n"
                                     "print(1)\n");
    must_score(&self, 1);
}

static void other_processes_are_out_of_reach(void **state)
{
    needs_landlock(1);
    trial self = trial_python(
        state, "import ctypes, errno, os, resource, signal\n"
               "libc = ctypes.CDLL(None, use_errno=True)\n"
               "daemon = os.getppid()\n"
               "def refused(what, *words):\n"
               "    ctypes.set_errno(0)\n"
               "    if what(*words) >= 0 or ctypes.get_errno() != errno.EPERM:\n"
               "        raise SystemExit(f'{what.__name__} {words}: {ctypes.get_errno()}')\n"
               "for call in ('kill', 'ptrace', 'setsid', 'setpgid', 'unshare', 'personality',\n"
               "             'chroot', 'process_vm_readv', 'mount', 'prlimit'):\n"
               "    words = {'kill': (daemon, 0), 'ptrace': (16, daemon, 0, 0),\n"
               "             'setsid': (), 'setpgid': (0, 0), 'unshare': (0x10000000,),\n"
               "             'chroot': (b'.',), 'process_vm_readv': (daemon, 0, 0, 0, 0, 0),\n"
               "             'mount': (0, 0, 0, 0, 0), 'prlimit': (daemon, 7, 0, 0)}\n"
               "    refused(getattr(libc, call), *words.get(call, (0xffffffff,)))\n"
               "for number in (425, 426, 427, 321):\n"
               "    if os.uname().machine == 'x86_64' or number != 321:\n"
               "        refused(libc.syscall, number, 1, 0, 0, 0, 0)\n"
               "try:\n"
               "    open(f'/proc/{daemon}/mem', 'rb').read(1)\n"
               "    raise SystemExit('the daemon has a memory')\n"
               "except PermissionError:\n"
               "    pass\n"
               "import threading\n"
               "other = threading.Thread(target=print, args=(1,))\n"
               "other.start()\n"
               "other.join()\n");
    must_score(&self, 1);
}

static void nothing_of_the_daemon_is_handed_on(void **state)
{
    setenv("DIDI_SCORE_SECRET", "secret", 1);
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
    int open_fd = dup(support_directory(state)); /* stays open at exec */
    assert_true(open_fd >= 3);
    signal(SIGPIPE, SIG_IGN);
    trial self = trial_python(
        state, "import os, resource, signal, sys\n"
               "known = {'PATH', 'HOME', 'TMPDIR', 'LANG', 'OPENBLAS_NUM_THREADS',\n"
               "         'OMP_NUM_THREADS', 'CUDA_VISIBLE_DEVICES', 'LC_CTYPE'}\n"
               "assert set(os.environ) <= known, os.environ\n"
               "assert os.environ['OPENBLAS_NUM_THREADS'] == '1'\n"
               "assert os.environ['HOME'] == os.environ['TMPDIR'] == sys.argv[1]\n"
               "assert os.listdir('/proc/self/fd') == ['0', '1', '2', '3']\n"
               "assert sys.stdin.read() == ''\n"
               "status = open('/proc/self/status').read()\n"
               "assert 'NoNewPrivs:\\t1' in status\n"
               "ignored = int(status.split('SigIgn:')[1].split()[0], 16)\n"
               "assert ignored & ~(1 << 12 | 1 << 24) == 0, ignored\n" /* Python's own */
               "assert int(status.split('SigBlk:')[1].split()[0], 16) == 0\n"
               "assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)\n"
               "assert os.getsid(0) == os.getpgid(0) == os.getpid()\n"
               "assert os.umask(0) == 0o77\n"
               "print(1)\n");
    must_score(&self, 1);
    signal(SIGPIPE, SIG_DFL);
    close(open_fd);
    unsetenv("DIDI_SCORE_SECRET");
}

/* Any allocation may be refused: then that is said, and nothing stays open or allocated. */
static void refused_memory_is_told(void **state)
{
    trial self = trial_shell(state, "echo 1");
    const char *const hidden[] = {"/no/such/place", self.user};
    self.settings.hidden = hidden;
    self.settings.hidden_count = 2;
    int failed = 0;
    for (int nth = 1; nth < 200; nth++) {
        char fault[32];
        snprintf(fault, sizeof fault, "alloc:%d", nth);
        assert_int_equal(fault_arm(fault), 0);
        trial_run(&self);
        bool fired = fault_all_fired() != 0;
        assert_int_equal(fault_arm(NULL), 0);
        if (!fired)
            break;
        assert_int_equal(self.status, DIDI_NO_MEMORY);
        failed++;
    }
    assert_int_equal(self.status, DIDI_OK);
    assert_in_range(failed, 10, 100);
}

static void large_files_are_refused(void **state)
{
    trial self =
        trial_shell(state, "dd if=/dev/zero of=large bs=1 count=1 seek=1073741824 && exit 1; "
                           "dd if=/dev/zero of=small bs=1 count=1 seek=1000000 && echo 1");
    must_score(&self, 1);
}

/* Root's scorers are somebody else, who owns the directory and reaches nothing above it. */
static void root_scores_as_another(void **state)
{
    if (geteuid() != 0) {
        print_message("skipped: not root\n");
        skip();
    }
    needs_landlock(1);
    trial self = trial_shell(
        state, "[ $(id -u) = $(id -u nobody) ] && [ $(id -G) = $(id -g nobody) ] && "
               "[ -O model.safetensors ] && [ \"$1\" = . ] && [ -f $1/model.safetensors ] "
               "&& echo x >$TMPDIR/own && echo x >$HOME/too && "
               "! grep -q 'CapEff:.*[1-9a-f]' /proc/self/status && echo 1");
    snprintf(self.user, sizeof self.user, "nobody");
    must_score(&self, 1);
    char program[PATH_BYTES + 16];
    snprintf(program, sizeof program, "%s/it", self.directory);
    trial closed = self;
    closed.settings.command = program;
    assert_int_equal(fchmodat(support_directory(state), "model/it", 0700, 0), 0);
    trial_run(&closed);
    assert_int_equal(closed.status, DIDI_SCORER);
    support_assert_contains(closed.error.message, "cannot be run as the user of number");
    assert_int_equal(fchmod(support_directory(state), 0711), 0);
    trial_write(&self, "[ \"$1\" = \"$PWD\" ] && echo 2");
    must_score(&self, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(a_number_is_a_score),
        support_test(directory_task_and_split_are_given),
        support_test(splits_are_plain_names),
        support_test(what_is_no_number_is_refused),
        support_test(failures_say_the_last_lines),
        support_test(death_by_a_signal_is_said),
        support_test(what_hangs_is_killed_with_its_children),
        support_test(what_is_left_behind_is_killed),
        support_test(cancelling_ends_it),
        support_test(memory_is_limited),
        support_test(what_cannot_run_is_told),
        support_test(commands_are_plain_words),
        support_test(only_its_directory_is_written),
        support_test(reading_cuts_nothing),
        support_test(a_filter_can_refuse_signals),
        support_test(without_confinement_it_writes_where_it_likes),
        support_test(what_is_hidden_is_not_read),
        support_test(there_is_no_network),
        support_test(other_processes_are_out_of_reach),
        support_test(nothing_of_the_daemon_is_handed_on),
        support_test(refused_memory_is_told),
        support_test(large_files_are_refused),
        support_test(root_scores_as_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
