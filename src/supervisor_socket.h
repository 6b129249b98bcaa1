/*
 * supervisor_socket.h: what others find of the supervisor: its lock file and its sockets.
 */
#ifndef GPT2_SUPERVISOR_SOCKET_H
#define GPT2_SUPERVISOR_SOCKET_H

#include "postgres.h"

/* Number of descriptors that are held. */
#define GPT2_SOCKET_DESCRIPTORS 3

/* Before anything is made: files that vanish will be noticed. */
extern void gpt2_socket_watch_open(void);

/* Readable when one of them may have vanished; PGINVALID_SOCKET: it has to be looked. */
extern pgsocket gpt2_socket_watch(void);

/* What was made at this path is there. */
extern bool gpt2_socket_is_there(const char *path);

/* All are, the lock file too. */
extern bool gpt2_socket_files_are_there(void);

/* Makes the lock file again where it is gone.  Raises when another supervisor was faster. */
extern void gpt2_socket_keep_lock(void);

/* Takes the lock of the supervisor; false: another one runs. */
extern bool gpt2_socket_lock(void);

/* Listens, in place of what did so before; the descriptor, which belongs here, is for the engine
 * too. */
extern int	gpt2_socket_open(void);

/* Listens at a path; the descriptor is the caller's. */
extern int	gpt2_socket_listen(const char *path);

/* Now this supervisor serves: whoever started it waits for that. */
extern void gpt2_socket_publish(void);

/* Says whether an engine runs or is on its way (gpt2_engine_expected). */
extern void gpt2_socket_show_engine(bool expected);

/* Somebody has connected whom no engine has accepted. */
extern bool gpt2_socket_is_wanted(void);

/* Answers everybody who has connected with this error. */
extern void gpt2_socket_refuse(const char *sqlstate, const char *message, const char *hint);

/* Answers one connection with this error, and closes it. */
extern void gpt2_socket_refuse_one(int fd, const char *sqlstate, const char *message,
								   const char *hint);

/* The socket cannot be found any more; another supervisor's stays. */
extern void gpt2_socket_remove(const char *path);

#endif							/* GPT2_SUPERVISOR_SOCKET_H */
