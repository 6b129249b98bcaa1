/*
 * engine_process.c: fork and exec of the engine and of trainings.
 *
 * Between fork and exec the child is a copy of a PostgreSQL process.  It must not run any of
 * PostgreSQL's code, not even a signal handler: a SIGTERM of a shutdown would do to the child what
 * it does to the supervisor.  So every signal is blocked around the fork, and the child resets the
 * handlers before it unblocks them.
 *
 * What the child gives up: all descriptors but 0 to 4, PostgreSQL's environment, core files (an
 * immediate shutdown sends SIGQUIT to the process group, and the engine's memory is large).
 * What it gets: death with its parent, an own place in the order of the out-of-memory killer (it
 * can be replaced, the server cannot), as many descriptors as it may have.
 */
#include "compat.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "miscadmin.h"

#include "engine/protocol.h"
#include "engine_process.h"

#define FIRST_FREE_FD 10		/* above all that are placed */
#define FIRST_FD 3				/* of those that a program gets */
#define OOM_SCORE_ADJ "500"		/* of the engine */
#define MAX_ENVIRONMENT 16
#define JIT_CACHE "base/pgsql_tmp_gpt2/jit"

const char *
gpt2_program_path(const char *program)
{
	static char path[MAXPGPATH];
	Dl_info		library;

	/* From 18 on an extension can be elsewhere than in $libdir (extension_control_path). */
	if (dladdr(path, &library) && is_absolute_path(library.dli_fname))
	{
		strlcpy(path, library.dli_fname, sizeof path);
		get_parent_directory(path);
	}
	else
		strlcpy(path, pkglib_path, sizeof path);
	join_path_components(path, path, program);
	return path;
}

const char *
gpt2_engine_path(void)
{
	return gpt2_program_path(G2_ENGINE_PROGRAM);
}

/* ---- environment ---- */

/* Adds name=value, value being the postmaster's, else this one; without either nothing. */
static void
add_variable(char **environment, int *n, const char *name, const char *otherwise)
{
	const char *value = getenv(name);

	if (!value)
		value = otherwise;
	if (value)
		environment[(*n)++] = psprintf("%s=%s", name, value);
	Assert(*n < MAX_ENVIRONMENT);
}

/* Everything is named here: what an administrator's shell left in the postmaster's environment
 * (LC_ALL, OMP_NUM_THREADS, MALLOC_ARENA_MAX ...) does not change the engine. */
static char **
make_environment(void)
{
	char	  **environment = palloc0(sizeof(char *) * MAX_ENVIRONMENT);
	int			n = 0;

	environment[n++] = pstrdup("LANG=C");
	environment[n++] = pstrdup("PATH=/usr/local/bin:/usr/bin:/bin");
	add_variable(environment, &n, "TZ", NULL);
	add_variable(environment, &n, "LD_LIBRARY_PATH", NULL);
	add_variable(environment, &n, "CUDA_VISIBLE_DEVICES", NULL);
	add_variable(environment, &n, "NVIDIA_VISIBLE_DEVICES", NULL);
	add_variable(environment, &n, "NVIDIA_DRIVER_CAPABILITIES", NULL);
	add_variable(environment, &n, "CUDA_CACHE_PATH", JIT_CACHE);
	return environment;
}

static void
free_environment(char **environment)
{
	for (int i = 0; environment[i]; i++)
		pfree(environment[i]);
	pfree(environment);
}

/* ---- the child, between fork and exec ---- */

static void
child_signals(void)
{
	for (int s = 1; s < NSIG; s++)
		(void) signal(s, SIG_DFL);
	/* pg_cancel_backend of the supervisor goes to the whole process group. */
	(void) signal(SIGINT, SIG_IGN);
	(void) signal(SIGHUP, SIG_IGN);
	(void) signal(SIGPIPE, SIG_IGN);
}

static void
child_limits(const char *oom_score_adj)
{
	struct rlimit limit = {0, 0};
	int			fd;

	/* Before the process is made undumpable: then this file would be root's. */
	fd = open("/proc/self/oom_score_adj", O_WRONLY);
	if (fd >= 0)
	{
		if (write(fd, oom_score_adj, strlen(oom_score_adj)) < 0)
			errno = 0;			/* not permitted: as it was */
		close(fd);
	}
	(void) setrlimit(RLIMIT_CORE, &limit);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
	{
		limit.rlim_cur = limit.rlim_max;
		(void) setrlimit(RLIMIT_NOFILE, &limit);
	}
	/* whether the group may read what they write */
	(void) umask((mode_t) pg_mode_mask);
	/* Prompts are in its memory.  exec undoes this: the engine does it once more for itself. */
	(void) prctl(PR_SET_DUMPABLE, 0);
}

static void
close_from(int first)
{
	struct rlimit limit;

#ifdef SYS_close_range
	if (syscall(SYS_close_range, (unsigned) first, ~0U, 0) == 0)
		return;
#endif
	/* A kernel before 5.9. */
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > 1024 * 1024)
		limit.rlim_cur = 1024 * 1024;
	for (int fd = first; fd < (int) limit.rlim_cur; fd++)
		(void) close(fd);
}

/* Either may have a number that the other is to get, so both move up first. */
static bool
child_descriptors(const int fds[2])
{
	int			moved[2] = {-1, -1},
				n = fds[1] < 0 ? 1 : 2;

	for (int i = 0; i < n; i++)
		if ((moved[i] = fcntl(fds[i], F_DUPFD, FIRST_FREE_FD)) < 0)
			return false;
	for (int i = 0; i < n; i++)
		if (dup2(moved[i], FIRST_FD + i) < 0)
			return false;
	close_from(FIRST_FD + n);
	return true;
}

static void
child_main(const Gpt2Program *program, char **environment, pid_t parent)
{
	sigset_t	none;

	child_signals();
	(void) prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* A parent that died before that call sends nothing any more. */
	if (getppid() != parent || !child_descriptors(program->fds))
		_exit(GPT2_EXIT_NO_EXEC);
	child_limits(program->oom_score_adj);
	sigemptyset(&none);
	(void) sigprocmask(SIG_SETMASK, &none, NULL);
	(void) execve(program->path, program->arguments, environment);
	_exit(GPT2_EXIT_NO_EXEC);
}

/* ---- the supervisor's side ---- */

pid_t
gpt2_process_spawn(const Gpt2Program *program, char **problem)
{
	char	  **environment;
	sigset_t	all,
				old;
	pid_t		parent = getpid(),
				pid;
	int			save_errno;

	if (access(program->path, X_OK) != 0)
	{
		*problem = psprintf("could not execute \"%s\": %m", program->path);
		return 0;
	}
	environment = make_environment();
	fflush(stdout);
	fflush(stderr);
	sigfillset(&all);
	(void) sigprocmask(SIG_SETMASK, &all, &old);
	pid = fork();
	if (pid == 0)
		child_main(program, environment, parent);
	save_errno = errno;
	(void) sigprocmask(SIG_SETMASK, &old, NULL);
	free_environment(environment);
	if (pid > 0)
		return pid;
	errno = save_errno;
	*problem = psprintf("could not fork a process for it: %m");
	return 0;
}

pid_t
gpt2_engine_spawn(int listen_fd, int *control_fd, char **problem)
{
	char		name[] = G2_ENGINE_PROGRAM;
	char		command[] = "serve";
	char	   *arguments[] = {name, command, NULL};
	Gpt2Program program = {
		.path = gpt2_engine_path(),
		.arguments = arguments,
		.oom_score_adj = OOM_SCORE_ADJ,
	};
	int			pair[2];
	pid_t		pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
	{
		*problem = psprintf("could not create its control channel: %m");
		return 0;
	}
	program.fds[G2_LISTEN_FD - FIRST_FD] = listen_fd;
	program.fds[G2_CONTROL_FD - FIRST_FD] = pair[1];
	pid = gpt2_process_spawn(&program, problem);
	close(pair[1]);
	if (pid == 0)
		close(pair[0]);
	else
		*control_fd = pair[0];
	return pid;
}

char *
gpt2_process_end(const char *path, int status)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) == GPT2_EXIT_NO_EXEC)
		return psprintf("could not execute \"%s\"", path);
	if (WIFEXITED(status))
		return psprintf("it exited with status %d", WEXITSTATUS(status));
	return psprintf("it was terminated by signal %d: %s", WTERMSIG(status),
					pg_strsignal(WTERMSIG(status)));
}
