/*
 * supervisor_socket.c: what others find of the supervisor: its lock file and its sockets.
 *
 * The locks are open file description locks: they end with this process, whatever ends it, and
 * anybody can look at them.  What each byte of the file says stands in supervisor.h.
 *
 * Somebody may clean pg_stat_tmp.  Then others find no supervisor, and start one.  So these files are
 * watched (inotify), and made again at once; of two supervisors the one that has locked the new file
 * goes on.
 *
 * The socket outlives the engine: backends that connect while none runs wait in its queue for the
 * next one, or are refused here.
 */
#include "compat.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "miscadmin.h"
#include "storage/fd.h"

#include "engine/protocol_train.h"
#include "supervisor.h"
#include "supervisor_socket.h"
#include "wire.h"

#define BACKLOG 4096			/* the kernel's somaxconn limits it further */
#define NEW ".new"				/* end of a socket's name before it listens */
#define MAX_TRIES 100			/* to make a file while somebody removes the directory */

/* A file as it was made. */
typedef struct Made
{
	const char *path;
	dev_t		device;
	ino_t		inode;
} Made;

static int	lock_fd = -1;
static int	listen_fd = -1;
static bool serves;				/* it has said so */
static bool engine_shown;
static int	inotify_fd = -1;
static Made made[] = {
	{.path = G2_LOCK_PATH}, {.path = G2_SOCKET_PATH}, {.path = G2_TRAIN_SOCKET_PATH},
};

/* ---- the files as they were made ---- */

static Made *
find_made(const char *path)
{
	for (size_t i = 0; i < lengthof(made); i++)
		if (strcmp(made[i].path, path) == 0)
			return &made[i];
	pg_unreachable();
}

/* One that has gone already counts as not there. */
static void
note_made(const char *path)
{
	Made	   *m = find_made(path);
	struct stat st = {0};

	if (inotify_fd >= 0)
		(void) inotify_add_watch(inotify_fd, path, IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF);
	(void) lstat(path, &st);
	m->device = st.st_dev;
	m->inode = st.st_ino;
}

bool
gpt2_socket_is_there(const char *path)
{
	const Made *m = find_made(path);
	struct stat st;

	return lstat(path, &st) == 0 && st.st_dev == m->device && st.st_ino == m->inode;
}

bool
gpt2_socket_files_are_there(void)
{
	for (size_t i = 0; i < lengthof(made); i++)
		if (!gpt2_socket_is_there(made[i].path))
			return false;
	return true;
}

void
gpt2_socket_remove(const char *path)
{
	if (gpt2_socket_is_there(path))
		(void) unlink(path);
}

/* ---- lock file and socket ---- */

static bool
set_lock(off_t byte, short type)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

	return fcntl(lock_fd, F_OFD_SETLK, &lock) == 0;
}

static bool
lock_byte(off_t byte)
{
	return set_lock(byte, F_WRLCK);
}

static void
make_directory(void)
{
	if (mkdir("pg_stat_tmp", pg_dir_create_mode) != 0 && errno != EEXIST)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create directory \"%s\": %m", "pg_stat_tmp")));
}

bool
gpt2_socket_lock(void)
{
	for (int tries = 0; tries == 0 || (lock_fd < 0 && errno == ENOENT && tries < MAX_TRIES); tries++)
	{
		make_directory();
		lock_fd = BasicOpenFile(G2_LOCK_PATH,
								O_RDWR | O_CREAT | PG_BINARY | O_CLOEXEC | O_NOFOLLOW);
	}
	if (lock_fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", G2_LOCK_PATH)));
	if (!lock_byte(GPT2_LOCK_RUNS))
	{
		if (errno == EAGAIN || errno == EACCES)
			return false;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not lock file \"%s\": %m", G2_LOCK_PATH)));
	}
	note_made(G2_LOCK_PATH);
	return true;
}

void
gpt2_socket_publish(void)
{
	char		pid[16];
	int			len = snprintf(pid, sizeof pid, "%d\n", MyProcPid);

	errno = 0;
	if (ftruncate(lock_fd, 0) != 0 || pwrite(lock_fd, pid, len, 0) != len)
	{
		/* A short write tells no cause. */
		if (errno == 0)
			errno = ENOSPC;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", G2_LOCK_PATH)));
	}
	if (!lock_byte(GPT2_LOCK_SERVES))
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not lock file \"%s\": %m", G2_LOCK_PATH)));
	serves = true;
}

void
gpt2_socket_show_engine(bool expected)
{
	engine_shown = expected;
	/* What is locked by this process can be locked again. */
	if (!set_lock(GPT2_LOCK_ENGINE, expected ? F_WRLCK : F_UNLCK))
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not lock file \"%s\": %m", G2_LOCK_PATH)));
}

/* Whoever finds the socket can connect: it gets its name when it listens.  -1: see errno. */
static int
try_to_listen(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *temporary = address.sun_path;
	int			fd,
				save_errno;

	snprintf(address.sun_path, sizeof address.sun_path, "%s%s", path, NEW);
	(void) unlink(temporary);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 ||
		(bind(fd, (struct sockaddr *) &address, sizeof address) == 0 &&
		 chmod(temporary, S_IRUSR | S_IWUSR) == 0 &&
		 listen(fd, BACKLOG) == 0 &&
		 rename(temporary, path) == 0))
		return fd;
	save_errno = errno;
	close(fd);
	errno = save_errno;
	return -1;
}

int
gpt2_socket_listen(const char *path)
{
	int			fd = -1;

	for (int tries = 0; tries == 0 || (fd < 0 && errno == ENOENT && tries < MAX_TRIES); tries++)
	{
		make_directory();
		fd = try_to_listen(path);
	}
	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create socket \"%s\": %m", path)));
	note_made(path);
	return fd;
}

int
gpt2_socket_open(void)
{
	if (listen_fd >= 0)
		close(listen_fd);		/* who waits there connects again */
	listen_fd = gpt2_socket_listen(G2_SOCKET_PATH);
	return listen_fd;
}

/* ---- files that were removed ---- */

void
gpt2_socket_watch_open(void)
{
	inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (inotify_fd < 0)
		ereport(DEBUG1, (errmsg_internal("inotify_init1 failed: %m")));
}

pgsocket
gpt2_socket_watch(void)
{
	return inotify_fd;
}

void
gpt2_socket_keep_lock(void)
{
	char		events[4096];

	while (inotify_fd >= 0 && read(inotify_fd, events, sizeof events) > 0)
		;
	if (gpt2_socket_is_there(G2_LOCK_PATH))
		return;
	ereport(LOG,
			(errmsg("file \"%s\" was removed and is made again", G2_LOCK_PATH)));
	close(lock_fd);
	if (!gpt2_socket_lock())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("another gpt2 supervisor has locked file \"%s\"", G2_LOCK_PATH)));
	if (serves)
		gpt2_socket_publish();
	gpt2_socket_show_engine(engine_shown);
}

/* ---- who connects ---- */

bool
gpt2_socket_is_wanted(void)
{
	struct pollfd p = {.fd = listen_fd, .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

static void
send_refusal(int fd, const char *payload, size_t len)
{
	char		ignored[4096];
	Gpt2Wire	wire;

	/* What was read is not lost by the close; what was not would be for the other side. */
	while (recv(fd, ignored, sizeof ignored, MSG_DONTWAIT) > 0)
		;
	gpt2_wire_open(&wire, fd);
	if (gpt2_wire_send(&wire, G2_MSG_ERROR, 0, payload, len))
		(void) gpt2_wire_flush(&wire);
	gpt2_wire_close(&wire);
}

void
gpt2_socket_refuse_one(int fd, const char *sqlstate, const char *message, const char *hint)
{
	g2_writer	w = gpt2_writer();

	g2_error_encode(&w, sqlstate, message, "", hint, false);
	send_refusal(fd, w.data, w.len);
	pfree(w.data);
}

void
gpt2_socket_refuse(const char *sqlstate, const char *message, const char *hint)
{
	for (;;)
	{
		int			fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0)
			gpt2_socket_refuse_one(fd, sqlstate, message, hint);
		else if (errno != EINTR)
			break;
	}
}
