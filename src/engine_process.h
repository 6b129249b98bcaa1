/*
 * engine_process.h: the engine, and other programs of ours, as child processes of the supervisor.
 */
#ifndef GPT2_ENGINE_PROCESS_H
#define GPT2_ENGINE_PROCESS_H

#include "postgres.h"

/*
 * Starts `gpt2_engine serve` with listen_fd as its descriptor 3 and one end of a socket pair as
 * descriptor 4; the other end comes in *control_fd.  0 when it cannot be started, with the cause
 * in *problem (palloc'd); an engine that cannot be executed ends with GPT2_EXIT_NO_EXEC.
 */
extern pid_t gpt2_engine_spawn(int listen_fd, int *control_fd, char **problem);

/* A program beside the library that is started as a child. */
typedef struct Gpt2Program
{
	const char *path;
	char	  **arguments;		/* ends with NULL */
	const char *oom_score_adj;	/* its place in the order of the out-of-memory killer */
	int			fds[2];			/* become its descriptors 3 and 4; the second may be -1 */
} Gpt2Program;

/* The same for any program of ours: the descriptors stay the caller's. */
extern pid_t gpt2_process_spawn(const Gpt2Program *program, char **problem);

#define GPT2_EXIT_NO_EXEC 127

/* Path of the program, which lies beside the library. */
extern const char *gpt2_engine_path(void);

/* Path of a program of ours in a static buffer. */
extern const char *gpt2_program_path(const char *program);

/* How the program at this path ended: "it exited with status 1", "it was terminated by signal 9:
 * Killed"; palloc'd. */
extern char *gpt2_process_end(const char *path, int status);

#endif							/* GPT2_ENGINE_PROCESS_H */
