/*
 * trainers.c: the processes that train models, as children of the supervisor.
 *
 * A backend connects; the connection is handed to a new process, which speaks with the backend from
 * then on and ends with it.  Here is only known which processes there are.  Each is more likely to
 * be chosen by the out-of-memory killer than the engine: a training can be gone on with.
 *
 * The engine's priority holds for them too: gpt2_train gives way as its settings say.
 */
#include "compat.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/protocol_train.h"
#include "engine_process.h"
#include "guc.h"
#include "supervisor_socket.h"
#include "trainers.h"

#define TRAINER_OOM_SCORE_ADJ "700"
#define STOP_MS 2000
#define ACCEPT_PAUSE_MS 20

static int	listen_fd = -1;
static pid_t trainers[GPT2_MAX_TRAINERS];	/* 0 = free */

void
gpt2_trainers_open(void)
{
	if (listen_fd >= 0)
		close(listen_fd);
	listen_fd = gpt2_socket_listen(G2_TRAIN_SOCKET_PATH);
}

pgsocket
gpt2_trainers_socket(void)
{
	return listen_fd;
}

static pid_t *
free_place(void)
{
	for (int i = 0; i < GPT2_MAX_TRAINERS; i++)
		if (trainers[i] == 0)
			return &trainers[i];
	return NULL;
}

static void
start_trainer(int fd, pid_t *place)
{
	char		name[] = G2_TRAIN_PROGRAM;
	char		command[] = "serve";
	char	   *arguments[] = {name, command, NULL};
	Gpt2Program program = {
		.path = gpt2_program_path(G2_TRAIN_PROGRAM),
		.arguments = arguments,
		.oom_score_adj = TRAINER_OOM_SCORE_ADJ,
		.fds = {fd, -1},
	};
	char	   *problem;

	*place = gpt2_process_spawn(&program, &problem);
	if (*place != 0)
	{
		close(fd);
		return;
	}
	ereport(LOG, (errmsg("gpt2 training does not start: %s", problem)));
	gpt2_socket_refuse_one(fd, "0A000", "cannot start a training",
						   "The program gpt2_train belongs beside gpt2_engine: install the "
						   "extension anew; the server log has the cause.");
}

static void
accept_backends(void)
{
	for (;;)
	{
		int			fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
		pid_t	   *place = free_place();

		if (fd < 0 && errno == EINTR)
			continue;
		/* Without a descriptor to be had, whoever waits would wake this process all the time. */
		if (fd < 0 && errno != EAGAIN)
			pg_usleep(ACCEPT_PAUSE_MS * 1000L);
		if (fd < 0)
			return;
		if (!gpt2_enabled)
			gpt2_socket_refuse_one(fd, "55000", "gpt2 is switched off",
								   "An administrator has set gpt2.enabled to off.");
		else if (!place)
			gpt2_socket_refuse_one(fd, "53400", "too many trainings run at the same time",
								   "The view gpt_stat_progress_train shows them; at most "
						   CppAsString2(GPT2_MAX_TRAINERS) " run at a time.");
		else
			start_trainer(fd, place);
	}
}

static void
reap_trainers(void)
{
	for (int i = 0; i < GPT2_MAX_TRAINERS; i++)
	{
		int			status;

		if (trainers[i] == 0 || waitpid(trainers[i], &status, WNOHANG) != trainers[i])
			continue;
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
			ereport(LOG,
					(errmsg("gpt2 training (PID %d) ended: %s", (int) trainers[i],
							gpt2_process_end(gpt2_program_path(G2_TRAIN_PROGRAM), status))));
		trainers[i] = 0;
	}
}

static bool
none_is_left(void)
{
	for (int i = 0; i < GPT2_MAX_TRAINERS; i++)
		if (trainers[i] != 0 && waitpid(trainers[i], NULL, WNOHANG) != 0)
			trainers[i] = 0;
	for (int i = 0; i < GPT2_MAX_TRAINERS; i++)
		if (trainers[i] != 0)
			return false;
	return true;
}

static void
signal_all(int signal_number)
{
	for (int i = 0; i < GPT2_MAX_TRAINERS; i++)
		if (trainers[i] != 0)
			(void) kill(trainers[i], signal_number);
}

void
gpt2_trainers_attend(void)
{
	reap_trainers();
	if (!gpt2_enabled)
		signal_all(SIGTERM);
	accept_backends();
	if (!gpt2_socket_is_there(G2_TRAIN_SOCKET_PATH))
		gpt2_trainers_open();
}

/* SIGTERM lets them write a checkpoint, if that is quick. */
void
gpt2_trainers_stop(void)
{
	gpt2_socket_remove(G2_TRAIN_SOCKET_PATH);
	signal_all(SIGTERM);
	for (int ms = 0; ms < STOP_MS && !none_is_left(); ms += 5)
		pg_usleep(5000);
	signal_all(SIGKILL);
}
