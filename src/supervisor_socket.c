/*
 * supervisor_socket.c: what others find of the supervisor: its lock file and its socket.
 *
 * The locks are open file description locks: they end with this process, whatever ends it, and
 * anybody can look at them.  What each byte of the file says stands in supervisor.h.
 *
 * The socket outlives the engine: backends that connect while none runs wait in its queue for the
 * next one, or are refused here.
 */
#include "compat.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "miscadmin.h"
#include "storage/fd.h"

#include "supervisor.h"
#include "supervisor_socket.h"
#include "wire.h"

#define BACKLOG 4096			/* the kernel's somaxconn limits it further */
#define NEW ".new"				/* end of a socket's name before it listens */

static int	lock_fd = -1;
static int	listen_fd = -1;

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

bool
gpt2_socket_lock(void)
{
	if (mkdir("pg_stat_tmp", pg_dir_create_mode) != 0 && errno != EEXIST)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create directory \"%s\": %m", "pg_stat_tmp")));
	lock_fd = BasicOpenFile(G2_LOCK_PATH, O_RDWR | O_CREAT | PG_BINARY | O_CLOEXEC | O_NOFOLLOW);
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
}

void
gpt2_socket_show_engine(bool expected)
{
	/* What is locked by this process can be locked again. */
	if (!set_lock(GPT2_LOCK_ENGINE, expected ? F_WRLCK : F_UNLCK))
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not lock file \"%s\": %m", G2_LOCK_PATH)));
}

/* Whoever finds the socket can connect: it gets its name when it listens. */
int
gpt2_socket_listen(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *temporary = address.sun_path;
	int			fd;

	snprintf(address.sun_path, sizeof address.sun_path, "%s%s", path, NEW);
	(void) unlink(temporary);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 ||
		bind(fd, (struct sockaddr *) &address, sizeof address) != 0 ||
		chmod(temporary, S_IRUSR | S_IWUSR) != 0 ||
		listen(fd, BACKLOG) != 0 ||
		rename(temporary, path) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create socket \"%s\": %m", path)));
	return fd;
}

int
gpt2_socket_open(void)
{
	listen_fd = gpt2_socket_listen(G2_SOCKET_PATH);
	return listen_fd;
}

void
gpt2_socket_remove(void)
{
	if (listen_fd >= 0)
		(void) unlink(G2_SOCKET_PATH);
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
