/* SPDX-License-Identifier: Apache-2.0 */
/* The seccomp filter of scorers: what Landlock leaves open. */
#include "daemon/score/filter.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* By name: those that the library or the processor does not know are left out. */
static const char *const refused[] = {
    /* the network */
    "socket", "io_uring_setup", "io_uring_enter", "io_uring_register",
    /* other processes, and the way out of the group */
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd",
    "perf_event_open", "setsid", "setpgid",
    /* the kernel */
    "bpf", "keyctl", "add_key", "request_key", "userfaultfd", "unshare", "setns", "mount", "umount",
    "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount",
    "fspick", "mount_setattr", "open_by_handle_at", "name_to_handle_at", "kexec_load",
    "kexec_file_load", "init_module", "finit_module", "delete_module", "reboot", "swapon",
    "swapoff", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "sethostname",
    "setdomainname", "acct", "quotactl", "quotactl_fd", "syslog", "personality",
    /* what may be done to files that may not be written */
    "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat", "utime",
    "utimes", "utimensat", "futimesat", "setxattr", "lsetxattr", "fsetxattr", "removexattr",
    "lremovexattr", "fremovexattr", "truncate", "truncate64",
    /* message queues and shared memory of System V and POSIX are nobody's files */
    "shmget", "shmat", "shmctl", "msgget", "msgsnd", "msgctl", "semget", "semop", "semctl",
    "mq_open", "mq_unlink"};

static const char *const signals[] = {"kill", "tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo",
                                      "pidfd_send_signal"};

static int refuse(scmp_filter_ctx filter, int number, int cause)
{
    int failed = number == __NR_SCMP_ERROR
                     ? 0
                     : seccomp_rule_add(filter, SCMP_ACT_ERRNO((uint32_t)cause), number, 0);
    return failed == -EDOM ? 0 : failed; /* not on this processor */
}

static int refuse_all(scmp_filter_ctx filter, const char *const *names, size_t count)
{
    int failed = 0;
    for (size_t i = 0; i < count && failed == 0; i++)
        failed = refuse(filter, seccomp_syscall_resolve_name(names[i]), EPERM);
    return failed;
}

/* Opening for reading that cuts the file: Landlock before its version 3 lets it pass. openat2 has
 * its flags in memory, where no filter sees them; it is said not to be there. */
static int refuse_cutting(scmp_filter_ctx filter)
{
    const scmp_datum_t looked_at = O_ACCMODE | O_TRUNC;
    int failed = refuse(filter, seccomp_syscall_resolve_name("openat2"), ENOSYS);
    if (failed == 0)
        failed = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(openat), 1,
                                  SCMP_A2(SCMP_CMP_MASKED_EQ, looked_at, O_RDONLY | O_TRUNC));
    if (failed == 0)
        failed = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(open), 1,
                                  SCMP_A1(SCMP_CMP_MASKED_EQ, looked_at, O_RDONLY | O_TRUNC));
    return failed == -EDOM ? 0 : failed; /* processors without open */
}

/* Threads yes, namespaces no. The flags of clone3 lie in memory too, and libc takes clone where it
 * is not there. Limits may be lowered, of nobody else. */
static int refuse_some(scmp_filter_ctx filter)
{
    static const uint64_t spaces[] = {CLONE_NEWNS,   CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC,
                                      CLONE_NEWUSER, CLONE_NEWPID,    CLONE_NEWNET};
    int failed = refuse(filter, seccomp_syscall_resolve_name("clone3"), ENOSYS);
    for (size_t i = 0; i < sizeof spaces / sizeof *spaces && failed == 0; i++)
        failed = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                                  SCMP_A0(SCMP_CMP_MASKED_EQ, spaces[i], spaces[i]));
    if (failed == 0)
        failed = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(prlimit64), 1,
                                  SCMP_A0(SCMP_CMP_NE, 0, 0));
    if (failed == 0)
        failed = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(tgkill), 1,
                                  SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0));
    return failed;
}

static int export(scmp_filter_ctx filter, struct sock_fprog *ret_filter, didi_error *error)
{
    struct stat found = {0};
    int status = DIDI_OK;
    void *bytes = NULL;
    int fd = memfd_create("filter", MFD_CLOEXEC);
    if (fd < 0)
        return didi_fail_errno(error, errno, NULL, "cannot make memory for a filter");
    int failed = seccomp_export_bpf(filter, fd);
    if (failed != 0 || fstat(fd, &found) != 0)
        status = didi_fail_errno(error, failed != 0 ? -failed : errno, NULL,
                                 "cannot write a filter of system calls");
    if (status == DIDI_OK) {
        bytes = memory_zeroed((size_t)found.st_size, 1);
        if (bytes == NULL)
            status = didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    }
    if (status == DIDI_OK)
        status = file_pread_all(fd, bytes, (size_t)found.st_size, 0, "filter", error);
    close(fd);
    if (status != DIDI_OK) {
        free(bytes);
        return status;
    }
    *ret_filter = (struct sock_fprog){
        .len = (unsigned short)((size_t)found.st_size / sizeof(struct sock_filter)),
        .filter = bytes};
    return DIDI_OK;
}

int filter_make(bool may_signal, struct sock_fprog *ret_filter, didi_error *error)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (filter == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a filter of system calls");
    int failed = refuse_all(filter, refused, sizeof refused / sizeof *refused);
    if (failed == 0 && !may_signal)
        failed = refuse_all(filter, signals, sizeof signals / sizeof *signals);
    if (failed == 0)
        failed = refuse_some(filter);
    if (failed == 0)
        failed = refuse_cutting(filter);
    int status =
        failed == 0 ? export(filter, ret_filter, error)
                    : didi_fail_errno(error, -failed, NULL, "cannot make a filter of system calls");
    seccomp_release(filter);
    return status;
}
