/*
 * A disk that fails when it is told to, and remembers everything: loaded before the C library
 * (LD_PRELOAD) into a program under test. A tool of the tests alone; no program of Meridian
 * is linked with it. tests/it/support/disk.rs is its other half and explains what for.
 *
 *   MERIDIAN_FAULT_FOLDER   the folder that lies on the disk: files directly in it, no others
 *   MERIDIAN_FAULT_CONTROL  a file of at least 64 bytes, shared with the test (struct control)
 *   MERIDIAN_FAULT_LOG      where to append what was done; nothing is recorded without it
 *
 * The log is a row of records: struct record, then `length` bytes. One record is one write() to
 * a file that is open for appending, so that the test can put its own notes between them and all
 * of it has one order. Shared memory (-shm) is not recorded: it does not outlive the machine.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

struct control {
    volatile uint8_t write_errno;    /* what changes of files fail with; 0: they do not */
    volatile uint8_t sync_errno;     /* what syncs fail with; 0: they do not */
    volatile uint8_t pretend_sync;   /* syncs say that all is well, and do nothing */
    volatile uint8_t kill_at_commit; /* the process ends right after the next sync of a -wal */
    uint8_t unused[4];
    volatile uint64_t failed; /* how often a call was made to fail */
};

enum kind { OPENED = 1, WROTE, TRUNCATED, SYNC_BEGAN, SYNC_DONE, SYNC_FAILED, UNLINKED, RENAMED = 9 };

struct record {
    uint32_t kind;
    uint32_t file;
    uint64_t offset; /* where; the new length; which sync */
    uint64_t length; /* of what follows: the data, or the name */
};

enum { FOLDER = 1, MAX_FILES = 1024, MAX_NAME = 64, MAX_FDS = 65536 };

struct file {
    char name[MAX_NAME]; /* empty once it is unlinked */
    int recorded, is_wal;
    uint32_t failed_syncs;
};

static const char *folder;
static size_t folder_length;
static struct control *control;
static int log_fd = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct file files[MAX_FILES]; /* [FOLDER] is the folder itself */
static uint32_t file_count = FOLDER + 1;
static volatile uint16_t file_of[MAX_FDS]; /* 0: not on the disk */
static uint32_t failed_syncs_told[MAX_FDS];
static uint64_t syncs;

static void give_up(const char *why) {
    dprintf(2, "the disk of the tests: %s\n", why);
    abort();
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("MERIDIAN_FAULT_CONTROL");
    const char *log = getenv("MERIDIAN_FAULT_LOG");
    if (!path || !getenv("MERIDIAN_FAULT_FOLDER"))
        return;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    void *page = fd < 0 ? MAP_FAILED : mmap(NULL, 64, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED)
        give_up("no control file");
    control = page;
    if (log) {
        log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (log_fd < 0)
            give_up("no log");
    }
    folder_length = strlen(getenv("MERIDIAN_FAULT_FOLDER"));
    folder = getenv("MERIDIAN_FAULT_FOLDER");
}

static int fail(int with) {
    __atomic_add_fetch(&control->failed, 1, __ATOMIC_RELAXED);
    errno = with;
    return -1;
}

/* The name below the folder; "" is the folder itself, NULL is elsewhere. */
static const char *name_of(const char *path) {
    if (!folder || !path || strncmp(path, folder, folder_length) != 0)
        return NULL;
    const char *name = path + folder_length;
    if (*name == 0)
        return name;
    return *name == '/' && !strchr(name + 1, '/') ? name + 1 : NULL;
}

/* With the lock held. */
static void record(enum kind kind, uint32_t file, uint64_t offset, const void *data, size_t length) {
    if (log_fd < 0 || !files[file].recorded)
        return;
    struct record head = {kind, file, offset, length};
    struct iovec parts[2] = {{&head, sizeof head}, {(void *)data, length}};
    if (syscall(SYS_writev, log_fd, parts, length ? 2 : 1) != (long)(sizeof head + length))
        give_up("the log cannot be written");
}

static uint32_t file_named(const char *name) {
    for (uint32_t n = FOLDER + 1; n < file_count; n++)
        if (strcmp(files[n].name, name) == 0)
            return n;
    return 0;
}

static int ends_with(const char *text, const char *end) {
    size_t a = strlen(text), b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

static int opened(const char *path, int flags, mode_t mode, int at) {
    const char *name = at == AT_FDCWD ? name_of(path) : NULL;
    if (!name)
        return (int)syscall(SYS_openat, at, path, flags, mode);
    int changes = (flags & O_ACCMODE) != O_RDONLY;
    if (changes && control->write_errno == EROFS)
        return fail(EROFS);
    pthread_mutex_lock(&lock);
    struct stat found;
    int is_new = stat(path, &found) != 0;
    int fd;
    if (is_new && (flags & O_CREAT) && control->write_errno)
        fd = fail(control->write_errno);
    else
        fd = (int)syscall(SYS_openat, at, path, flags, mode);
    if (fd >= MAX_FDS || strlen(name) >= MAX_NAME)
        give_up("too many files, or too long a name");
    if (fd >= 0) {
        uint32_t file = *name ? file_named(name) : FOLDER;
        files[FOLDER].recorded = 1;
        if (!file) {
            if (file_count == MAX_FILES)
                give_up("too many files");
            file = file_count++;
            strcpy(files[file].name, name);
            files[file].recorded = strncmp(name, "meridian.db", 11) == 0 && !ends_with(name, "-shm");
            files[file].is_wal = ends_with(name, "-wal");
            record(OPENED, file, 0, name, strlen(name));
        }
        if (flags & O_TRUNC)
            record(TRUNCATED, file, 0, NULL, 0);
        failed_syncs_told[fd] = files[file].failed_syncs;
        file_of[fd] = (uint16_t)file;
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

static mode_t mode_from(int flags, va_list rest) {
    return flags & (O_CREAT | __O_TMPFILE) ? (mode_t)va_arg(rest, int) : 0;
}

#define OPEN(function)                                                                             \
    int function(const char *path, int flags, ...) {                                               \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode_t mode = mode_from(flags, rest);                                                      \
        va_end(rest);                                                                              \
        return opened(path, flags, mode, AT_FDCWD);                                                \
    }
#define OPENAT(function)                                                                           \
    int function(int at, const char *path, int flags, ...) {                                       \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode_t mode = mode_from(flags, rest);                                                      \
        va_end(rest);                                                                              \
        return opened(path, flags, mode, at);                                                      \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

int close(int fd) {
    if (fd >= 0 && fd < MAX_FDS)
        file_of[fd] = 0;
    return (int)syscall(SYS_close, fd);
}

static uint32_t on_disk(int fd) {
    return folder && fd >= 0 && fd < MAX_FDS ? file_of[fd] : 0;
}

static ssize_t wrote(int fd, const void *data, size_t length, off_t offset) {
    uint32_t file = on_disk(fd);
    if (!file)
        return syscall(SYS_pwrite64, fd, data, length, offset);
    if (control->write_errno == ENOSPC && length >= 1024)
        length /= 2; /* what still fitted */
    else if (control->write_errno)
        return fail(control->write_errno);
    pthread_mutex_lock(&lock);
    ssize_t done = syscall(SYS_pwrite64, fd, data, length, offset);
    int error = errno;
    if (done > 0)
        record(WROTE, file, (uint64_t)offset, data, (size_t)done);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    return wrote(fd, data, length, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
    return wrote(fd, data, length, offset);
}

ssize_t write(int fd, const void *data, size_t length) {
    if (!on_disk(fd))
        return syscall(SYS_write, fd, data, length);
    off_t offset = lseek(fd, 0, SEEK_CUR);
    ssize_t done = wrote(fd, data, length, offset);
    if (done > 0)
        lseek(fd, offset + done, SEEK_SET);
    return done;
}

static int truncated(int fd, off_t length) {
    uint32_t file = on_disk(fd);
    if (!file)
        return (int)syscall(SYS_ftruncate, fd, length);
    if (control->write_errno)
        return fail(control->write_errno);
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_ftruncate, fd, length);
    int error = errno;
    if (done == 0)
        record(TRUNCATED, file, (uint64_t)length, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int ftruncate(int fd, off_t length) { return truncated(fd, length); }
int ftruncate64(int fd, off64_t length) { return truncated(fd, length); }

/* What was written before the sync began is on the disk when it is done. The lock is not held
 * meanwhile: others write while a sync goes on. As Linux does it, a failure is told once to
 * everybody who has the file open, also to those whose own sync went well. */
static int synced(int fd, long call) {
    uint32_t file = on_disk(fd);
    if (!file)
        return (int)syscall(call, fd);
    if (control->pretend_sync)
        return 0;
    int with = control->sync_errno;
    pthread_mutex_lock(&lock);
    uint64_t this = ++syncs;
    record(SYNC_BEGAN, file, this, NULL, 0);
    pthread_mutex_unlock(&lock);
    int done = with ? fail(with) : (int)syscall(call, fd);
    int error = errno;
    pthread_mutex_lock(&lock);
    record(done == 0 ? SYNC_DONE : SYNC_FAILED, file, this, NULL, 0);
    if (done != 0)
        files[file].failed_syncs++;
    if (failed_syncs_told[fd] != files[file].failed_syncs) {
        failed_syncs_told[fd] = files[file].failed_syncs;
        done = -1;
        error = EIO;
    }
    pthread_mutex_unlock(&lock);
    if (done == 0 && control->kill_at_commit && files[file].is_wal) {
        control->kill_at_commit = 0;
        kill(getpid(), SIGKILL);
    }
    errno = error;
    return done;
}

int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

static int unlinked(const char *path) {
    const char *name = name_of(path);
    if (!name)
        return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (control->write_errno == EROFS)
        return fail(EROFS);
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    int error = errno;
    uint32_t file = file_named(name);
    if (done == 0 && file) {
        record(UNLINKED, file, 0, name, strlen(name));
        files[file].name[0] = 0;
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int unlink(const char *path) { return unlinked(path); }

int rename(const char *from, const char *to) {
    const char *old = name_of(from), *new = name_of(to);
    if (!old || !new)
        return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (control->write_errno == EROFS)
        return fail(EROFS);
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    int error = errno;
    uint32_t file = file_named(old), replaced = file_named(new);
    if (strlen(new) >= MAX_NAME)
        give_up("too long a name");
    if (done == 0 && file) {
        char both[2 * MAX_NAME];
        int length = snprintf(both, sizeof both, "%s/%s", old, new);
        record(RENAMED, file, 0, both, (size_t)length);
        if (replaced)
            files[replaced].name[0] = 0;
        strcpy(files[file].name, new);
        files[file].is_wal = ends_with(new, "-wal");
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
