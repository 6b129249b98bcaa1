/*
 * engine_watch.h: the supervisor's one engine, from its start to its end.
 */
#ifndef GPT2_ENGINE_WATCH_H
#define GPT2_ENGINE_WATCH_H

#include "postgres.h"

#include "utils/timestamp.h"

/* Why an engine is to end. */
typedef enum Gpt2Ending
{
	ENDING_NOT,
	ENDING_REPLACED,			/* to start with other settings */
	ENDING_UNREACHABLE,			/* its socket was removed */
	ENDING_OFF,					/* gpt2.enabled is off */
	ENDING_IDLE					/* nobody needs it */
} Gpt2Ending;

/* How it ended. */
typedef struct Gpt2End
{
	Gpt2Ending	ending;
	bool		orderly;		/* asked to end, or of its own will without an error */
	bool		was_ready;
	long		lived_ms;
	const char *cause;			/* of an end that is not orderly */
} Gpt2End;

/* What an engine is to be waited for with. */
typedef struct Gpt2Watch
{
	pgsocket	fd;				/* PGINVALID_SOCKET = none */
	bool		wants_out;		/* something is to be sent */
	long		timeout;		/* ms; -1 = none */
} Gpt2Watch;

/* Once, before anything else.  The control channel is one descriptor. */
extern void gpt2_engine_watch_init(void);
#define GPT2_ENGINE_DESCRIPTORS 1

extern bool gpt2_engine_is_running(void);

/* Starts one that accepts at listen_fd.  False with the cause, which has been logged. */
extern bool gpt2_engine_start(int listen_fd, char **cause);

/* The configuration has been read again. */
extern void gpt2_engine_reload(void);

/* Its socket was removed: it is to end, and another one to listen at a new one. */
extern void gpt2_engine_replace(void);

/* Does what is due: takes what the engine has said, and helps one that is to end and does not. */
extern void gpt2_engine_attend(void);

/* It runs and has said that it is ready. */
extern bool gpt2_engine_is_ready(void);

/* True once when it has ended, which has been logged.  The cause is valid until the next start. */
extern bool gpt2_engine_reap(Gpt2End *end);

extern Gpt2Watch gpt2_engine_watch(void);

/* Ends it and waits for that, at most 4 s. */
extern void gpt2_engine_stop(void);

/* Milliseconds from now, at least 1 where it is not past. */
extern long gpt2_milliseconds_until(TimestampTz t);

#endif							/* GPT2_ENGINE_WATCH_H */
