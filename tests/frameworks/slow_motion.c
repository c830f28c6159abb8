/*
 * Slow motion, to be preloaded: each operation that changes a file below SLOW_MOTION_BELOW takes
 * SLOW_MOTION_MICROSECONDS longer, what is written stands still halfway, and each is noted in
 * SLOW_MOTION_LOG. It reaches what Python cannot: C++ and Rust write through the C library, too.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define ROOM (2 * PATH_MAX)
#define REAL(name) \
    static __typeof__(&name) real; \
    if (real == NULL) \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int real_open(const char *path, int flags, mode_t mode)
{
    static int (*real)(const char *, int, ...);
    if (real == NULL)
        real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open64");
    return real(path, flags, mode);
}

static ssize_t real_write(int fd, const void *data, size_t size)
{
    REAL(write);
    return real(fd, data, size);
}

static void linger(const char *operation, const char *path)
{
    int error = errno;
    const char *pause = getenv("SLOW_MOTION_MICROSECONDS"), *log = getenv("SLOW_MOTION_LOG");
    static int notes = -1;
    if (notes < 0 && log != NULL)
        notes = real_open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    char line[ROOM + 32];
    int length = snprintf(line, sizeof line, "%s %s\n", operation, path);
    if (notes >= 0 && length < (int)sizeof line && real_write(notes, line, length) < 0)
        notes = -1;
    long nanoseconds = pause == NULL ? 0 : atol(pause) * 1000;
    struct timespec rest = {nanoseconds / 1000000000, nanoseconds % 1000000000};
    while (nanosleep(&rest, &rest) < 0 && errno == EINTR)
        continue;
    errno = error;
}

static int is_below(const char *path)
{
    const char *below = getenv("SLOW_MOTION_BELOW");
    size_t length = below == NULL ? 0 : strlen(below);
    return length && strncmp(path, below, length) == 0 && strchr("/", path[length]) != NULL;
}

static int read_link(int fd, char *path)
{
    char link[64];
    snprintf(link, sizeof link, fd == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = '\0';
    return length > 0;
}

/* Whether the descriptor writes to a file that is slow; what reads is not. */
static int is_slow(int fd, char *path)
{
    int error = errno, flags = fcntl(fd, F_GETFL);
    int slow = flags >= 0 && (flags & O_ACCMODE) != O_RDONLY && read_link(fd, path) && is_below(path);
    errno = error;
    return slow;
}

static void linger_at(const char *operation, int directory, const char *name)
{
    int error = errno;
    char path[ROOM] = "";
    if (name[0] != '/' && read_link(directory, path))
        strcat(path, "/");
    strncat(path, name, PATH_MAX - 1);
    if (is_below(path))
        linger(operation, path);
    errno = error;
}

static int opened(int fd)
{
    char path[PATH_MAX];
    if (fd >= 0 && is_slow(fd, path))
        linger("open", path);
    return fd;
}

#define MODE(flags, mode) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

#define OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        REAL(name); \
        MODE(flags, mode) \
        return opened(real(path, flags, mode)); \
    } \
    int name(const char *path, int flags, ...)

#define OPENAT(name) \
    int name(int directory, const char *path, int flags, ...) \
    { \
        REAL(name); \
        MODE(flags, mode) \
        return opened(real(directory, path, flags, mode)); \
    } \
    int name(int directory, const char *path, int flags, ...)

#define FOPEN(name) \
    FILE *name(const char *path, const char *mode) \
    { \
        REAL(name); \
        FILE *stream = real(path, mode); \
        if (stream != NULL) \
            opened(fileno(stream)); \
        return stream; \
    } \
    FILE *name(const char *path, const char *mode)

/* An operation on a descriptor, after which it stands still. */
#define AFTER(type, name, parameters, arguments) \
    type name parameters \
    { \
        REAL(name); \
        char path[PATH_MAX]; \
        int slow = is_slow(fd, path); \
        type result = real arguments; \
        if (slow) \
            linger(#name, path); \
        return result; \
    } \
    type name parameters

/* An operation on a name. */
#define NAMED(name, directory, path, parameters, arguments) \
    int name parameters \
    { \
        REAL(name); \
        int result = real arguments; \
        if (result == 0) \
            linger_at(#name, directory, path); \
        return result; \
    } \
    int name parameters

OPEN(open);
OPEN(open64);
OPENAT(openat);
OPENAT(openat64);
FOPEN(fopen);
FOPEN(fopen64);

ssize_t write(int fd, const void *data, size_t size)
{
    char path[PATH_MAX];
    if (!is_slow(fd, path))
        return real_write(fd, data, size);
    ssize_t half = real_write(fd, data, size / 2);
    if (half < 0)
        return half;
    linger("write", path);
    ssize_t rest = real_write(fd, (const char *)data + half, size - half);
    linger("write", path);
    return rest < 0 && half == 0 ? rest : half + (rest < 0 ? 0 : rest);
}

size_t fwrite(const void *data, size_t size, size_t count, FILE *stream)
{
    REAL(fwrite);
    char path[PATH_MAX];
    if (!is_slow(fileno(stream), path))
        return real(data, size, count, stream);
    size_t result = real(data, size, count, stream);
    fflush(stream);
    linger("write", path);
    return result;
}

int fclose(FILE *stream)
{
    REAL(fclose);
    char path[PATH_MAX];
    int slow = is_slow(fileno(stream), path), result = real(stream);
    if (slow)
        linger("close", path);
    return result;
}

AFTER(int, close, (int fd), (fd));
AFTER(ssize_t, writev, (int fd, const struct iovec *parts, int count), (fd, parts, count));
AFTER(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t place), (fd, data, size, place));
AFTER(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t place), (fd, data, size, place));
AFTER(int, ftruncate, (int fd, off_t size), (fd, size));
AFTER(int, ftruncate64, (int fd, off64_t size), (fd, size));
AFTER(ssize_t, sendfile, (int fd, int from, off_t *place, size_t size), (fd, from, place, size));
AFTER(ssize_t, sendfile64, (int fd, int from, off64_t *place, size_t size), (fd, from, place, size));
AFTER(ssize_t, copy_file_range,
      (int from, off64_t *start, int fd, off64_t *place, size_t size, unsigned int flags),
      (from, start, fd, place, size, flags));

NAMED(mkdir, AT_FDCWD, path, (const char *path, mode_t mode), (path, mode));
NAMED(mkdirat, at, path, (int at, const char *path, mode_t mode), (at, path, mode));
NAMED(rmdir, AT_FDCWD, path, (const char *path), (path));
NAMED(remove, AT_FDCWD, path, (const char *path), (path));
NAMED(unlink, AT_FDCWD, path, (const char *path), (path));
NAMED(unlinkat, at, path, (int at, const char *path, int flags), (at, path, flags));
NAMED(rename, AT_FDCWD, to, (const char *from, const char *to), (from, to));
NAMED(renameat, at, to, (int of, const char *from, int at, const char *to), (of, from, at, to));
NAMED(renameat2, at, to, (int of, const char *from, int at, const char *to, unsigned int flags),
      (of, from, at, to, flags));
NAMED(symlink, AT_FDCWD, path, (const char *target, const char *path), (target, path));
NAMED(link, AT_FDCWD, path, (const char *target, const char *path), (target, path));
