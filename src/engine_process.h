/*
 * engine_process.h: the engine as a child process of the supervisor.
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

#define GPT2_EXIT_NO_EXEC 127

/* Path of the program, which lies beside the library. */
extern const char *gpt2_engine_path(void);

/* "exited with status 1", "was terminated by signal 9: Killed"; palloc'd. */
extern char *gpt2_engine_end(int status);

#endif							/* GPT2_ENGINE_PROCESS_H */
