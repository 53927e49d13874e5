/* Loaded before libc: kills the process before or after its n-th call that writes to a disk.
   KILL_AT: n, from 1. KILL_AFTER: set to kill after the call instead of before it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

static int is_it_time(void) {
    static long count, at = -1;
    if (at < 0) {
        const char *text = getenv("KILL_AT");
        at = text ? atol(text) : 0;
    }
    return __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST) == at;
}

#define WATCH(result, name, arguments, values)                        \
    result name arguments {                                           \
        static result(*real) arguments;                               \
        if (!real) real = (result(*) arguments)dlsym(RTLD_NEXT, #name); \
        int now = is_it_time(), after = getenv("KILL_AFTER") != NULL; \
        if (now && !after) kill(getpid(), SIGKILL);                   \
        result done = real values;                                    \
        if (now && after) kill(getpid(), SIGKILL);                    \
        return done;                                                  \
    }

WATCH(ssize_t, write, (int fd, const void *from, size_t n), (fd, from, n))
WATCH(ssize_t, pwrite, (int fd, const void *from, size_t n, off_t at), (fd, from, n, at))
WATCH(ssize_t, pwrite64, (int fd, const void *from, size_t n, off_t at), (fd, from, n, at))
WATCH(int, fsync, (int fd), (fd))
WATCH(int, fdatasync, (int fd), (fd))
WATCH(int, ftruncate, (int fd, off_t n), (fd, n))
WATCH(int, ftruncate64, (int fd, off_t n), (fd, n))
WATCH(int, rename, (const char *from, const char *to), (from, to))
WATCH(int, unlink, (const char *path), (path))
