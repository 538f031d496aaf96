/* Starts a program that Go made for macOS on Linux with the same kind of processor, amd64 or arm64:
   maps its segments where they belong, binds the functions of libSystem that it calls to what stands
   for them here, and goes to its entry point. Flags, structures and error numbers are translated
   (XNU's bsd/sys headers; Go's syscall/ztypes_darwin_amd64.go). A function that is not here ends the
   program when it is called, and says its name.

   Signals are taken and never sent: Go needs none of them to run. Of kqueue there is what timers
   need; a pipe that cannot be watched is read in a thread of its own.

   cc -O2 -pthread -o darwin darwin.c && ./darwin PROGRAM ARGUMENTS... */
#define _GNU_SOURCE
#ifdef __x86_64__
#include <asm/prctl.h>
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef uint64_t u64;
typedef int64_t i64;

static char own_path[PATH_MAX]; /* of this loader */

static void fail(const char *what, const char *of) {
	fprintf(stderr, "darwin: %s%s%s\n", what, of ? ": " : "", of ? of : "");
	_exit(126);
}

/* Error numbers. Up to 34 both have the same, but for EDEADLK and EAGAIN (bsd/sys/errno.h). */

static __thread int error_number;

static int *error_place(void) { return &error_number; }

static int darwin_error(int e) {
	switch (e) {
	case EAGAIN: return 35;
	case EINPROGRESS: return 36;
	case ENOTSOCK: return 38;
	case EOPNOTSUPP: return 102;
	case EADDRINUSE: return 48;
	case ETIMEDOUT: return 60;
	case ECONNREFUSED: return 61;
	case ELOOP: return 62;
	case ENAMETOOLONG: return 63;
	case ENOTEMPTY: return 66;
	case EDQUOT: return 69;
	case ESTALE: return 70;
	case ENOSYS: return 78;
	case EOVERFLOW: return 84;
	default: return e <= 34 ? e : EINVAL;
	}
}

static i64 refused(int linux_error) {
	error_number = darwin_error(linux_error);
	return -1;
}

/* result gives what a call gave, and notes its error. */
static i64 result(i64 r) { return r == -1 ? refused(errno) : r; }

/* Threads. Go keeps a pointer of its own among a thread's values. On amd64 Darwin has those in the
   segment of GS, which Linux leaves alone (Go's runtime/asm_amd64.s). On arm64 Go looks for the
   place of a value that it has set, from what a register says on (runtime/sys_darwin_arm64.s): see
   other_register. */

static __thread volatile u64 values[64];
static int value_count;

static int value_new(u64 *key, void *end) {
	(void)end;
	if (value_count == 64) return darwin_error(EAGAIN);
	*key = value_count++;
	return 0;
}

static int value_set(u64 key, u64 is) {
	values[key] = is;
	return 0;
}

static void own_values(void) {
#ifdef __x86_64__
	void *gs = calloc(1, 4096);
	if (!gs || syscall(SYS_arch_prctl, ARCH_SET_GS, gs)) fail("no place for a thread's values", NULL);
#endif
}

struct beginning {
	void *(*main)(void *);
	void *with;
};

static void *begin(void *of) {
	struct beginning b = *(struct beginning *)of;
	free(of);
	own_values();
	return b.main(b.with);
}

static int thread_create(pthread_t *t, pthread_attr_t *attr, void *(*main)(void *), void *with) {
	struct beginning *b = malloc(sizeof *b);
	*b = (struct beginning){main, with};
	return darwin_error(pthread_create(t, attr, begin, b));
}

static int thread_detached(pthread_attr_t *a, int state) {
	return pthread_attr_setdetachstate(a, state == 2 ? PTHREAD_CREATE_DETACHED : PTHREAD_CREATE_JOINABLE);
}

static int wait_relative(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *t) {
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += t->tv_sec;
	if ((until.tv_nsec += t->tv_nsec) >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
	return darwin_error(pthread_cond_clockwait(c, m, CLOCK_MONOTONIC, &until));
}

/* Signals (bsd/sys/signal.h). */

struct action { u64 handler; uint32_t mask; int32_t flags; };
struct stack { u64 sp, size; int32_t flags; };
enum { SS_NONE = 4 };

static struct action actions[33];
static __thread struct stack signal_stack = {0, 0, SS_NONE};

static int on_signal(unsigned n, const struct action *new, struct action *old) {
	if (n >= 33) return refused(EINVAL);
	if (old) *old = actions[n];
	if (new) actions[n] = *new;
	return 0;
}

static int on_stack(const struct stack *new, struct stack *old) {
	if (old) *old = signal_stack;
	if (new) signal_stack = *new;
	return 0;
}

static int mask_of(int how, const uint32_t *new, uint32_t *old) {
	(void)how, (void)new;
	if (old) *old = 0;
	return 0;
}

static int nothing(void) { return 0; }

static int send_signal(pid_t pid, int n) {
	switch (n) {
	case 9: case 15: case 2: case 0: return result(kill(pid, n));
	default: return 0;
	}
}

/* Memory. */

static void *map(void *at, size_t n, int protection, int flags, int fd, off_t offset) {
	int f = flags & 0x1f; /* MAP_SHARED, MAP_PRIVATE, MAP_FIXED */
	if (flags & 0x40) f |= MAP_NORESERVE;
	if (flags & 0x1000) f |= MAP_ANONYMOUS;
	void *p = mmap(at, n, protection, f, flags & 0x1000 ? -1 : fd, offset);
	return p == MAP_FAILED ? (void *)refused(errno) : p;
}

static int unmap(void *at, size_t n) { return result(munmap(at, n)); }

static void random_bytes(char *to, size_t n) {
	while (n > 0) {
		ssize_t got = getrandom(to, n, 0);
		if (got < 0) fail("no random bytes", NULL);
		to += got, n -= got;
	}
}

/* The system (bsd/sys/sysctl.h). */

static int ask(const int *name, unsigned n, void *to, size_t *size, void *new, size_t new_size) {
	(void)new, (void)new_size;
	if (n == 2 && name[0] == 6 && (name[1] == 3 || name[1] == 7) && to && *size >= 4) {
		*(int32_t *)to = name[1] == 3 ? sysconf(_SC_NPROCESSORS_ONLN) : 4096; /* HW_NCPU, HW_PAGESIZE */
		*size = 4;
		return 0;
	}
	return refused(ENOENT);
}

static int ask_by_name(void) { return refused(ENOENT); }

static int limit_name(int r) { return r == 8 ? RLIMIT_NOFILE : r == 0 || r == 1 || r == 2 || r == 3 || r == 4 ? r : -1; }

static int get_limit(int r, struct rlimit *l) {
	if (limit_name(r) < 0) return refused(EINVAL);
	if (getrlimit(limit_name(r), l)) return refused(errno);
	if (l->rlim_cur > INT64_MAX) l->rlim_cur = INT64_MAX;
	if (l->rlim_max > INT64_MAX) l->rlim_max = INT64_MAX;
	return 0;
}

static int set_limit(int r, const struct rlimit *l) {
	if (limit_name(r) < 0) return refused(EINVAL);
	return result(setrlimit(limit_name(r), l));
}

static i64 configured(int name) {
	switch (name) {
	case 29: return 4096;                           /* _SC_PAGESIZE */
	case 57: case 58: return sysconf(_SC_NPROCESSORS_ONLN); /* _SC_NPROCESSORS_CONF, _ONLN */
	}
	return refused(EINVAL);
}

static u64 ticks(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int tick_length(uint32_t *fraction) {
	fraction[0] = fraction[1] = 1;
	return 0;
}

static int clock_now(int clock, struct timespec *t) {
	return result(clock_gettime(clock == 0 ? CLOCK_REALTIME : CLOCK_MONOTONIC, t));
}

/* Events (bsd/sys/event.h): only the one that a program sends itself. */

struct event { u64 ident; int16_t filter; uint16_t flags; uint32_t what; i64 data; u64 user; };
enum { FILTER_USER = -10, WHAT_TRIGGER = 0x1000000 };

static struct event waking; /* as it was added */

static int queue_new(void) { return result(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }

static int queue(int q, const struct event *changes, int n, struct event *events, int room, const struct timespec *t) {
	u64 count = 1;
	for (int i = 0; i < n; i++) {
		if (changes[i].filter != FILTER_USER) return refused(EINVAL);
		if (changes[i].what & WHAT_TRIGGER) {
			if (write(q, &count, sizeof count) < 0 && errno != EAGAIN) return refused(errno);
		} else waking = changes[i];
	}
	if (room == 0) return 0;
	struct pollfd p = {q, POLLIN, 0};
	int ready = ppoll(&p, 1, t, NULL);
	if (ready <= 0) return result(ready);
	if (read(q, &count, sizeof count) < 0) return 0;
	events[0] = waking;
	return 1;
}

/* Files (bsd/sys/fcntl.h, bsd/sys/stat.h, bsd/sys/mount.h, bsd/sys/dirent.h). */

static const struct { int darwin, linux_; } open_flags[] = {
	{0x4, O_NONBLOCK}, {0x8, O_APPEND}, {0x80, O_SYNC}, {0x100, O_NOFOLLOW}, {0x200, O_CREAT},
	{0x400, O_TRUNC}, {0x800, O_EXCL}, {0x100000, O_DIRECTORY}, {0x1000000, O_CLOEXEC},
};
enum { OPEN_FLAGS = sizeof open_flags / sizeof *open_flags };

static int to_linux(int flags) {
	int f = flags & 3;
	for (int i = 0; i < OPEN_FLAGS; i++)
		if (flags & open_flags[i].darwin) f |= open_flags[i].linux_;
	return f;
}

static int to_darwin(int flags) {
	int f = flags & 3;
	for (int i = 0; i < OPEN_FLAGS; i++)
		if ((flags & open_flags[i].linux_) == open_flags[i].linux_) f |= open_flags[i].darwin;
	return f;
}

static int folder(int fd) { return fd == -2 ? AT_FDCWD : fd; }

static int at_flags(int flags, int second) {
	int f = 0;
	if (flags & 0x20) f |= AT_SYMLINK_NOFOLLOW;
	if (flags & 0x40) f |= AT_SYMLINK_FOLLOW;
	return flags & (0x10 | 0x80) ? f | second : f;
}

static int file_open(const char *p, int flags, int mode) { return result(open(p, to_linux(flags), mode)); }
static int file_open_at(int d, const char *p, int flags, int mode) { return result(openat(folder(d), p, to_linux(flags), mode)); }
static int file_close(int fd) { return result(close(fd)); }
static i64 file_read(int fd, void *to, size_t n) { return result(read(fd, to, n)); }
static i64 file_write(int fd, const void *from, size_t n) { return result(write(fd, from, n)); }
static i64 file_pread(int fd, void *to, size_t n, off_t at) { return result(pread(fd, to, n, at)); }
static i64 file_pwrite(int fd, const void *from, size_t n, off_t at) { return result(pwrite(fd, from, n, at)); }
static i64 file_seek(int fd, off_t at, int whence) { return result(lseek(fd, at, whence)); }
static int file_sync(int fd) { return result(fsync(fd)); }
static int file_truncate(int fd, off_t n) { return result(ftruncate(fd, n)); }
static int file_lock(int fd, int how) { return result(flock(fd, how)); }
static int file_chmod(const char *p, unsigned m) { return result(chmod(p, m & 0xffff)); }
static int file_fchmod(int fd, unsigned m) { return result(fchmod(fd, m & 0xffff)); }
static int file_unlink(const char *p) { return result(unlink(p)); }
static int file_unlink_at(int d, const char *p, int flags) { return result(unlinkat(folder(d), p, at_flags(flags, AT_REMOVEDIR))); }
static int file_rename(const char *a, const char *b) { return result(rename(a, b)); }
static int file_rename_at(int da, const char *a, int db, const char *b) { return result(renameat(folder(da), a, folder(db), b)); }
static int file_link(const char *a, const char *b) { return result(link(a, b)); }
static int file_symlink(const char *a, const char *b) { return result(symlink(a, b)); }
static i64 file_readlink(const char *p, char *to, size_t n) { return result(readlink(p, to, n)); }
static i64 file_readlink_at(int d, const char *p, char *to, size_t n) { return result(readlinkat(folder(d), p, to, n)); }
static int file_access_at(int d, const char *p, int mode, int flags) { return result(faccessat(folder(d), p, mode, at_flags(flags, AT_EACCESS))); }
static int file_pipe(int *fds) { return result(pipe(fds)); }
static int file_dup(int fd) { return result(dup(fd)); }
static int file_dup2(int a, int b) { return result(dup2(a, b)); }
static int dir_make(const char *p, unsigned m) { return result(mkdir(p, m & 0xffff)); }
static int dir_make_at(int d, const char *p, unsigned m) { return result(mkdirat(folder(d), p, m & 0xffff)); }
static int dir_remove(const char *p) { return result(rmdir(p)); }
static int dir_change(const char *p) { return result(chdir(p)); }
static int dir_change_to(int fd) { return result(fchdir(fd)); }
static char *dir_now(char *to, size_t n) { return getcwd(to, n) ? to : (refused(errno), NULL); }

static int file_control(int fd, int command, i64 with) {
	switch (command) {
	case 0: return result(fcntl(fd, F_DUPFD, with));
	case 1: return result(fcntl(fd, F_GETFD));
	case 2: return result(fcntl(fd, F_SETFD, with));
	case 3: {
		int f = fcntl(fd, F_GETFL);
		return f < 0 ? refused(errno) : to_darwin(f);
	}
	case 4: return result(fcntl(fd, F_SETFL, to_linux(with)));
	case 51: return result(fsync(fd)); /* F_FULLFSYNC */
	case 67: return result(fcntl(fd, F_DUPFD_CLOEXEC, with));
	}
	return refused(EINVAL);
}

struct status {
	int32_t dev; uint16_t mode, links; u64 ino; uint32_t uid, gid; int32_t rdev, pad;
	struct timespec accessed, modified, changed, born;
	i64 size, blocks; int32_t block_size; uint32_t flags, generation; int32_t spare; i64 spares[2];
};
_Static_assert(sizeof(struct status) == 144, "struct stat64");

static int status_of(int failed, const struct stat *s, struct status *to) {
	if (failed) return refused(errno);
	*to = (struct status){
		.dev = s->st_dev, .mode = s->st_mode, .links = s->st_nlink, .ino = s->st_ino, .uid = s->st_uid, .gid = s->st_gid, .rdev = s->st_rdev,
		.accessed = s->st_atim, .modified = s->st_mtim, .changed = s->st_ctim, .born = s->st_ctim,
		.size = s->st_size, .blocks = s->st_blocks, .block_size = s->st_blksize,
	};
	return 0;
}

static int file_stat(const char *p, struct status *to) { struct stat s; return status_of(stat(p, &s), &s, to); }
static int file_lstat(const char *p, struct status *to) { struct stat s; return status_of(lstat(p, &s), &s, to); }
static int file_fstat(int fd, struct status *to) { struct stat s; return status_of(fstat(fd, &s), &s, to); }
static int file_stat_at(int d, const char *p, struct status *to, int flags) {
	struct stat s;
	return status_of(fstatat(folder(d), p, &s, at_flags(flags, 0)), &s, to);
}

struct volume {
	uint32_t block_size; int32_t io_size; u64 blocks, free, available, files, files_free; int32_t id[2];
	uint32_t owner, type, flags, subtype; char type_name[16], mounted_on[1024], mounted_from[1024]; uint32_t spare[8];
};
_Static_assert(sizeof(struct volume) == 2168, "struct statfs64");

static int volume_of(int failed, const struct statfs *s, struct volume *to) {
	if (failed) return refused(errno);
	*to = (struct volume){
		.block_size = s->f_bsize, .io_size = s->f_bsize, .blocks = s->f_blocks, .free = s->f_bfree, .available = s->f_bavail,
		.files = s->f_files, .files_free = s->f_ffree,
	};
	return 0;
}

static int volume_stat(const char *p, struct volume *to) { struct statfs s; return volume_of(statfs(p, &s), &s, to); }
static int volume_fstat(int fd, struct volume *to) { struct statfs s; return volume_of(fstatfs(fd, &s), &s, to); }

struct name { u64 ino, offset; uint16_t length, name_length; uint8_t type; char name[1024]; };

static DIR *dir_open(int fd) { DIR *d = fdopendir(fd); return d ? d : (refused(errno), NULL); }
static int dir_close(DIR *d) { return result(closedir(d)); }

static int dir_next(DIR *d, struct name *to, struct name **found) {
	errno = 0;
	struct dirent *e = readdir(d);
	*found = e ? to : NULL;
	if (!e) return errno ? darwin_error(errno) : 0;
	size_t n = strlen(e->d_name);
	*to = (struct name){.ino = e->d_ino, .length = sizeof *to, .name_length = n, .type = e->d_type};
	memcpy(to->name, e->d_name, n + 1);
	return 0;
}

/* Processes. */

static int program_is_darwins(const char *path) {
	uint32_t magic = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) return 0;
	int is = read(fd, &magic, sizeof magic) == sizeof magic && magic == 0xfeedfacf;
	close(fd);
	return is;
}

static int execute(const char *path, char *const *args, char *const *env) {
	if (!program_is_darwins(path)) return result(execve(path, args, env));
	int n = 0;
	while (args[n]) n++;
	const char **with = calloc(n + 3, sizeof *with);
	with[0] = own_path, with[1] = path;
	for (int i = 1; i < n; i++) with[i + 1] = args[i];
	return result(execve(own_path, (char *const *)with, env));
}

static int wait_for(pid_t pid, int *status, int options, struct rusage *usage) { return result(wait4(pid, status, options, usage)); }
static int group_of(pid_t pid, pid_t group) { return result(setpgid(pid, group)); }
static int new_session(void) { return result(setsid()); }
static int fork_one(void) { return result(fork()); }

static int no_terminal(void) { return refused(ENOTTY); }

/* Binding. On amd64 names tell which size of an inode is meant, on arm64 there is but one. */

static const struct { const char *name; void *is; } functions[] = {
	{"___error", error_place}, {"__exit", _exit}, {"_exit", _exit}, {"_arc4random_buf", random_bytes}, {"_issetugid", nothing},
	{"_notify_is_valid_token", nothing}, {"_xpc_date_create_from_current", nothing},
	{"_clock_gettime", clock_now}, {"_mach_absolute_time", ticks}, {"_mach_timebase_info", tick_length}, {"_usleep", usleep},
	{"_sysctl", ask}, {"_sysctlbyname", ask_by_name}, {"_sysconf", configured}, {"_getrlimit", get_limit}, {"_setrlimit", set_limit},
	{"_getrusage", getrusage}, {"_getpid", getpid}, {"_getuid", getuid},
	{"_mmap", map}, {"_munmap", unmap}, {"_madvise", nothing}, {"_mlock", nothing}, {"_munlock", nothing},
	{"_pthread_attr_init", pthread_attr_init}, {"_pthread_attr_getstacksize", pthread_attr_getstacksize},
	{"_pthread_attr_setdetachstate", thread_detached}, {"_pthread_create", thread_create}, {"_pthread_self", pthread_self},
	{"_pthread_key_create", value_new}, {"_pthread_setspecific", value_set}, {"_pthread_kill", nothing}, {"_pthread_sigmask", mask_of}, {"_pthread_mutex_init", pthread_mutex_init},
	{"_pthread_mutex_lock", pthread_mutex_lock}, {"_pthread_mutex_unlock", pthread_mutex_unlock}, {"_pthread_cond_init", pthread_cond_init},
	{"_pthread_cond_wait", pthread_cond_wait}, {"_pthread_cond_timedwait_relative_np", wait_relative}, {"_pthread_cond_signal", pthread_cond_signal},
	{"_sigaction", on_signal}, {"_sigaltstack", on_stack}, {"_setitimer", nothing}, {"_raise", nothing}, {"_kill", send_signal},
	{"_kqueue", queue_new}, {"_kevent", queue},
	{"_open", file_open}, {"_openat", file_open_at}, {"_close", file_close}, {"_read", file_read}, {"_write", file_write}, {"_pread", file_pread},
	{"_pwrite", file_pwrite}, {"_lseek", file_seek}, {"_fsync", file_sync}, {"_ftruncate", file_truncate}, {"_flock", file_lock},
	{"_chmod", file_chmod}, {"_fchmod", file_fchmod}, {"_unlink", file_unlink}, {"_unlinkat", file_unlink_at}, {"_rename", file_rename},
	{"_renameat", file_rename_at}, {"_link", file_link}, {"_symlink", file_symlink}, {"_readlink", file_readlink}, {"_readlinkat", file_readlink_at},
	{"_faccessat", file_access_at}, {"_pipe", file_pipe}, {"_dup", file_dup}, {"_dup2", file_dup2}, {"_fcntl", file_control},
	{"_stat", file_stat}, {"_lstat", file_lstat}, {"_fstat", file_fstat}, {"_fstatat", file_stat_at}, {"_statfs", volume_stat}, {"_fstatfs", volume_fstat},
	{"_mkdir", dir_make}, {"_mkdirat", dir_make_at}, {"_rmdir", dir_remove}, {"_chdir", dir_change}, {"_fchdir", dir_change_to}, {"_getcwd", dir_now},
	{"_fdopendir", dir_open}, {"_readdir_r", dir_next}, {"_closedir", dir_close}, {"_ioctl", no_terminal},
	{"_fork", fork_one}, {"_execve", execute}, {"_wait4", wait_for}, {"_setpgid", group_of}, {"_setsid", new_session},
};

static void missing(const char *name) { fail("it calls what is not here", name); }

static void *function(const char *name) {
	static unsigned char *code; /* that calls missing with a name */
	static size_t room;
	size_t n = strcspn(name, "$");
	if (n > 2 && !memcmp(name + n - 2, "64", 2)) n -= 2;
	for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
		if (!strncmp(functions[i].name, name, n) && !functions[i].name[n]) return functions[i].is;
	if (room < 32) {
		code = mmap(NULL, room = 1 << 16, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (code == MAP_FAILED) fail("no memory", NULL);
	}
	unsigned char *here = code;
	void *to = missing;
#ifdef __x86_64__
	memcpy(here, "\x48\xbf", 2), memcpy(here + 2, &name, 8);      /* mov rdi, name */
	memcpy(here + 10, "\x48\xb8\0\0\0\0\0\0\0\0\xff\xe0", 12); /* mov rax, missing; jmp rax */
	memcpy(here + 12, &to, 8);
#else
	static const uint32_t jump[] = {0x58000080, 0x580000b0, 0xd61f0200, 0xd503201f}; /* ldr x0, name; ldr x16, missing; br x16; nop */
	memcpy(here, jump, sizeof jump), memcpy(here + 16, &name, 8), memcpy(here + 24, &to, 8);
	__builtin___clear_cache((char *)here, (char *)here + 32);
#endif
	code += 32, room -= 32;
	return here;
}

/* The file (mach-o/loader.h). */

struct header { uint32_t magic, cpu, subtype, type, commands, commands_size, flags, reserved; };
struct command { uint32_t kind, size; };
struct segment { struct command c; char name[16]; u64 address, size, offset, file_size; int32_t most, protection; uint32_t sections, flags; };
struct binds { struct command c; uint32_t rebase, rebase_size, bind, bind_size, weak, weak_size, lazy, lazy_size; };
struct thread { struct command c; uint32_t flavor, count; u64 registers[21]; };
struct beginning_at { struct command c; u64 entry, stack; };
enum { SEGMENT = 0x19, BINDS = 0x80000022, THREAD = 5, RIP = 16, MAIN = 0x80000028 };
#ifdef __x86_64__
enum { CPU = 0x1000007 };
#else
enum { CPU = 0x100000c };
#endif

static struct segment *segments[16];
static int segment_count;

static u64 number(const unsigned char **p) {
	u64 n = 0;
	for (int shift = 0;; shift += 7) {
		n |= (u64)(**p & 0x7f) << shift;
		if (!(*(*p)++ & 0x80)) return n;
	}
}

static void bind_all(const unsigned char *p, const unsigned char *end) {
	u64 at = 0;
	const char *name = NULL;
	while (p < end) {
		int low = *p & 0xf;
		switch (*p++ & 0xf0) {
		case 0x00: case 0x10: case 0x30: case 0x50: break; /* done, ordinals, type */
		case 0x20: number(&p); break;
		case 0x40: name = (const char *)p, p += strlen(name) + 1; break;
		case 0x70:
			if (low >= segment_count) fail("a bind in no segment", name);
			at = segments[low]->address + number(&p);
			break;
		case 0x80: at += number(&p); break;
		case 0x90: *(void **)at = function(name), at += 8; break;
		default: fail("a bind of a kind that Go does not write", name);
		}
	}
}

/* enter goes to the entry point, by which the program is told its arguments, its environment and
   what the kernel says. On amd64 that is where a new process begins, all of it on the stack behind the
   number of arguments (bsd/kern/kern_exec.c); on arm64 it is a function. */
static void enter(u64 at, u64 argc, u64 *argv, u64 *env, u64 *says) __attribute__((noreturn));
static void enter(u64 at, u64 argc, u64 *argv, u64 *env, u64 *says) {
#ifdef __x86_64__
	(void)env, (void)says;
	argv[-1] = argc;
	__asm__ volatile("mov %1, %%rsp; xor %%ebp, %%ebp; jmp *%0" : : "r"(at), "r"(argv - 1) : "memory");
	__builtin_unreachable();
#else
	((void (*)(u64, u64 *, u64 *, u64 *))at)(argc, argv, env, says);
	_exit(0);
#endif
}

/* other_register has code read its thread's pointer from the register in which Linux has it. */
static void other_register(struct segment *s) {
#ifdef __aarch64__
	for (uint32_t *code = (uint32_t *)s->address, *end = code + s->file_size / 4; code < end; code++)
		if (*code == 0xd53bd060) *code = 0xd53bd040; /* mrs x0, tpidrro_el0: tpidr_el0 */
	__builtin___clear_cache((char *)s->address, (char *)s->address + s->file_size);
#else
	(void)s;
#endif
}

int main(int argc, char **argv, char **env) {
	struct stat is;
	if (argc < 2) fail("no program is given", NULL);
	if (readlink("/proc/self/exe", own_path, sizeof own_path - 1) < 0) fail("no path of its own", NULL);
	char *path = realpath(argv[1], NULL);
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0 || fstat(fd, &is)) fail("cannot be opened", argv[1]);
	char *file = mmap(NULL, is.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	struct header *h = (struct header *)file;
	if (file == MAP_FAILED || h->magic != 0xfeedfacf || h->cpu != CPU) fail("is no program for macOS on this processor", argv[1]);
	u64 entry = 0;
	struct binds *binds = NULL;
	char *at = (char *)(h + 1);
	for (uint32_t i = 0; i < h->commands; i++, at += ((struct command *)at)->size) {
		struct segment *s = (struct segment *)at;
		switch (s->c.kind) {
		case SEGMENT:
			if (segment_count == 16) fail("has too many segments", argv[1]);
			segments[segment_count++] = s;
			if (!s->protection) break; /* __PAGEZERO */
			void *to = (void *)s->address;
			if (mmap(to, s->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != to)
				fail("a segment finds no place", s->name);
			memcpy(to, file + s->offset, s->file_size);
			break;
		case BINDS: binds = (struct binds *)at; break;
		case THREAD: entry = ((struct thread *)at)->registers[RIP]; break;
		case MAIN: entry = ((struct beginning_at *)at)->entry; break; /* in the file, which is mapped whole behind __PAGEZERO */
		}
	}
	if (segment_count > 1 && entry && entry < segments[1]->address) entry += segments[1]->address;
	if (!entry || !binds) fail("has no entry point, or nothing to bind", argv[1]);
	bind_all((unsigned char *)file + binds->bind, (unsigned char *)file + binds->bind + binds->bind_size);
	bind_all((unsigned char *)file + binds->lazy, (unsigned char *)file + binds->lazy + binds->lazy_size);
	other_register(segments[1]);
	for (int i = 0; i < segment_count; i++)
		if (segments[i]->protection && mprotect((void *)segments[i]->address, segments[i]->size, segments[i]->protection))
			fail("a segment cannot be protected", segments[i]->name);
	own_values();

	int n = 0;
	while (env[n]) n++;
	size_t stack_size = 8 << 20;
	char *stack = mmap(NULL, stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	char *says = NULL;
	if (stack == MAP_FAILED || asprintf(&says, "executable_path=%s", path) < 0) fail("no memory", NULL);
	u64 *argv_there = (u64 *)(stack + stack_size) - (argc + n + 8) / 2 * 2 + 1, *next = argv_there;
	for (int i = 1; i < argc; i++) *next++ = (u64)argv[i];
	*next++ = 0;
	u64 *env_there = next;
	for (int i = 0; i < n; i++) *next++ = (u64)env[i];
	*next++ = 0;
	u64 *says_there = next;
	*next++ = (u64)says, *next = 0;
	enter(entry, argc - 1, argv_there, env_there, says_there);
}
